"""One compiled program for all chains of a kernel, on densities that the table of kernels needs."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from targets import Target, gaussian, log_gamma

from mirth.samplers import StepInfo

NORMAL = gaussian([0.5, 1.0, 2.0], mean=[0.0, 1.0, -1.0])
SKEWED = log_gamma(4.0, 3)
TARGET = Target(
    lambda x: NORMAL.logdensity(x[:3]) + SKEWED.logdensity(x[3:]),
    np.append(NORMAL.mean, SKEWED.mean),
    np.append(NORMAL.variance, SKEWED.variance),
)


def inside(x: Any) -> Any:
    """Normal with its mode on the wall, so that chains come to it often."""
    return -0.5 * jnp.sum((x - 1) ** 2)


class Kind(NamedTuple):
    """Which density: one formula with numbers, because a branch for each takes long to compile.

    Parameters
    ----------
    is_target : bool
        The target of known moments; else :func:`inside` up to the wall at 1.
    beyond : float
        Log density beyond the wall.
    breaks_gradient : bool
        Go on beyond the wall, but with a gradient that is NaN.
    """

    is_target: bool
    beyond: float
    breaks_gradient: bool


DENSITIES = {
    "target": Kind(True, 0.0, False),
    "log density is NaN": Kind(False, np.nan, False),
    "zero density": Kind(False, -np.inf, False),
    "infinite density": Kind(False, np.inf, False),
    "only the gradient is NaN": Kind(False, 0.0, True),
}
WALLS = [name for name in DENSITIES if name != "target"]


def logdensity(kind: Kind, x: Any) -> Any:
    """Give the log density at a position."""
    root = jnp.sqrt(jnp.where(kind.breaks_gradient, jnp.maximum(1 - x[0], 0.0), 1.0))
    has_value = (x[0] < 1) | kind.breaks_gradient
    walled = jnp.where(has_value, inside(x) + 0 * root, kind.beyond)
    return jnp.where(kind.is_target, TARGET.logdensity(x), walled)


NUM_CHAINS, NUM_WARMUP, NUM_DRAWS = 128, 100, 250


class Found(NamedTuple):
    """States (chains, 1 + draws), what the step to each draw said, whether any step diverged."""

    states: Any
    info: Any
    diverged: Any


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
def run(
    kernel: Any, settled: Any, kind: Kind, position: Any, thin: Any, noise: Any, key: Any
) -> Found:
    """Run chains from one position; every step sees a gradient with noise of its own."""

    def step(n: Any, carry: Any) -> Any:
        state, _, diverged, key = carry
        is_warm = n < NUM_WARMUP * thin
        now = jax.tree.map(lambda a, b: jnp.where(is_warm, a, b), kernel, settled)
        step_key, noise_key = jax.random.split(jax.random.fold_in(key, n))
        z = noise * jax.random.normal(noise_key, position.shape)
        state, info = now.step(step_key, state, lambda x: at(x) + jnp.sum(z * x))
        return state, info, diverged | info.is_divergent, key

    def at(x: Any) -> Any:
        return logdensity(kind, x)

    def draw(carry: Any, n: Any) -> Any:
        carry = jax.lax.fori_loop(n * thin, (n + 1) * thin, step, carry)
        return carry, carry[:2]

    def chain(key: Any) -> Found:
        first = kernel.init(position, at, key)
        said = StepInfo(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), jnp.array(False))
        carry = first, said, jnp.array(False), key
        carry, (states, info) = jax.lax.scan(draw, carry, jnp.arange(NUM_WARMUP + NUM_DRAWS))
        states = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states)
        return Found(states, info, carry[2])

    return jax.vmap(chain)(jax.random.split(key, NUM_CHAINS))
