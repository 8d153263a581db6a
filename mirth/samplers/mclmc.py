r"""Microcanonical Langevin Monte Carlo (MCLMC), unadjusted.

One step refreshes the momentum partially, integrates the isokinetic dynamics for one step, and
refreshes the momentum again (Ornstein-Uhlenbeck half-steps on both sides).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mirth.core.trees import (
    tree_all_finite,
    tree_dot,
    tree_normal,
    tree_select,
    tree_size,
)
from mirth.core.types import Key, LogDensityFn
from mirth.core.validation import check_name
from mirth.samplers.adaptation import StepInfo
from mirth.samplers.energy import Evaluated, logdensity_change, value_and_grad
from mirth.samplers.integrators import SCHEMES, gradients_per_step, integrate


class MCLMCState(NamedTuple):
    """What the next step needs.

    Parameters
    ----------
    position : pytree
        Position theta.
    momentum : pytree
        Unit momentum u.
    logdensity : scalar
        Log density at the position.
    gradient : pytree
        Gradient of the log density at the position.
    terms : array of shape (terms,), or None
        What the log density at the position is the sum of; None for a plain function.
    """

    position: PyTree
    momentum: PyTree
    logdensity: Float[Array, ""]
    gradient: PyTree
    terms: Float[Array, " terms"] | None = None


class MCLMC(eqx.Module):
    r"""Microcanonical Langevin Monte Carlo.

    .. math::
        dx = u\, dt, \qquad
        du = (I - u u^T) \left(\frac{\nabla \log p(x)}{d - 1} dt + \eta\, dW\right)

    discretised as refresh, integrator step, refresh, with the energy error

    .. math:: \Delta E = \Delta K - \log p(x') + \log p(x),

    whose difference of log densities is taken term by term where ``logdensity_fn`` has a method
    ``with_terms(position) -> (scalar, vector)`` that gives them.

    Its step-size, decoherence length and scale are leaves: new values compile nothing anew.

    Parameters
    ----------
    step_size : scalar
        Step size :math:`\epsilon`, in units of the (scaled) position.
    L : scalar
        Decoherence length: distance over which the momentum forgets its direction; ``inf``
        switches the refreshment off.
    scale : scalar or pytree like the position, default=1.0
        Diagonal preconditioner: the dynamics run on position / scale.
    integrator : {"mclachlan", "leapfrog"}, default="mclachlan"
        Scheme of the deterministic part, with 2 and 1 gradients per step.

    Raises
    ------
    ValueError
        If the integrator is unknown, ``step_size`` or ``L`` is not positive, or at ``init`` if the
        position has fewer than two dimensions.

    References
    ----------
    .. [1] Robnik et al., "Microcanonical Hamiltonian Monte Carlo", arXiv 2212.08549.
    .. [2] Robnik and Seljak, "Fluctuation without dissipation", arXiv 2303.18221.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> logdensity = lambda x: -0.5 * jnp.sum(x**2)
    >>> sampler = MCLMC(step_size=0.5, L=3.0)
    >>> state = sampler.init(jnp.ones(10), logdensity, jax.random.key(0))
    >>> step = jax.jit(lambda key, state: sampler.step(key, state, logdensity))
    >>> state, info = step(jax.random.key(1), state)
    >>> bool(info.is_divergent)
    False
    """

    step_size: Float[Array, ""]
    L: Float[Array, ""]
    scale: PyTree
    integrator: str = eqx.field(static=True)

    def __init__(
        self,
        step_size: float | Float[Array, ""],
        L: float | Float[Array, ""],
        scale: PyTree = 1.0,
        integrator: str = "mclachlan",
    ):
        check_settings(integrator, SCHEMES, step_size=step_size, L=L)
        self.step_size = jnp.asarray(step_size, dtype=float)
        self.L = jnp.asarray(L, dtype=float)
        self.scale = jax.tree.map(lambda s: jnp.asarray(s, dtype=float), scale)
        self.integrator = integrator

    @property
    def gradients_per_step(self) -> int:
        """Gradients that a step takes."""
        return gradients_per_step(self.integrator)

    def init(self, position: PyTree, logdensity_fn: LogDensityFn, key: Key) -> MCLMCState:
        """Start at a position with a random direction."""
        momentum, evaluated, gradient = start(position, logdensity_fn, key)
        return MCLMCState(position, momentum, evaluated.logdensity, gradient, evaluated.terms)

    def step(
        self, key: Key, state: MCLMCState, logdensity_fn: LogDensityFn
    ) -> tuple[MCLMCState, StepInfo]:
        """Take one step; a proposal that is not finite anywhere is reverted as a whole."""
        before, after = tree_normal(key, state.momentum, 2)
        momentum = refresh_momentum(state.momentum, before, self.step_size / 2, self.L)
        position, momentum, evaluated, gradient, kinetic_change = integrate(
            self.integrator,
            logdensity_fn,
            state.position,
            momentum,
            state.gradient,
            self.step_size,
            self.scale,
        )
        # The difference first: both log densities are large, their difference is not.
        change = logdensity_change(Evaluated(state.logdensity, state.terms), evaluated)
        energy_change = kinetic_change - change
        momentum = refresh_momentum(momentum, after, self.step_size / 2, self.L)
        proposal = MCLMCState(position, momentum, evaluated.logdensity, gradient, evaluated.terms)
        is_finite = tree_all_finite(proposal, energy_change)
        # The noise of the rejected refreshment has not been used for anything that is kept.
        fallback = state._replace(momentum=normalise(after))
        new_state = tree_select(is_finite, proposal, fallback)
        info = StepInfo(
            logdensity=new_state.logdensity,
            energy_change=jnp.where(is_finite, energy_change, 0.0),
            step_size=self.step_size,
            is_divergent=~is_finite,
        )
        return new_state, info


def check_settings(integrator: str, schemes: Mapping[str, Any], **lengths: Any) -> None:
    """Check the scheme and the lengths that are numbers; arrays may be traced.

    Raises
    ------
    ValueError
        If the scheme is unknown, or a number is not positive.
    """
    check_name("integrator", integrator, list(schemes))
    for name, value in lengths.items():
        if isinstance(value, int | float) and not value > 0:
            raise ValueError(f"{name}={value} must be positive.")


def start(
    position: PyTree, logdensity_fn: LogDensityFn, key: Key
) -> tuple[PyTree, Evaluated, PyTree]:
    """Give a random direction, the log density and its gradient.

    Raises
    ------
    ValueError
        If the position has fewer than two dimensions.
    """
    if tree_size(position) < 2:
        raise ValueError(
            f"position has {tree_size(position)} dimension; microcanonical dynamics need at "
            "least 2, because the momentum has unit length."
        )
    evaluated, gradient = value_and_grad(logdensity_fn, position)
    (noise,) = tree_normal(key, position, 1)
    return normalise(noise), evaluated, gradient


def refresh_momentum(
    momentum: PyTree, noise: PyTree, interval: Float[Array, ""], L: Float[Array, ""]
) -> PyTree:
    r"""Refresh the momentum partially.

    .. math:: u' = \frac{u + \nu z}{|u + \nu z|}, \qquad
              \nu = \sqrt{(e^{2 t / L} - 1) / d}

    Parameters
    ----------
    momentum : pytree
        Unit momentum u.
    noise : pytree
        Standard Normal numbers z, shaped like the momentum.
    interval : scalar
        Time t that the refreshment stands for.
    L : scalar
        Decoherence length.

    Returns
    -------
    pytree
        Unit momentum.
    """
    nu = jnp.sqrt(jnp.expm1(2 * interval / L) / tree_size(momentum))
    return normalise(jax.tree.map(lambda u, z: u + nu * z, momentum, noise))


def normalise(vector: PyTree) -> PyTree:
    """Divide by the Euclidean norm."""
    inverse = jax.lax.rsqrt(tree_dot(vector, vector))
    return jax.tree.map(lambda v: inverse * v, vector)
