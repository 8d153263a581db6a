"""How the automatic tuning of MILE behaves under each prior.

    python benchmarks/priors.py --data DATA_FOLDER

Prints a table in Markdown for each data set: step size and L (mean over chains, smallest and
largest in brackets), reverted steps of the warm-up and of sampling, effective draws per chain in
function space (median over rows), test LPPD and RMSE of the start and of the chains, seconds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from common import moment_scores, save_result, standardised_split

import mirth
from mirth.data import load_benchmark

PRIORS: dict[str, Any] = {
    "normal": mirth.priors.NormalPrior(),
    "laplace": mirth.priors.LaplacePrior(),
    "student_t": mirth.priors.StudentTPrior(),
    "cauchy": mirth.priors.CauchyPrior(),
    "fan_in": mirth.priors.FanInNormalPrior(),
    "hierarchical": mirth.priors.HierarchicalNormalPrior(),
    "horseshoe": mirth.priors.HorseshoePrior(),
    "regularised_horseshoe": mirth.priors.RegularisedHorseshoePrior(),
    "map: first layer horseshoe": mirth.priors.PriorMap(
        {"0.weight": mirth.priors.RegularisedHorseshoePrior(), "*": mirth.priors.NormalPrior()}
    ),
}


def fit_once(rows: tuple, prior: mirth.model.Prior, method: mirth.MILE, args: Any, seed: int):
    """Fit, predict, score."""
    x_train, x_test, y_train, y_test = rows
    model = mirth.BNNRegressor(
        likelihood="normal", prior=prior, method=method, n_members=args.members, random_state=seed
    )
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mirth.MirthWarning)  # the verdicts are in the table
        model.fit(x_train, y_train)
    seconds = time.perf_counter() - began
    scores: dict[str, Any] = {}
    for name, estimator in (("start", model.as_deep_ensemble()), ("mile", model)):
        dist = estimator.predict_dist(x_test)
        scores[f"{name}_lppd"] = float(dist.log_prob(y_test).mean())
        scores[f"{name}_rmse"] = moment_scores(y_test, dist.mean(), dist.std())["rmse"]
    tuning, health = model.posterior_.tuning, model.diagnostics_
    return scores | {
        "parameters": model.posterior_.positions().shape[-1],
        "step_size": tuning.step_size.tolist(),
        "L": tuning.L.tolist(),
        "divergent_warmup": int(tuning.num_divergent.sum()),
        "divergent_sampling": int(model.posterior_.sample_stats["diverging"].sum()),
        "ess_function": float(np.nanmean(health.ess_function)),
        "not_moved": sum(verdict.name != "MOVED" for verdict in health.verdicts),
        "seconds": seconds,
    }


def span(values: list[float]) -> str:
    """Mean, least and greatest."""
    return f"{np.mean(values):.3g} ({min(values):.2g}-{max(values):.2g})"


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """One line of the table, over the seeds."""
    mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0] if key[-1] != "L"}
    pooled = {key: sum((run[key] for run in runs), []) for key in ("step_size", "L")}
    reverted = [sum(run[f"divergent_{when}"] for run in runs) for when in ("warmup", "sampling")]
    cells = [
        name,
        f"{mean['parameters']:.0f}",
        span(pooled["step_size"]),
        span(pooled["L"]),
        f"{reverted[0]} / {reverted[1]}",
        str(sum(run["not_moved"] for run in runs)),
        f"{mean['ess_function']:.0f}",
        f"{mean['start_lppd']:.3f} -> {mean['mile_lppd']:.3f}",
        f"{mean['start_rmse']:.3f} -> {mean['mile_rmse']:.3f}",
        f"{mean['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| prior | numbers sampled | step size | L | reverted, warm-up / sampling | unhealthy chains | "
    "effective draws | LPPD | RMSE | s |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Run all priors on all sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=["airfoil", "bikesharing"])
    parser.add_argument("--priors", nargs="+", default=list(PRIORS), choices=list(PRIORS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rows", type=int, default=3000, help="most rows of a set")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    args = parser.parse_args()
    method = mirth.MILE(n_warmup=args.warmup, n_samples=args.samples)
    results: dict[str, Any] = {}
    for name in args.sets:
        example = load_benchmark(name, args.data)
        chosen = np.random.default_rng(0).permutation(len(example.y))[: args.rows]
        print(f"\n{name}, {len(chosen)} rows\n\n{HEADER}", flush=True)
        results[name] = {}
        for prior in args.priors:
            runs = [
                fit_once(
                    standardised_split(example.x[chosen], example.y[chosen], seed),
                    PRIORS[prior],
                    method,
                    args,
                    seed,
                )
                for seed in args.seeds
            ]
            results[name][prior] = runs
            print(row(prior, runs), flush=True)
    if args.save:
        print(save_result("priors", {"arguments": vars(args), "table": results}))


if __name__ == "__main__":
    main()
