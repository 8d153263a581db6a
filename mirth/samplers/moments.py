"""Running weighted mean and variance of trees, by Welford's update."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


class Moments(NamedTuple):
    """Weight seen so far, mean, and sum of weighted squared deviations.

    Parameters
    ----------
    weight : scalar
        Sum of the weights.
    mean : pytree
        Weighted mean.
    deviations : pytree
        Weighted sum of squared deviations from the mean.
    """

    weight: Float[Array, ""]
    mean: PyTree
    deviations: PyTree


def init_moments(like: PyTree) -> Moments:
    """Start with nothing seen."""
    zeros = jax.tree.map(jnp.zeros_like, like)
    return Moments(jnp.zeros(()), zeros, zeros)


def update_moments(moments: Moments, value: PyTree, weight: Float[Array, ""]) -> Moments:
    """Add one value; a weight of zero changes nothing.

    The deviations are sums of squares, so a variance cannot become negative as E[x^2] - E[x]^2
    can in float32.
    """
    total = moments.weight + weight
    share = jnp.where(total > 0, weight / jnp.where(total > 0, total, 1.0), 0.0)
    delta = jax.tree.map(jnp.subtract, value, moments.mean)
    mean = jax.tree.map(lambda m, d: m + share * d, moments.mean, delta)
    deviations = jax.tree.map(
        lambda s, d: s + weight * (1 - share) * d**2, moments.deviations, delta
    )
    return Moments(total, mean, deviations)


def variance(moments: Moments) -> PyTree:
    """Weighted variance; zero before anything was seen."""
    inverse = jnp.where(moments.weight > 0, 1 / jnp.where(moments.weight > 0, moments.weight, 1), 0)
    return jax.tree.map(lambda s: s * inverse, moments.deviations)
