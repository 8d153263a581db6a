r"""The three-phase tuning of MILE: step size, then decoherence length.

===== ============================= ==================== =======================================
phase share of the warm-up          step size            L
===== ============================= ==================== =======================================
I     80 %                          tuned                max(sqrt(d), 15)
II    10 %                          tuned, then averaged from the posterior spread at its end
III   10 %                          fixed                from the effective sample size, if any
===== ============================= ==================== =======================================

The tuner owns no loop: whoever runs the chain calls ``update`` after each step and ``end_phase``
between phases, so that a long warm-up has progress, checkpoints and mini-batches too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from mirth.core.validation import (
    COUNT,
    FRACTION,
    NATURAL,
    POSITIVE,
    Range,
    check_flag,
    check_ranges,
)
from mirth.samplers.adaptation import Phase, StepInfo
from mirth.samplers.decoherence import look_back
from mirth.samplers.moments import Moments, init_moments, update_moments, variance

_XI_FLOOR = 1e-8
_XI_CEILING = 1e30
_MIN_STEP_SIZE = 1e-30  # a chain that only diverges would shrink its step size to zero
_MIN_L = 15.0
_ENERGY_ORDER = 6  # Var[Delta E] = O(epsilon^6) for a second-order scheme


class TunerState(NamedTuple):
    """State of one chain's tuner.

    Parameters
    ----------
    sampler : MCLMC or StochasticMCLMC
        The sampler with its present step size, L and scale.
    numerator, denominator : scalar
        Decayed sums of w * xi / epsilon^6 and of w; epsilon is in units of ``reference``.
    reference : scalar
        The step size of the last step; keeps epsilon^6 inside the range of float32.
    cap : scalar
        Largest step size allowed; shrinks on divergence, grows back slowly.
    log_step_size : Moments
        Running mean of log epsilon, rescaled to the final target, over phase II.
    moments : Moments
        Running moments of the position over phase II.
    L_from : int scalar
        What L follows from, a place in :data:`~mirth.samplers.L_SOURCES`.
    ess_parameters, ess_function : scalar
        Effective sample sizes of phase III; NaN before its end.
    """

    sampler: Any
    numerator: Float[Array, ""]
    denominator: Float[Array, ""]
    reference: Float[Array, ""]
    cap: Float[Array, ""]
    log_step_size: Moments
    moments: Moments
    L_from: Int[Array, ""]
    ess_parameters: Float[Array, ""]
    ess_function: Float[Array, ""]


class MILETuner(eqx.Module):
    r"""Tuner of MILE for :class:`~mirth.samplers.MCLMC`.

    Phases I and II bring the variance of the energy error per dimension to a target that falls
    linearly from start to end (exponentially if it starts above 2). With
    :math:`\xi = \Delta E^2 / (d\, v(t)) + 10^{-8}` and
    :math:`w = \exp(-\tfrac12 (\log \xi / (6\,\text{trust}))^2)`,

    .. math:: X \leftarrow \gamma X + w\, \xi / \epsilon^6, \quad
              W \leftarrow \gamma W + w, \quad \epsilon \leftarrow (X / W)^{-1/6},

    :math:`\gamma = (n - 1) / (n + 1)` with n = ``num_effective``. At the end of phase II the step
    size becomes its geometric mean over the phase, every value rescaled to the final target by
    the same sixth-power law, and :math:`L = (\sum_i \mathrm{Var}\,\theta_i)^{1/2}`. Phase III sets
    :math:`L = \text{L\_factor}\; \epsilon\; \text{mean}_i (n / \mathrm{ESS}_i)` if
    :math:`n / \text{mean}_i (n / \mathrm{ESS}_i) \ge 20`. The parameters of a network drift, which
    makes this about 4 for any n; then L stays, unless the slowest of some rows' log probabilities
    has ESS >= 20 and asks for a longer one.

    Differences from the published code (its errors are not repeated): L does not grow with the
    length of phase III; a divergent step enters no statistic; the cap shrinks to ``cap_shrink``
    times the step size that diverged and grows by ``cap_growth`` per good step; the final step
    size is an average, not the last iterate; variances are Welford's.

    Parameters
    ----------
    num_steps : int, optional
        Steps of the whole warm-up; None where a method says how many (:meth:`of_length`).
    energy_variance_start, energy_variance_end : float, default=0.5, 0.02
        Target of Var[Delta E] / d at the first step and at the end of phase II. The paper ends at
        0.1; the shorter steps of 0.02 are less biased and predicted better in all measurements
        (``docs/performance.md``).
    phase_fractions : tuple of float, default=(0.8, 0.1, 0.1)
        Shares of the three phases; they sum to one.
    trust : float, default=1.5
        Width of the weight w: how far log xi may be from 0 to count in full.
    num_effective : float, default=100
        Memory of the step-size average, in steps.
    L_factor : float, default=0.4
        L in units of the distance between effectively independent draws.
    max_params : int, default=2000
        Parameters, chosen at random, whose effective sample size phase III looks at.
    max_kept : int, default=10000
        Steps, equally spaced, that phase III keeps of them.
    cap_shrink, cap_growth : float, default=0.8, 1.0005
        Factors of the step-size cap after a divergent and after a good step.
    diagonal_preconditioning : bool, default=False
        Let the dynamics run on theta_i / sd_i with the spread seen in phase II, L = sqrt(d), and
        tune the step size for another third of phase II, in addition to ``num_steps``; its last
        iterate is then the final step size.

    Raises
    ------
    ValueError
        If a number is outside its range.

    References
    ----------
    .. [1] Sommer et al., arXiv 2502.06335, section 4 and its released code.

    Examples
    --------
    >>> tuner = MILETuner(num_steps=1000)
    >>> [(phase.name, phase.num_steps) for phase in tuner.phases()]
    [('step size', 800), ('step size and spread', 100), ('decoherence length', 100)]
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "num_steps": dataclasses.replace(NATURAL, or_none=True),
        "energy_variance_start": POSITIVE,
        "energy_variance_end": POSITIVE,
        "phase_fractions": Range(low=0, high=1),
        "trust": POSITIVE,
        "num_effective": Range(low=1, low_open=True),
        "L_factor": POSITIVE,
        "max_params": COUNT,
        "max_kept": Range(low=4, whole=True),
        "cap_shrink": FRACTION,
        "cap_growth": Range(low=1),
    }

    num_steps: int | None = eqx.field(static=True, default=None)
    energy_variance_start: float = 0.5
    energy_variance_end: float = 0.02
    phase_fractions: tuple[float, float, float] = eqx.field(static=True, default=(0.8, 0.1, 0.1))
    trust: float = 1.5
    num_effective: float = 100.0
    L_factor: float = 0.4
    max_params: int = eqx.field(static=True, default=2000)
    max_kept: int = eqx.field(static=True, default=10_000)
    cap_shrink: float = 0.8
    cap_growth: float = 1.0005
    diagonal_preconditioning: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        check_ranges(self, self.RANGES)
        check_flag("diagonal_preconditioning", self.diagonal_preconditioning)
        fractions = self.phase_fractions
        if len(fractions) != 3 or abs(sum(fractions) - 1) > 1e-6:
            raise ValueError(
                f"phase_fractions={fractions} must be three numbers >= 0 that sum to 1, "
                "such as (0.8, 0.1, 0.1)."
            )

    def __repr__(self) -> str:
        """Name what differs from the defaults; Equinox would compare by identity."""
        changed = ((f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self))
        return f"MILETuner({', '.join(f'{k}={v!r}' for k, v, default in changed if v != default)})"

    def of_length(self, num_steps: int) -> MILETuner:
        """Give the same settings for a warm-up of a length.

        Parameters
        ----------
        num_steps : int
            Steps of the whole warm-up.

        Examples
        --------
        >>> MILETuner(trust=2.0).of_length(100).num_steps
        100
        """
        return dataclasses.replace(self, num_steps=num_steps)

    @property
    def length(self) -> int:
        """Steps of the whole warm-up, which must be known by now."""
        if self.num_steps is None:
            raise ValueError(
                "MILETuner(num_steps=None) takes its length from a method; give num_steps to use "
                "it alone."
            )
        return self.num_steps

    def phases(self) -> tuple[Phase, ...]:
        """List the phases of the warm-up, in order; empty phases are left out."""
        num_first, num_second = self._num_tuned()
        num_third = self.length - num_first - num_second
        num_again = num_second // 3 if self.diagonal_preconditioning else 0
        phases = [
            Phase("step size", num_first, 0, False),
            Phase("step size and spread", num_second, 0, True),
            Phase("step size again", num_again, 0, False),
            Phase("decoherence length", num_third, -(-num_third // self.max_kept), False),
        ]
        return tuple(phase for phase in phases if phase.num_steps > 0)

    def _num_tuned(self) -> tuple[int, int]:
        """Count the steps of phases I and II, rounded so that phase III has the rest."""
        first, second, _ = self.phase_fractions
        num_first = round(first * self.length)
        return num_first, round((first + second) * self.length) - num_first

    def subset(self, key: jax.Array, num_params: int) -> Array:
        """Choose the parameters that phase III keeps, sorted indices."""
        if num_params <= self.max_params:
            return jnp.arange(num_params)
        chosen = jax.random.choice(key, num_params, (self.max_params,), replace=False)
        return jnp.sort(chosen)

    def init(self, sampler: Any, position: Float[Array, " params"]) -> TunerState:
        """Start from the caller's guess of the step size, with L = max(sqrt(d), 15)."""
        # With a type of its own: a weak one would compile every program a second time.
        L = jnp.asarray(max(math.sqrt(position.size), _MIN_L), float)
        sampler = eqx.tree_at(lambda s: (s.L, s.scale), sampler, (L, jnp.ones_like(position)))
        zero = jnp.zeros(())
        return TunerState(
            sampler=sampler,
            numerator=zero,
            denominator=zero,
            reference=sampler.step_size,
            cap=jnp.full((), jnp.inf, float),
            log_step_size=init_moments(zero),
            moments=init_moments(position),
            L_from=jnp.zeros((), jnp.int32),
            ess_parameters=jnp.full((), jnp.nan, float),
            ess_function=jnp.full((), jnp.nan, float),
        )

    @property
    def horizon(self) -> int:
        """Number of the step at which the target is at its end, unless phase I ends early."""
        return sum(self._num_tuned()) + 1

    def target(self, step: Array, horizon: ArrayLike | None = None) -> Float[Array, ""]:
        """Energy variance per dimension that is aimed at in a step of phases I and II."""
        start, end = self.energy_variance_start, self.energy_variance_end
        horizon = self.horizon if horizon is None else horizon
        # Beyond the horizon (the extra steps after preconditioning) the target stays at its end.
        time = jnp.minimum(step, horizon)
        linear = start + (end - start) * time / horizon
        decay = jnp.exp(-4.0 * time / horizon)
        return jnp.where(start <= 2, linear, start * decay + end * (1 - decay))

    def update(
        self,
        state: TunerState,
        step: Array,
        chain: Any,
        info: StepInfo,
        measures_spread: Bool[Array, ""],
        horizon: ArrayLike | None = None,
    ) -> TunerState:
        """Learn from one step of the chain, in a phase that tunes the step size.

        Parameters
        ----------
        state : TunerState
            State before the step.
        step : int scalar
            Number of the step since the start of the warm-up.
        chain : state of the kernel
            The chain after the step; its ``position`` is one vector.
        info : StepInfo
            What the step reported.
        measures_spread : bool scalar
            Whether the step belongs to a phase that measures the spread.
        horizon : int scalar, optional
            Step at which the target is at its end; None means after the planned steps.
        """
        diverged, target = info.is_divergent, self.target(step, horizon)
        state = self._update_step_size(state, target, chain, info)
        log_final = jnp.log(state.sampler.step_size) + (
            jnp.log(self.energy_variance_end / target) / _ENERGY_ORDER
        )
        counts = jnp.where(measures_spread & ~diverged, 1.0, 0.0)
        return state._replace(
            log_step_size=update_moments(state.log_step_size, log_final, counts),
            moments=update_moments(state.moments, chain.position, counts * info.step_size),
        )

    def _update_step_size(
        self, state: TunerState, target: Float[Array, ""], chain: Any, info: StepInfo
    ) -> TunerState:
        """Apply the sixth-power law and the cap."""
        diverged, step_size = info.is_divergent, info.step_size
        # The square of a huge energy error is infinite in float32; its weight 0 would make NaN.
        xi = jnp.minimum(info.energy_change**2 / (chain.position.size * target), _XI_CEILING)
        xi = xi + _XI_FLOOR
        log_ratio = jnp.log(xi) / (_ENERGY_ORDER * self.trust)
        weight = jnp.where(diverged, 0.0, jnp.exp(-0.5 * log_ratio**2))
        decay = jnp.where(diverged, 1.0, (self.num_effective - 1) / (self.num_effective + 1))
        rebased = (step_size / state.reference) ** _ENERGY_ORDER * state.numerator
        numerator = decay * rebased + weight * xi
        denominator = decay * state.denominator + weight
        is_known = denominator > 0
        ratio = numerator / jnp.where(is_known, denominator, 1.0)
        proposed = step_size * jnp.where(is_known, ratio, 1.0) ** (-1 / _ENERGY_ORDER)
        shrunk = jnp.minimum(state.cap, self.cap_shrink * step_size)
        cap = jnp.where(diverged, shrunk, self.cap_growth * state.cap)
        proposed = jnp.maximum(jnp.minimum(proposed, cap), _MIN_STEP_SIZE)
        sampler = eqx.tree_at(lambda s: s.step_size, state.sampler, proposed)
        return state._replace(
            sampler=sampler,
            numerator=numerator,
            denominator=denominator,
            reference=step_size,
            cap=cap,
        )

    def with_settings(self, state: TunerState, step_size: Array, L: Array) -> TunerState:
        """Give the state with other settings of the sampler, from which the tuning goes on."""
        sampler = eqx.tree_at(lambda s: (s.step_size, s.L), state.sampler, (step_size, L))
        return state._replace(sampler=sampler, reference=1.0 * step_size)

    def end_phase(self, state: TunerState, phase: Phase) -> TunerState:
        """Conclude a phase that keeps nothing: average the step size, set L from the spread."""
        if not phase.measures_spread:
            return state
        mean = jnp.exp(state.log_step_size.mean)
        step_size = jnp.where(state.log_step_size.weight > 0, mean, state.sampler.step_size)
        spread = variance(state.moments)
        total = jnp.sqrt(jnp.sum(spread))
        L, scale = jnp.where(total > 0, total, state.sampler.L), state.sampler.scale
        cap = state.cap
        if self.diagonal_preconditioning:
            L = jnp.sqrt(1.0 * spread.size)
            scale = jnp.where(spread > 0, jnp.sqrt(spread), 1.0)
            # In units of sd the step covers another distance; start near the same one.
            unit = jnp.sqrt(jnp.mean(scale**2))
            step_size, cap = step_size / unit, cap / unit
        numbers = (jnp.minimum(step_size, cap), L, scale)
        sampler = eqx.tree_at(lambda s: (s.step_size, s.L, s.scale), state.sampler, numbers)
        return state._replace(
            sampler=sampler,
            numerator=jnp.zeros(()),
            denominator=jnp.zeros(()),
            reference=1.0 * sampler.step_size,
            cap=cap,
        )

    def end_trajectory(
        self, state: TunerState, kept: np.ndarray, thin: int, log_prob: np.ndarray | None = None
    ) -> TunerState:
        """Conclude phase III of all chains on the host: L from the effective sample size.

        Parameters
        ----------
        state : TunerState
            States with a leading axis (chains,).
        kept : array of shape (chains, kept, params)
            Parameter subset at every ``thin``-th step.
        thin : int
            Steps between two kept positions.
        log_prob : array of shape (chains, kept, rows), optional
            Log probability of some rows there, for parameters that do not decorrelate.
        """
        return (
            state if kept.shape[1] < 4 else look_back(state, kept, log_prob, self.L_factor * thin)
        )
