r"""Continuous ranked probability score of a mixture.

.. math:: \mathrm{CRPS}(F, y) = \int (F(z) - 1\{z \ge y\})^2 dz
          = \mathbb E|X - y| - \tfrac12 \mathbb E|X - X'|

with X and X' independent from F. The integral is for any mixture; of counts and rounded values it
is a sum. Both expectations of a mixture of S Normals are sums of

.. math:: A(m, s) = \mathbb E|m + s Z| = m (2 \Phi(m/s) - 1) + 2 s \varphi(m/s),

S terms for the first and S^2 for the second (Grimit et al. 2006). For many components the second is
the integral of F (1 - F) instead. All integrals are adaptive quadratures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mirth.prediction.mixture import mean_of_draws, mixture_quantile, traced_mean

Components = Float[Array, "draws data"]
Weights = Float[Array, " draws"] | Float[np.ndarray, " draws"] | None

_RANKS = 5  # first panels: their edges are ranks of the lower ends, centres and upper ends
_REACH = 6.0  # an end lies this many scales from the centre: the mass beyond is 2e-9
_ORDER = 12  # 13 nodes per panel
_MAX_SPLITS = 240
_RELATIVE_ERROR = 3e-6  # as estimated; at 1e-5 kinks cost 1e-4 of the standard deviation
_TAIL = 1e-4  # probability beyond the first and the last node: its square enters the score
_FAR = 10.0  # how far beyond them, in their distance, a target is integrated up to
_NARROWEST = 1e-4  # share of their distance that is a unit of length at least
_MAX_TERMS = 512  # most counts whose probability is computed; beyond, each stands for several
_CHUNK = 16  # counts that are computed together
_HALF_ROOT = math.sqrt(0.5)  # Phi(z) = erfc(-z sqrt(1/2)) / 2


def mixture_crps(
    likelihood: Any,
    outputs: Float[Array, "draws data outputs"],
    y: Float[np.ndarray, " data"],
    weights: Float[np.ndarray, " draws"] | None = None,
    *,
    by_pairs: bool,
) -> Float[np.ndarray, " data"]:
    """Score of each row.

    Parameters
    ----------
    likelihood : NumericLikelihood
        Likelihood of one target.
    outputs : array of shape (draws, rows, outputs)
        Outputs of all draws.
    y : array of shape (rows,)
        Targets in units of the network.
    weights : array of shape (draws,), optional
        Weights of the draws with the sum 1; None means equal ones.
    by_pairs : bool
        Whether the second term of Normal components is the sum over pairs, or the integral.
    """
    if not likelihood.has_normal_components:
        score = _sum_over_lattice if likelihood.lattice else _integrate_square
        return np.asarray(score(likelihood, outputs, y, weights), np.float64)
    location, scale, terms = _components(likelihood, outputs, y)
    distance = mean_of_draws(np.asarray(terms), weights)
    if by_pairs:
        return distance - _half_mean_difference(location, scale, weights)
    return distance - np.asarray(_integrate(location, scale, weights), np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _components(
    likelihood: Any, outputs: Float[Array, "draws data outputs"], y: Float[Array, " data"]
) -> tuple[Components, Components, Components]:
    """Location and scale of each component, and its E|X - y|."""
    location, scale = likelihood.location(outputs), likelihood.scale(outputs)
    return location, scale, _absolute_moment(location - y, scale)


def _absolute_moment(mean: Array, scale: Array) -> Array:
    """A(m, s), the mean absolute value of a Normal; see the head of this module."""
    z = _HALF_ROOT * mean / scale
    return mean * jax.lax.erf(z) + math.sqrt(2 / math.pi) * scale * jnp.exp(-(z**2))


def _half_mean_difference(
    location: Components, scale: Components, weights: Weights
) -> Float[np.ndarray, " data"]:
    """E|X - X'| / 2 for each row, as the sum over all pairs of components."""
    num_draws = location.shape[0]
    # The pairs (i, i + k) and (i, i - k) have the same sum over i, so half of the shifts will do.
    shifts = np.arange(num_draws // 2 + 1)
    counts = np.where((shifts == 0) | (2 * shifts == num_draws), 1, 2)
    if weights is None:
        means = np.asarray(_shifted_means(location, scale, shifts), np.float64)
        return counts @ means / (2 * num_draws)
    weights = np.asarray(weights)
    # The product of the weights of a pair, in the place of 1 / S^2.
    pairs = np.stack([weights * np.roll(weights, -shift) for shift in shifts])
    means = np.asarray(_shifted_means(location, scale, shifts, num_draws * pairs), np.float64)
    return counts @ means / 2


@jax.jit
def _shifted_means(
    location: Components, scale: Components, shifts: Array, factors: Array | None = None
) -> Float[Array, "shifts data"]:
    """Mean over i of A(location_i - location_(i+k), ...) for each shift k, one k at a time.

    Factors of shape (shifts, draws) are multiplied by.
    """
    num_draws = location.shape[0]
    variance = scale**2
    twice = jnp.concatenate([location, location]), jnp.concatenate([variance, variance])

    def one_shift(arguments: tuple[Array, Array | None]) -> Array:
        shift, factor = arguments
        other, other_variance = (
            jax.lax.dynamic_slice_in_dim(values, shift, num_draws) for values in twice
        )
        moments = _absolute_moment(location - other, jnp.sqrt(variance + other_variance))
        return jnp.mean(moments if factor is None else factor[:, None] * moments, axis=0)

    return jax.lax.map(one_shift, (shifts, factors))


class _Panels(NamedTuple):
    """Panels of one row, with the integrals over them; unused ones have width and error 0."""

    left: Float[Array, " panels"]
    right: Float[Array, " panels"]
    value: Float[Array, " panels"]
    error: Float[Array, " panels"]


@jax.jit
def _integrate(location: Components, scale: Components, weights: Weights) -> Float[Array, " data"]:
    r"""E|X - X'| / 2 for each row, as an integral.

    .. math:: |x - x'| = \int 1\{x \le z < x'\} + 1\{x' \le z < x\}\,dz, \quad
              \tfrac12 \mathbb E|X - X'| = \int F(z) (1 - F(z))\,dz
    """
    return jax.lax.map(lambda row: _integrate_row(row[0], row[1], weights), (location.T, scale.T))


def _integrate_row(
    location: Float[Array, " draws"], scale: Float[Array, " draws"], weights: Weights
) -> Float[Array, ""]:
    """Integrate F (1 - F)."""
    middle = jnp.mean(location)

    def integrand(z: Float[Array, " nodes"], _: Array) -> Float[Array, " nodes"]:
        # F left of the middle, 1 - F right of it, so that neither tail cancels.
        side = jnp.where(z < middle, _HALF_ROOT, -_HALF_ROOT)[:, None]
        tails = jax.lax.erfc(side * (location - z[:, None]) / scale)
        tail = 0.5 * (jnp.mean(tails, axis=1) if weights is None else traced_mean(tails.T, weights))
        return tail * (1 - tail)

    return _adaptive(integrand, _first_edges(location, scale))


def _adaptive(
    integrand: Callable[[Array, Array], Array], edges: Float[Array, " edges"]
) -> Float[Array, ""]:
    """Integrate, halving the panel with the largest error until the sum of errors is small.

    One by one: of four that are halved together two or three have hardly an error.
    """

    def refine(state: tuple[_Panels, Array]) -> tuple[_Panels, Array]:
        panels, used = state
        worst = jnp.argmax(panels.error)[None]
        left, right = panels.left[worst], panels.right[worst]
        centre = (left + right) / 2
        lower, upper = _rule(integrand, left, centre), _rule(integrand, centre, right)
        grown = [
            jax.lax.dynamic_update_slice(old.at[worst].set(low), high, (used,))
            for old, low, high in zip(panels, lower, upper, strict=True)
        ]
        return _Panels(*grown), used + 1

    def unfinished(state: tuple[_Panels, Array]) -> Array:
        panels, used = state
        too_large = jnp.sum(panels.error) > _RELATIVE_ERROR * jnp.sum(panels.value)
        return too_large & (used < panels.left.shape[0])

    first = _rule(integrand, edges[:-1], edges[1:])
    panels = _Panels(*(jnp.pad(values, (0, _MAX_SPLITS)) for values in first))
    panels, _ = jax.lax.while_loop(unfinished, refine, (panels, jnp.int32(edges.size - 1)))
    return jnp.sum(panels.value)


@functools.partial(jax.jit, static_argnums=0)
def _integrate_square(
    likelihood: Any,
    outputs: Float[Array, "draws data outputs"],
    y: Float[Array, " data"],
    weights: Weights,
) -> Float[Array, " data"]:
    """Integrate the squared distance of F from the step at y, in each row."""
    levels = (_TAIL, 0.25, 0.5, 0.75, 1 - _TAIL)
    ends = jnp.stack([mixture_quantile(likelihood, outputs, level, weights) for level in levels])

    def one_row(row: tuple[Array, Array, Array]) -> Array:
        outputs, y, (low, lower, middle, upper, high) = row
        room = _FAR * (high - low)
        # Beyond an end the distance of F from 1 still enters, if y is there.
        inner = jnp.clip(jnp.clip(y, low - room, high + room), *likelihood.support)
        # z = middle + width sinh(u): tails that fall as a power fall exponentially in u.
        tiny = jnp.finfo(y.dtype).tiny
        width = jnp.maximum(jnp.maximum(upper - lower, _NARROWEST * (high - low)), tiny)
        places = jnp.stack([jnp.minimum(low, inner), inner, jnp.maximum(high, inner)])
        first, at, last = jnp.arcsinh((places - middle) / width)

        def integrand(u: Float[Array, " nodes"], centre: Float[Array, " nodes"]) -> Array:
            z = middle + width * jnp.sinh(u)
            below = traced_mean(likelihood.cdf(outputs[:, None], z), weights)
            return jnp.where(centre < at, below, 1 - below) ** 2 * width * jnp.cosh(u)

        edges = jnp.sort(jnp.stack([first, first / 2, jnp.zeros_like(at), at, last / 2, last]))
        return _adaptive(integrand, edges) + jnp.abs(y - inner)

    y = jnp.asarray(y, outputs.dtype)
    return jax.lax.map(one_row, (jnp.swapaxes(outputs, 0, 1), y, ends.T))


def _outside(y: Array, low: Array, high: Array) -> Array:
    """Integrate over what lies between y and the ends, where F is 0 or 1."""
    return jnp.maximum(low - y, 0) + jnp.maximum(y - high, 0)


@functools.partial(jax.jit, static_argnums=0)
def _sum_over_lattice(
    likelihood: Any,
    outputs: Float[Array, "draws data outputs"],
    y: Float[Array, " data"],
    weights: Weights,
) -> Float[Array, " data"]:
    """Sum the squared distance of F from the step at y over the possible values, in each row."""
    origin, step = likelihood.lattice  # counts in these units from here on
    ends = (mixture_quantile(likelihood, outputs, p, weights) for p in (_TAIL, 1 - _TAIL))
    low, high = (jnp.round((end - origin) / step) for end in ends)

    def one_row(row: tuple[Array, Array, Array, Array]) -> Array:
        outputs, y, low, high = row
        stride = jnp.ceil(jnp.maximum(high - low, 1) / _MAX_TERMS)

        def add(chunk: Array, total: Array) -> Array:
            first = low + stride * (chunk * _CHUNK + jnp.arange(_CHUNK))
            # A term stands for `width` counts from `first` on, by the one in their middle.
            width = jnp.clip(high - first, 0, stride)
            count = first + jnp.floor((width - 1) / 2)
            below = traced_mean(likelihood.cdf(outputs[:, None], origin + step * count), weights)
            after = jnp.clip(
                first + width - jnp.maximum(y, first), 0, width
            )  # of them at y or more
            return total + jnp.sum((width - after) * below**2 + after * (1 - below) ** 2)

        chunks = jnp.ceil((high - low) / (stride * _CHUNK)).astype(jnp.int32)
        zero = jnp.zeros((), outputs.dtype)
        return jax.lax.fori_loop(0, chunks, add, zero) + _outside(y, low, high)

    y = (jnp.asarray(y, outputs.dtype) - origin) / step
    return step * jax.lax.map(one_row, (jnp.swapaxes(outputs, 0, 1), y, low, high))


def _first_edges(
    location: Float[Array, " draws"], scale: Float[Array, " draws"]
) -> Float[Array, " edges"]:
    """Edges that lie where the components begin, have their centre, and end."""
    pick = np.round(np.linspace(0, location.size - 1, _RANKS)).astype(np.int32)
    ends = [jnp.sort(location + reach * scale)[pick] for reach in (-_REACH, 0.0, _REACH)]
    return jnp.sort(jnp.concatenate(ends))


def _rule(
    integrand: Callable[[Array, Array], Array],
    left: Float[Array, " panels"],
    right: Float[Array, " panels"],
) -> _Panels:
    """Integrate each panel by all nodes; rules that leave some of them out tell the error.

    The integrand is given the centre of the panel beside each node: a step at an edge has two
    values there, and which one counts depends on the panel. One such rule can agree with the full
    one by accident at a step, three hardly ever.
    """
    nodes, weights = _clenshaw_curtis(_ORDER)
    half = (right - left) / 2
    z = left[:, None] + half[:, None] * (1 + nodes)
    centre = jnp.broadcast_to(z[:, _ORDER // 2, None], z.shape)
    values = integrand(z.ravel(), centre.ravel()).reshape(-1, 1, nodes.size)
    # Plain sums: a matrix product may be rounded to fewer bits on an accelerator.
    results = half[:, None] * jnp.sum(values * weights, axis=2)
    value = results[:, 0]
    return _Panels(left, right, value, jnp.max(jnp.abs(results - value[:, None]), axis=1))


def _clenshaw_curtis(order: int) -> tuple[Float[np.ndarray, " nodes"], np.ndarray]:
    """Nodes in [-1, 1], and weights of four rules: all nodes, the even, the odd, the inner ones.

    The weights integrate the Chebyshev polynomials up to the number of nodes used exactly.
    """
    nodes = np.cos(np.pi * np.arange(order + 1) / order)
    weights = np.zeros((4, order + 1))
    for rule, used in zip(weights, np.s_[:, ::2, 1::2, 1:-1], strict=True):
        some = nodes[used]
        exact = np.zeros(some.size)
        exact[::2] = 2 / (1 - np.arange(0, some.size, 2) ** 2)  # odd polynomials integrate to 0
        rule[used] = np.linalg.solve(
            np.polynomial.chebyshev.chebvander(some, some.size - 1).T, exact
        )
    return nodes.astype("f4"), weights.astype("f4")
