"""What a saved model takes, and what compressing it costs.

    python benchmarks/saving.py [--data DATA_FOLDER --sets airfoil energy]

The default model is fitted to 70 % of the rows. Half of the others choose the draws that are kept,
the second half scores them: LPPD in nats per row, scaled targets, mean of three such divisions.
Times are medians of five.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import save_result
from sklearn.model_selection import train_test_split

import mirth
from mirth.data.examples import breast_cancer, diabetes, load_benchmark
from mirth.prediction import make_predictive


def seconds(action: Callable[[], Any]) -> float:
    """Median time of five calls."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def on_disk(estimator: Any, path: Path) -> dict[str, float]:
    return {
        "save_ms": 1e3 * seconds(lambda: estimator.save(path)),
        "load_ms": 1e3 * seconds(lambda: mirth.load(path)),
        "megabytes": path.stat().st_size / 1e6,
    }


def lppd(estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
    x, scaled = estimator._scaled_rows(X, y)
    predictive = make_predictive(estimator.model_, estimator.posterior_.draws, x)
    return float(predictive.log_prob(scaled).mean())


def compressed(estimator: Any, x: np.ndarray, y: np.ndarray, path: Path) -> list[dict[str, Any]]:
    """Sizes and scores by number of draws."""
    found = []
    for n_draws in (1, 2, 5, 10, 20):
        equal, chosen = estimator.compress(n_draws), []
        for seed in range(3):
            halves = train_test_split(x, y, test_size=0.5, random_state=seed)
            x_choose, x_score, y_choose, y_score = halves
            small = estimator.compress(n_draws, X=x_choose, y=y_choose)
            chosen.append([lppd(model, x_score, y_score) for model in (equal, small)])
        scores = dict(zip(("equal", "chosen"), np.mean(chosen, axis=0).tolist(), strict=True))
        found.append({"n_draws": n_draws, **scores, **on_disk(equal, path)})
    return found


def measure(name: str, folder: str | None, path: Path) -> dict[str, Any]:
    bundled = {"diabetes": diabetes, "breast_cancer": breast_cancer}
    example = bundled[name]() if name in bundled else load_benchmark(name, folder or ".")
    x, x_rest, y, y_rest = train_test_split(example.x, example.y, test_size=0.3, random_state=0)
    kind = mirth.BNNRegressor if example.kind == "regression" else mirth.BNNClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mirth.MirthWarning)
        estimator = kind(random_state=0).fit(x, y)
    whole = {"all": lppd(estimator, x_rest, y_rest), **on_disk(estimator, path)}
    return {"whole": whole, "compressed": compressed(estimator, x_rest, y_rest, path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder with the data sets that are not bundled")
    parser.add_argument("--sets", nargs="+", default=["diabetes", "breast_cancer"])
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/saving.json")
    args = parser.parse_args()
    results = {}
    for name in args.sets:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(name, args.data, Path(folder) / "model.mirth")
        whole = results[name]["whole"]
        print(
            f"{name}: {whole['megabytes']:.2f} MB, save {whole['save_ms']:.0f} ms, "
            f"load {whole['load_ms']:.0f} ms, LPPD {whole['all']:.4f}"
        )
        for row in results[name]["compressed"]:
            print(
                f"  {row['n_draws']:3d} draws per chain, float16: {row['megabytes']:.3f} MB, "
                f"save {row['save_ms']:.0f} ms, load {row['load_ms']:.0f} ms, LPPD equal "
                f"{row['equal']:.4f}, chosen {row['chosen']:.4f}"
            )
    if args.save:
        save_result("saving", results)


if __name__ == "__main__":
    main()
