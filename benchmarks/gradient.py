"""One gradient of the built-in network's log posterior on one thread, by activation and width.

    taskset -c 0 python benchmarks/gradient.py [--activations relu silu] [--widths 16 64 128]

Ways: ``kernel`` (mirth's own rule with the compiled kernel), ``XLA`` (the same rule without it) and
``automatic`` (JAX's derivative of the same network). Beside the times, the rate of the products'
multiply-adds, 2 flops each, as a share of what the core can do with numbers in registers.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from common import save_result
from jax.flatten_util import ravel_pytree

import mirth
from mirth.core.types import Batch
from mirth.model import cpu_kernel

WAYS = {"kernel": "required", "XLA": "off", "automatic": "off"}
# The order of operations that mirth asks XLA for.
OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
FEATURES = 5


def peak() -> float | None:
    """Give the GFLOP/s of one core for multiply-adds in registers; None without a compiler."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        return None
    source = Path(__file__).with_name("peak.cc")
    include = Path(cpu_kernel.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "peak")
        flags = ["-std=c++17", "-O3", "-march=native", "-w", f"-I{include}"]
        subprocess.run([compiler, *flags, str(source), "-o", str(program)], check=True)
        done = subprocess.run([str(program)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def hidden(width: int) -> tuple[int, ...]:
    """Give the hidden layers: four narrow ones (the protocol on airfoil), three wide ones."""
    return (width,) * (4 if width <= 16 else 3)


def flops(width: int, rows: int) -> float:
    """Count the products' flops of a gradient: W h forward, W^T delta and delta h^T backward."""
    sizes = (FEATURES, *hidden(width), 2)
    weights = [a * b for a, b in itertools.pairwise(sizes)]
    return 2.0 * rows * (3 * sum(weights) - weights[0])


def program(way: str, activation: str, width: int, rows: int, steps: int) -> Callable[[], None]:
    """Build a loop of gradients."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (rows, FEATURES))
    network = mirth.MLP(hidden(width), num_outputs=2, activation=activation)
    model = mirth.Model(network, mirth.Normal())
    flat, unravel = ravel_pytree(model.init(key, x))

    def log_density(flat, inputs, y):
        params = unravel(flat)
        if way != "automatic":
            return model.log_density(params, Batch(inputs.T, y))
        outputs = network.apply(params["network"], inputs.T)
        return model.log_prior(params) + model.likelihood.log_prob(outputs, y).sum()

    def loop(flat, inputs, y):
        descend = lambda _, p: p + 1e-9 * jax.grad(log_density)(p, inputs, y)  # noqa: E731
        return jax.lax.fori_loop(0, steps, descend, flat)

    os.environ["MIRTH_CPU_KERNEL"] = WAYS[way]
    compiled = jax.jit(loop, compiler_options=OPTIONS)
    data = (jnp.array(x.T), jnp.sin(x[:, 0]))
    jax.block_until_ready(compiled(flat, *data))
    return lambda: jax.block_until_ready(compiled(flat, *data))


def main() -> None:
    """Time all in alternation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activations", nargs="+", default=list(cpu_kernel.ACTIVATIONS))
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--rows", type=int, default=1202)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    args = parser.parse_args()
    most = peak()
    print(f"one core, multiply-adds in registers: {most or float('nan'):.0f} GFLOP/s")
    cases = list(itertools.product(args.widths, args.activations, args.ways))
    steps = {width: max(5, int(3e10 / flops(width, args.rows))) for width in args.widths}
    programs = {
        (width, activation, way): program(way, activation, width, args.rows, steps[width])
        for width, activation, way in cases
    }
    times: dict = {case: [] for case in cases}
    for _ in range(args.repeats):
        for case, run in programs.items():
            began = time.perf_counter()
            run()
            times[case].append((time.perf_counter() - began) / steps[case[0]] * 1e6)
    table = []
    for (width, activation, way), values in times.items():
        median, first = np.median(values), times.get((width, "relu", way))
        row = {"width": width, "activation": activation, "way": way, "median_us": float(median)}
        row["least_us"] = float(np.min(values))
        row["gflops"] = flops(width, args.rows) / median * 1e-3
        row["share_of_peak"] = row["gflops"] / most if most else None
        # Of each repeat, so that the machine's moods cancel.
        row["times_relu"] = float(np.median(np.divide(values, first))) if first else None
        table.append(row)
        print(
            f"width {width:4d}  {activation:10s} {way:10s} median {median:8.1f} us, least "
            f"{row['least_us']:8.1f}  {row['gflops']:6.1f} GFLOP/s"
            + (f", {row['share_of_peak']:.0%} of the peak" if most else "")
            + (f"  {row['times_relu']:.2f} times relu" if first else ""),
            flush=True,
        )
    if args.save:
        print(save_result("gradient", {"rows": args.rows, "peak": most, "table": table}))


if __name__ == "__main__":
    main()
