"""Classification of tables: MILE beside its own deep ensemble, boosted trees and a linear model.

    python benchmarks/tables.py --data DATA_FOLDER [--sets ionosphere australian adult] [--full]

70/10/20 splits with seeds 1-3: every model gets the same 80 %, and holds an eighth of it back if it
stops early. Of adult 6 000 rows are drawn, all 48 842 with ``--full``. Prints a table of means over
the seeds with their standard deviations.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import save_result
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import mirth
from mirth.data import load_benchmark
from mirth.evaluation import accuracy, expected_calibration_error

HIDDEN = {"ionosphere": (16, 16), "australian": (16, 16), "adult": (16, 16, 16, 16)}
ADULT_ROWS = 6000
SCORES = {
    "lppd": "LPPD",
    "accuracy": "accuracy",
    "ece": "calibration error",
    "seconds": "fit, CPU s",
}


def load(name: str, folder: str, full: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """Give the columns and the class of each row; numbers and categories are told by their type."""
    if name != "adult":
        example = load_benchmark(name, folder)
        return pd.DataFrame(example.x), example.y
    read = {"header": None, "skipinitialspace": True}
    parts = [
        pd.read_csv(Path(folder, "adult", file), skiprows=skip, **read)
        for file, skip in (("adult.data.gz", 0), ("adult.test.gz", 1))
    ]
    table = pd.concat(parts, ignore_index=True)
    if not full:
        table = table.sample(ADULT_ROWS, random_state=0)
    return table.iloc[:, :-1], table.iloc[:, -1].str.startswith(">50K").to_numpy().astype(int)


def split(x: pd.DataFrame, y: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """Give 80 % of the rows to fit and 20 % to score, encoded and scaled by the first."""
    order = np.random.default_rng(seed).permutation(len(y))
    first = int(0.8 * len(order))
    encoder = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (
            # A level that a few rows have would only be a nearly constant column.
            OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist"),
            make_column_selector(dtype_exclude="number"),
        ),
        sparse_threshold=0,
    )
    x.columns = x.columns.map(str)
    x_train = encoder.fit_transform(x.iloc[order[:first]])
    return x_train, encoder.transform(x.iloc[order[first:]]), y[order[:first]], y[order[first:]]


def models(hidden: tuple[int, ...], args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Build the models by name."""
    method = mirth.MILE(n_warmup=args.warmup, n_samples=args.draws)
    return {
        "MILE": mirth.BNNClassifier(
            hidden,
            method=method,
            n_members=args.members,
            validation_fraction=0.125,
            random_state=seed,
        ),
        "boosted trees": HistGradientBoostingClassifier(
            early_stopping=True, validation_fraction=0.125, random_state=seed
        ),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)),
    }


def score(model: Any, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Score the probabilities of the test rows."""
    probabilities = model.predict_proba(x)
    with np.errstate(divide="ignore"):
        log_prob = np.log(probabilities[np.arange(len(y)), y])
    return {
        "lppd": float(log_prob.mean()),
        "accuracy": accuracy(y, probabilities.argmax(axis=1)),
        "ece": expected_calibration_error(y, probabilities),
    }


def run(name: str, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Fit and score all models on one split."""
    x_train, x_test, y_train, y_test = split(*load(name, args.data, args.full), seed)
    rows = []
    for label, model in models(HIDDEN[name], args, seed).items():
        began = time.process_time()
        model.fit(x_train, y_train)
        seconds = time.process_time() - began
        found = [(label, model, seconds)]
        if label == "MILE":
            found.append(("its deep ensemble", model.as_deep_ensemble(), float("nan")))
        for which, fitted, spent in found:
            scores = score(fitted, x_test, y_test) | {"seconds": spent}
            rows.append({"set": name, "seed": seed, "model": which} | scores)
            print(
                f"{name:11s} seed {seed} {which:20s} "
                + "  ".join(f"{key} {value:.3f}" for key, value in scores.items()),
                flush=True,
            )
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Tabulate mean and standard deviation over the seeds."""
    lines = [
        "| data | model | " + " | ".join(SCORES.values()) + " |",
        "|---" * (2 + len(SCORES)) + "|",
    ]
    groups = pd.DataFrame(rows).groupby(["set", "model"], sort=False)
    for (name, model), group in groups:
        cells = []
        for score_name in SCORES:
            values = group[score_name]
            if values.isna().any():  # the ensemble is the first part of the fit of MILE
                cells.append("-")
                continue
            digits = 1 if score_name == "seconds" else 3
            spread = f" +- {values.std():.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.{digits}f}{spread}")
        lines.append(f"| {name} | {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all splits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=list(HIDDEN), choices=list(HIDDEN))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--warmup", type=int, help="default: by size")
    parser.add_argument("--draws", type=int, default=mirth.MILE().n_samples, help="per chain")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--full", action="store_true", help=f"adult with more than {ADULT_ROWS}")
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    warnings.simplefilter("ignore", mirth.MirthWarning)
    rows = [row for name in args.sets for seed in args.seeds for row in run(name, seed, args)]
    print(as_markdown(rows))
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": rows}))


if __name__ == "__main__":
    main()
