"""Every method against an exact posterior, through ``mirth.infer`` with real mini-batches.

    python benchmarks/validity.py [--methods psmile ...] [--seeds 0 1 2] [--from exact]
    python benchmarks/validity.py --figure docs/figures/validity.png

Linear regression with 1000 rows and 11 parameters (``exact_posterior.py``), batches of 100, eight
chains. A line has the variance of the draws over the exact one along the principal axes, the widest
first, and the worst error of a mean. ``--from exact`` starts the chains from exact draws, so what
is left is bias and no burn-in. The figure has the bias against the step size by order of batches.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from typing import Any

import numpy as np
from common import save_result
from exact_posterior import ExactPosterior, Judgement

import mirth
from mirth.data import BATCH_ORDERS

STEPS = {
    "sgld": (1e-5, 1e-4),
    "psgld": (1e-4, 1e-3),
    "csgld": (1e-5, 1e-4),
    "sghmc": (1e-3, 1e-2),
    "adaptive-sghmc": (1e-3, 1e-2),
    "psmile-naive": (1e-3, 1e-2),
    "smile-naive": (1e-3, 1e-2),
}
"""Step sizes of the methods that do not find one."""


def methods(budget: dict[str, int], start: Any) -> dict[str, Any]:
    """Build all methods: those that find a step size with their defaults, others with two."""
    both = budget | {"start": start}
    batches = both | {"batch_size": 100}
    known: dict[str, Any] = {
        "mile": mirth.MILE(**both),
        "psmile": mirth.SMILE(**batches),
        "smile": mirth.SMILE(**batches, preconditioned=False),
        "psmile, sweeps": mirth.SMILE(**batches, batch_order="sweeps"),
        "psmile, replacement": mirth.SMILE(**batches, batch_order="replacement"),
        "psmile, rank 4": mirth.SMILE(**batches, noise_rank=4),
        "psmile, rank 8": mirth.SMILE(**batches, noise_rank=8),
        "psmile, rank 8, repl.": mirth.SMILE(**batches, noise_rank=8, batch_order="replacement"),
        "psmile, max_turn .05": mirth.SMILE(**batches, max_turn=0.05),
        "psmile, unbounded": mirth.SMILE(**batches, max_turn=None, refreshed=False),
        "psmile, published": mirth.SMILE(**batches, published=True),
    }
    for name, steps in STEPS.items():
        for step_size in steps:
            method = mirth.methods.resolve_method(name)
            known[f"{name} {step_size:g}"] = method.set_params(**batches, step_size=step_size)
    return known


def line(label: str, found: Judgement, seconds: float) -> str:
    """Write one line of the table."""
    ratios = " ".join(f"{ratio:5.2f}" for ratio in found.variance)
    in_errors = np.abs(found.mean / found.mean_error).max()
    return (
        f"{label:24s} {ratios}  +- {found.variance_error.max():.2f}  "
        f"mean {np.abs(found.mean).max():.2f} sd, {in_errors:.1f} errors  {seconds:5.1f} s"
    )


def run(target: ExactPosterior, method: Any, seed: int) -> tuple[Judgement, mirth.Posterior]:
    """Sample and judge."""
    posterior = mirth.infer(
        target.model, target.data, method, num_chains=8, seed=seed, validation=None
    )
    return target.judge(posterior.positions()), posterior


def table(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all methods and print the table."""
    target, rows = ExactPosterior(), []
    start = target.draws(8) if args.start == "exact" else None
    budget = {"n_warmup": args.warmup, "n_samples": args.draws, "n_thinning": 10}
    for label, method in methods(budget, start).items():
        if args.methods and label.split(" ")[0].rstrip(",") not in args.methods:
            continue
        for seed in args.seeds:
            found, posterior = run(target, method, seed)
            seconds = posterior.seconds["tuning"] + posterior.seconds["sampling"]
            print(line(label, found, seconds), flush=True)
            values = {name: value.tolist() for name, value in found._asdict().items()}
            rows.append({"method": label, "seed": seed, "seconds": seconds} | values)
    return rows


def by_step_size(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Judge runs with given step sizes, by order of the batches, with refreshment and without."""
    target, rows = ExactPosterior(), []
    budget = {"n_warmup": args.warmup, "n_samples": args.draws, "n_thinning": 10}
    fixed = budget | {"batch_size": 100, "step_size_rule": "fixed", "guarded": False}
    for refreshed, order in itertools.product((True, False), BATCH_ORDERS):
        for step_size in np.geomspace(2e-3, 1.3e-1, 7):
            method = mirth.SMILE(
                **fixed, step_size=step_size, batch_order=order, refreshed=refreshed,
                start=target.draws(8),
            )  # fmt: skip
            found, _ = run(target, method, 0)
            values = {name: value.tolist() for name, value in found._asdict().items()}
            kind = {"order": order, "refreshed": refreshed, "step_size": float(step_size)}
            rows.append(kind | values)
            print(line(f"{order} {step_size:.3g}", found, 0.0), flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Draw the worst error of a variance against the step size."""
    import matplotlib.pyplot as plt

    axes = plt.figure(figsize=(7.5, 4), layout="constrained").gca()
    for refreshed, order in itertools.product((True, False), BATCH_ORDERS):
        own = [row for row in rows if (row["order"], row["refreshed"]) == (order, refreshed)]
        axes.loglog(
            [row["step_size"] for row in own],
            [np.abs(np.log(row["variance"])).max() for row in own],
            "-" if refreshed else "--",
            color=f"C{BATCH_ORDERS.index(order)}",
            marker="o",
            markersize=3,
            label=f"{order}{'' if refreshed else ', not refreshed'}",
        )
    axes.set(xlabel="step size", ylabel="largest |log(variance / exact)|")
    axes.set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.figure.legend(loc="outside right upper")
    axes.figure.savefig(path, dpi=150)


def main() -> None:
    """Print the table or draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=[], help="names; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--from", dest="start", choices=["ensemble", "exact"], default="ensemble")
    parser.add_argument("--warmup", type=int, default=6000)
    parser.add_argument("--draws", type=int, default=600, help="per chain, thinned by ten")
    parser.add_argument("--figure", help="draw the bias against the step size into this file")
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    mirth.configure_cpu_devices()
    warnings.simplefilter("ignore", mirth.MirthWarning)
    rows = by_step_size(args) if args.figure else table(args)
    if args.figure:
        draw(rows, args.figure)
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": rows}))


if __name__ == "__main__":
    main()
