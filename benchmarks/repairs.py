"""What each repair of the released SMILE changes: one figure and one table.

    python benchmarks/repairs.py --data DATA_FOLDER [--set airfoil --figure repairs.png]

Energy errors across two batches and on one; step sizes by step under three rules; the noise scale
against the true deviation of the gradient; and the predictive density that the whole methods reach.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import save_result
from jax.flatten_util import ravel_pytree
from uci_stochastic import START, split

import mirth
from mirth.core.types import Batch
from mirth.data import EpochBatches
from mirth.samplers import (
    StochasticMCLMC,
    init_noise_scale,
    preconditioner,
    released_preconditioner,
    update_noise_scale,
    update_released_noise_scale,
)

RULES = {
    "released": {"published": True},
    "quantiles, repaired": {"step_size_rule": "quantiles"},
    "energy target": {},
}


class StepSizes(mirth.Monitor):
    """Remembers the median step size of the chains after each chunk."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.sizes: list[float] = []

    def on_chunk(self, report: mirth.monitors.ChainsReport) -> None:
        self.steps.append(report.first_step + report.step)
        self.sizes.append(float(np.median(report.step_size)))


def bind(model: mirth.Model, train: mirth.Dataset, member: Any, batch_size: int) -> Any:
    """Give a flat position, and the log density of the batch of a step."""
    flat, unravel = ravel_pytree(member)
    batches = EpochBatches(len(train), batch_size)
    x, y = jnp.asarray(train.x), jnp.asarray(train.y)

    def logdensity_fn(step: Any) -> Callable[[Any], Any]:
        index, weight = batches.rows(jax.random.key(0), step)
        batch = Batch(x[index], y[index], weight)

        def logdensity(position: Any) -> Any:
            params = unravel(position)
            scale = len(train) / jnp.sum(weight)
            return model.log_prior(params) + scale * model.log_likelihood(params, batch)

        return logdensity

    return flat, logdensity_fn


def energies(flat: Any, logdensity_fn: Any, step_size: float, num: int) -> dict[str, np.ndarray]:
    """Energy errors of the same steps, compared on one batch and across two."""
    sampler = StochasticMCLMC(step_size, integrator="velocity")

    def one(state: Any, step: Any) -> Any:
        before = state.logdensity  # by the batch of the last step
        first = logdensity_fn(step)(state.position)
        state, info = sampler.step(jax.random.key(1), state, logdensity_fn(step))
        return state, (info.energy_change, info.energy_change - first + before)

    state = sampler.init(flat, logdensity_fn(0), jax.random.key(2))
    same, across = jax.jit(lambda s: jax.lax.scan(one, s, jnp.arange(1, num + 1))[1])(state)
    return {"across two batches": np.abs(across), "on one batch": np.abs(same)}


def scales(flat: Any, logdensity_fn: Any, num: int) -> dict[str, np.ndarray]:
    """Deviation of each parameter's gradient, and what both trackers make of it; RMS 1."""
    gradients = jax.jit(
        lambda: jax.lax.map(lambda step: jax.grad(logdensity_fn(step))(flat), jnp.arange(num))
    )()
    ours = init_noise_scale(flat)
    theirs = ours._replace(variance=jnp.ones_like(flat))
    for gradient in gradients:
        ours = update_noise_scale(ours, gradient)
        theirs = update_released_noise_scale(theirs, gradient)
    sigma = {
        "true": np.asarray(gradients.std(axis=0)),
        "released": 1 / np.asarray(released_preconditioner(theirs)),
        "here": 1 / np.asarray(preconditioner(ours)),
    }
    return {name: value / np.sqrt(np.mean(value**2)) for name, value in sigma.items()}


def runs(model: mirth.Model, args: argparse.Namespace) -> tuple[dict[str, StepSizes], list[dict]]:
    """Run whole methods; give the step sizes of the first seed and a table of scores."""
    traces, table = {}, []
    for seed in args.seeds:
        train, validation, test = split(args.set, args.data, seed)
        for name, options in RULES.items():
            monitor = StepSizes()
            method = mirth.SMILE(
                n_warmup=args.steps, n_samples=200, use_validation_rows=False,
                start=mirth.DeepEnsemble(**START), refreshed=False, max_turn=None, **options,
            )  # fmt: skip
            posterior = mirth.infer(
                model, train, method, num_chains=args.members, seed=seed, validation=validation,
                monitors=[monitor], run=mirth.Run(chunk_steps=200),
            )  # fmt: skip
            traces.setdefault(name, monitor)
            dist = mirth.make_predictive(model, posterior.draws, test.x)
            row = {
                "seed": seed,
                "rule": name,
                "lppd": float(dist.log_prob(test.y.astype(float)).mean()),
                "rmse": float(np.sqrt(np.mean((dist.mean() - test.y) ** 2))),
                "step_size": float(np.median(posterior.tuning.step_size)),
                "gradients": posterior.num_gradients,
                "notes": list(posterior.notes),
            }
            table.append(row)
            print(
                f"seed {seed}  {name:20s} LPPD {row['lppd']:7.3f}  RMSE {row['rmse']:.3f}  "
                f"step size {row['step_size']:.3g}  {row['gradients']} gradients  "
                + " ".join(posterior.notes),
                flush=True,
            )
    return traces, table


def draw(path: str, energy: Any, sigma: Any, traces: dict[str, StepSizes]) -> None:
    """Draw the three panels."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    bins = np.geomspace(1e-6, 1e4, 60)
    for name, values in energy.items():
        left.hist(np.clip(values, 1e-6, 1e4), bins, histtype="stepfilled", alpha=0.6, label=name)
    left.set(xscale="log", xlabel="energy error of a step (nats)", ylabel="steps")
    for name, trace in traces.items():
        middle.plot(trace.steps, trace.sizes, label=name)
    middle.set(yscale="log", xlabel="step of the warm-up and the sampling", ylabel="step size")
    for name in ("released", "here"):
        right.plot(sigma["true"], sigma[name], ".", markersize=3, label=name)
    ends = [sigma["true"].min(), sigma["true"].max()]
    right.plot(ends, ends, color="0.5", linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="deviation of a parameter's gradient",
              ylabel="noise scale")  # fmt: skip
    for axis in (left, middle, right):
        axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with the benchmark files")
    parser.add_argument("--set", default="airfoil")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10_000, help="of the warm-up")
    parser.add_argument("--figure", help="where to draw it")
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    model = mirth.Model(
        mirth.MLP((16, 16, 16), num_outputs=1, activation="relu"),
        mirth.likelihoods.HomoscedasticNormal(),
    )
    train, validation, _ = split(args.set, args.data, args.seeds[0])
    start = mirth.infer(
        model, train, mirth.DeepEnsemble(**START), num_chains=1, seed=args.seeds[0],
        validation=validation,
    ).start  # fmt: skip
    member = jax.tree.map(lambda leaf: leaf[0], start)
    flat, logdensity_fn = bind(model, train, member, 256)
    energy = energies(flat, logdensity_fn, 0.01, 2000)
    for name, values in energy.items():
        print(f"energy error {name}: median {np.median(values):.3g} nats")
    sigma = scales(flat, logdensity_fn, 1000)
    for name in ("released", "here"):
        ratio = np.abs(np.log10(np.maximum(sigma[name], 1e-9) / np.maximum(sigma["true"], 1e-9)))
        print(f"noise scale {name}: wrong by a factor of {10 ** np.median(ratio):.2f} (median)")
    traces, table = runs(model, args)
    if args.figure:
        draw(args.figure, energy, sigma, traces)
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": table}))


if __name__ == "__main__":
    main()
