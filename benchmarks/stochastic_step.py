"""A step of pSMILE against its bare gradient with the gathering of the batch's rows.

    python benchmarks/stochastic_step.py [--repeats 9]

Both run as loops of steps in one compiled program, one chain on one device, in turn; the ratio of
each pair is what counts. ``--batches`` and the networks are those of the goals: LeNet with batches
of 512 images, and an MLP 16-16-16 with batches of 256 rows.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import save_result

import mirth
from mirth.core.keys import Purpose
from mirth.inference import Placement
from mirth.inference.run import stages

RNG = np.random.default_rng(0)


def cases() -> dict[str, tuple[mirth.Model, mirth.Dataset, int, int]]:
    """Give model, rows, batch size and steps of a measurement."""
    images = RNG.normal(size=(6000, 28, 28, 1))
    lenet = mirth.Model(mirth.networks.LeNet(num_outputs=10), mirth.Categorical(num_classes=10))
    x = RNG.normal(size=(12_000, 12))
    mlp = mirth.Model(
        mirth.MLP((16, 16, 16), num_outputs=1, activation="relu"),
        mirth.likelihoods.HomoscedasticNormal(),
    )
    return {
        "LeNet, 512": (lenet, mirth.Dataset(images, RNG.integers(0, 10, 6000)), 512, 20),
        "MLP, 256": (mlp, mirth.Dataset(x, x[:, 0]), 256, 4000),
    }


class Built(Exception):
    """Carries the chains out of a run before it starts."""


def chains_of(model: mirth.Model, data: mirth.Dataset, method: Any) -> Any:
    """Build the chains of a method, at the members' first weights nearly."""
    init = stages.ChainRun.__init__

    def stop(self: Any, chains: Any, report: Any) -> None:
        raise Built(chains)

    stages.ChainRun.__init__ = stop
    placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
    try:
        mirth.infer(model, data, method, num_chains=1, run=mirth.Run(placement=placement))
    except Built as built:
        return built.args[0]
    finally:
        stages.ChainRun.__init__ = init
    raise RuntimeError("The method has built no chains.")


def programs(chains: Any, is_tuning: bool) -> tuple[Any, Any]:
    """Give two programs of many steps: of the method, and of gradients with gathering only."""
    shared = chains.shared._replace(is_tuning=jnp.array(is_tuning))

    def steps(state: Any, key: Any, spanned: Any) -> Any:
        (first, count), shared = spanned
        return jax.lax.fori_loop(
            first,
            first + count,
            lambda i, s: chains.programs.step(jax.random.fold_in(key, i), s, i, shared)[0],
            state,
        )

    def gradients(flat: Any, key: Any, spanned: Any) -> Any:
        (first, count), shared = spanned

        def one(i: Any, position: Any) -> Any:
            gradient = jax.grad(chains.programs.logdensity_fn(shared, key, i, i))(position)
            return position + 1e-12 * gradient

        return jax.lax.fori_loop(first, first + count, one, flat)

    placement = chains.problem.placement
    keys = chains.keys(Purpose.SAMPLING)
    compiled = [placement.compile(f, donate=False) for f in (steps, gradients)]
    starts = (chains.init(), placement.put_chains(chains.flat))

    def bind(program: Any, start: Any) -> Any:
        def run(count: int) -> float:
            span = placement.put_shared(jnp.array([0, count]))
            began = time.perf_counter()
            jax.block_until_ready(program(start, keys, (span, shared)))
            return (time.perf_counter() - began) / count

        return run

    one, two = (bind(p, s) for p, s in zip(compiled, starts, strict=True))
    return one, two


def main() -> None:
    """Measure pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--save", help="name of the result file")
    args = parser.parse_args()
    table = []
    for name, (model, data, batch_size, count) in cases().items():
        method = mirth.SMILE(
            batch_size=batch_size,
            use_validation_rows=False,
            start=mirth.DeepEnsemble(max_epochs=1, batch_size=512),
        )
        chains = chains_of(model, data, method)
        for phase, is_tuning in (("sampling", False), ("warm-up", True)):
            step, gradient = programs(chains, is_tuning)
            step(2), gradient(2)
            pairs = np.array([(step(count), gradient(count)) for _ in range(args.repeats)])
            ratios = pairs[:, 0] / pairs[:, 1]
            row = {
                "case": name,
                "phase": phase,
                "step_us": float(np.median(pairs[:, 0]) * 1e6),
                "gradient_us": float(np.median(pairs[:, 1]) * 1e6),
                "ratio": float(np.median(ratios)),
                "quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
            }
            table.append(row)
            low, high = row["quartiles"]
            print(
                f"{name:12s} {phase:9s} step {row['step_us']:9.1f} us  gradient "
                f"{row['gradient_us']:9.1f} us  ratio {row['ratio']:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
    if args.save:
        print(save_result(args.save, {"arguments": vars(args), "table": table}))


if __name__ == "__main__":
    main()
