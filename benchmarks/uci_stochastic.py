"""Mini-batch methods side by side on UCI regression, with time and gradients.

    python benchmarks/uci_stochastic.py --data DATA_FOLDER [--sets energy ...] [--seeds 1 2 3]

The protocol of arXiv 2602.06500: 70/10/20 split, standardised, network 16-16-16-1 with one learnt
noise level, ten members, batches of 256 rows. All methods start from the same ensemble and have the
same number of gradients of a batch (full-batch MILE as many gradients of all rows).
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from common import save_result

import mirth
from mirth.data import load_benchmark

START = {"learning_rate": 1e-2, "weight_decay": 5e-3, "batch_size": 64, "max_epochs": 200,
         "patience": 10}  # fmt: skip


def split(name: str, folder: str, seed: int) -> list[mirth.Dataset]:
    """Give training, validation and test rows, standardised by the training rows."""
    example = load_benchmark(name, folder)
    order = np.random.default_rng(seed).permutation(len(example.x))
    first, second = int(0.7 * len(order)), int(0.8 * len(order))
    train = order[:first]
    x = (example.x - example.x[train].mean(axis=0)) / example.x[train].std(axis=0)
    y = (example.y - example.y[train].mean()) / example.y[train].std()
    parts = (train, order[first:second], order[second:])
    return [mirth.Dataset(x[rows], y[rows]) for rows in parts]


def methods(warmup: int, draws: int, names: list[str]) -> dict[str, object]:
    """Build the methods with equal gradients; steps of one gradient each, MILE's have two."""
    budget = {"n_warmup": warmup, "n_samples": draws}
    start = mirth.DeepEnsemble(**START)
    unseen = {"use_validation_rows": False, "start": start}
    smile = budget | unseen
    known = {
        "psmile": mirth.SMILE(**smile),
        "smile": mirth.SMILE(**smile, preconditioned=False),
        "psmile-rank8": mirth.SMILE(**smile, noise_rank=8),
        "psmile-rank32": mirth.SMILE(**smile, noise_rank=32),
        "psmile-quantiles": mirth.SMILE(**smile, step_size_rule="quantiles"),
        "psmile-mclachlan": mirth.SMILE(
            **(smile | {"n_warmup": warmup // 2, "n_thinning": 5}), integrator="mclachlan"
        ),
        "adaptive-sghmc": mirth.SGMCMC(**smile, kernel="adaptive-sghmc", step_size=0.01),
        "csgld": mirth.SGMCMC(**smile, kernel="sgld", schedule="cyclical", step_size=1e-6),
        "mile": mirth.MILE(**(smile | {"n_warmup": warmup // 2, "n_thinning": 5})),
    }
    return {name: known[name] for name in names or known}


def main() -> None:
    """Run all methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--sets", nargs="+", default=["energy", "airfoil", "bikesharing"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=[], help="names; all by default")
    parser.add_argument("--warmup", type=int, default=50_000, help="gradients")
    parser.add_argument("--draws", type=int, default=1000, help="per chain, thinned by ten")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--step-size", type=float, help="first of psmile, all of SGHMC")
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    warnings.simplefilter("ignore", mirth.MirthWarning)
    model = mirth.Model(
        mirth.MLP((16, 16, 16), num_outputs=1, activation="relu"),
        mirth.likelihoods.HomoscedasticNormal(),
    )
    table = []
    for name in args.sets:
        for seed in args.seeds:
            train, validation, test = split(name, args.data, seed)
            for label, method in methods(args.warmup, args.draws, args.methods).items():
                if args.step_size and not label.startswith(("mile", "csgld")):
                    method.set_params(step_size=args.step_size)
                posterior = mirth.infer(
                    model, train, method, num_chains=args.members, seed=seed, validation=validation
                )
                row = {"set": name, "seed": seed, "method": label}
                for what, found in (("start", posterior.start_as_posterior()), ("", posterior)):
                    dist = mirth.make_predictive(model, found.draws, test.x)
                    row[f"{what}lppd"] = float(dist.log_prob(test.y.astype(float)).mean())
                row["rmse"] = float(np.sqrt(np.mean((dist.mean() - test.y) ** 2)))
                row["seconds"] = posterior.seconds["tuning"] + posterior.seconds["sampling"]
                row["gradients"] = posterior.num_gradients
                row["step_size"] = float(np.median(posterior.tuning.step_size))
                row["unhealthy"] = list(posterior.notes)
                table.append(row)
                print(
                    f"{name:12s} seed {seed} {label:18s} LPPD {row['startlppd']:7.3f} -> "
                    f"{row['lppd']:7.3f}  RMSE {row['rmse']:.3f}  eps {row['step_size']:.3g}  "
                    f"{row['gradients']:6d} gradients {row['seconds']:6.1f} s  "
                    f"{' '.join(row['unhealthy'])}",
                    flush=True,
                )
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": table}))


if __name__ == "__main__":
    main()
