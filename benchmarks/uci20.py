"""mirth and its own deep ensemble on the UCI regression protocol of 20 splits.

    python benchmarks/uci20.py --data FOLDER [--sets yacht energy ...] [--splits 0-4]

The default estimator, ``BNNRegressor(random_state=SPLIT)``, and the ensemble that its chains
started from; other settings by the flags, under another ``--label``. Each fit has a process of its
own, so that neither memory nor compiled programs are handed on and a crash costs one fit. Results
are appended to a file and not fitted again: a run that was killed goes on. The key of a record has
the settings that flags can change; after any other change of mirth give another ``--label`` or
``--redo``. ``--table-only`` prints the table of what is there, with the models of ``others.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import uci_splits

import mirth


def method(args: argparse.Namespace) -> mirth.MILE:
    """Give the method with the budget asked for."""
    budget = {"n_warmup": args.warmup, "n_samples": args.samples}
    return mirth.MILE(**{name: value for name, value in budget.items() if value is not None})


def estimator(args: argparse.Namespace, split: int) -> mirth.BNNRegressor:
    """Give the estimator of a split; what no flag names stays at its default."""
    flags: dict[str, Any] = {
        "hidden_layer_sizes": tuple(args.hidden) if args.hidden else None,
        "activation": args.activation,
        "prior": args.prior,
        "likelihood": args.likelihood,
        "n_members": args.members,
        "method": None if args.warmup is None and args.samples is None else method(args),
    }
    given = {name: value for name, value in flags.items() if value is not None}
    return mirth.BNNRegressor(random_state=split, **given)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Give what a flag can change, as it will be: part of the key of a record."""
    model, budget = estimator(args, 0), method(args)
    hidden = model.hidden_layer_sizes
    # The first records were written when the Normal was the only likelihood.
    other = {} if model.likelihood == "normal" else {"likelihood": model.likelihood}
    return other | {
        "hidden": "by size" if hidden is None else list(hidden),
        "activation": model.activation,
        "prior": model.prior,
        "members": model.n_members,
        "warmup": budget.n_warmup,
        "samples": budget.n_samples,
    }


def score(model: mirth.BNNRegressor, x: np.ndarray, y: np.ndarray) -> dict[str, float | None]:
    """Score the predictive distribution of rows."""
    dist = model.predict_dist(x)
    lower, upper = dist.interval(0.9).T
    return uci_splits.scores(
        y, dist.log_prob(y), dist.mean(), lower, upper, dist.crps(y), dist.std()
    )


def fit_one(args: argparse.Namespace, name: str, split: int) -> None:
    """One fit, in a process of its own; prints one line of JSON."""
    warnings.simplefilter("ignore", mirth.MirthWarning)  # the notes are in the record
    x, y = uci_splits.load(name, args.data)
    train, test = uci_splits.splits(name, len(y))[split]
    model = estimator(args, split)
    began, began_cpu = time.perf_counter(), time.process_time()
    model.fit(x[train], y[train])
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    began = time.perf_counter()
    found = {"scores": score(model, x[test], y[test]), "notes": list(model.posterior_.notes)}
    found |= {"seconds": seconds, "cpu_seconds": cpu_seconds}
    found |= {"score_seconds": time.perf_counter() - began}
    ensemble = model.as_deep_ensemble()
    start = {"scores": score(ensemble, x[test], y[test])}
    start |= {"seconds": model.posterior_.seconds["warm_start"]}
    print("RESULT " + json.dumps([found, start]))


def commit() -> str:
    """Name the state of the sources."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return done.stdout.strip()


def run(name: str, split: int) -> list[dict[str, Any]] | None:
    """Run one fit in a process of its own; None if it failed."""
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name, str(split)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        reason = done.stderr[-2000:] or f"exit status {done.returncode}"
        print(f"{name:11s} split {split:2d} failed:\n{reason}", flush=True)
        return None
    return json.loads(lines[-1][len("RESULT ") :])


def report(name: str, split: int, found: dict[str, Any], start: dict[str, Any]) -> None:
    """Print the line of a split."""
    ours, ensemble = found["scores"], start["scores"]
    print(
        f"{name:11s} split {split:2d}  NLL {ours['nll']:7.3f}, ensemble {ensemble['nll']:7.3f}  "
        f"RMSE {ours['rmse']:.4g}  90 % cover {ours['coverage']:.3f}  {found['seconds']:6.1f} s",
        flush=True,
    )


def run_all(args: argparse.Namespace, results: uci_splits.Results) -> int:
    """Run the splits that are not there yet; gives the number of failures."""
    jobs = uci_splits.wanted(args)
    used, labels = settings(args), (args.label, f"{args.label}: ensemble")
    about = {"versions": uci_splits.versions("mirth", "jax") | {"commit": commit()}}
    failures = 0
    for name, split in jobs:
        if not args.redo and all(results.has(name, split, label, used) for label in labels):
            continue
        found = run(name, split)
        failures += found is None
        for label, record in zip(labels, found or [], strict=False):
            key = {"set": name, "split": split, "model": label, "settings": used}
            results.add(key | record | about)
        if found:
            report(name, split, *found)
    return failures


def main() -> None:
    """Run and tabulate."""
    parser = uci_splits.parser(__doc__.splitlines()[0])
    parser.add_argument("--label", default="mirth", help="name of the model in the records")
    parser.add_argument("--activation", help="such as silu")
    parser.add_argument("--hidden", type=int, nargs="+", help="widths of the hidden layers")
    parser.add_argument("--prior", help="such as laplace")
    parser.add_argument("--likelihood", help="such as student_t")
    parser.add_argument("--members", type=int, help="networks, and chains")
    parser.add_argument("--warmup", type=int, help="steps of each chain before its draws")
    parser.add_argument("--samples", type=int, help="draws of each chain")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.data and not args.table_only:
        parser.error("give --data, or --table-only")
    if args.one:
        fit_one(args, args.one[0], int(args.one[1]))
        return
    results = uci_splits.Results(args.results)
    failures = 0 if args.table_only else run_all(args, results)
    print(uci_splits.table(uci_splits.Results(args.results).records))
    if failures:
        raise SystemExit(f"{failures} fits failed; the same command runs them again.")


if __name__ == "__main__":
    main()
