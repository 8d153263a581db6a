"""Independent Gaussian coordinates with noisy gradients, and long runs of a sampler on them.

The coordinates do not interact, so copies of one coordinate are as many independent chains.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from mirth.core.random import fold_in, standard_normals
from mirth.evaluation.autocorrelation import effective_sample_size

K_SIGMA = 4.0


def noisy_gaussian(scales: Any, noise_sd: float, num_copies: int) -> Partial:
    """Give key -> log density: the key is the mini-batch, the noise linear in the position."""
    scales = np.tile(np.asarray(scales, dtype=np.float32), (num_copies, 1))
    return Partial(_bind, scales, np.float32(noise_sd))


def _bind(scales: Any, noise_sd: Any, key: jax.Array) -> Any:
    (noise,) = standard_normals(key, 1, scales.shape)
    return lambda x: -0.5 * jnp.sum((x / scales) ** 2) + noise_sd * jnp.sum(noise * x)


@functools.partial(jax.jit, static_argnums=3)
def advance(
    bind: Partial, sampler: Any, state: Any, num_draws: int, thin: int, key: jax.Array
) -> tuple[Any, tuple[jax.Array, jax.Array]]:
    """Take num_draws * thin steps, each with a batch of its own.

    Give the state, every thin-th position, and whether a step up to there diverged. Other numbers
    (of the sampler, of the target, thin) compile nothing anew.
    """

    def step(number: jax.Array, carry: Any) -> Any:
        own = fold_in(key, number)
        state, info = sampler.step(own, carry[0], bind(fold_in(own, 1000)))
        return state, carry[1] | info.is_divergent

    def draw(carry: Any, n: jax.Array) -> Any:
        carry = jax.lax.fori_loop(n * thin, (n + 1) * thin, step, carry)
        return carry, (carry[0].position, carry[1])

    carry, found = jax.lax.scan(draw, (state, jnp.array(False)), jnp.arange(num_draws))
    return carry[0], found


def start(sampler: Any, bind: Any, shape: tuple[int, ...], seed: int = 0) -> Any:
    """Start at zero."""
    key = jax.random.key(seed)
    return sampler.init(jnp.zeros(shape), bind(jax.random.fold_in(key, 1)), key)


def variance_of(draws: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Mean square of each coordinate and its standard error, by the effective sample size.

    Parameters
    ----------
    draws : array of shape (draws, copies, coordinates)
        Positions; the true mean is zero.
    """
    squares = np.asarray(draws, dtype=np.float64).swapaxes(0, 1) ** 2
    error = squares.std(axis=(0, 1)) / np.sqrt(effective_sample_size(squares))
    return squares.mean(axis=(0, 1)), error


def assert_variance(draws: jax.Array, expected: Any, largest_se: float) -> None:
    """Compare with an exact variance, within K_SIGMA standard errors that are small enough."""
    found, error = variance_of(draws)
    expected = np.asarray(expected)
    # Without this a chain that hardly moves would pass.
    assert np.all(error < largest_se * expected)
    assert np.all(np.abs(found - expected) < K_SIGMA * error), (found / expected, error / expected)
