"""The program of chains whose steps see one mini-batch each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mirth.core.keys import Purpose
from mirth.core.random import fold_in
from mirth.core.trees import tree_normal
from mirth.core.types import Batch, Key
from mirth.inference.batch_sources import ResidentRows, Step, StreamedRows
from mirth.inference.chains import Chain, ChainSettings, EnsembleChains, Shared
from mirth.inference.feed import Feed
from mirth.samplers import (
    STOCHASTIC_SCHEMES,
    EnergyGuard,
    GuardState,
    MCLMCInfo,
    NoiseScale,
    Phase,
    StochasticMCLMC,
    StochasticState,
    init_noise_scale,
    preconditioner,
    released_preconditioner,
    update_noise_scale,
    update_released_noise_scale,
)
from mirth.samplers.mclmc import normalise

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

_STEP_SIZES = (1e-8, 10.0)  # that the rule of quantiles may reach
_MAX_WATCHED = 2000  # more rows would cost more than the steps between two draws
_RESET_STREAM = 2  # of the key of a step; the kernel uses the others


class StochasticSettings(NamedTuple):
    """What a stochastic method asks of its chains besides.

    Parameters
    ----------
    batch_size : int
        Most rows of a batch.
    L : float
        Decoherence length of the refreshment of the momentum; infinite for none.
    step_size_rule : {"fixed", "energy", "quantiles"}
        Who sets the step size: nobody, the tuner by its target, or the guard.
    guard : EnergyGuard or None
        Undoes outliers.
    is_preconditioned : bool
        Whether the noise scale preconditions the dynamics.
    noise_memory : float
        Gradients that the noise scale remembers.
    probe_every : int
        Steps from one energy error to the next, for schemes that pay for it.
    published : bool, default=False
        Reset, learn from noise and adapt for ever as the released code does.
    """

    batch_size: int
    L: float
    step_size_rule: str
    guard: EnergyGuard | None
    is_preconditioned: bool
    noise_memory: float
    probe_every: int
    published: bool = False


class StochasticExtra(NamedTuple):
    """What a stochastic chain keeps besides.

    Parameters
    ----------
    batch_key : array of uint32
        Key of the chain's batches.
    num_steps : int scalar
        Steps since the start; chooses the batch.
    noise : NoiseScale
        Moments of the gradient.
    guard : GuardState
        Moments of the energy error.
    """

    batch_key: Array
    num_steps: Int[Array, ""]
    noise: NoiseScale
    guard: GuardState


class StochasticChains(EnsembleChains):
    """One run: the members of an ensemble, each continued with mini-batches.

    Parameters
    ----------
    settings : ChainSettings
        What every method asks for.
    stochastic : StochasticSettings
        What this one asks for besides.
    problem : Problem
        Model, rows, seed, devices, monitor.
    params : pytree
        Members, leading axis (chains,).
    """

    def __init__(
        self,
        settings: ChainSettings,
        stochastic: StochasticSettings,
        problem: Problem,
        params: Any,
    ):
        self.stochastic = stochastic
        self.source: ResidentRows | StreamedRows
        if problem.stream is not None:
            self.source = StreamedRows(
                problem.stream, stochastic.batch_size, problem.seed, problem.placement
            )
        else:
            rows = problem.all_rows() if settings.use_validation_rows else problem.train
            self.source = ResidentRows(rows, stochastic.batch_size)
        super().__init__(settings, problem, params)

    def watched(self, validation: Batch) -> Batch:
        """Give the validation rows that the chains are watched by, evenly spread."""
        num_rows = validation.y.shape[0]
        if num_rows <= _MAX_WATCHED:
            return validation
        rows = np.linspace(0, num_rows - 1, _MAX_WATCHED).astype(int)
        return jax.tree.map(lambda leaf: leaf[rows], validation)

    @property
    def gradients_per_step(self) -> int:
        """Gradients of a batch that one step costs."""
        return STOCHASTIC_SCHEMES[self.settings.integrator]

    @property
    def is_energy_free(self) -> bool:
        """Whether the gradients of a step give its energy error, too."""
        return self.settings.integrator in ("velocity", "stale")

    def _init_one(self, flat: Array, key: Key, shared: Shared) -> Chain:
        """Start one chain."""
        settings = self.settings
        sampler = StochasticMCLMC(
            settings.step_size_init, self.stochastic.L, integrator=settings.integrator
        )
        batch_key = jax.random.fold_in(key, 1)
        kernel = sampler.init(flat, self._batch_logdensity_fn(shared, batch_key, 0, 0), key)
        guard = self.stochastic.guard or EnergyGuard()
        extra = StochasticExtra(
            jax.random.key_data(batch_key),
            jnp.zeros((), jnp.int32),
            self._init_noise(flat),
            guard.init(),
        )
        tuner = self.tuner.init(sampler, flat)
        tuner = self.tuner.with_settings(
            tuner, tuner.sampler.step_size, jnp.asarray(self.stochastic.L, float)
        )
        log_sum = jnp.full(shared.validation[1].shape[0], -jnp.inf, float)
        return Chain(kernel, tuner, log_sum, jnp.zeros(()), extra)

    def _batch_logdensity_fn(
        self, shared: Shared, batch_key: Key, count: Step, i: Step
    ) -> Callable[[Array], Array]:
        """Log posterior of a flat position, estimated from the batch of a step."""
        batch, model = self.source.at(shared.rows, batch_key, count, i), self.problem.model
        scale = self.source.num_rows / jnp.asarray(batch.num_rows, float)

        def logdensity(flat: Array) -> Array:
            log_prior = model.log_prior(self.unravel(flat))
            return log_prior + scale * model.log_likelihood(self.unravel(flat), batch)

        return logdensity

    def logdensity_at(self, key: Key, shared: Shared) -> Callable[[Array], Array]:
        """Give a log density whose gradient costs what one of a step does."""
        return self._batch_logdensity_fn(shared, key, 0, 0)

    def _step(self, key: Key, chain: Chain, i: Array, shared: Shared) -> tuple[Chain, MCLMCInfo]:
        """Take one step on one batch; while tuning, all that is tuned learns from it."""
        extra: StochasticExtra = chain.extra
        batch_key = jax.random.wrap_key_data(extra.batch_key)
        every = 1 if self.is_energy_free else self.stochastic.probe_every
        is_probe = extra.num_steps % every == 0
        kernel, info = chain.tuner.sampler.step(
            key,
            chain.kernel,
            self._batch_logdensity_fn(shared, batch_key, extra.num_steps, i),
            is_probe,
        )
        is_probe = is_probe & ~info.is_divergent
        is_learning = shared.is_tuning | self.stochastic.published  # the released code never stops
        kernel, guard, factor, is_reset = self._guarded(
            key, chain, kernel, info.energy_change, is_probe, is_learning
        )
        learns = is_learning & ((is_probe & ~is_reset) | info.is_divergent)
        tuner = self._tuned(chain, i, kernel, info, learns, factor, shared)
        noise = extra.noise
        if self.stochastic.is_preconditioned:
            learns = is_learning & ~info.is_divergent
            noise, scale = jax.lax.cond(
                learns,
                lambda: self._learnt_noise(extra.noise, kernel.gradient),
                lambda: (extra.noise, tuner.sampler.scale),
            )
            sampler = eqx.tree_at(lambda s: s.scale, tuner.sampler, scale)
            tuner = tuner._replace(sampler=sampler)
        # So that the mean square over all steps is that over the probes.
        energy_change = jnp.where(is_reset, 0.0, info.energy_change) * math.sqrt(every)
        info = info._replace(energy_change=energy_change)
        extra = extra._replace(num_steps=extra.num_steps + 1, noise=noise, guard=guard)
        divergent = chain.divergent + info.is_divergent
        return chain._replace(kernel=kernel, tuner=tuner, divergent=divergent, extra=extra), info

    def _init_noise(self, flat: Array) -> NoiseScale:
        """Begin with no noise seen; the released code begins with one."""
        noise = init_noise_scale(flat)
        return noise._replace(variance=noise.variance + 1.0) if self.stochastic.published else noise

    def _learnt_noise(self, noise: NoiseScale, gradient: Array) -> tuple[NoiseScale, Array]:
        """Learn from a gradient; give the moments and the scale that follows from them."""
        if self.stochastic.published:
            noise = update_released_noise_scale(noise, gradient)
            return noise, released_preconditioner(noise)
        noise = update_noise_scale(noise, gradient, self.stochastic.noise_memory)
        return noise, preconditioner(noise)

    def _guarded(
        self,
        key: Key,
        chain: Chain,
        kernel: StochasticState,
        energy_change: Float[Array, ""],
        is_probe: Array,
        is_learning: Array,
    ) -> tuple[StochasticState, GuardState, Array, Array]:
        """Undo an outlier as a whole, with a fresh direction; learn from all others."""
        before, guard = chain.extra.guard, self.stochastic.guard
        if guard is None:
            return kernel, before, jnp.ones(()), jnp.array(False)

        def judge() -> tuple[StochasticState, GuardState, Array, Array]:
            after, decision = guard.update(before, energy_change)
            state = jax.lax.cond(
                decision.is_reset, lambda: self._undone(key, chain.kernel, kernel), lambda: kernel
            )
            after = jax.tree.map(lambda a, b: jnp.where(is_learning, a, b), after, before)
            return state, after, jnp.where(is_learning, decision.factor, 1.0), decision.is_reset

        return jax.lax.cond(
            is_probe, judge, lambda: (kernel, before, jnp.ones(()), jnp.array(False))
        )

    def _undone(self, key: Key, before: StochasticState, after: StochasticState) -> StochasticState:
        """Undo a step."""
        if self.stochastic.published:
            # Gradient and log density stay those of the point that was rejected.
            zero = jnp.zeros_like(before.momentum)
            return after._replace(position=before.position, momentum=zero)
        (noise,) = tree_normal(fold_in(key, _RESET_STREAM), before.momentum, 1)
        return before._replace(momentum=normalise(noise))

    def _tuned(
        self,
        chain: Chain,
        i: Array,
        kernel: StochasticState,
        info: MCLMCInfo,
        learns: Array,
        factor: Array,
        shared: Shared,
    ) -> Any:
        """Set the step size by the rule that was chosen."""
        tuner = chain.tuner
        if self.stochastic.step_size_rule == "energy":
            return jax.lax.cond(
                learns,
                lambda: self.tuner.update(
                    tuner, i, kernel, info, shared.measures_spread, shared.horizon
                ),
                lambda: tuner,
            )
        if self.stochastic.step_size_rule == "quantiles":
            step_size = jnp.clip(factor * tuner.sampler.step_size, *_STEP_SIZES)
            if not self.stochastic.published:
                # A divergent step is no energy that could be compared, but a reason to slow down.
                step_size = jnp.where(learns & info.is_divergent, 0.8 * step_size, step_size)
            return self.tuner.with_settings(tuner, step_size, tuner.sampler.L)
        return tuner

    def rows(self) -> Any:
        """Give the rows that the chains begin with."""
        return self.source.first

    def feed(self, purpose: Purpose) -> Feed | None:
        """Give the batches of a part of the run, if they come from a stream."""
        return self.source.feed(purpose)

    def end_phase(self, chains: Chain, phase: Phase, kept: Any) -> Chain:
        """Conclude a phase; the decoherence length stays what was asked for."""
        before = chains.tuner.sampler.L
        chains = super().end_phase(chains, phase, kept)
        sampler = eqx.tree_at(lambda s: s.L, chains.tuner.sampler, before)
        return chains._replace(tuner=chains.tuner._replace(sampler=sampler))
