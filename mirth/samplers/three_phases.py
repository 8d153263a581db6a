"""MILE's tuning as the adaptation of a chain."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from mirth.core.types import Key
from mirth.samplers.adaptation import Adaptation, Moment, Phase, StepInfo, Tuned
from mirth.samplers.decoherence import L_SOURCES
from mirth.samplers.tuning import MILETuner, TunerState

_AT_CAP = 0.999


class ThreePhases(Adaptation):
    """Step size by the energy error, then decoherence length, by a :class:`MILETuner`.

    Parameters
    ----------
    kernel : MCLMC or StochasticMCLMC
        Sampler with the first step size.
    num_steps : int
        Steps of the warm-up; the tuner's.
    tuner : MILETuner
        Settings of the tuning.

    Examples
    --------
    >>> from mirth.samplers import MCLMC
    >>> adaptation = ThreePhases.of(MCLMC(1e-3, 1.0), MILETuner(num_steps=1000))
    >>> [phase.num_steps for phase in adaptation.phases()]
    [800, 100, 100]
    """

    tuner: MILETuner

    @classmethod
    def of(cls, kernel: Any, tuner: MILETuner) -> ThreePhases:
        """Put a sampler and a tuner together."""
        return cls(kernel, tuner.length, tuner)

    @property
    def max_params(self) -> int:
        """Parameters that the third phase keeps at most."""
        return self.tuner.max_params

    @property
    def max_kept(self) -> int:
        """States that the third phase keeps at most."""
        return self.tuner.max_kept

    @property
    def horizon(self) -> int:
        """Step at which the energy target is at its end, as planned."""
        return self.tuner.horizon

    def phases(self) -> tuple[Phase, ...]:
        """List the phases of the warm-up."""
        return self.tuner.phases()

    def subset(self, key: Key, num_params: int) -> Array:
        """Choose the parameters that the third phase keeps, sorted indices."""
        return self.tuner.subset(key, num_params)

    def init(self, position: Float[Array, " params"]) -> TunerState:
        """Start from the kernel's step size."""
        return self.tuner.init(self.kernel, position)

    def sampler(self, state: TunerState, moment: Moment) -> Any:
        """Give the kernel with its present numbers."""
        return state.sampler

    def learn(
        self, key: Key, state: TunerState, before: Any, after: Any, info: StepInfo, moment: Moment
    ) -> tuple[TunerState, Any, StepInfo]:
        """Learn from a step while tuning."""
        state = jax.lax.cond(
            moment.is_tuning,
            lambda: self.tuner.update(
                state, moment.step, after, info, moment.measures_spread, moment.horizon
            ),
            lambda: state,
        )
        return state, after, info

    def end_phase(self, state: TunerState, phase: Phase) -> TunerState:
        """Average the step size, set L from the spread."""
        return self.tuner.end_phase(state, phase)

    def end_trajectory(
        self, states: TunerState, path: np.ndarray, thin: int, log_prob: np.ndarray
    ) -> TunerState:
        """Set L from the effective sample size."""
        return self.tuner.end_trajectory(states, path, thin, log_prob)

    def tuned(self, state: TunerState) -> Tuned:
        """Say what others may know."""
        step_size = state.sampler.step_size
        return Tuned(
            step_size,
            state.sampler.L,
            step_size >= _AT_CAP * state.cap,
            np.array(L_SOURCES)[np.asarray(state.L_from)],
            state.ess_parameters,
            state.ess_function,
        )

    def with_numbers(self, state: TunerState, step_size: Array, L: Array) -> TunerState:
        """Go on with numbers of others."""
        return self.tuner.with_settings(state, step_size, L)

    def halved(self, states: TunerState) -> tuple[Adaptation, Any] | None:
        """Go on at half the step size: a number of the states, so the program is the same."""
        return self, self.with_numbers(states, states.sampler.step_size / 2, states.sampler.L)
