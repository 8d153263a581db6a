"""Weights of chains by stacking against equal ones, and leave-one-out scores against test rows.

    python benchmarks/stacking.py --data FOLDER [--sets airfoil energy ...] [--seeds 1 2 3]
        [--warmup 2000] [--draws 100] [--members 10]

80/20 splits; a tenth of the rows to fit is held back to stop the optimisation, and the chains
condition on it as well. A fit gives the chains of MILE, stacked by leave-one-out densities of all
its rows, and the deep ensemble that they started from, stacked by the rows held back. The first
table has the LPPD of the test rows with equal weights and what stacking adds (nats per row, target
standardised; mean, standard deviation and range over the seeds). The second has leave-one-out
scores beside those of the test rows: of the pooled draws, of chains alone (mean over chains, and
the correlation over chains), and the share of rows with Pareto k above 0.7.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from common import save_result

import mirth
from mirth import results
from mirth.data import Standardizer, breast_cancer, diabetes, load_benchmark
from mirth.estimators import choose_layers
from mirth.evaluation import chainwise_leave_one_out, chainwise_lppd, leave_one_out, lppd

SETS = ("airfoil", "energy", "diabetes", "ionosphere", "australian")
BUNDLED = {"diabetes": diabetes, "breast_cancer": breast_cancer}


def rows_of(name: str, folder: str, seed: int) -> tuple[mirth.Dataset, ...]:
    """Give rows to learn from, rows held back, both together, and test rows."""
    table = BUNDLED[name]() if name in BUNDLED else load_benchmark(name, folder)
    order = np.random.default_rng(seed).permutation(len(table.y))
    first, second = int(0.72 * len(order)), int(0.8 * len(order))
    fitted = order[:second]
    x = Standardizer.fit(table.x[fitted]).transform(table.x)
    y = table.y
    if table.kind == "regression":
        y = Standardizer.fit(y[fitted, None]).transform(y[:, None])[:, 0]
    parts = (order[:first], order[first:second], fitted, order[second:])
    return tuple(mirth.Dataset(x[part], y[part]) for part in parts)


def gain(posterior: Any, rows: mirth.Dataset, test: mirth.Dataset, held_out: bool) -> dict:
    """Score the test rows with equal weights and by stacking."""
    equal = results.predict_dist(posterior, test.x).log_prob(test.y).mean()
    stacked = results.stack(posterior, rows, held_out=held_out)
    found = results.predict_dist(stacked, test.x).log_prob(test.y).mean()
    weights = stacked.chain_weights
    largest = 1 / posterior.num_chains if weights is None else weights.max()
    return {"equal": float(equal), "gain": float(found - equal), "largest": float(largest)}


def run(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Fit once and score."""
    train, validation, fitted, test = rows_of(name, args.data, seed)
    is_class = train.y.dtype.kind == "i"
    likelihood = mirth.Categorical(num_classes=2) if is_class else mirth.Normal()
    network = mirth.MLP(choose_layers(len(fitted)), num_outputs=2)
    method = mirth.MILE(n_warmup=args.warmup, n_samples=args.draws)
    model, begin = mirth.Model(network, likelihood), time.perf_counter()
    posterior = mirth.infer(
        model, train, method, num_chains=args.members, seed=seed, validation=validation
    )
    seconds = time.perf_counter() - begin
    by_draw = results.predict_dist(posterior, fitted.x).log_prob_per_draw(fitted.y)
    unseen = results.predict_dist(posterior, test.x).log_prob_per_draw(test.y)
    by_chain, pooled = chainwise_leave_one_out(by_draw), leave_one_out(np.concatenate(by_draw))
    chains = chainwise_lppd(unseen)
    return {
        "set": name,
        "seed": seed,
        "seconds": seconds,
        "chains": gain(posterior, fitted, test, held_out=False),
        "ensemble": gain(posterior.start_as_posterior(), validation, test, held_out=True),
        "fitted": float(lppd(np.concatenate(by_draw))),
        "loo": float(pooled.elpd),
        "test": float(lppd(np.concatenate(unseen))),
        "loo_chains": float(by_chain.elpd.mean()),
        "test_chains": float(chains.mean()),
        "correlation": float(np.corrcoef(by_chain.elpd, chains)[0, 1]),
        "bad": float(pooled.share_above()),
        "bad_chains": float(by_chain.share_above().mean()),
        "used": float((by_chain.pareto_k <= 0.7).all(axis=0).mean()),
    }


def show(found: list[dict[str, Any]]) -> None:
    """Print both tables, a line for each set."""
    names = list(dict.fromkeys(case["set"] for case in found))
    print("\nset            of        equal  stacking adds    sd      range             largest")
    for name in names:
        for kind in ("chains", "ensemble"):
            cases = [case[kind] for case in found if case["set"] == name]
            added = np.array([case["gain"] for case in cases])
            equal, largest = (np.mean([case[k] for case in cases]) for k in ("equal", "largest"))
            print(
                f"{name:14s} {kind:9s}{equal:7.3f} {added.mean():+9.4f} {added.std(ddof=1):13.4f}"
                f"  {added.min():+.4f} to {added.max():+.4f} {largest:8.2f}"
            )
    columns = ("fitted", "loo", "test", "loo_chains", "test_chains", "correlation")
    columns += ("bad", "bad_chains", "used")
    print("\n" + "set".ljust(14) + "".join(f"{column:>13s}" for column in columns))
    for name in names:
        cases = [case for case in found if case["set"] == name]
        means = [np.mean([case[column] for case in cases]) for column in columns]
        print(name.ljust(14) + "".join(f"{mean:13.3f}" for mean in means))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--warmup", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--name", default="stacking")
    args = parser.parse_args()
    found = []
    for name in args.sets:
        for seed in args.seeds:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", mirth.MirthWarning)
                case = run(name, seed, args)
            print(name, seed, f"{case['seconds']:.0f} s", case["chains"], case["ensemble"])
            found.append(case)
    show(found)
    settings = {"warmup": args.warmup, "draws": args.draws, "members": args.members}
    save_result(args.name, {"settings": settings, "runs": found})


if __name__ == "__main__":
    main()
