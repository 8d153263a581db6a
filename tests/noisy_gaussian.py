"""Independent Gaussian coordinates with noisy gradients, and long runs of a sampler on them.

The coordinates do not interact, so copies of one coordinate are as many independent chains.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mirth.core.autocorrelation import effective_sample_size
from mirth.samplers import MCLMCInfo

K_SIGMA = 4.0


def noisy_gaussian(scales: Any, noise_sd: float, num_copies: int) -> Any:
    """Give key -> log density: the key is the mini-batch, the noise linear in the position."""
    scales = np.tile(np.asarray(scales, dtype=np.float32), (num_copies, 1))

    def bind(key: jax.Array) -> Any:
        noise = noise_sd * jax.random.normal(key, scales.shape)
        return lambda x: jnp.sum(-0.5 * (x / scales) ** 2 + noise * x)

    return bind


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def advance(
    bind: Any, sampler: Any, state: Any, num_draws: int, thin: int, key: jax.Array
) -> tuple[Any, tuple[jax.Array, MCLMCInfo]]:
    """Take num_draws * thin steps, each with a batch of its own; give every thin-th position."""

    def step(state: Any, key: jax.Array) -> tuple[Any, MCLMCInfo]:
        batch, own = jax.random.split(key)
        return sampler.step(own, state, bind(batch))

    def draw(state: Any, key: jax.Array) -> tuple[Any, tuple[jax.Array, MCLMCInfo]]:
        state, info = jax.lax.scan(step, state, jax.random.split(key, thin))
        return state, (state.position, info)

    return jax.lax.scan(draw, state, jax.random.split(key, num_draws))


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
    print("ratio", found / expected, "relative se", error / expected)
    # Without this a chain that hardly moves would pass.
    assert np.all(error < largest_se * expected)
    assert np.all(np.abs(found - expected) < K_SIGMA * error), (found / expected, error / expected)
