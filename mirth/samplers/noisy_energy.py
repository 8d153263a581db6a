"""SMILE's adaptation: step size by the energy error of batches, and the scale of their noise."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mirth.core.random import fold_in
from mirth.core.trees import tree_normal
from mirth.core.types import Key, LogDensityFn
from mirth.samplers.adaptation import Adaptation, Moment, Phase, StepInfo, Tuned
from mirth.samplers.energy_guard import EnergyGuard, GuardState
from mirth.samplers.mclmc import normalise
from mirth.samplers.noise_scale import (
    NoiseScale,
    centred,
    init_noise_scale,
    limits,
    noise_level,
    preconditioner,
    update_noise_scale,
)
from mirth.samplers.noise_sketch import (
    NoiseSketch,
    block_length,
    init_noise_sketch,
    is_known,
    merge_block,
    update_noise_sketch,
    whitened_level,
    whitening,
)
from mirth.samplers.stochastic_mclmc import StochasticMCLMC, StochasticState
from mirth.samplers.three_phases import ThreePhases
from mirth.samplers.tuning import TunerState

STEP_SIZE_RULES = ("energy", "quantiles", "fixed")
_STEP_SIZES = (1e-8, 10.0)  # that the rule of quantiles may reach
_RESET_STREAM = 2  # of the key of a step; the kernel uses the others


class NoisyEnergyState(NamedTuple):
    """What one chain has learnt.

    Parameters
    ----------
    tuner : TunerState
        Sampler and energy statistics.
    noise : NoiseScale
        Moments of the gradient.
    guard : GuardState
        Moments of the energy error.
    noise_level : scalar
        Noise of a coordinate's gradient where the dynamics run; 0 until it is known.
    energy_change : scalar
        Energy error of the last step that computed it; 0 if that step was undone.
    sketch : NoiseSketch or None
        Correlation of the gradient between parameters, if it is learnt.
    """

    tuner: TunerState
    noise: NoiseScale
    guard: GuardState
    noise_level: Float[Array, ""]
    energy_change: Float[Array, ""]
    sketch: NoiseSketch | None = None


class Probing(eqx.Module):
    """A stochastic kernel that computes its energy error in some steps only.

    Parameters
    ----------
    kernel : StochasticMCLMC
        The kernel.
    is_probe : bool scalar
        Whether this step does.
    """

    kernel: StochasticMCLMC
    is_probe: Bool[Array, ""]

    def init(self, position: Any, logdensity_fn: LogDensityFn, key: Key) -> StochasticState:
        """Start the kernel."""
        return self.kernel.init(position, logdensity_fn, key)

    def step(
        self, key: Key, state: StochasticState, logdensity_fn: LogDensityFn
    ) -> tuple[StochasticState, StepInfo]:
        """Take a step of the kernel."""
        return self.kernel.step(key, state, logdensity_fn, self.is_probe)


class NoisyEnergy(ThreePhases):
    """Step size by a rule, outliers undone by a guard; scale, bound and L from the gradient noise.

    Parameters
    ----------
    kernel : StochasticMCLMC
        Sampler with the first step size, and with its L unless ``L_factor`` is given.
    num_steps : int
        Steps of the warm-up.
    tuner : MILETuner
        Phases, and the energy target of the rule "energy".
    step_size_rule : {"energy", "quantiles", "fixed"}
        Who sets the step size: the tuner by its target, the guard, or nobody.
    guard : EnergyGuard or None
        Undoes outliers.
    preconditioned : bool
        Whether the noise scale preconditions the dynamics.
    noise_memory : float
        Gradients that the noise scale remembers.
    probe_every : int
        Steps from one energy error to the next, for schemes that pay for it.
    max_turn : float, optional
        Largest turn of the momentum by the noise of a step, in radians
        (:func:`~mirth.samplers.limits`); None bounds nothing.
    L_factor : float, optional
        L in units of the length over which the noise forgets a direction; None leaves L
        to the kernel, which needs an array as L (``jnp.array(jnp.inf)``) if it is to change.
    rank : int, default=0
        Directions of correlated noise that the dynamics are whitened along
        (:class:`~mirth.samplers.NoiseSketch`), each of which remembers ``noise_memory`` gradients;
        0 learns and whitens none.

    Raises
    ------
    ValueError
        If a rank is given where nothing is preconditioned, or is negative.

    Examples
    --------
    >>> from mirth.samplers import MILETuner
    >>> tuner = MILETuner(num_steps=100, phase_fractions=(0.8, 0.2, 0.0))
    >>> kernel = StochasticMCLMC(1e-3, L=jnp.array(jnp.inf))
    >>> adaptation = NoisyEnergy(
    ...     kernel, 100, tuner, "energy", EnergyGuard(), True, 100.0, 10, 0.15, 1.0
    ... )
    >>> [phase.num_steps for phase in adaptation.phases()]
    [80, 20]
    """

    step_size_rule: str = eqx.field(static=True)
    guard: EnergyGuard | None
    preconditioned: bool = eqx.field(static=True)
    noise_memory: float
    probe_every: int = eqx.field(static=True)
    max_turn: float | None = None
    L_factor: float | None = None
    rank: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        if self.rank < 0 or (self.rank and not self.preconditioned):
            raise ValueError(
                f"rank={self.rank} needs preconditioned=True, and must not be negative."
            )

    @property
    def every(self) -> int:
        """Steps from one energy error to the next."""
        # The gradients of these two schemes give the log densities, too.
        is_free = self.kernel.integrator in ("velocity", "stale")
        return 1 if is_free else self.probe_every

    def init(self, position: Float[Array, " params"]) -> Any:
        """Start with the kernel's numbers and nothing seen."""
        tuner = self.tuner.init(self.kernel, position)
        L = jnp.asarray(self.kernel.L, float)
        tuner = self.tuner.with_settings(tuner, tuner.sampler.step_size, L)
        guard = self.guard or EnergyGuard()
        noise, zero = self._init_noise(position), jnp.zeros(())
        sketch = init_noise_sketch(position, self.rank) if self.rank else None
        return NoisyEnergyState(tuner, noise, guard.init(), zero, zero, sketch)

    def sampler(self, state: Any, moment: Moment) -> Probing:
        """Give the kernel with its present numbers."""
        step_size, L = self._bounded(state)
        sampler = eqx.tree_at(lambda s: (s.step_size, s.L), state.tuner.sampler, (step_size, L))
        if state.sketch is not None:
            sampler = eqx.tree_at(
                lambda s: s.whitening, sampler, whitening(state.sketch), is_leaf=lambda x: x is None
            )
        return Probing(sampler, jnp.asarray(moment.num_steps % self.every == 0))

    def learn(
        self, key: Key, state: Any, before: Any, after: Any, info: StepInfo, moment: Moment
    ) -> tuple[Any, Any, StepInfo]:
        """Judge the energy error; while tuning, all that is tuned learns from the step."""
        is_asked = moment.num_steps % self.every == 0
        is_probe = is_asked & ~info.is_divergent
        is_learning = self._is_learning(moment)
        after, guard, factor, is_reset = self._guarded(
            key, state.guard, (before, after), info.energy_change, is_probe, is_learning
        )
        learns = is_learning & ((is_probe & ~is_reset) | info.is_divergent)
        tuner = self._tuned(state.tuner, after, info, learns, factor, moment)
        noise, level, sketch = state.noise, state.noise_level, state.sketch
        if self.preconditioned or self.max_turn is not None or self.L_factor is not None:
            scale = tuner.sampler.scale
            noise, scale, level = jax.lax.cond(
                is_learning & ~info.is_divergent,
                lambda: self._learnt_noise(state.noise, after.gradient, scale),
                lambda: (state.noise, scale, state.noise_level),
            )
            sampler = eqx.tree_at(lambda s: s.scale, tuner.sampler, scale)
            tuner = tuner._replace(sampler=sampler)
        if sketch is not None:
            learns_noise = is_learning & ~info.is_divergent
            seen = scale * centred(state.noise, after.gradient, self.noise_memory)
            sketch, level = self._learnt_sketch(sketch, seen, level, learns_noise, moment)
        # Kept until the next one: so every draw has an energy error, and the mean square over all
        # steps is that over the steps that computed it.
        found = jnp.where(is_reset, 0.0, info.energy_change)
        energy_change = jnp.where(is_asked, found, state.energy_change)
        info = info._replace(logdensity=after.logdensity, energy_change=energy_change)
        return NoisyEnergyState(tuner, noise, guard, level, energy_change, sketch), after, info

    def _is_learning(self, moment: Moment) -> Bool[Array, ""]:
        """Learn in the warm-up only."""
        return moment.is_tuning

    def _init_noise(self, position: Float[Array, " params"]) -> NoiseScale:
        return init_noise_scale(position)

    def _learnt_noise(
        self, noise: NoiseScale, gradient: Array, scale: Array
    ) -> tuple[NoiseScale, Array, Float[Array, ""]]:
        """Learn from a gradient; give the moments, and the scale and level that follow."""
        noise = update_noise_scale(noise, gradient, self.noise_memory)
        scale = preconditioner(noise) if self.preconditioned else scale
        return noise, scale, noise_level(noise, scale)

    def _learnt_sketch(
        self,
        sketch: NoiseSketch,
        noise: Array,
        level: Float[Array, ""],
        learns: Bool[Array, ""],
        moment: Moment,
    ) -> tuple[NoiseSketch, Float[Array, ""]]:
        """Learn the correlation from the noise of a gradient; give the level that is left."""
        sketch = jax.lax.cond(learns, lambda: update_noise_sketch(sketch, noise), lambda: sketch)
        # By the number of the step, which is that of all chains: where they are one vectorised
        # program, a condition of each chain would pay for the end of a block in every step.
        ends = (moment.step + 1) % block_length(self.rank) == 0
        memory = self.noise_memory * self.rank
        sketch = jax.lax.cond(
            moment.is_tuning & ends, lambda: merge_block(sketch, memory), lambda: sketch
        )
        is_new = moment.is_tuning & is_known(sketch)
        return sketch, jnp.where(is_new, whitened_level(sketch, whitening(sketch)), level)

    def _bounded(self, state: Any) -> tuple[Any, Any]:
        """Give the step size within its bound, and L; of one chain or of all."""
        sampler, max_turn = state.tuner.sampler, self.max_turn
        step_size, L = limits(
            state.noise_level,
            sampler.step_size,
            state.noise.variance.shape[-1],
            math.inf if max_turn is None else max_turn,
            1.0 if self.L_factor is None else self.L_factor,
        )
        step_size = sampler.step_size if max_turn is None else step_size
        return step_size, sampler.L if self.L_factor is None else L

    def _guarded(
        self,
        key: Key,
        before: GuardState,
        states: tuple[StochasticState, StochasticState],
        energy_change: Float[Array, ""],
        is_probe: Bool[Array, ""],
        is_learning: Bool[Array, ""],
    ) -> tuple[StochasticState, GuardState, Array, Array]:
        """Undo an outlier as a whole, with a fresh direction; learn from all others."""
        guard, (start, end) = self.guard, states
        nothing = end, before, jnp.ones(()), jnp.array(False)
        if guard is None:
            return nothing

        def judge() -> tuple[StochasticState, GuardState, Array, Array]:
            after, decision = guard.update(before, energy_change)
            state = jax.lax.cond(
                decision.is_reset, lambda: self._undone(key, start, end), lambda: end
            )
            after = jax.tree.map(lambda a, b: jnp.where(is_learning, a, b), after, before)
            return state, after, jnp.where(is_learning, decision.factor, 1.0), decision.is_reset

        return jax.lax.cond(is_probe, judge, lambda: nothing)

    def _undone(self, key: Key, before: StochasticState, after: StochasticState) -> StochasticState:
        """Undo a step."""
        (noise,) = tree_normal(fold_in(key, _RESET_STREAM), before.momentum, 1)
        return before._replace(momentum=normalise(noise))

    def _tuned(
        self,
        tuner: TunerState,
        chain: StochasticState,
        info: StepInfo,
        learns: Bool[Array, ""],
        factor: Float[Array, ""],
        moment: Moment,
    ) -> TunerState:
        """Set the step size by the rule that was chosen."""
        if self.step_size_rule == "energy":
            return jax.lax.cond(
                learns,
                lambda: self.tuner.update(
                    tuner, moment.step, chain, info, moment.measures_spread, moment.horizon
                ),
                lambda: tuner,
            )
        if self.step_size_rule == "quantiles":
            step_size = jnp.clip(factor * tuner.sampler.step_size, *_STEP_SIZES)
            step_size = self._slowed(step_size, learns & info.is_divergent)
            return self.tuner.with_settings(tuner, step_size, tuner.sampler.L)
        return tuner

    def _slowed(
        self, step_size: Float[Array, ""], is_divergent: Bool[Array, ""]
    ) -> Float[Array, ""]:
        """A divergent step is no energy that could be compared, but a reason to slow down."""
        return jnp.where(is_divergent, 0.8 * step_size, step_size)

    def end_phase(self, state: Any, phase: Phase) -> Any:
        """Average the step size; the decoherence length stays what was asked for."""
        tuner = self.tuner.end_phase(state.tuner, phase)
        sampler = eqx.tree_at(lambda s: s.L, tuner.sampler, state.tuner.sampler.L)
        return state._replace(tuner=tuner._replace(sampler=sampler))

    def tuned(self, state: Any) -> Tuned:
        """Say what others may know: the numbers that the steps have."""
        step_size, L = (np.asarray(number) for number in self._bounded(state))
        return super().tuned(state.tuner)._replace(step_size=step_size, L=L)

    def with_numbers(self, state: Any, step_size: Array, L: Array) -> Any:
        """Go on with numbers of others."""
        return state._replace(tuner=self.tuner.with_settings(state.tuner, step_size, L))

    def halved(self, states: Any) -> tuple[Adaptation, Any] | None:
        r"""Go on at half the step that the chains have, within its bound, with the L they have.

        A learnt L is a factor times :math:`2 d / (\epsilon \sigma^2)`, so at half the step it stays
        with :math:`\sqrt 2` times the noise level, which nothing else is computed from after the
        warm-up but the bound of the step, and half a step is below that.
        """
        now = self.tuned(states)
        states = self.with_numbers(states, now.step_size / 2, now.L)
        if self.L_factor is not None:
            level = np.asarray(states.noise_level)
            states = states._replace(noise_level=level * np.sqrt(2, dtype=level.dtype))
        return self, states
