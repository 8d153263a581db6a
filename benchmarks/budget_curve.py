"""Quality against time, over a grid of settings: what the defaults were read from.

    python benchmarks/budget_curve.py --data FOLDER [--sets energy concrete ionosphere ...]
        [--activations silu tanh relu] [--hidden 16,16,16 32,32] [--warmups 1000 10000] ...

Regressions are the sets of ``uci_splits.py`` on its splits, and diabetes; classifications are those
of ``tables.py`` and breast_cancer, 80/20. Of each set at most ``--rows`` training rows are taken. A
seed is the number of the split and the seed of the model. Prints LPPD (nats per row, regressions
for a standardised target) of the ensemble and of MILE, RMSE or accuracy, the 90 % intervals'
coverage, and the time of the fit; results are appended to a file, and what is there is not run
again. At the end, differences from the first value of each setting, paired by set and seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tables
import uci_splits
from common import RESULTS, machine

import mirth
from mirth.data import breast_cancer, diabetes

CLASSES = ("ionosphere", "australian", "adult", "breast_cancer")
# Name of a setting, of its option, its default, and how a word is read.
SETTINGS = {
    "activation": ("--activations", [mirth.MLP().activation], str),
    "hidden": ("--hidden", ["16,16,16"], str),
    "prior": ("--priors", ["normal"], str),
    "members": ("--members", [10], int),
    "warmup": ("--warmups", [10_000], int),
    "share": ("--shares", [0.2], float),  # sampling steps / warm-up
    "end": ("--ends", [mirth.MILE().tuner.energy_variance_end], float),
    "start": ("--starts", [mirth.MILE().tuner.energy_variance_start], float),
    "step": ("--steps", [1e-3], float),
    "integrator": ("--integrators", [mirth.MILE().integrator], str),
}
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def split(name: str, folder: str, seed: int, most: int | None) -> Rows:
    """Give inputs and targets, those to fit (at most so many) and those to score."""
    if name in ("ionosphere", "australian", "adult"):
        x_train, x_test, y_train, y_test = tables.split(*tables.load(name, folder, False), seed)
    elif name in ("diabetes", "breast_cancer"):
        example = {"diabetes": diabetes, "breast_cancer": breast_cancer}[name]()
        order = np.random.default_rng(seed).permutation(len(example.y))
        train, test = np.split(order, [int(0.8 * len(order))])
        x_train, x_test = example.x[train], example.x[test]
        y_train, y_test = example.y[train], example.y[test]
    else:
        x, y = uci_splits.load(name, folder)
        train, test = uci_splits.splits(name, len(y))[seed]
        x_train, x_test, y_train, y_test = x[train], x[test], y[train], y[test]
    return x_train[:most], x_test, y_train[:most], y_test


def build(name: str, case: dict[str, Any], seed: int) -> Any:
    """Build the estimator of a case."""
    method = mirth.MILE(
        n_warmup=case["warmup"],
        n_samples=max(10, round(case["share"] * case["warmup"] / 10)),
        tuner=mirth.samplers.MILETuner(
            energy_variance_start=case["start"], energy_variance_end=case["end"]
        ),
        step_size_init=case["step"],
        integrator=case["integrator"],
    )
    kind = mirth.BNNClassifier if name in CLASSES else mirth.BNNRegressor
    return kind(
        tuple(map(int, case["hidden"].split(","))),
        activation=case["activation"],
        prior=case["prior"],
        method=method,
        n_members=case["members"],
        random_state=seed,
    )


def score(model: Any, rows: Rows) -> dict[str, float]:
    """Score the test rows."""
    _, x, y_train, y = rows
    if isinstance(model, mirth.BNNClassifier):
        probabilities = model.predict_proba(x)
        columns = np.searchsorted(model.classes_, y)
        with np.errstate(divide="ignore"):
            log_prob = np.log(probabilities[np.arange(len(y)), columns])
        right = np.mean(probabilities.argmax(axis=1) == columns)
        return {"lppd": float(log_prob.mean()), "accuracy": float(right)}
    dist = model.predict_dist(x)
    lower, upper = dist.interval(0.9).T
    scale = y_train.std()
    return {
        "lppd": float(dist.log_prob(y).mean() + np.log(scale)),
        "rmse": float(np.sqrt(np.mean((y - dist.mean()) ** 2)) / scale),
        "coverage": float(np.mean((lower <= y) & (y <= upper))),
    }


def fit(name: str, case: dict[str, Any], rows: Rows, seed: int) -> dict[str, Any]:
    """Fit once and score; the time is that of the fit alone."""
    model = build(name, case, seed)
    began, began_cpu = time.perf_counter(), time.process_time()
    model.fit(rows[0], rows[2])
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    sampler = model.posterior_.seconds
    result = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "chain_seconds": sampler["tuning"] + sampler["sampling"],
        "step_size": float(np.median(np.asarray(model.posterior_.tuning.step_size))),
        "L": float(np.median(np.asarray(model.posterior_.tuning.L))),
    }
    return result | {"ensemble": score(model.as_deep_ensemble(), rows), "mile": score(model, rows)}


def describe(record: dict[str, Any], varied: list[str]) -> str:
    """Write the line of a fit."""
    mile, case = record["mile"], record["case"]
    words = " ".join(f"{key} {case[key]}" for key in varied)
    rest = "  ".join(f"{key} {value:.3f}" for key, value in mile.items() if key != "lppd")
    return (
        f"{record['set']:13s} seed {record['seed']} {words}  "
        f"LPPD {record['ensemble']['lppd']:7.3f} -> {mile['lppd']:7.3f}  {rest}  "
        f"{record['seconds']:6.1f} s, {record['cpu_seconds']:6.1f} CPU s"
    )


def differences(records: list[dict[str, Any]], grid: dict[str, list[Any]]) -> list[str]:
    """Tabulate, for each set and case, the mean of LPPD and its difference from the first case."""
    cases = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    found = {
        (r["set"], r["seed"], json.dumps(r["case"])): (r["mile"]["lppd"], r["cpu_seconds"])
        for r in records
    }
    varied = [key for key, values in grid.items() if len(values) > 1]
    lines = ["| set | " + " | ".join(varied) + " | LPPD | less the first | CPU s |"]
    lines.append("|---" * (len(varied) + 4) + "|")
    for name in dict.fromkeys(r["set"] for r in records):
        for case in cases:
            pairs = [
                (value, found[name, seed, json.dumps(cases[0])])
                for (which, seed, text), value in found.items()
                if which == name and text == json.dumps(case)
                if (name, seed, json.dumps(cases[0])) in found
            ]
            if pairs:
                gain = np.array([a[0] - b[0] for a, b in pairs])
                lppd = np.mean([a[0] for a, _ in pairs])
                spread = f" ± {gain.std(ddof=1) / np.sqrt(len(gain)):.3f}" if len(gain) > 1 else ""
                words = " | ".join(str(case[key]) for key in varied) + f" | {lppd:.3f}"
                seconds = np.median([a[1] for a, _ in pairs])
                lines.append(f"| {name} | {words} | {gain.mean():+.3f}{spread} | {seconds:.0f} |")
    return lines


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=["airfoil", "energy", "concrete"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="most training rows")
    parser.add_argument("--results", default=str(RESULTS / "budget_curve.jsonl"))
    for key, (option, default, kind) in SETTINGS.items():
        parser.add_argument(option, dest=key, nargs="+", type=kind, default=default)
    args = parser.parse_args()
    warnings.simplefilter("ignore", mirth.MirthWarning)
    path = Path(args.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    grid = {key: getattr(args, key) for key in SETTINGS}
    varied = [key for key, values in grid.items() if len(values) > 1]
    wanted: list[dict[str, Any]] = []
    for name, seed, *values in itertools.product(args.sets, args.seeds, *grid.values()):
        about = {"set": name, "seed": seed, "rows": args.rows}
        about["case"] = dict(zip(grid, values, strict=True))
        record = next((r for r in records if about.items() <= r.items()), None)
        if record is None:
            rows = split(name, args.data, seed, args.rows)
            record = about | fit(name, about["case"], rows, seed) | {"machine": machine()}
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        wanted.append(record)
        print(describe(record, varied), flush=True)
    print("\n".join(differences(wanted, grid)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        # Programs of equal shapes are compiled once, so that times of later fits are of computing.
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        main()
