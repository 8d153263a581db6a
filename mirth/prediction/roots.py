"""Quantiles of a mixture by root finding on its distribution function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_MAX_STEPS = 100  # bisection alone needs about 30 in float32

Rows = Float[Array, " data"]


class _Bracket(NamedTuple):
    """Two ends with residuals of opposite sign, the end before, and the next place to look at."""

    a: Rows
    f_a: Rows
    b: Rows
    f_b: Rows
    fraction: Rows
    done: Bool[Array, " data"]
    step: Array


@functools.partial(jax.jit, static_argnums=0)
def mixture_quantile(
    likelihood: Any, outputs: Float[Array, "draws data outputs"], level: Float[Array, ""]
) -> Rows:
    r"""Solve :math:`\frac1S \sum_s F_s(q) = p` for each row.

    The smallest and the largest quantile of the components bracket the root. Chandrupatla's method
    narrows the bracket by inverse quadratic interpolation where the residuals allow it and by
    bisection elsewhere, so flat stretches between modes and steep steps cost a few bisections.

    Parameters
    ----------
    likelihood : Likelihood
        Continuous likelihood with ``cdf`` and ``quantile``.
    outputs : array of shape (draws, rows, outputs)
        Outputs of all draws.
    level : scalar
        Level p, in (0, 1).

    Returns
    -------
    array of shape (rows,)
        Quantiles q in units of the network, to the resolution of the floating point numbers.

    References
    ----------
    .. [1] Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a
       nonlinear function without using derivatives", Advances in Engineering Software 28 (1997).
    """

    def residual(y: Rows) -> Rows:
        return jnp.mean(likelihood.cdf(outputs, y), axis=0) - level

    ends = likelihood.quantile(outputs, level)
    low, high = jnp.min(ends, axis=0), jnp.max(ends, axis=0)
    # The signs hold in exact arithmetic; rounding must not turn them.
    tiny = jnp.finfo(outputs.dtype).tiny
    start = _Bracket(
        low,
        jnp.minimum(residual(low), -tiny),
        high,
        jnp.maximum(residual(high), tiny),
        jnp.full_like(low, 0.5),
        low == high,
        jnp.zeros((), jnp.int32),
    )
    # Around zero a relative tolerance alone would go on to the smallest numbers there are.
    floor = 1e-3 * (high - low)
    end = jax.lax.while_loop(
        lambda bracket: ~jnp.all(bracket.done) & (bracket.step < _MAX_STEPS),
        functools.partial(_narrow, residual, floor),
        start,
    )
    return jnp.where(jnp.abs(end.f_a) < jnp.abs(end.f_b), end.a, end.b)


def _narrow(residual: Callable[[Rows], Rows], floor: Rows, bracket: _Bracket) -> _Bracket:
    """Evaluate the residual at one more place and choose the next one."""
    a, f_a, b, f_b, fraction, done, step = bracket
    x = a + fraction * (b - a)
    f_x = residual(x)
    # The new end is x; the other keeps the opposite sign; c is the end that was replaced.
    same = jnp.sign(f_x) == jnp.sign(f_a)
    c, f_c = jnp.where(same, a, b), jnp.where(same, f_a, f_b)
    b, f_b = jnp.where(same, b, a), jnp.where(same, f_b, f_a)
    a, f_a = x, f_x

    width = jnp.abs(b - a)
    resolution = jnp.finfo(x.dtype).eps * jnp.maximum(jnp.maximum(jnp.abs(a), jnp.abs(b)), floor)
    least = jnp.minimum(resolution / width, 0.5)
    done = done | (f_a == 0) | (width <= 2 * resolution)

    # Chandrupatla's test: the inverse parabola through the three points is monotone between a, b.
    xi, phi = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
    interpolate = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    parabola = f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * (
        f_b / (f_c - f_b)
    )
    fraction = jnp.where(interpolate, jnp.clip(parabola, least, 1 - least), 0.5)
    narrowed = _Bracket(a, f_a, b, f_b, fraction, done, step + 1)
    # What is done stays done without being asked, and ONNX cannot choose between booleans.
    return jax.tree.map(
        lambda new, old: (
            new if new.ndim == 0 or new.dtype == bool else jnp.where(bracket.done, old, new)
        ),
        narrowed,
        bracket,
    )
