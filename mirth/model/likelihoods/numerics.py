"""Gamma functions without cancellation, for densities in float32.

Log densities of counts, positive numbers and rates are differences of log Gamma functions. Their
terms are as large as the parameters times their logarithm, so plain differences lose all digits in
float32. Written with the remainder of Stirling's formula and with deviances (Loader 2000, "Fast and
accurate computation of binomial probabilities"), no large terms are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

_SERIES_FROM = 8.0  # the first term that is left out is 1e-10 there
_MAX_EXPONENT = 80.0  # e^80 is finite in float32

Values = Float[Array, "..."]


def stirling_remainder(x: Values) -> Values:
    r"""Difference of log Gamma and Stirling's formula, for positive x.

    .. math:: R(x) = \log\Gamma(x) - (x - \tfrac12) \log x + x - \tfrac12 \log 2\pi

    Examples
    --------
    >>> float(stirling_remainder(jnp.float32(1.0)))
    0.081061...
    """
    small, large = jnp.minimum(x, _SERIES_FROM), jnp.maximum(x, _SERIES_FROM)
    direct = jax.lax.lgamma(small) - (small - 0.5) * jnp.log(small) + small - HALF_LOG_TWO_PI
    square = 1 / large**2
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / large
    return jnp.where(x < _SERIES_FROM, direct, series)


def deviance(log_ratio: Values) -> Values:
    """e^l - 1 - l: how far two numbers with the log ratio l are apart; 0 at 0.

    Examples
    --------
    >>> float(deviance(jnp.float32(0.01)))
    5.016...e-05
    """
    return jnp.expm1(jnp.minimum(log_ratio, _MAX_EXPONENT)) - log_ratio


def on_host(function: Callable[..., np.ndarray], *arguments: Values) -> Values:
    """Evaluate an elementwise function of SciPy in float64, from compiled code.

    Incomplete Gamma and Beta functions of JAX are wrong by 3e-4 at parameters of 1000 and by 0.3
    at 1e6 in float32, and take 5 to 13 times as long in float64. There is no derivative; none is
    needed.

    Parameters
    ----------
    function : callable
        Elementwise function of NumPy arrays.
    *arguments : array
        Its arguments, which are broadcast.

    Returns
    -------
    array
        Values of the common type of the arguments.

    Examples
    --------
    >>> import scipy.special
    >>> on_host(scipy.special.gammainc, jnp.full(2, 1e6), jnp.array([1e6, 1.001e6])).round(3)
    Array([0.5  , 0.841], dtype=float32)
    """
    broadcast = jnp.broadcast_arrays(*arguments)
    dtype = jnp.result_type(*broadcast)

    def call(*arrays: Array) -> np.ndarray:
        return np.asarray(function(*(np.asarray(a, np.float64) for a in arrays)), dtype)

    like = jax.ShapeDtypeStruct(broadcast[0].shape, dtype)
    return jax.pure_callback(call, like, *broadcast, vmap_method="broadcast_all")
