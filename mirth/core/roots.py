"""Where a monotone function of many rows passes zero, or a yes-or-no question turns to yes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_MAX_STEPS = 100  # bisection alone needs about 30 in float32

Rows = Float[Array, "..."]


class _Bracket(NamedTuple):
    """Two ends with residuals of opposite sign, the end before, and the next place to look at."""

    a: Rows
    f_a: Rows
    b: Rows
    f_b: Rows
    fraction: Rows
    done: Bool[Array, "..."]
    step: Array


def find_root(
    residual: Callable[[Rows], Rows], low: Rows, high: Rows, *, near_zero: float = 1e-3
) -> Rows:
    """Find the root of an increasing function in each row.

    Chandrupatla's method narrows the bracket by inverse quadratic interpolation where the
    residuals allow it and by bisection elsewhere, so flat stretches and steep steps cost a few
    bisections.

    Parameters
    ----------
    residual : callable
        Function of an array of the shape of ``low``, elementwise.
    low, high : array
        Ends with ``residual(low) <= 0 <= residual(high)``; rounding may turn these signs.
    near_zero : float, default=1e-3
        A root of a smaller size than this share of ``high - low`` is found to the resolution of
        that share: around zero a relative one would go on to the smallest numbers there are.
        0 is right where they matter.

    Returns
    -------
    array
        Roots, to the resolution of the floating point numbers.

    References
    ----------
    .. [1] Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a
       nonlinear function without using derivatives", Advances in Engineering Software 28 (1997).

    Examples
    --------
    >>> find_root(lambda x: x**3 - 8, jnp.zeros(1), jnp.full(1, 9.0))
    Array([2.], dtype=float32)
    """
    # The signs hold in exact arithmetic; rounding must not turn them.
    tiny = jnp.finfo(low.dtype).tiny
    start = _Bracket(
        low,
        jnp.minimum(residual(low), -tiny),
        high,
        jnp.maximum(residual(high), tiny),
        jnp.full_like(low, 0.5),
        low == high,
        jnp.zeros((), jnp.int32),
    )
    floor = jnp.maximum(near_zero * (high - low), tiny)
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


def smallest_integer(
    is_reached: Callable[[Rows], Bool[Array, "..."]], low: Rows, high: Rows
) -> Rows:
    """Find the smallest whole number at which a question is answered yes, in each row.

    Parameters
    ----------
    is_reached : callable
        Function of an array of the shape of ``low``, elementwise; once yes, it stays yes.
    low, high : array
        Ends; below ``low`` the answer is no, at ``high`` it is yes.

    Returns
    -------
    array
        Whole numbers as floating point numbers; beyond 1 / eps to their resolution.

    Examples
    --------
    >>> smallest_integer(lambda k: k**2 >= 30, jnp.zeros(1), jnp.full(1, 100.0))
    Array([6.], dtype=float32)
    """

    def middle(ends: tuple[Rows, Rows]) -> tuple[Rows, Array]:
        between = jnp.floor((ends[0] + ends[1]) / 2)
        return between, (between > ends[0]) & (between < ends[1])

    def halve(ends: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
        (no, yes), (between, is_open) = ends, middle(ends)
        reached = is_reached(between)
        return (
            jnp.where(is_open & ~reached, between, no),
            jnp.where(is_open & reached, between, yes),
        )

    ends = (jnp.ceil(low) - 1, jnp.ceil(high))
    return jax.lax.while_loop(lambda ends: jnp.any(middle(ends)[1]), halve, ends)[1]
