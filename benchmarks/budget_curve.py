"""Quality against time: the curve from which the estimators' default budget was read.

    python benchmarks/budget_curve.py --data DATA_FOLDER [--sets airfoil energy bikesharing]

For each data set, some lengths of the warm-up and three settings of the final energy variance,
prints test LPPD, moment-matched NLL, RMSE, coverage of the 90 % intervals and the time of the fit.
"""

from __future__ import annotations

import argparse
import time

from common import moment_scores, save_result, standardised_split

import mirth
from mirth.data import load_benchmark


def fit_once(rows: tuple, method: mirth.MILE, hidden: tuple[int, ...], members: int, seed: int):
    """Fit, predict, score."""
    x_train, x_test, y_train, y_test = rows
    model = mirth.BNNRegressor(hidden, method=method, n_members=members, random_state=seed)
    began = time.perf_counter()
    model.fit(x_train, y_train)
    seconds = time.perf_counter() - began
    scores = {"fit_seconds": seconds}
    for name, estimator in (("start", model.as_deep_ensemble()), ("mile", model)):
        dist = estimator.predict_dist(x_test)
        lower, upper = dist.interval(0.9).T
        scores[name] = moment_scores(y_test, dist.mean(), dist.std()) | {
            "lppd": float(dist.log_prob(y_test).mean()),
            "coverage_90": float(((y_test >= lower) & (y_test <= upper)).mean()),
        }
    return scores


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=["airfoil", "energy", "bikesharing"])
    parser.add_argument("--warmups", type=int, nargs="+", default=[1000, 3000, 10_000, 30_000])
    parser.add_argument("--samples", type=float, default=0.2, help="sampling steps / warm-up")
    parser.add_argument("--ends", type=float, nargs="+", default=[0.1])
    parser.add_argument("--members", type=int, nargs="+", default=[10])
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 16, 16])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    table = []
    for name in args.sets:
        example = load_benchmark(name, args.data)
        rows = standardised_split(example.x, example.y, args.seed)
        for members in args.members:
            for end in args.ends:
                for warmup in args.warmups:
                    draws = max(10, round(args.samples * warmup / 10))
                    method = mirth.MILE(n_warmup=warmup, n_samples=draws, energy_variance_end=end)
                    scores = fit_once(rows, method, tuple(args.hidden), members, args.seed)
                    key = {"set": name, "members": members, "end": end, "warmup": warmup}
                    table.append(key | {"draws": draws} | scores)
                    mile, start = scores["mile"], scores["start"]
                    print(
                        f"{name:12s} members {members:3d} end {end:<5g} warm-up {warmup:6d} draws "
                        f"{draws:5d}: LPPD {start['lppd']:7.4f} -> {mile['lppd']:7.4f}  RMSE "
                        f"{start['rmse']:.4f} -> {mile['rmse']:.4f}  "
                        f"cover {mile['coverage_90']:.3f}  {scores['fit_seconds']:6.1f} s",
                        flush=True,
                    )
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": table}))


if __name__ == "__main__":
    main()
