r"""Mean densities over a cell, in float32, exact in both tails and for any width.

A target that is recorded to a step w says that the value lies within w/2 of it. Its likelihood is

.. math:: \log \frac{F(y + w/2) - F(y - w/2)}{w},

the log of the mean density over the cell; for a small w it is the log density. The plain difference
loses all digits for narrow cells and in the upper tail, and its gradient with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mirth.model.likelihoods.numerics import HALF_LOG_TWO_PI

Values = Float[Array, "..."]

_DENSITY_AT_0 = math.exp(-HALF_LOG_TWO_PI)
_MILLS_SHIFT = 3.0
# Polynomial in t = 3 / (3 + x) of the Mills ratio over t: relative error 3e-8 for all x >= 0.
_MILLS = (
    0.333333343, 0.333330669, 0.296415268, 0.22017805, 0.141204772, -0.0634419322,
    0.220440694, -0.539985683, 0.462474826, -0.176192618, 0.0255567257,
)  # fmt: skip
_SERIES_HALF, _SERIES_SLOPE = 0.5, 1.0  # the first term that is left out is 3e-8 there


def mills_ratio(x: Values) -> Values:
    r"""Upper tail of the standard Normal over its density, for x of 0 and more.

    Examples
    --------
    >>> mills_ratio(jnp.array([0.0, 100.0]))
    Array([1.2533..., 0.009999...], dtype=float32)
    """
    t = _MILLS_SHIFT / (_MILLS_SHIFT + x)
    polynomial = jnp.full_like(t, _MILLS[-1])
    for coefficient in _MILLS[-2::-1]:
        polynomial = polynomial * t + coefficient
    return polynomial * t


@jax.custom_jvp
def normal_log_mean(z: Values, half: Values) -> Values:
    r"""Log of the mean standard Normal density between z - h and z + h.

    With m = \|z\|, a = m - h, b = m + h, the Mills ratio R and q = exp(-2 m h), the probability is

    .. math:: \varphi(a) (R(a) - q R(b)) \text{ if } a > 0, \quad
              1 - \varphi(a) (R(-a) + q R(b)) \text{ if } a \le 0,

    and for narrow cells (h < 1/2, m h < 1) a series in h with Hermite polynomials of m. Where they
    meet they agree to rounding. The derivatives need no differences either:
    :math:`\varphi(b) / P = q \varphi(a) / P`.

    Parameters
    ----------
    z : array
        Centres.
    half : array
        Half widths h, positive.

    Returns
    -------
    array
        log(P / 2h); finite with a finite gradient as long as z^2 is finite.

    Examples
    --------
    >>> normal_log_mean(jnp.array([0.0, 30.0]), jnp.array([1e-6, 1.0]))
    Array([  -0.9189..., -425.48...], dtype=float32)
    """
    return _normal_cell(z, half)[0]


@normal_log_mean.defjvp
def _normal_log_mean_jvp(primals: Any, tangents: Any) -> tuple[Values, Values]:
    (z, half), (z_dot, half_dot) = primals, tangents
    value, by_size, by_log_half = _normal_cell(z, half)
    return value, jnp.sign(z) * by_size * z_dot + by_log_half * (half_dot / half)


def _normal_cell(z: Values, half: Values) -> tuple[Values, Values, Values]:
    """Log mean density, and its derivatives by |z| and by log h."""
    size, h = jnp.abs(z), half
    slope, lower = size * h, size - h
    is_narrow = (h < _SERIES_HALF) & (slope < _SERIES_SLOPE)
    is_tail = lower > 0
    rest = jnp.expm1(-2 * slope)  # q - 1
    # phi(a) / phi(m) for narrow cells, else phi(a) without its constant.
    edge = jnp.exp(jnp.where(is_narrow, slope - h**2 / 2, -(lower**2) / 2))
    tails = mills_ratio(jnp.abs(lower)) + jnp.where(is_tail, -1.0, 1.0) * (
        (1 + rest) * mills_ratio(size + h)
    )
    density = _DENSITY_AT_0 * edge
    mean = jnp.where(is_tail, tails, 1 - density * tails) / (2 * h)
    mean = jnp.where(is_narrow, _narrow_mean(slope**2, h**2), mean)
    lead = jnp.where(is_narrow, size, jnp.where(is_tail, lower, 0.0))
    constant = jnp.where(is_narrow | is_tail, HALF_LOG_TWO_PI, 0.0)
    log_mean = jnp.log(mean) - lead**2 / 2 - constant
    at_edge = jnp.where(is_narrow, edge, jnp.where(is_tail, 1.0, density)) / (2 * mean)
    # phi(a) / P is at_edge / h.
    return log_mean, at_edge * rest / h, at_edge * (2 + rest) - 1


def _narrow_mean(u: Values, v: Values) -> Values:
    r"""Mean density over that at the centre: the sum of He_2k(m) h^2k / (2k + 1)!.

    In u = (m h)^2 and v = h^2, so that a large m with a small h overflows nowhere.
    """
    second = u - v
    fourth = u**2 + v * (3 * v - 6 * u)
    sixth = u**3 + v * (v * (45 * u - 15 * v) - 15 * u**2)
    eighth = u**4 + v * (v * (210 * u**2 + v * (105 * v - 420 * u)) - 28 * u**3)
    return 1 + second / 6 + fourth / 120 + sixth / 5040 + eighth / 362880


def laplace_log_mean(z: Values, half: Values) -> Values:
    """Log of the mean standard Laplace density between z - h and z + h.

    Parameters
    ----------
    z : array
        Centres.
    half : array
        Half widths h, positive.

    Returns
    -------
    array
        log(P / 2h).

    Examples
    --------
    >>> laplace_log_mean(jnp.array([0.0, 100.0]), jnp.array([1e-6, 1.0]))
    Array([  -0.6931...,  -100.5317...], dtype=float32)
    """
    size = jnp.abs(z)
    outside = jnp.maximum(size - half, 0)
    tail = -0.5 * jnp.expm1(-2 * half)  # P e^a of a cell beside the centre
    within = jnp.minimum(size, half)  # no large number where the cell is beside the centre
    around = -jnp.expm1(-half) - 0.5 * jnp.exp(within - half) * jnp.expm1(-within) ** 2
    return jnp.log(jnp.where(size > half, tail, around) / (2 * half)) - outside


def smooth_log_mean(
    log_density: Callable[[Values], Values], z: Values, half: Values, num_nodes: int
) -> Values:
    """Log of the mean of a smooth density between z - h and z + h, by Gauss and Legendre.

    Parameters
    ----------
    log_density : callable
        Elementwise log density.
    z : array
        Centres.
    half : array
        Half widths h: the density must be smooth at this length.
    num_nodes : int
        Nodes of the rule.

    Returns
    -------
    array
        Log of the mean density.

    Examples
    --------
    >>> smooth_log_mean(lambda z: -z, jnp.zeros(1), jnp.ones(1), 6)  # sinh(1)
    Array([0.1614...], dtype=float32)
    """
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    terms = [
        log_density(z + node * half) + math.log(weight / 2)
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True)
    ]
    return jax.nn.logsumexp(jnp.stack(terms), axis=0)
