"""What an automatic budget keeps of the gain over the ensemble, and what it costs.

    python benchmarks/auto_budget.py --data DATA_FOLDER [--sets airfoil energy ...]

For each data set fits three times from the same ensemble: the fixed budget, the automatic one with
that as its limit, and the deep ensemble that both start from. Prints test LPPD, gradients per chain
and seconds, and what share of gain and cost the automatic budget has.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import save_result
from sklearn.model_selection import train_test_split

import mirth
from mirth.data import load_benchmark

WARMUP, DRAWS = 50_000, 1000
SHORTER = {"protein": (10_000, 200)}
"""Data for which the paper's budget takes an hour on two cores."""


def fit(name: str, rows: list[np.ndarray], kind: str, method: mirth.MILE, members: int, seed: int):
    """Fit one budget; gives the scores of the chains and of their starts."""
    x_train, x_test, y_train, y_test = rows
    cls = mirth.BNNRegressor if kind == "regression" else mirth.BNNClassifier
    model = cls((16, 16, 16), method=method, n_members=members, random_state=seed)
    model.fit(x_train, y_train)
    scores = {}
    for label, estimator in (("ensemble", model.as_deep_ensemble()), ("chains", model)):
        if kind == "regression":
            log_prob = estimator.predict_dist(x_test).log_prob(y_test)
        else:
            found = np.searchsorted(model.classes_, y_test)
            log_prob = np.log(estimator.predict_proba(x_test)[np.arange(len(found)), found])
        scores[label] = float(log_prob.mean())
    posterior = model.posterior_
    return scores | {
        "warmup": posterior.tuning.num_steps,
        "draws": posterior.num_draws,
        "gradients": posterior.num_gradients,
        "seconds": posterior.seconds["tuning"] + posterior.seconds["sampling"],
        "warm_start_seconds": posterior.seconds["warm_start"],
        "notes": posterior.notes,
    }


def main() -> None:
    """Run all data sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument(
        "--sets", nargs="+", default=["airfoil", "energy", "ionosphere", "bikesharing", "protein"]
    )
    parser.add_argument("--gains", type=float, nargs="+", default=[0.02])
    parser.add_argument("--effective", type=float, default=400, help="least effective draws")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    table = {}
    for name in args.sets:
        example = load_benchmark(name, args.data)
        labels = example.y if example.kind == "classification" else None
        rows = train_test_split(
            example.x, example.y, test_size=0.2, random_state=args.seed, stratify=labels
        )
        if example.kind == "regression":
            mean, sd = rows[2].mean(), rows[2].std()
            rows[2:] = [(y - mean) / sd for y in rows[2:]]
        warmup, draws = SHORTER.get(name, (WARMUP, DRAWS))
        budget = {"n_warmup": warmup, "n_samples": draws}
        runs = {"fixed": mirth.MILE(**budget)}
        for gain in args.gains:
            runs[f"auto {gain:g}"] = mirth.MILE(
                **budget, budget="auto", min_gain=gain, min_effective=args.effective
            )
        found = {
            label: fit(name, rows, example.kind, method, args.members, args.seed)
            for label, method in runs.items()
        }
        table[name] = found
        full = found["fixed"]
        for label, run in found.items():
            share = (run["chains"] - run["ensemble"]) / (full["chains"] - full["ensemble"])
            print(
                f"{name:12s} {label:10s} LPPD {run['ensemble']:7.4f} -> {run['chains']:7.4f} "
                f"({share:5.1%} of the gain)  warm-up {run['warmup']:6d} draws {run['draws']:5d}  "
                f"gradients {run['gradients'] / full['gradients']:5.1%}  "
                f"{run['seconds']:6.1f} s ({run['seconds'] / full['seconds']:5.1%})",
                flush=True,
            )
            for note in run["notes"]:
                print(f"    {note}")
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": table}))


if __name__ == "__main__":
    main()
