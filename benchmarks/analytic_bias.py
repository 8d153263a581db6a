"""Bias against step size of every stochastic sampler, at equal gradients, on known targets.

    python benchmarks/analytic_bias.py [--reduced] [--gradients 20000] [--chains 16] [--save]

Three targets of 10 dimensions: a rotated Gaussian (standard deviations 0.1 to 10), five banana
pairs (Q = 0.1), Neal's funnel (standard deviation 3). A batch adds noise . x to the log density:
Normal noise with standard deviation 16 times a structure, or noise of another shape, independent,
each with standard deviation 16. All chains start at one point, as published, and spend the first
fifth of their gradients on warm-up: there the preconditioners are learnt, and nothing is averaged.
The noise scale and adaptive SGHMC freeze what they have learnt; RMSprop has no end.

Bias: mean over dimensions of (mean(x^2) - E[x^2])^2 / Var[x^2], the mean over steps and chains.
Floor: what this would be without bias, from the variance over chains; it knows nothing of modes or
tails that no chain has seen. The minimum over step sizes is a little too small for being one.
Error of one chain: the same with the mean of one chain, averaged over chains (the published form).
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, save_result
from matplotlib.figure import Figure

from mirth.core.trees import tree_select
from mirth.samplers import SGHMC, SGLD, STOCHASTIC_SCHEMES, StochasticMCLMC
from mirth.samplers.noise_scale import init_noise_scale, preconditioner, update_noise_scale

DIMENSION = 10
SIZE = 16.0
SD = np.logspace(-1, 1, DIMENSION)
ROTATION = np.linalg.qr(np.random.default_rng(0).standard_normal((DIMENSION, DIMENSION)))[0]
COVARIANCE = (ROTATION * SD**2) @ ROTATION.T
WARMUP = 0.2  # share of the gradients
MEMORY = 1000.0  # gradients in the window of the noise scale


class Target(NamedTuple):
    """A density, its exact moments, and what its position-dependent noise follows."""

    name: str
    logdensity: Callable[[jax.Array], jax.Array]
    start: np.ndarray
    square: np.ndarray  # E[x^2]
    variance: np.ndarray  # Var[x^2]
    coordinate: int
    width: float


class Noise(NamedTuple):
    """Shape, structure, and whether it depends on the position; all are data to the program."""

    name: str
    kind: int
    matrix: np.ndarray
    is_local: float


class Contender(NamedTuple):
    """A sampler from a step size and a scale; gradients of a step; range of step sizes."""

    name: str
    build: Callable[[Any, Any], Any]
    gradients: int
    is_scaled: bool
    low: float
    high: float


def make_targets() -> list[Target]:
    half = DIMENSION // 2
    precision = jnp.asarray((ROTATION / SD**2) @ ROTATION.T)

    def banana(x: jax.Array) -> jax.Array:  # x ~ N(1, 1), y ~ N(x^2, Q)
        first, second = x[:half], x[half:]
        return -0.5 * jnp.sum((first - 1) ** 2 + (second - first**2) ** 2 / 0.1)

    def funnel(x: jax.Array) -> jax.Array:  # theta ~ N(0, 9), x ~ N(0, exp(theta))
        theta, rest = x[0], x[1:]
        quadratic = theta**2 / 9 + (DIMENSION - 1) * theta + jnp.exp(-theta) * jnp.sum(rest**2)
        return -0.5 * quadratic

    # The fourth and eighth moments of N(1, 1) are 10 and 764.
    pair = functools.partial(np.repeat, repeats=half)
    rest = np.ones(DIMENSION - 1)
    square, variance = np.diag(COVARIANCE), 2 * np.diag(COVARIANCE) ** 2
    zero, width = np.zeros(DIMENSION), math.sqrt(square[1])
    bananas = pair([2.0, 10.1]), pair([6.0, 764 + 6 * 10 * 0.1 + 3 * 0.1**2 - 10.1**2])
    fourth = (3 * math.exp(18) - math.exp(9)) * rest
    funnels = np.r_[9.0, math.exp(4.5) * rest], np.r_[162.0, fourth]
    return [
        Target("Gaussian", lambda x: -0.5 * x @ precision @ x, zero, square, variance, 1, width),
        Target("banana", banana, pair([1.0, 2.0]), *bananas, 1, math.sqrt(2)),
        Target("funnel", funnel, zero, *funnels, 0, 9.0),
    ]


def make_noises() -> list[Noise]:
    eye, cholesky = np.eye(DIMENSION), np.linalg.cholesky(COVARIANCE)
    return [
        Noise("isotropic", 0, eye, 0.0),
        Noise("anisotropic", 0, np.diag(SD), 0.0),
        Noise("correlated", 0, cholesky, 0.0),
        Noise("position-dependent", 0, cholesky, 1.0),
        Noise("Laplace", 1, eye, 0.0),
        Noise("Student-t", 2, eye, 0.0),
        Noise("log-normal", 3, eye, 0.0),
    ]


def make_contenders() -> list[Contender]:
    def microcanonical(scheme: str, is_scaled: bool) -> Contender:
        name = ("scaled " if is_scaled else "") + scheme

        def build(step: Any, scale: Any) -> StochasticMCLMC:
            return StochasticMCLMC(step, scale=scale, integrator=scheme)

        return Contender(name, build, STOCHASTIC_SCHEMES[scheme], is_scaled, 3e-3, 3.0)

    return [
        *(microcanonical(s, scaled) for scaled in (False, True) for s in STOCHASTIC_SCHEMES),
        Contender("SGLD", lambda e, _: SGLD(e), 1, False, 1e-5, 3e-2),
        Contender("pSGLD", lambda e, _: SGLD(e, 1.0, "rmsprop"), 1, False, 1e-3, 1.0),
        Contender("SGHMC", lambda e, _: SGHMC(e), 1, False, 1e-3, 0.2),
        Contender("adaptive SGHMC", lambda e, _: SGHMC(e, adaptive=True), 1, False, 3e-3, 1.0),
    ]


def draw(kind: jax.Array, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Give centred noise of unit variance."""

    def student(key: jax.Array) -> jax.Array:  # Bailey's polar method, 5 degrees of freedom
        radius, angle = jax.random.uniform(key, (2, *shape), minval=1e-7)
        t = jnp.sqrt(5 * (radius**-0.4 - 1)) * jnp.cos(2 * jnp.pi * angle)
        return t / math.sqrt(5 / 3)

    def lognormal(key: jax.Array) -> jax.Array:
        mean, e = math.sqrt(math.e), math.e
        return (jnp.exp(jax.random.normal(key, shape)) - mean) / math.sqrt(e * (e - 1))

    def laplace(key: jax.Array) -> jax.Array:
        return jax.random.laplace(key, shape) / math.sqrt(2)

    normal = functools.partial(jax.random.normal, shape=shape)
    return jax.lax.switch(kind, [normal, laplace, student, lognormal], key)


def sample(
    target: Target, contender: Contender, warmup: int, total: int, noise: Any, steps: Any, key: Any
) -> jax.Array:
    """Run all chains; give each chain's means of x^2, the share of reverted steps behind them."""
    kind, matrix, is_local = noise
    start, num = jnp.asarray(target.start, float), len(steps)

    def batch(slope: jax.Array) -> Callable[[jax.Array], jax.Array]:
        def logdensity(x: jax.Array) -> jax.Array:
            factor = jnp.exp(-is_local / target.width * x[target.coordinate])
            return target.logdensity(x) + jax.lax.stop_gradient(factor) * jnp.sum(slope * x)

        return logdensity

    def begin(key: jax.Array, step: jax.Array) -> Any:
        state = contender.build(step, jnp.ones(DIMENSION)).init(start, batch(0 * start), key)
        return state, init_noise_scale(start), jnp.zeros(DIMENSION + 1)

    def one(carry: Any, key: Any, step: Any, slope: jax.Array, learns: Any) -> Any:
        state, scale, sums = carry
        sampler = contender.build(step, preconditioner(scale) if contender.is_scaled else 1.0)
        options = {"is_probe": False} if isinstance(sampler, StochasticMCLMC) else {}
        if getattr(sampler, "adaptive", False):
            sampler = tree_select(learns, sampler, sampler.frozen())
        state, info = sampler.step(key, state, batch(slope), **options)
        if contender.is_scaled:
            scale = tree_select(learns, update_noise_scale(scale, state.gradient, MEMORY), scale)
        seen = jnp.append(state.position**2, info.is_divergent)
        return state, scale, jnp.where(learns, sums, sums + seen)

    def body(i: jax.Array, carry: Any) -> Any:
        first, second = jax.random.split(jax.random.fold_in(key, i))
        slope = SIZE * draw(kind, first, (num, DIMENSION)) @ matrix.T
        keys = jax.random.split(second, num)
        return jax.vmap(functools.partial(one, learns=i < warmup))(carry, keys, steps, slope)

    carry = jax.vmap(begin)(jax.random.split(jax.random.fold_in(key, total), num), steps)
    carry = jax.lax.fori_loop(0, total, body, carry)
    return carry[2] / (total - warmup)


def measure(
    target: Target, contender: Contender, noises: list[Noise], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Bias and floor of a sampler on a target, for every noise and step size."""
    grid = np.geomspace(contender.low, contender.high, args.grid)
    total = args.gradients // contender.gradients
    run = jax.jit(functools.partial(sample, target, contender, round(WARMUP * total), total))
    steps = jnp.repeat(jnp.asarray(grid, float), args.chains)
    rows, began = [], time.perf_counter()
    for noise in noises:
        given = jax.tree.map(jnp.asarray, noise[1:])
        found = run(given, steps, jax.random.key(args.seed))
        found = np.asarray(found, np.float64).reshape(args.grid, args.chains, -1)
        moments, reverted = found[..., :-1], found[..., -1].mean(axis=1)
        with np.errstate(all="ignore"):
            error = (moments.mean(axis=1) - target.square) ** 2 / target.variance
            floor = (moments.var(axis=1, ddof=1) / args.chains / target.variance).mean(axis=1)
        bias = np.nan_to_num(error.mean(axis=1), nan=np.inf, posinf=np.inf)
        row = {"step_size": grid, "bias": bias, "floor": floor, "reverted": reverted}
        row["chain"] = bias + (args.chains - 1) * floor
        row = {name: values.tolist() for name, values in row.items()}
        rows.append(row | {"target": target.name, "sampler": contender.name, "noise": noise.name})
    print(target.name, contender.name, f"{time.perf_counter() - began:.1f} s", flush=True)
    return rows


def cell(row: dict[str, Any]) -> str:
    best = int(np.argmin(row["bias"]))
    bias, floor, step = (row[name][best] for name in ("bias", "floor", "step_size"))
    mark = "*" if bias < 3 * floor else ""
    return f"{bias:.1e}{mark} ({floor:.0e}) at {step:.0e}; {np.nanmin(row['chain']):.1e}"


def print_table(rows: list[dict[str, Any]]) -> None:
    """One block a target; for each sampler and noise the minima over the step sizes."""
    names = list(dict.fromkeys(row["noise"] for row in rows))
    for target in dict.fromkeys(row["target"] for row in rows):
        print(f"\n| {target} | " + " | ".join(names) + " |")
        print("|---" * (len(names) + 1) + "|")
        for sampler in dict.fromkeys(row["sampler"] for row in rows):
            mine = [r for r in rows if (r["target"], r["sampler"]) == (target, sampler)]
            print(f"| {sampler} | " + " | ".join(map(cell, mine)) + " |")
    print("\nbias (floor) at step size; error of one chain. * bias below three times the floor")


def draw_figure(rows: list[dict[str, Any]]) -> None:
    """Rows targets, columns noises, lines samplers; colour the scheme, dashes the noise scale."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    noises = list(dict.fromkeys(row["noise"] for row in rows))
    size = (2.1 * len(noises) + 0.6, 1.9 * len(targets) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(targets), len(noises), sharey=True, squeeze=False)
    colours: dict[str, str] = {}
    for row in rows:
        axis = axes[targets.index(row["target"]), noises.index(row["noise"])]
        base = row["sampler"].removeprefix("scaled ")
        colour = colours.setdefault(base, f"C{len(colours)}")
        dashes = "-" if base == row["sampler"] else "--"
        width = 1.2 if base in STOCHASTIC_SCHEMES else 0.8
        bias = np.where(np.isfinite(row["bias"]), row["bias"], np.nan)
        line = axis.loglog(row["step_size"], bias, dashes, color=colour, lw=width)[0]
        line.set_label(row["sampler"])
        axis.set_ylim(1e-5, 1e2)
    for axis, name in zip(axes[0], noises, strict=True):
        axis.set_title(name, fontsize=8)
    for axis, name in zip(axes[:, 0], targets, strict=True):
        axis.set_ylabel(f"{name}: bias", fontsize=8)
    axes[-1, len(noises) // 2].set_xlabel("step size", fontsize=8)
    handles = axes[0, 0].get_lines()
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=7)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "analytic_bias.png", dpi=65)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="one target, two noises, seconds")
    parser.add_argument("--gradients", type=int, default=20_000, help="of a chain")
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--grid", type=int, default=8, help="step sizes of a sampler")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    args, targets, noises = parser.parse_args(), make_targets(), make_noises()
    if args.reduced:
        args.gradients, args.chains, args.grid = 2_000, 16, 4
        targets, noises = targets[:1], noises[:2]
    began = time.perf_counter()
    jobs = [(target, contender) for target in targets for contender in make_contenders()]
    with ThreadPoolExecutor(args.workers) as pool:
        done = pool.map(lambda job: measure(*job, noises, args), jobs)
        rows = [row for some in done for row in some]
    print_table(rows)
    draw_figure(rows)
    print(f"{RESULTS}/analytic_bias.png after {time.perf_counter() - began:.0f} s")
    if args.save:
        print(save_result("analytic_bias", {"arguments": vars(args), "table": rows}))


if __name__ == "__main__":
    main()
