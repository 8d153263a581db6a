"""Priors and likelihoods for the estimators' defaults: narrow, wide, noisy and smooth tables.

    python benchmarks/defaults.py --data FOLDER [--sets NAME ...] [--seeds 0 1 2] [--only default]
    python benchmarks/defaults.py --table

LPPD of test rows in nats per row, targets standardised, of the chains and of the ensemble that they
started from. ``--members``, ``--warmup`` and ``--samples`` change the budget, which is the default
one. Results are appended to ``results/defaults.jsonl`` and not fitted again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import uci_splits
from common import RESULTS, machine

import mirth
from mirth.data.examples import breast_cancer, diabetes, load_benchmark

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "prior normal": {"prior": "normal"},
    "fan-in 1": {"prior": mirth.priors.FanInNormalPrior(scale=1.0)},
    "fan-in 2": {"prior": mirth.priors.FanInNormalPrior(scale=2.0)},
    "fan-in 3": {"prior": mirth.priors.FanInNormalPrior(scale=3.0)},
    "fan-in 4": {"prior": mirth.priors.FanInNormalPrior(scale=4.0)},
    "hierarchical fan-in": {"prior": mirth.priors.HierarchicalFanInPrior(scale=3.0)},
    "Normal": {"likelihood": "normal"},
    "Normal, prior normal": {"likelihood": "normal", "prior": "normal"},
}
"""What is compared; a likelihood of numbers is left out for classes."""

HALF = ("diabetes", "breast cancer")  # half of the rows to learn from, else nine tenths
CLASSES = ("ionosphere", "australian", "adult", "breast cancer")
SETS = (
    "diabetes", "australian", "breast cancer", "ionosphere", "concrete", "energy", "airfoil",
    "concrete wide", "bikesharing", "adult",
)  # fmt: skip
NUM_BINS, MAX_ROWS = 24, 2000


def expand(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Expand each column into piecewise linear ones between the quantiles of the training rows."""
    columns = []
    for j in range(x.shape[1]):
        ends = np.unique(np.quantile(x[train, j], np.linspace(0, 1, NUM_BINS + 1)))
        columns.append(np.clip((x[:, [j]] - ends[:-1]) / np.diff(ends), 0, 1))
    return np.concatenate(columns, axis=1)


def adult(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the table of incomes, with a column for each category."""
    import pandas as pd

    path = folder / "adult" / "adult.data.gz"
    table = pd.read_csv(path, header=None, skipinitialspace=True)
    inputs = pd.get_dummies(table.drop(columns=[14])).to_numpy(np.float64)
    return inputs, table[14].str.contains(">").to_numpy().astype(int)


def load(name: str, folder: Path, seed: int) -> tuple[np.ndarray, ...]:
    """Give training and test rows."""
    if name == "adult":
        x, y = adult(folder)
    elif name in HALF:
        example = diabetes() if name == "diabetes" else breast_cancer()
        x, y = example.x, example.y
    elif name in ("concrete", "concrete wide"):
        x, y = uci_splits.load("concrete", folder)
    else:
        example = load_benchmark(name, folder)
        x, y = example.x, example.y
    order = np.random.default_rng(100 + seed).permutation(len(y))
    num_train = round((0.5 if name in HALF else 0.7 if name in CLASSES else 0.9) * len(y))
    train, test = order[:num_train][:MAX_ROWS], order[num_train:][:MAX_ROWS]
    if name == "concrete wide":
        x = expand(x, train)
    varies = x[train].std(axis=0) > 0
    return x[train][:, varies], y[train], x[test][:, varies], y[test]


def scored(model: Any, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Score a fitted estimator, regressions in units of the target's standard deviation."""
    if isinstance(model, mirth.BNNClassifier):
        probability = model.predict_proba(x)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
        log_prob, error = np.log(np.maximum(probability, 1e-12)), 1 - model.score(x, y)
    else:
        dist, unit = model.predict_dist(x), float(model.y_scaler_.scale[0])
        log_prob = dist.log_prob(y) + np.log(unit)
        error = float(np.sqrt(np.mean((dist.mean() - y) ** 2))) / unit
    return {
        "lppd": float(log_prob.mean()), "worst": float(log_prob.min()), "error": float(error),
        "standard_error": float(log_prob.std() / np.sqrt(len(y))),
    }  # fmt: skip


def fits(option: str, name: str) -> bool:
    """Whether an option is for a table."""
    return option != "likelihood" or name not in CLASSES


def fit_one(args: argparse.Namespace, name: str, seed: int, setting: str) -> dict[str, Any]:
    """Fit, and score chains and ensemble."""
    x_train, y_train, x_test, y_test = load(name, args.data, seed)
    kind = mirth.BNNClassifier if name in CLASSES else mirth.BNNRegressor
    budget = {"n_warmup": args.warmup, "n_samples": args.samples}
    method = mirth.MILE(**{key: value for key, value in budget.items() if value is not None})
    options = {key: value for key, value in SETTINGS[setting].items() if fits(key, name)}
    model = kind(method=method, n_members=args.members, random_state=seed, **options)
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x_train, y_train)
    seconds = time.perf_counter() - began
    chains, start = scored(model, x_test, y_test), scored(model.as_deep_ensemble(), x_test, y_test)
    said = any("predict worse than the ensemble" in str(w.message) for w in caught)
    judged = model.posterior_.scores.gain()
    return {
        "chains": chains, "ensemble": start, "seconds": seconds, "warned": said,
        "prior": repr(model.model_.prior), "judged": judged, "columns": x_train.shape[1],
    }  # fmt: skip


def linear(args: argparse.Namespace, name: str, seed: int) -> float:
    """LPPD of a linear model: a Bayesian ridge, or logistic regression."""
    from sklearn.linear_model import BayesianRidge, LogisticRegressionCV

    x_train, y_train, x_test, y_test = load(name, args.data, seed)
    mean, std = x_train.mean(axis=0), x_train.std(axis=0)
    x_train, x_test = (x_train - mean) / std, (x_test - mean) / std
    if name in CLASSES:
        model = LogisticRegressionCV(max_iter=2000).fit(x_train, y_train)
        probability = model.predict_proba(x_test)[np.arange(len(y_test)), y_test]
        return float(np.log(np.maximum(probability, 1e-12)).mean())
    shift, unit = y_train.mean(), y_train.std()
    ridge = BayesianRidge().fit(x_train, (y_train - shift) / unit)
    centre, scale = ridge.predict(x_test, return_std=True)
    z = ((y_test - shift) / unit - centre) / scale
    return float((-0.5 * z**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)).mean())


def tabulate(args: argparse.Namespace, records: list[dict[str, Any]]) -> str:
    """Tabulate mean and standard deviation over seeds; ensemble and gain are the default's."""
    settings = [name for name in SETTINGS if any(r["setting"] == name for r in records)]
    heads = ["table", "linear", "ensemble", *settings, "default gains"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in args.sets:
        found = {
            setting: [r for r in records if (r["set"], r["setting"]) == (name, setting)]
            for setting in settings
        }
        ours = found.get("default", [])
        if not ours:
            continue
        columns = [
            [linear(args, name, r["seed"]) for r in ours] if args.data else [],
            [r["ensemble"]["lppd"] for r in ours],
            *([r["chains"]["lppd"] for r in found[setting]] for setting in settings),
            [r["chains"]["lppd"] - r["ensemble"]["lppd"] for r in ours],
        ]
        cells = [f"{np.mean(c):.3f} ± {np.std(c):.3f}" if c else "" for c in columns]
        lines.append(f"| {name} ({len(ours)}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Fit what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--warmup", type=int)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--table", action="store_true", help="print what is there")
    args = parser.parse_args()
    path = RESULTS / "defaults.jsonl"
    budget = {"members": args.members, "warmup": args.warmup, "samples": args.samples}
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = [record for record in known if record["budget"] == budget]
    if not args.table and args.data is None:
        parser.error(
            "--data FOLDER is needed, but for --table; with it the table has linear models"
        )
    mirth.configure_cpu_devices()
    for seed in args.seeds if not args.table else ():
        for name in args.sets:
            for setting in args.only:
                key = {"set": name, "seed": seed, "setting": setting, "budget": budget}
                is_same = setting == "Normal" and name in CLASSES  # as the default
                if is_same or any(key.items() <= record.items() for record in known):
                    continue
                record = key | fit_one(args, name, seed, setting) | {"machine": machine()}
                known.append(record)
                with path.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                print(
                    f"{name:14s} seed {seed} {setting:20s} LPPD {record['chains']['lppd']:7.3f}, "
                    f"ensemble {record['ensemble']['lppd']:7.3f}  {record['seconds']:5.0f} s",
                    flush=True,
                )
    print(tabulate(args, known))


if __name__ == "__main__":
    main()
