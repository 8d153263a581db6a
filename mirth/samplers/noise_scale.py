r"""The scale of the gradient noise of mini-batches, parameter by parameter.

Microcanonical dynamics keep the target only if the noise of the gradients is isotropic. In the
coordinates y = sigma x, with sigma the standard deviation of the gradient of each parameter, the
noise has the same size in all directions; so the preconditioner is 1 / sigma.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mirth.core.trees import tree_size


class NoiseScale(NamedTuple):
    """Running mean and centred variance of the gradient.

    Parameters
    ----------
    num_seen : scalar
        Gradients seen.
    mean, variance : pytree
        Of each parameter's gradient.
    """

    num_seen: Float[Array, ""]
    mean: PyTree
    variance: PyTree


def init_noise_scale(position: PyTree) -> NoiseScale:
    """Begin with nothing seen."""
    zeros = jax.tree.map(jnp.zeros_like, position)
    return NoiseScale(jnp.zeros(()), zeros, zeros)


def update_noise_scale(state: NoiseScale, gradient: PyTree, memory: float = 100.0) -> NoiseScale:
    r"""Learn from the gradient of one batch.

    .. math:: m \leftarrow m + \alpha (g - m), \qquad
              v \leftarrow (1 - \alpha)\left(v + \alpha (g - m)^2\right)

    with the old mean m on the right-hand sides and :math:`\alpha = \max(1/t, 1/\text{memory})`: the
    plain moments of the first gradients, then a window that forgets; so nothing is to be corrected.

    Parameters
    ----------
    state : NoiseScale
        Moments before.
    gradient : pytree
        Gradient of the log density of a batch.
    memory : float, default=100
        Gradients that the window holds.

    Returns
    -------
    NoiseScale
        Moments after.

    Examples
    --------
    >>> state = init_noise_scale(jnp.zeros(1))
    >>> for g in (1.0, 3.0):
    ...     state = update_noise_scale(state, jnp.array([g]))
    >>> float(state.mean[0]), float(state.variance[0])
    (2.0, 1.0)
    """
    count = state.num_seen + 1
    alpha = jnp.maximum(1 / count, 1 / memory)
    difference = jax.tree.map(jnp.subtract, gradient, state.mean)
    return NoiseScale(
        count,
        jax.tree.map(lambda m, d: m + alpha * d, state.mean, difference),
        jax.tree.map(lambda v, d: (1 - alpha) * (v + alpha * d**2), state.variance, difference),
    )


def preconditioner(state: NoiseScale, span: float = 100.0, least: float = 10.0) -> PyTree:
    r"""Give 1 / sigma, with sigma normalised to unit root mean square and clipped.

    .. math:: s = \left(\mathrm{clip}\left(\frac{\sigma}{\mathrm{RMS}(\sigma)},
              \frac{1}{\text{span}}, \text{span}\right)\right)^{-1}

    Parameters
    ----------
    state : NoiseScale
        Moments of the gradient.
    span : float, default=100
        Largest ratio of a parameter's noise to the root mean square, and of that to it; a parameter
        without noise (a dead unit) would otherwise move without bounds.
    least : float, default=10
        Gradients that must have been seen; before, the scale is 1.

    Returns
    -------
    pytree
        Scale of each parameter, for :class:`~mirth.samplers.StochasticMCLMC`.

    References
    ----------
    .. [1] arXiv 2602.06500, the noise preconditioner.
    """
    total = jnp.asarray(sum(jnp.sum(v) for v in jax.tree.leaves(state.variance)))
    mean_square = total / tree_size(state.variance)
    is_known = (state.num_seen >= least) & (mean_square > 0)
    inverse = jax.lax.rsqrt(jnp.where(is_known, mean_square, 1.0))

    def scale(variance: Array) -> Array:
        sigma = jnp.clip(jnp.sqrt(variance) * inverse, 1 / span, span)
        return jnp.where(is_known, 1 / sigma, 1.0)

    return jax.tree.map(scale, state.variance)
