"""Chain-steps per second against the number of members, on whatever device JAX has.

    python benchmarks/accelerator.py [--members 10 100 1000] [--save]

The small network is 5-16-16-16-16-2 (946 parameters) on 1 021 rows; the large one has about
100 000 parameters. On an accelerator all chains of a device are one vectorised program, so time
should hardly grow with the number of members until the device is full.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from common import save_result
from jax.flatten_util import ravel_pytree

import mirth
from mirth.core.keys import Purpose, chain_keys
from mirth.core.types import Batch
from mirth.inference.engine.loop import ChainLoop, ChunkProgram, Stretch

ROWS = 1021
NETWORKS = {"small": (16, 16, 16, 16), "large": (220, 220, 220)}


def chain_steps_per_second(hidden: tuple[int, ...], members: int, seconds: float) -> dict:
    """Time the sampling loop for a network and a number of members."""
    placement = mirth.Placement.automatic(members)
    key = jax.random.key(0)
    x = jax.random.normal(key, (ROWS, 5))
    y = jnp.sin(x[:, 0]) + 0.1 * x[:, 1]
    model = mirth.Model(mirth.MLP(hidden, num_outputs=2), mirth.Normal())
    unravel = ravel_pytree(model.init(key, x))[1]
    sampler = mirth.samplers.MCLMC(step_size=1e-3, L=10.0)

    def logdensity_fn(shared):
        batch = Batch(shared[0].T, shared[1])
        return lambda flat: model.log_density(unravel(flat), batch)

    def start(key, _, shared):
        flat = ravel_pytree(model.init(key, shared[0].T))[0]
        return sampler.init(flat, logdensity_fn(shared), key)

    def step(key, state, i, shared):
        return sampler.step(key, state, logdensity_fn(shared))

    shared = placement.put_shared((x.T, y))
    keys = placement.put_chains(chain_keys(0, Purpose.SAMPLING, members))
    states = placement.compile(start, donate=False)(keys, keys, shared)
    loop = ChainLoop(ChunkProgram(step, None, placement), members, chunk_steps=20)
    states, _ = loop.run(Stretch("compile", 20), states, keys, shared)
    began, steps, rates = time.perf_counter(), 20, []
    while time.perf_counter() - began < seconds or len(rates) < 5:
        chunk = time.perf_counter()
        states, _ = loop.run(Stretch("run", 20, first_step=steps), states, keys, shared)
        rates.append(20 * members / (time.perf_counter() - chunk))
        steps += 20
    params = int(states.position.shape[1])
    rate = float(np.median(rates))
    result = {"params": params, "members": members, "chain_steps_per_second": rate}
    result["us_per_step_of_all"] = 1e6 * members / rate
    print(
        f"{params:7d} parameters, {members:5d} members: {rate:10.0f} chain-steps/s, "
        f"{result['us_per_step_of_all']:10.0f} us per step of all chains",
        flush=True,
    )
    return result


def main() -> None:
    """Measure all sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=5.0, help="time per measurement")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    args = parser.parse_args()
    mirth.configure_cpu_devices()
    device = jax.local_devices()[0].device_kind
    print(f"{len(jax.local_devices())} x {device}")
    sizes = [("small", members) for members in args.members] + [("large", args.members[0])]
    rows = [chain_steps_per_second(NETWORKS[n], k, args.seconds) for n, k in sizes]
    small = [row for row in rows if row["params"] == rows[0]["params"]]
    growth = small[-1]["us_per_step_of_all"] / small[0]["us_per_step_of_all"]
    print(
        f"{small[-1]['members']} members take {growth:.2f} times as long as {small[0]['members']}"
    )
    if args.save:
        name = f"accelerator_{device.lower().replace(' ', '_')}"
        print(save_result(name, {"device": device, "rows": rows, "growth": growth}))


if __name__ == "__main__":
    main()
