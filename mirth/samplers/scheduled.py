"""Stochastic-gradient samplers with a step size that is given or scheduled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from mirth.core.random import fold_in
from mirth.core.schedules import Cyclical
from mirth.core.types import Key, LogDensityFn
from mirth.samplers.adaptation import Adaptation, Excursion, Moment, StepInfo, Tuned

Schedule = Callable[[ArrayLike, ArrayLike], Float[Array, ""]]
"""Step size of a step: ``schedule(step, num_steps)``, both maybe traced."""


class Numbered(eqx.Module):
    """A kernel whose steps draw from a key of their own number.

    Parameters
    ----------
    kernel : sampler
        The kernel.
    number : int scalar
        Steps that the chain has taken.
    """

    kernel: Any
    number: Int[Array, ""]

    def init(self, position: Any, logdensity_fn: LogDensityFn, key: Key) -> Any:
        """Start the kernel."""
        return self.kernel.init(position, logdensity_fn, key)

    def step(self, key: Key, state: Any, logdensity_fn: LogDensityFn) -> tuple[Any, StepInfo]:
        """Take a step of the kernel."""
        return self.kernel.step(fold_in(key, self.number), state, logdensity_fn)


class Scheduled(Adaptation):
    """The kernel's step size in the warm-up, a schedule of step sizes in the sampling.

    Parameters
    ----------
    kernel : SGLD or SGHMC
        Sampler with the step size of the warm-up. A kernel that has ``frozen()`` learns while
        warming up.
    num_steps : int
        Steps of the warm-up.
    schedule : Schedule
        Step size of the sampling, ``schedule(step, sampling_steps)``.
    sampling_steps : int
        Steps of the sampling.

    Examples
    --------
    >>> from mirth.core.schedules import Linear
    >>> from mirth.samplers import SGLD
    >>> adaptation = Scheduled(SGLD(1e-3), 100, Linear(1e-3, 1e-5), 500)
    >>> float(adaptation.init(jnp.zeros(2)))
    0.001...
    """

    schedule: Schedule
    sampling_steps: int = eqx.field(static=True)

    def init(self, position: Float[Array, " params"]) -> Float[Array, ""]:
        """Keep the step size of the last step."""
        return jnp.asarray(self.kernel.step_size, float)

    def _step_size(self, moment: Moment) -> Float[Array, ""]:
        schedule, i = self.schedule, moment.step
        if isinstance(schedule, Cyclical):
            hot, cold = cycle(schedule, self.sampling_steps)
            later = schedule(hot + i % cold, (hot + cold) * schedule.num_cycles)
        else:
            later = schedule(i, self.sampling_steps)
        return jnp.where(moment.is_tuning, self.kernel.step_size, later)

    def sampler(self, state: Any, moment: Moment) -> Numbered:
        """Give the kernel with the step size of the step."""
        kernel = self._frozen_later(moment)
        kernel = eqx.tree_at(lambda k: k.step_size, kernel, self._step_size(moment))
        return Numbered(kernel, moment.num_steps)

    def _frozen_later(self, moment: Moment) -> Any:
        """Give the kernel, which learns its scales in the warm-up only."""
        kernel = self.kernel
        if not hasattr(kernel, "frozen"):
            return kernel
        is_tuning, frozen = moment.is_tuning, kernel.frozen()
        return jax.tree.map(lambda a, b: jnp.where(is_tuning, a, b), kernel, frozen)

    def excursion(self, state: Any, moment: Moment) -> Excursion | None:
        """Explore without noise where a cycle begins: draws come from its cold part only."""
        schedule = self.schedule
        if not isinstance(schedule, Cyclical):
            return None
        hot, cold = cycle(schedule, self.sampling_steps)
        length = (hot + cold) * schedule.num_cycles
        count = jnp.where((moment.step % cold == 0) & ~moment.is_tuning, hot, 0)

        def sampler(n: Array) -> Numbered:
            numbers = (schedule(n, length), jnp.zeros_like(self.kernel.temperature))
            kernel = self._frozen_later(moment)
            kernel = eqx.tree_at(lambda k: (k.step_size, k.temperature), kernel, numbers)
            return Numbered(kernel, moment.num_steps + n)

        return count, sampler

    def learn(
        self, key: Key, state: Any, before: Any, after: Any, info: StepInfo, moment: Moment
    ) -> tuple[Any, Any, StepInfo]:
        """Note the step size."""
        return self._step_size(moment), after, info

    def tuned(self, state: Any) -> Tuned:
        """Say what others may know."""
        return Tuned(state, np.array(np.inf), np.array(False))

    def halved(self, states: Any) -> tuple[Adaptation, Any] | None:
        """Say that the schedule has the step sizes."""
        return None


def cycle(schedule: Cyclical, sampling_steps: int) -> tuple[int, int]:
    """Give the steps of a cycle that explore and those that sample.

    Examples
    --------
    >>> cycle(Cyclical(1.0, 0.1, num_cycles=4, exploration_fraction=0.5), 1000)
    (250, 250)
    """
    cold = -(-sampling_steps // schedule.num_cycles)
    fraction = schedule.exploration_fraction
    return round(cold * fraction / (1 - fraction)), cold
