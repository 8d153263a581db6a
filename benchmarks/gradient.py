"""One gradient of the built-in network's log posterior, in several forms, on one thread.

    taskset -c 0 python benchmarks/gradient.py

Forms: ``rows first`` (activations as (data, features), automatic derivative), ``features first``
(the same transposed), ``own rule`` (what mirth runs), each with XLA's default order of operations
and with the one that reuses the cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from common import save_result
from jax.flatten_util import ravel_pytree

import mirth
from mirth.core.types import Batch

ORDERS = {"default": {}, "cache": {"xla_cpu_enable_concurrency_optimized_scheduler": False}}


def forms(model: mirth.Model, unravel: Callable) -> dict[str, Callable]:
    """Log densities of a flat position given (features-first inputs, targets)."""

    def rows_first(flat, data):
        params, h = unravel(flat), data[0].T
        for i, layer in enumerate(params["network"]):
            h = jax.nn.relu(h) if i else h
            h = h @ layer["weight"].T + layer["bias"]
        return model.log_prior(params) + model.likelihood.log_prob(h, data[1]).sum()

    def features_first(flat, data):
        params, h = unravel(flat), data[0]
        for i, layer in enumerate(params["network"]):
            h = jax.nn.relu(h) if i else h
            h = layer["weight"] @ h + layer["bias"][:, None]
        return model.log_prior(params) + model.likelihood.log_prob(h.T, data[1]).sum()

    def own_rule(flat, data):
        return model.log_density(unravel(flat), Batch(data[0].T, data[1]))

    return {"rows first": rows_first, "features first": features_first, "own rule": own_rule}


def main() -> None:
    """Time all forms in alternation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1202)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    args = parser.parse_args()
    key, steps = jax.random.key(0), 300
    x = jax.random.normal(key, (args.rows, 5))
    data = (jnp.array(x.T), jnp.sin(x[:, 0]))
    model = mirth.Model(mirth.MLP((16,) * 4, num_outputs=2), mirth.Normal())
    flat, unravel = ravel_pytree(model.init(key, x))
    programs = {}
    for name, logdensity in forms(model, unravel).items():
        for order, options in ORDERS.items():

            def loop(position, data, f=logdensity):
                descend = lambda _, p: p + 1e-9 * jax.grad(f)(p, data)  # noqa: E731
                return jax.lax.fori_loop(0, steps, descend, position)

            programs[name, order] = jax.jit(loop, compiler_options=options)
            jax.block_until_ready(programs[name, order](flat, data))
    times: dict = {key: [] for key in programs}
    for _ in range(args.repeats):
        for key, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(flat, data))
            times[key].append((time.perf_counter() - began) / steps * 1e6)
    rows = []
    for (name, order), values in times.items():
        row = {"form": name, "order": order, "median": np.median(values), "min": np.min(values)}
        rows.append({k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()})
        print(f"{name:15s} {order:8s} median {row['median']:7.1f} us  least {row['min']:7.1f} us")
    if args.save:
        print(save_result("gradient", {"rows_of_data": args.rows, "forms": rows}))


if __name__ == "__main__":
    main()
