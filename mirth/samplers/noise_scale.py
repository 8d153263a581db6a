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

_RELEASED_CLIP = 1e6


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


def update_released_noise_scale(state: NoiseScale, gradient: PyTree) -> NoiseScale:
    r"""Learn from the gradient of one batch as the released code does, for comparison.

    .. math:: m = 0.99 + 0.01 g, \qquad v \leftarrow 0.99 v + 0.01 (g - m)^2

    The mean begins anew at 1 with each gradient, so v is no variance but the second moment of
    :math:`0.99 (g - 1)`.

    Parameters
    ----------
    state : NoiseScale
        Moments before; the first variance is 1.
    gradient : pytree
        Gradient of the log density of a batch.

    Returns
    -------
    NoiseScale
        Moments after.

    References
    ----------
    .. [1] arXiv 2602.06500, the released code.

    Examples
    --------
    >>> state = NoiseScale(jnp.zeros(()), jnp.zeros(1), jnp.ones(1))
    >>> state = update_released_noise_scale(state, jnp.array([11.0]))
    >>> round(float(state.variance[0]), 4)  # 0.99 + 0.01 * 9.9^2
    1.9701
    """
    gradient = jax.tree.map(lambda g: jnp.clip(g, -_RELEASED_CLIP, _RELEASED_CLIP), gradient)
    mean = jax.tree.map(lambda g: 0.99 + 0.01 * g, gradient)
    variance = jax.tree.map(
        lambda v, g, m: 0.99 * v + 0.01 * (g - m) ** 2, state.variance, gradient, mean
    )
    return NoiseScale(state.num_seen + 1, mean, variance)


def released_preconditioner(state: NoiseScale) -> PyTree:
    r"""Give 1 / sigma as the released code has it: clipped first, then normalised.

    .. math:: s = \frac{\mathrm{RMS}(\sigma)}{\sigma}, \quad
              \sigma = \mathrm{clip}(\sqrt{v}, 10^{-2}, 10^4)

    Parameters
    ----------
    state : NoiseScale
        Of :func:`update_released_noise_scale`.

    Returns
    -------
    pytree
        Scale of each parameter.

    Examples
    --------
    >>> moments = NoiseScale(jnp.zeros(()), jnp.zeros(2), jnp.array([1.0, 49.0]))
    >>> released_preconditioner(moments).round(3).tolist()
    [5.0, 0.714]
    """
    sigma = jax.tree.map(lambda v: jnp.clip(jnp.sqrt(v), 1e-2, 1e4), state.variance)
    total = jnp.asarray(sum(jnp.sum(s**2) for s in jax.tree.leaves(sigma)))
    size = jnp.sqrt(total / tree_size(sigma))
    return jax.tree.map(lambda s: size / s, sigma)


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
