"""Targets with few values: a likelihood that knows the step beside one that does not.

    python benchmarks/rounded_targets.py --data DATA_FOLDER [--sets ratings weather]

Ratings are simulated: 6 levels, 1 500 rows of which 500 are copies of others. Diabetes has its
target rounded to tens, weather is the situation (1 to 4) of 2 000 hours of the bike rentals fitted
as a number, and airfoil is not rounded: nothing may change there. 80/20 splits; 6 members, 5 000
steps of warm-up, 100 draws. Scores are those of the test rows in units of one standard deviation of
the training target: the LPPD is that of a density, so that the likelihoods compare; "cell" is the
mean log of the probability of the cell around the target over its width, so a density that is high
at single values gains nothing (1e-7 at least, which is the precision of the distribution function).
Means over the seeds, and half their range.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from common import save_result
from sklearn.datasets import load_diabetes

import mirth
from mirth.data import load_benchmark
from mirth.evaluation import interval_score

LEVEL = 0.9
ROWS = 2000
COLUMNS = ["season", "mnth", "hr", "weekday", "workingday", "temp", "hum", "windspeed", "cnt"]
SCORES = ("lppd", "cell", "worst", "interval", "inside", "rmse", "width")
Table = tuple[np.ndarray, np.ndarray]


def ratings(folder: str) -> Table:
    """Simulate ratings from 1 to 6; a third of the rows are copies."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 11))
    latent = 3.5 + 0.5 * x[:, 0] + 0.5 * np.sin(2 * x[:, 1]) + 0.25 * x[:, 2] * x[:, 3]
    y = np.clip(np.round(latent + 0.6 * rng.normal(size=1000)), 1, 6)
    rows = np.r_[:1000, rng.choice(1000, 500, replace=False)]
    return x[rows], y[rows]


def diabetes(folder: str) -> Table:
    """Give the progression of the disease in tens."""
    x, y = load_diabetes(return_X_y=True)
    return x, 10 * np.round(y / 10)


def weather(folder: str) -> Table:
    """Give the situation of the weather as a number."""
    table = pd.read_csv(Path(folder, "bikesharing", "hour.csv.gz")).sample(ROWS, random_state=0)
    return table[COLUMNS].to_numpy(float), table["weathersit"].to_numpy(float)


def airfoil(folder: str) -> Table:
    """Give the sound pressure, which is not rounded."""
    example = load_benchmark("airfoil", folder)
    return example.x, example.y


SETS: dict[str, Callable[[str], Table]] = {
    "ratings": ratings, "diabetes": diabetes, "weather": weather, "airfoil": airfoil,
}  # fmt: skip


def score(
    model: mirth.BNNRegressor, x: np.ndarray, y: np.ndarray, unit: float, step: float | None
) -> list[float]:
    """Score test rows."""
    dist = model.predict_dist(x)
    density = cell = dist.log_prob(y) + np.log(unit)
    if step and model.resolution_ is None:
        mass = dist.cdf(y + step / 2) - dist.cdf(y - step / 2)
        cell = np.log(np.maximum(mass, 1e-7) / step * unit)
    low, high = dist.interval(LEVEL).T
    return [
        float(density.mean()),
        float(cell.mean()),
        float(density.min()),
        float(np.mean(interval_score(y, low, high, LEVEL))) / unit,
        float(np.mean((low <= y) & (y <= high))),
        float(np.sqrt(np.mean((dist.mean() - y) ** 2))) / unit,
        float(np.mean(high - low)) / unit,
    ]


def fit(x: np.ndarray, y: np.ndarray, seed: int, resolution: str | None) -> mirth.BNNRegressor:
    """Fit with or without the step."""
    method = mirth.MILE(n_warmup=5000, n_samples=100)
    options = {"method": method, "n_members": 6, "random_state": seed}
    return mirth.BNNRegressor(resolution=resolution, **options).fit(x, y)


def compare(name: str, folder: str, seeds: int) -> dict[str, list[list[float]]]:
    """Score both on the splits of all seeds."""
    x, y = SETS[name](folder)
    found: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        test, train = np.split(order, [len(y) // 5])
        unit = float(y[train].std())
        before, after = (fit(x[train], y[train], seed, how) for how in (None, "auto"))
        for label, model in (("before", before), ("step known", after)):
            for kind, each in (("MILE", model), ("ensemble", model.as_deep_ensemble())):
                scores = score(each, x[test], y[test], unit, after.resolution_)
                found.setdefault(f"{label}, {kind}", []).append(scores)
        print(f"{name}, seed {seed}: resolution_ {after.resolution_}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", mirth.MirthWarning)
    results = {}
    for name in arguments.sets:
        start = time.perf_counter()
        results[name] = compare(name, arguments.data, arguments.seeds)
        print(f"{name} ({time.perf_counter() - start:.0f} s)")
        print("  ".join(f"{title:>17}" for title in ("", *SCORES)))
        for label, rows in results[name].items():
            values = np.array(rows)
            cells = zip(values.mean(axis=0), np.ptp(values, axis=0) / 2, strict=True)
            print(f"{label:>20}  " + "  ".join(f"{a:9.3f} ± {b:5.3f}" for a, b in cells))
    if arguments.save:
        save_result("rounded_targets", {"scores": SCORES, "sets": results})


if __name__ == "__main__":
    main()
