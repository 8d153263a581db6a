r"""The scale of the gradient noise of mini-batches, parameter by parameter.

Microcanonical dynamics keep the target only if the noise of the gradients is isotropic. In the
coordinates y = sigma x, with sigma the standard deviation of the gradient of each parameter, the
noise has the same size in all directions; so the preconditioner is 1 / sigma.

That holds for white noise and small turns. The noise of a step of size epsilon turns the momentum
by about epsilon sigma / sqrt(d) (sigma: root mean square over d coordinates), hence :func:`limits`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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


def centred(state: NoiseScale, gradient: PyTree, memory: float = 100.0) -> PyTree:
    r"""Give the noise of a gradient: its distance from the running mean of those before.

    .. math:: x = \sqrt{1 - \alpha}\, (g - m)

    so that the mean of :math:`x^2` is the variance of :func:`update_noise_scale`.

    Parameters
    ----------
    state : NoiseScale
        Moments before the gradient.
    gradient : pytree
        Gradient of the log density of a batch.
    memory : float, default=100
        Gradients that the window of the moments holds.

    Returns
    -------
    pytree
        The noise; 0 for the first gradient.

    Examples
    --------
    >>> state = update_noise_scale(init_noise_scale(jnp.zeros(1)), jnp.array([1.0]))
    >>> centred(state, jnp.array([3.0])).round(4).tolist()  # 2 sqrt(1 / 2)
    [1.4142]
    """
    alpha = jnp.maximum(1 / (state.num_seen + 1), 1 / memory)
    return jax.tree.map(lambda g, m: jnp.sqrt(1 - alpha) * (g - m), gradient, state.mean)


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


def noise_level(state: NoiseScale, scale: PyTree, least: float = 10.0) -> Float[Array, ""]:
    r"""Give the root mean square of the noise in the coordinates x / ``scale``.

    .. math:: \sigma = \left(\frac 1 d \sum_i v_i s_i^2\right)^{1/2}

    Parameters
    ----------
    state : NoiseScale
        Moments of the gradient, with the variances v.
    scale : pytree
        Scale s of each parameter.
    least : float, default=10
        Gradients that must have been seen; before, the level is 0.

    Returns
    -------
    scalar
        Noise of a coordinate's gradient.

    Examples
    --------
    >>> seen = NoiseScale(jnp.array(20.0), jnp.zeros(2), jnp.array([9.0, 16.0]))
    >>> float(noise_level(seen, jnp.array([1 / 3, 1 / 4])))
    1.0
    """
    squares = jax.tree.map(lambda v, s: jnp.sum(v * s**2), state.variance, scale)
    mean_square = jnp.asarray(sum(jax.tree.leaves(squares))) / tree_size(state.variance)
    return jnp.where(state.num_seen >= least, jnp.sqrt(mean_square), 0.0)


def limits(
    noise: Any, step_size: Any, dimension: int, max_turn: float, L_factor: float
) -> tuple[Any, Any]:
    r"""Bound the step by the turn of the noise, and give the L that outweighs the noise.

    .. math:: \epsilon' = \min\left(\epsilon, \text{max\_turn} \frac{\sqrt d}{\sigma}\right),
              \qquad L = \text{L\_factor} \frac{2 d}{\epsilon' \sigma^2}

    White noise of level sigma forgets a direction over the length
    :math:`2 d / (\epsilon \sigma^2)`, so with L_factor = 1 the refreshment turns the momentum as
    much as the noise does.

    Parameters
    ----------
    noise : scalar or array of shape (chains,)
        Noise level sigma of the gradient; 0 (nothing known, or no noise) bounds nothing.
    step_size : scalar or array of shape (chains,)
        Step size epsilon that is asked for.
    dimension : int
        Number of parameters d.
    max_turn : float
        Largest turn of the momentum in a step, in radians.
    L_factor : float
        Factor of L.

    Returns
    -------
    step_size, L : scalar or array
        Bounded step size, decoherence length.

    Examples
    --------
    >>> step_size, L = limits(jnp.array(4.0), jnp.array(1.0), 100, 0.2, 1.0)
    >>> float(step_size), float(L)
    (0.5, 25.0)
    """
    noise = jnp.asarray(noise)  # without noise the quotients are infinite; NumPy would warn
    bounded = jnp.minimum(step_size, max_turn * math.sqrt(dimension) / noise)
    return bounded, L_factor * 2 * dimension / (bounded * noise**2)
