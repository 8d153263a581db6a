"""Time and memory of a step with the rows in blocks, against all rows at once.

    python benchmarks/row_blocks.py --data FOLDER [--hidden 16 16 16] [--rows 45730]

Protein (45 730 rows, 9 features), ten chains of a network with the given hidden layers on all
devices, for each activation by the compiled kernel (``relu``) and by XLA. The programs are the ones
that a run compiles; they take turns in one process for each way. ``bytes`` is what the compiler
sets aside for temporary results of one gradient on one device. The size with a star is the one that
mirth chooses.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import jax
import numpy as np
from common import save_result

import mirth
from mirth.core.keys import Purpose, chain_keys
from mirth.core.types import Batch
from mirth.inference import Monitor, Placement
from mirth.inference.chains.chains import Chains
from mirth.inference.engine.deadline import Deadline
from mirth.inference.engine.loop import Stretch
from mirth.inference.problem import Problem
from mirth.inference.rows import Rows
from mirth.inference.store.recorder import Recorder

CHAINS = 10
WAYS = {"kernel": ("relu", "auto"), "XLA": ("relu", "off"), "XLA, tanh": ("tanh", "off")}


def protein(folder: str, num_rows: int) -> tuple[Batch, Batch]:
    """Standardised rows, and a few of them to watch."""
    example = mirth.data.load_benchmark("protein", folder)
    x, y = (np.float32((a - a.mean(axis=0)) / a.std(axis=0)) for a in (example.x, example.y))
    x, y = x[:num_rows], y[:num_rows]
    return Batch(jax.numpy.asarray(x), jax.numpy.asarray(y)), Batch(x[:100], y[:100])


def program(data: tuple[Batch, Batch], network: mirth.MLP, size: int | None) -> Chains:
    """Build the programs of ten chains from random networks."""
    model = mirth.Model(network, mirth.Normal())
    placement = Placement.automatic(CHAINS)
    problem = Problem(
        model,
        Rows(*data),
        CHAINS,
        0,
        placement,
        Monitor(),
        Recorder(),
        Deadline(None),
        data_block_size=size,
    )
    keys = chain_keys(0, Purpose.NETWORK_INIT, CHAINS)
    params = jax.vmap(lambda key: model.init(key, data[0].x))(keys)
    method = mirth.MILE(step_size_init=1e-4, use_validation_rows=False)
    return Chains(method.recipe(problem), problem, params)


def temporary_bytes(chains: Chains) -> int:
    """Bytes that one gradient of all chains of a device needs for temporary results."""
    start = chains.problem.placement.put_chains(chains.flat)
    keys = chains.keys(Purpose.MOMENTUM)
    memory = chains.programs.gradient.lower(start, keys, chains.shared).compile().memory_analysis()
    return int(memory.temp_size_in_bytes)


def measure(args: argparse.Namespace, activation: str) -> list[dict[str, float]]:
    """Let the programs take turns; gives a row for each size."""
    mirth.configure_cpu_devices()
    data = protein(args.data, args.rows)
    network = mirth.MLP(tuple(args.hidden), num_outputs=2, activation=activation)
    # A block of all rows is none; None lets mirth choose.
    sizes = [len(data[0].y), *args.sizes, None]
    chains = {size: program(data, network, size) for size in sizes}
    memory = {size: temporary_bytes(one) for size, one in chains.items()}
    keys = next(iter(chains.values())).keys(Purpose.TUNING)
    states = {size: one.init() for size, one in chains.items()}
    times: dict[int | None, list[float]] = {size: [] for size in chains}
    for repeat in range(args.repeats + 1):
        for size, one in chains.items():
            began = time.perf_counter()
            states[size], _ = one.main_loop.run(
                Stretch("", args.steps, keep=False), states[size], keys, one.shared
            )
            if repeat:  # the first one compiles
                times[size].append((time.perf_counter() - began) / args.steps / CHAINS * 1e6)
    return [
        {
            "block": chains[size].source.rows.block_size or sizes[0],
            "is_automatic": size is None,
            "us": float(np.median(times[size])),
            "ratio": float(np.median(np.divide(times[size], times[sizes[0]]))),
            "bytes": memory[size],
        }
        for size in sizes
    ]


def main() -> None:
    """Measure each way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with protein/protein.data")
    parser.add_argument("--hidden", type=int, nargs="+", default=[16, 16, 16])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 2048, 8192])
    parser.add_argument("--rows", type=int, default=45_730)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args, args.one)))
        return
    table = {}
    for way, (activation, kernel) in WAYS.items():
        command = [sys.executable, *sys.argv, "--one", activation]
        environment = {**os.environ, "MIRTH_CPU_KERNEL": kernel}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        table[way] = json.loads(done.stdout.splitlines()[-1])
        for row in table[way]:
            star, memory = "*" if row["is_automatic"] else " ", row["bytes"] / 2**20
            print(
                f"{way:10s} {row['block']:6d} rows{star} {row['us']:8.0f} us  "
                f"x {row['ratio']:.3f}  {memory:7.2f} MiB",
                flush=True,
            )
    if args.save:
        print(save_result("row_blocks", {"hidden": args.hidden, "ways": table}))


if __name__ == "__main__":
    main()
