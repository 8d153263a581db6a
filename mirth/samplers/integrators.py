r"""Integrators of the isokinetic (microcanonical) Langevin dynamics without its noise.

The dynamics

.. math:: \dot x = u, \qquad \dot u = (I - u u^T) \nabla \log p(x) / (d - 1), \qquad |u| = 1

are split into velocity updates, solved exactly for a constant gradient, and position updates
:math:`x \leftarrow x + c\,\epsilon\,u`. A scheme is the palindromic list of their coefficients,
velocity first:

============== =================== ================================================
scheme         gradients per step  coefficients
============== =================== ================================================
``mclachlan``  2                   b, 1/2, 1 - 2b, 1/2, b with b = 0.1931833275037836
``leapfrog``   1                   1/2, 1, 1/2
============== =================== ================================================

Both are of second order. McLachlan's has the smaller energy error for the same work on the targets
of the tests; it is the default of the papers.

References
----------
.. [1] Robnik and Seljak, "Fluctuation without dissipation", arXiv 2303.18221.
.. [2] McLachlan, "On the numerical integration of ordinary differential equations by symmetric
   composition methods", SIAM J. Sci. Comput. 16 (1995).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mirth.core.trees import tree_dot, tree_norm, tree_size
from mirth.core.types import LogDensityFn
from mirth.samplers.energy import Evaluated, value_and_grad
from mirth.samplers.noise_sketch import LowRank, apply_low_rank

_B = 0.1931833275037836
SCHEMES: dict[str, tuple[float, ...]] = {
    "mclachlan": (_B, 0.5, 1 - 2 * _B, 0.5, _B),
    "leapfrog": (0.5, 1.0, 0.5),
}
"""Coefficients of the schemes, velocity first."""


def gradients_per_step(scheme: str) -> int:
    """Give the number of gradients that one step costs.

    Examples
    --------
    >>> gradients_per_step("mclachlan")
    2
    """
    return len(SCHEMES[scheme]) // 2


def update_velocity(
    momentum: PyTree, gradient: PyTree, interval: Float[Array, ""]
) -> tuple[PyTree, Float[Array, ""]]:
    r"""Turn the unit momentum along a constant gradient for a given time.

    With :math:`e = g/|g|`, :math:`p = u \cdot e`, :math:`\delta = t |g| / (d - 1)` and
    :math:`\zeta = e^{-\delta}`,

    .. math::
        u' \propto e (1 - \zeta)(1 + \zeta + p (1 - \zeta)) + 2 \zeta u, \qquad
        \Delta K = (d - 1) \left[\delta + \log \tfrac{1 + p + (1 - p) \zeta^2}{2}\right].

    Parameters
    ----------
    momentum : pytree
        Unit momentum u.
    gradient : pytree
        Gradient g of the log density.
    interval : scalar
        Time t, the step size times a coefficient.

    Returns
    -------
    momentum : pytree
        Unit momentum after the update.
    kinetic_change : scalar
        Change of the kinetic energy.

    References
    ----------
    .. [1] arXiv 2303.18221, section 3; arXiv 2502.06335, section 3.
    """
    dimension = tree_size(momentum)
    norm = tree_norm(gradient)
    # A zero gradient turns nothing; dividing by the smallest normal number keeps e = 0 there.
    tiny = jnp.finfo(norm.dtype).tiny
    inverse_norm = 1 / jnp.maximum(norm, tiny)
    # Rounding can push the projection just below -1, where the logarithm has no value.
    projection = jnp.clip(tree_dot(momentum, gradient) * inverse_norm, -1.0, 1.0)
    delta = interval * norm / (dimension - 1)
    zeta = jnp.maximum(jnp.exp(-delta), tiny)
    one_minus_zeta = -jnp.expm1(-delta)
    along, kept = one_minus_zeta * (1 + zeta + projection * one_minus_zeta), 2 * zeta
    # Both vanish for large delta and p = -1: the larger becomes 1, or the length would underflow.
    larger = jnp.maximum(along, kept)
    along, kept = along / larger * inverse_norm, kept / larger
    turned = jax.tree.map(lambda g, u: along * g + kept * u, gradient, momentum)
    length = tree_norm(turned)
    turned = jax.tree.map(lambda u: u / length, turned)
    # log((1 + p + (1 - p) zeta^2) / 2): the first form loses no digits for small delta, the
    # second does not become log(0) for large delta and p = -1.
    half_against = 0.5 * (1 - projection)
    small = jnp.log1p(half_against * jnp.expm1(-2 * jnp.minimum(delta, 1.0)))
    large = jnp.logaddexp(jnp.log(1 - half_against), jnp.log(half_against) - 2 * delta)
    log_ratio = jnp.where(delta < 1, small, large)
    return turned, (dimension - 1) * (delta + log_ratio)


class Integrated(NamedTuple):
    """Where one step of the deterministic dynamics has led.

    Parameters
    ----------
    position, momentum : pytree
        Position x and unit momentum u.
    evaluated : Evaluated
        Log density at the position.
    gradient : pytree
        Gradient of the log density with respect to the position.
    kinetic_change : scalar
        Sum of the kinetic energy changes of all velocity updates.
    """

    position: PyTree
    momentum: PyTree
    evaluated: Evaluated
    gradient: PyTree
    kinetic_change: Float[Array, ""]


def integrate(
    scheme: str,
    logdensity_fn: LogDensityFn,
    position: PyTree,
    momentum: PyTree,
    gradient: PyTree,
    step_size: Float[Array, ""],
    scale: PyTree | Float[Array, ""],
    whitening: LowRank | None = None,
) -> Integrated:
    r"""Integrate one step of the deterministic dynamics.

    Parameters
    ----------
    scheme : str
        Name in :data:`SCHEMES`.
    logdensity_fn : callable
        Log density of a position.
    position, momentum, gradient : pytree
        Position x, unit momentum u, and gradient of the log density at x.
    step_size : scalar
        Step size :math:`\epsilon`.
    scale : scalar or pytree like position
        Diagonal preconditioner s: the dynamics run on y = x / s.
    whitening : LowRank, optional
        A matrix W behind it: the dynamics run on z with x = s W z.

    Returns
    -------
    Integrated
        The new point, and the change of the kinetic energy.
    """
    coefficients = SCHEMES[scheme]
    scale = spread_scale(scale, position)
    kinetic_change = jnp.zeros((), jnp.result_type(*jax.tree.leaves(position)))
    evaluated = Evaluated(kinetic_change)
    for i, coefficient in enumerate(coefficients):
        interval = coefficient * step_size
        if i % 2 == 0:
            scaled = apply_low_rank(whitening, jax.tree.map(jnp.multiply, gradient, scale))
            momentum, change = update_velocity(momentum, scaled, interval)
            kinetic_change = kinetic_change + change
        else:
            along = apply_low_rank(whitening, momentum)
            position = move(position, along, scale, interval)
            evaluated, gradient = value_and_grad(logdensity_fn, position)
    return Integrated(position, momentum, evaluated, gradient, kinetic_change)


def spread_scale(scale: PyTree | Float[Array, ""], position: PyTree) -> PyTree:
    """Give each leaf of the position its scale, also where one number is meant for all."""
    leaves, treedef = jax.tree.flatten(position)
    scales = jax.tree.leaves(scale)
    return jax.tree.unflatten(treedef, scales * len(leaves) if len(scales) == 1 else scales)


def move(position: PyTree, momentum: PyTree, scale: PyTree, interval: Float[Array, ""]) -> PyTree:
    """Move along the momentum for a given time."""
    return jax.tree.map(lambda x, u, s: x + interval * s * u, position, momentum, scale)
