"""What is learnt of a chain while it warms up: the contract, and the adaptation without learning.

A chain is a kernel, an adaptation and a source of rows. The adaptation owns the kernel's numbers
and no loop: whoever runs the chain asks for the sampler of the next step, shows it what the step
did, and tells it when a phase is over. The others see of it what :class:`Tuned` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mirth.core.types import Key
from mirth.samplers.decoherence import L_SOURCES


class Phase(NamedTuple):
    """One phase of a warm-up.

    Parameters
    ----------
    name : str
        What is shown to people.
    num_steps : int
        Steps of the phase.
    thin : int
        Keep the parameter subset of every ``thin``-th step, at fixed settings; 0 tunes the step
        size and keeps nothing.
    measures_spread : bool
        Whether the spread of the position is measured and the step size averaged.
    """

    name: str
    num_steps: int
    thin: int
    measures_spread: bool


class Moment(NamedTuple):
    """Where a step stands in its run.

    Parameters
    ----------
    step : int scalar
        Number of the step, in the warm-up or in the sampling.
    num_steps : int scalar
        Steps that the chain has taken since its start.
    is_tuning, measures_spread : bool scalar
        Whether the adaptation learns from the step, and measures the spread of the position.
    horizon : int scalar
        Step of the warm-up at which what is scheduled is at its end.
    """

    step: Int[Array, ""]
    num_steps: Int[Array, ""]
    is_tuning: Bool[Array, ""]
    measures_spread: Bool[Array, ""]
    horizon: Int[Array, ""]


class StepInfo(NamedTuple):
    """What a step reports to those who run the chain.

    Parameters
    ----------
    logdensity : scalar
        Log density at the new position; of a stochastic kernel by the batch it last looked at,
        where it did.
    energy_change : scalar
        Energy error Delta E of the deterministic part; 0 for a reverted step, and where a kernel
        has no energy or was not asked for it. Once an adaptation has learnt from the step, that of
        the last step that was asked.
    step_size : scalar
        Step size of the step; NaN where a kernel has none.
    is_divergent : bool scalar
        Whether the proposal was not finite and has been reverted.
    """

    logdensity: Float[Array, ""]
    energy_change: Float[Array, ""]
    step_size: Float[Array, ""]
    is_divergent: Bool[Array, ""]


class Tuned(NamedTuple):
    """The little that health, displays and reports know of an adaptation.

    Parameters
    ----------
    step_size : array of shape (chains,), or a number
        Present step size; NaN where a kernel has none.
    L : array of shape (chains,), or a number
        Present decoherence length; infinite where a kernel has none.
    is_at_cap : bool array of shape (chains,), or a bool
        Whether the step size is held down by what has diverged before.
    L_from : array of text of shape (chains,), or text
        What L follows from, one of :data:`~mirth.samplers.L_SOURCES`; the first one where no phase
        looked for it.
    ess_parameters, ess_function : array of shape (chains,), or a number
        Effective sample sizes of that phase; NaN where there was none.
    """

    step_size: Any
    L: Any
    is_at_cap: Any
    L_from: Any = L_SOURCES[0]
    ess_parameters: Any = np.nan
    ess_function: Any = np.nan


Excursion = tuple[Array, Callable[[Array], Any]]


class Adaptation(eqx.Module):
    """The adaptation that learns nothing, and what all others are derived from.

    Parameters
    ----------
    kernel : sampler
        ``init(position, logdensity_fn, key) -> state`` and
        ``step(key, state, logdensity_fn) -> (state, info)``, where ``state`` has ``position`` and
        ``info`` has ``logdensity``; a pytree whose numbers are leaves.
    num_steps : int
        Steps of the warm-up, whose states are not kept.

    Examples
    --------
    >>> from mirth.samplers import SGLD
    >>> adaptation = Adaptation(SGLD(1e-3), num_steps=100)
    >>> [phase.name for phase in adaptation.phases()]
    ['warm-up']
    >>> float(adaptation.tuned(()).step_size)
    0.001...
    """

    kernel: Any
    num_steps: int = eqx.field(static=True)

    @property
    def max_params(self) -> int:
        """Parameters that a phase with ``thin`` keeps at most."""
        return 1

    @property
    def max_kept(self) -> int:
        """States that such a phase keeps at most."""
        return 1

    @property
    def horizon(self) -> int:
        """Step of the warm-up at which what is scheduled is at its end, as planned."""
        return self.num_steps + 1

    @property
    def gradients_per_step(self) -> int:
        """Gradients that a step takes; what the kernel says, else 1."""
        return int(getattr(self.kernel, "gradients_per_step", 1))

    def phases(self) -> tuple[Phase, ...]:
        """List the phases of the warm-up, in order; empty phases are left out."""
        return (Phase("warm-up", self.num_steps, 0, False),) if self.num_steps else ()

    def subset(self, key: Key, num_params: int) -> Array:
        """Choose the parameters that a phase with ``thin`` keeps, sorted indices."""
        return jnp.arange(1)

    def init(self, position: Float[Array, " params"]) -> Any:
        """Give the first state of the adaptation of one chain."""
        return ()

    def sampler(self, state: Any, moment: Moment) -> Any:
        """Give the kernel of the next step, with its present numbers."""
        return self.kernel

    def excursion(self, state: Any, moment: Moment) -> Excursion | None:
        """Give steps that are gone through before the next one: how many, and the sampler of each.

        None, for all adaptations but that of cyclical schedules, compiles no such loop.
        """
        return None

    def learn(
        self, key: Key, state: Any, before: Any, after: Any, info: StepInfo, moment: Moment
    ) -> tuple[Any, Any, StepInfo]:
        """Learn from a step, and maybe undo it.

        Parameters
        ----------
        key : Key
            Key of the step.
        state : pytree
            State of the adaptation.
        before, after : pytree
            State of the kernel before the step and after it.
        info : StepInfo
            What the step reported.
        moment : Moment
            Where the step stands.

        Returns
        -------
        state : pytree
            State of the adaptation.
        after : pytree
            State of the kernel, with which the chain goes on.
        info : StepInfo
            The report that counts.
        """
        return state, after, info

    def end_phase(self, state: Any, phase: Phase) -> Any:
        """Conclude a phase that keeps nothing, for one chain."""
        return state

    def end_trajectory(self, states: Any, path: np.ndarray, thin: int, log_prob: np.ndarray) -> Any:
        """Conclude a phase that keeps what a chain went through, for all chains.

        Parameters
        ----------
        states : pytree
            States with a leading axis (chains,).
        path : array of shape (chains, kept, subset)
            Some parameters.
        thin : int
            Steps between two kept states.
        log_prob : array of shape (chains, kept, rows)
            Log probability of some validation rows: what the parameters mean.
        """
        return states

    def tuned(self, state: Any) -> Tuned:
        """Say what others may know, from states of NumPy arrays with a leading axis (chains,)."""
        step_size, L = getattr(self.kernel, "step_size", np.nan), getattr(self.kernel, "L", np.inf)
        return Tuned(np.asarray(step_size), np.asarray(L), np.array(False))

    def with_numbers(self, state: Any, step_size: Array, L: Array) -> Any:
        """Give states (leading axis of chains) with the numbers of others, to begin anew with."""
        return state

    def halved(self, states: Any) -> tuple[Adaptation, Any] | None:
        """Give what goes on after the warm-up at half the step size, with L as it is.

        Parameters
        ----------
        states : pytree
            States of NumPy arrays with a leading axis (chains,).

        Returns
        -------
        tuple of Adaptation and pytree, or None
            The adaptation and the states to go on with; None if there is no step size that stays
            as it is set, or no decoherence length beside it: halving the step of other dynamics
            would change more than the length of a step.
        """
        kernel = self.kernel
        if not (isinstance(kernel, eqx.Module) and hasattr(kernel, "step_size")):
            return None
        if not hasattr(kernel, "L"):
            return None
        half = eqx.tree_at(lambda k: k.step_size, kernel, kernel.step_size / 2)
        return eqx.tree_at(lambda a: a.kernel, self, half), states
