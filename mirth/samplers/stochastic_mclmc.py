r"""The microcanonical Langevin step with mini-batch gradients.

One step sees one batch: but for ``stale``, all its gradients and both log densities of its energy
error are those of that batch. A scheme is a palindromic list of coefficients:

===================== ==================== ==================================================
scheme                gradients of a step  coefficients
===================== ==================== ==================================================
``leapfrog``          1                    position 1/2, velocity 1, position 1/2
``mclachlan``         2                    position b, velocity 1/2, position 1 - 2b, ...
``velocity``          3                    velocity b, position 1/2, velocity 1 - 2b, ...
``stale``             2                    as ``velocity``, first gradient from the last batch
===================== ==================== ==================================================

``stale`` is the published scheme: its first velocity update reuses the gradient of the batch
before, and its energy error compares the log densities of two batches. ``velocity`` evaluates both
anew; without noise it is the step of :class:`~mirth.samplers.MCLMC`. A position-first scheme has no
gradient at the point where the batch changes, so it needs neither.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from mirth.core.trees import tree_all_finite, tree_normal, tree_select
from mirth.core.types import Key, LogDensityFn
from mirth.samplers.adaptation import StepInfo
from mirth.samplers.energy import Evaluated, evaluate, logdensity_change, value_and_grad
from mirth.samplers.integrators import SCHEMES, integrate, move, spread_scale, update_velocity
from mirth.samplers.mclmc import check_settings, normalise, refresh_momentum, start
from mirth.samplers.noise_sketch import LowRank, apply_low_rank

STOCHASTIC_SCHEMES: dict[str, int] = {"leapfrog": 1, "mclachlan": 2, "velocity": 3, "stale": 2}
"""Gradients of a step, by scheme."""


class StochasticState(NamedTuple):
    """What the next step needs.

    Parameters
    ----------
    position, momentum : pytree
        Position theta and unit momentum u.
    logdensity : scalar
        Log density by the batch of the last step that computed its energy error, at the end of that
        step: with ``is_probe`` always on, at the position by the last batch.
    gradient : pytree
        Gradient of the last batch, where it was evaluated last; ``stale`` starts from it, the noise
        scale learns from it.
    """

    position: PyTree
    momentum: PyTree
    logdensity: Float[Array, ""]
    gradient: PyTree


class StochasticMCLMC(eqx.Module):
    r"""Microcanonical Langevin Monte Carlo with mini-batch gradients.

    .. math:: dx = u\, dt, \qquad
              du = (I - u u^T) \left(\frac{\nabla \log \hat p(x)}{d - 1} dt + \eta\, dW\right)

    where the gradient of the batch, :math:`\nabla \log \hat p`, has noise of its own. If that noise
    is isotropic in the coordinates y = x / ``scale`` it only turns the momentum at random, as
    :math:`\eta\,dW` does, and the target stays stationary; hence the noise scale as preconditioner.

    Parameters
    ----------
    step_size : scalar
        Step size :math:`\epsilon`, in units of the (scaled) position.
    L : scalar, default=inf
        Decoherence length of an additional refreshment of the momentum; ``inf`` leaves it to the
        noise of the gradients, and its program draws no random numbers.
    scale : scalar or pytree like the position, default=1.0
        Diagonal preconditioner: the dynamics run on position / scale.
    integrator : {"leapfrog", "mclachlan", "velocity", "stale"}, default="leapfrog"
        Scheme, see the table of the module.
    whitening : LowRank, optional
        A symmetric matrix W behind the scale, for noise that is correlated: the dynamics run on z
        with position = scale * W z. None is the identity, and costs nothing.

    Raises
    ------
    ValueError
        If the integrator is unknown, ``step_size`` or ``L`` is not positive, or at ``init`` if the
        position has fewer than two dimensions.

    References
    ----------
    .. [1] "SMILE: microcanonical Langevin ensembles with mini-batches", arXiv 2602.06500.
    .. [2] Robnik and Seljak, "Fluctuation without dissipation", arXiv 2303.18221.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> logdensity = lambda x: -0.5 * jnp.sum(x**2)
    >>> sampler = StochasticMCLMC(step_size=0.5)
    >>> state = sampler.init(jnp.ones(10), logdensity, jax.random.key(0))
    >>> state, info = sampler.step(jax.random.key(1), state, logdensity)
    >>> bool(info.is_divergent)
    False
    """

    step_size: Float[Array, ""]
    L: Float[Array, ""]
    scale: PyTree
    integrator: str = eqx.field(static=True)
    is_refreshed: bool = eqx.field(static=True)
    whitening: LowRank | None

    def __init__(
        self,
        step_size: float | Float[Array, ""],
        L: float | Float[Array, ""] = math.inf,
        scale: PyTree = 1.0,
        integrator: str = "leapfrog",
        whitening: LowRank | None = None,
    ):
        check_settings(integrator, STOCHASTIC_SCHEMES, step_size=step_size, L=L)
        self.step_size = jnp.asarray(step_size, dtype=float)
        self.L = jnp.asarray(L, dtype=float)
        self.scale = jax.tree.map(lambda s: jnp.asarray(s, dtype=float), scale)
        self.integrator = integrator
        self.is_refreshed = not (isinstance(L, int | float) and math.isinf(L))
        self.whitening = whitening

    @property
    def gradients_per_step(self) -> int:
        """Gradients of a batch that a step takes."""
        return STOCHASTIC_SCHEMES[self.integrator]

    def init(self, position: PyTree, logdensity_fn: LogDensityFn, key: Key) -> StochasticState:
        """Start at a position with a random direction."""
        momentum, evaluated, gradient = start(position, logdensity_fn, key)
        return StochasticState(position, momentum, evaluated.logdensity, gradient)

    def step(
        self,
        key: Key,
        state: StochasticState,
        logdensity_fn: LogDensityFn,
        is_probe: bool | Bool[Array, ""] = True,
    ) -> tuple[StochasticState, StepInfo]:
        """Take one step on one batch; a proposal that is not finite anywhere is reverted.

        Parameters
        ----------
        key : Key
            Key of the step.
        state : StochasticState
            Where the chain is.
        logdensity_fn : callable
            Log density of the step's batch.
        is_probe : bool scalar, default=True
            Whether to compute the energy error; position-first schemes pay two log densities for
            it, the others have them anyway.
        """
        half = self.step_size / 2
        momentum = state.momentum
        if self.is_refreshed:
            before, after = tree_normal(key, momentum, 2)
            momentum = refresh_momentum(momentum, before, half, self.L)
        if self.integrator in ("velocity", "stale"):
            proposal, energy_change = self._velocity_first(state, momentum, logdensity_fn)
        else:
            proposal, energy_change = self._position_first(
                state, momentum, logdensity_fn, jnp.asarray(is_probe)
            )
        if self.is_refreshed:
            refreshed = refresh_momentum(proposal.momentum, after, half, self.L)
            proposal = proposal._replace(momentum=refreshed)
        is_finite = tree_all_finite(proposal, energy_change)
        # Random numbers only where they are needed: they would cost more than a small network.
        fallback = state._replace(
            momentum=jax.lax.cond(
                is_finite,
                lambda: state.momentum,
                lambda: normalise(tree_normal(jax.random.fold_in(key, 1), state.momentum, 1)[0]),
            )
        )
        new_state = tree_select(is_finite, proposal, fallback)
        return new_state, StepInfo(
            logdensity=new_state.logdensity,
            energy_change=jnp.where(is_finite, energy_change, 0.0),
            step_size=self.step_size,
            is_divergent=~is_finite,
        )

    def _velocity_first(
        self, state: StochasticState, momentum: PyTree, logdensity_fn: LogDensityFn
    ) -> tuple[StochasticState, Float[Array, ""]]:
        """McLachlan's scheme from the velocity on; the log densities come with the gradients."""
        if self.integrator == "stale":
            # Without its terms: those of another batch are other rows.
            first, gradient = Evaluated(state.logdensity), state.gradient
        else:
            first, gradient = value_and_grad(logdensity_fn, state.position)
        position, momentum, last, gradient, kinetic_change = integrate(
            "mclachlan",
            logdensity_fn,
            state.position,
            momentum,
            gradient,
            self.step_size,
            self.scale,
            self.whitening,
        )
        proposal = StochasticState(position, momentum, last.logdensity, gradient)
        return proposal, kinetic_change - logdensity_change(first, last)

    def _position_first(
        self,
        state: StochasticState,
        momentum: PyTree,
        logdensity_fn: LogDensityFn,
        is_probe: Bool[Array, ""],
    ) -> tuple[StochasticState, Float[Array, ""]]:
        """Any scheme from the position on; the ends need log densities for the energy only."""
        scale = spread_scale(self.scale, state.position)
        position, gradient = state.position, state.gradient
        kinetic_change = jnp.zeros((), jnp.result_type(*jax.tree.leaves(position)))
        for i, coefficient in enumerate(SCHEMES[self.integrator]):
            interval = coefficient * self.step_size
            if i % 2 == 0:
                along = apply_low_rank(self.whitening, momentum)
                position = move(position, along, scale, interval)
            else:
                gradient = jax.grad(logdensity_fn)(position)
                scaled = apply_low_rank(self.whitening, jax.tree.map(jnp.multiply, gradient, scale))
                momentum, change = update_velocity(momentum, scaled, interval)
                kinetic_change = kinetic_change + change

        def ends() -> tuple[Array, Array]:
            first, last = (evaluate(logdensity_fn, at) for at in (state.position, position))
            return last.logdensity, kinetic_change - logdensity_change(first, last)

        logdensity, energy_change = jax.lax.cond(
            is_probe, ends, lambda: (state.logdensity, jnp.zeros_like(kinetic_change))
        )
        return StochasticState(position, momentum, logdensity, gradient), energy_change
