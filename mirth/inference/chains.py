"""Chains that start from an ensemble: tune them, sample them, put the posterior together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from mirth.core.keys import Purpose, chain_keys, purpose_key
from mirth.core.outcomes import Outcome, SamplingError
from mirth.core.types import Key
from mirth.inference.loop import ChainLoop, ChunkReport
from mirth.inference.posterior import Posterior, TuningReport
from mirth.inference.problem import features_first, rows_first
from mirth.inference.warm_start import WarmStartReport
from mirth.samplers import (
    MCLMC,
    MCLMCInfo,
    MCLMCState,
    MILETuner,
    Phase,
    TunerState,
    gradients_per_step,
)

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


class Chain(NamedTuple):
    """State of one chain in the loop.

    Parameters
    ----------
    kernel : MCLMCState
        State of the sampler.
    tuner : TunerState
        State of the tuner; it holds the sampler.
    log_sum : array of shape (validation rows,)
        Running log of the summed probabilities of the validation rows over the kept draws.
    divergent : scalar
        Reverted steps since the last kept draw.
    """

    kernel: MCLMCState
    tuner: TunerState
    log_sum: Float[Array, " validation"]
    divergent: Float[Array, ""]


class ChainSettings(NamedTuple):
    """What a method asks of its chains.

    Parameters
    ----------
    tuner : MILETuner
        Tunes the sampler during the warm-up.
    integrator : str
        Scheme of the dynamics.
    step_size_init : float
        First step size.
    n_samples, n_thinning : int
        Draws kept per chain, and steps between two of them.
    use_validation_rows : bool
        Whether the chains condition on the validation rows too.
    """

    tuner: MILETuner
    integrator: str
    step_size_init: float
    n_samples: int
    n_thinning: int
    use_validation_rows: bool


class Shared(NamedTuple):
    """What all chains see.

    Parameters
    ----------
    rows, validation : tuple of arrays
        Rows to condition on and rows to watch, features first.
    measures_spread : bool scalar
        Whether the tuner measures the spread of the position (phase II).
    subset : array of int
        Parameters that the third phase keeps.
    """

    rows: Any
    validation: Any
    measures_spread: Array
    subset: Array


class EnsembleChains:
    """One run: the members of an ensemble, each continued as a chain.

    Parameters
    ----------
    settings : ChainSettings
        What the method asks for.
    problem : Problem
        Model, rows, seed, devices, monitor.
    params : pytree
        Members, leading axis (chains,).
    """

    def __init__(self, settings: ChainSettings, problem: Problem, params: Any):
        self.settings, self.problem = settings, problem
        self.tuner = settings.tuner
        self.start = jax.tree.map(np.asarray, params)
        one = jax.tree.map(lambda leaf: leaf[0], params)
        self.unravel = ravel_pytree(one)[1]
        self.flat = np.asarray(jax.vmap(lambda p: ravel_pytree(p)[0])(params))
        self.num_params = self.flat.shape[1]
        rows = problem.all_rows() if settings.use_validation_rows else problem.train
        subset_key = purpose_key(problem.seed, Purpose.SUBSET)
        self.shared = problem.placement.put_shared(
            Shared(
                features_first(rows),
                features_first(problem.validation),
                jnp.array(False),
                self.tuner.subset(subset_key, self.num_params),
            )
        )
        self.sampling_loop = self._loop(self._step, self._keep_draw)
        self._log_prob_of_each = jax.jit(
            lambda positions, shared: jax.lax.map(
                lambda flat: self.validation_log_prob(flat, shared), positions
            )
        )

    def run(self, warm_start: WarmStartReport) -> Posterior:
        """Tune, sample, and put the result together."""
        chains = self.init()
        chains, tuning = self.tune(chains)
        began = time.perf_counter()
        kept, log_prob = self.sample(chains)
        seconds = {
            "warm_start": warm_start.seconds,
            "tuning": tuning.seconds,
            "sampling": time.perf_counter() - began,
        }
        return self._posterior(warm_start, tuning, kept, log_prob, seconds)

    def init(self) -> Chain:
        """Start all chains from the ensemble, each in a random direction."""
        sampler = MCLMC(self.settings.step_size_init, 1.0, integrator=self.settings.integrator)

        def init_one(flat: Array, key: Key, shared: Shared) -> Chain:
            kernel = sampler.init(flat, self._logdensity_fn(shared), key)
            log_sum = jnp.full(shared.validation[1].shape[0], -jnp.inf, float)
            return Chain(kernel, self.tuner.init(sampler, flat), log_sum, jnp.zeros(()))

        placement = self.problem.placement
        start = placement.compile(init_one, donate=False)
        chains = start(placement.put_chains(self.flat), self._keys(Purpose.MOMENTUM), self.shared)
        if not np.isfinite(np.asarray(chains.kernel.logdensity)).any():
            raise SamplingError(Outcome.NON_FINITE_TARGET, self._explain_non_finite())
        return chains

    def tune(self, chains: Chain) -> tuple[Chain, TuningReport]:
        """Drive the tuner through its phases."""
        began, first = time.perf_counter(), 0
        problem, keys = self.problem, self._keys(Purpose.TUNING)
        energy = np.full(problem.num_chains, np.nan)
        divergent = np.zeros(problem.num_chains, dtype=int)

        def step(key: Key, chain: Chain, i: Array, shared: Shared) -> tuple[Chain, MCLMCInfo]:
            chain, info = self._step(key, chain, i, shared)
            tuner = self.tuner.update(chain.tuner, i, chain.kernel, info, shared.measures_spread)
            return chain._replace(tuner=tuner), info

        def show(report: ChunkReport) -> None:
            nonlocal energy, divergent
            divergent = divergent + report.stats.num_divergent
            energy = report.stats.squared_energy_change / self.num_params
            problem.monitor.on_chunk(report, self._pooled_lppd_now(report.carry))

        tuning = self._loop(step, None)
        for phase in self.tuner.phases():
            flag = problem.placement.put_shared(jnp.array(phase.measures_spread))
            shared = self.shared._replace(measures_spread=flag)
            loop = self._fixed_loop() if phase.thin else tuning
            chains, kept = loop.run(
                phase.name,
                chains,
                keys,
                shared,
                num_steps=phase.num_steps,
                first_step=first,
                thin=max(1, phase.thin),
                on_chunk=show,
            )
            chains = self._end_phase(chains, phase, kept)
            first += phase.num_steps
        sampler = chains.tuner.sampler
        return chains, TuningReport(
            step_size=np.asarray(sampler.step_size)[: problem.num_chains],
            L=np.asarray(sampler.L)[: problem.num_chains],
            num_divergent=divergent,
            energy_variance=energy,
            num_steps=first,
            seconds=time.perf_counter() - began,
        )

    def sample(self, chains: Chain) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Sample with fixed settings.

        Returns
        -------
        kept : dict of arrays of shape (chains, draws, ...)
            Positions and statistics.
        log_prob : array of shape (chains, validation rows)
            Log of each chain's average probability of each validation row.
        """
        problem, settings = self.problem, self.settings

        def show(report: ChunkReport) -> None:
            log_sum = np.asarray(report.carry.log_sum)[: problem.num_chains]
            count = problem.num_chains * report.step / settings.n_thinning
            lppd = np.mean(np.logaddexp.reduce(log_sum, axis=0) - np.log(count))
            problem.monitor.on_chunk(report, float(lppd))

        chains = chains._replace(
            divergent=jnp.zeros_like(chains.divergent),
            log_sum=jnp.full_like(chains.log_sum, -jnp.inf),
        )
        chains, kept = self.sampling_loop.run(
            "sampling",
            chains,
            self._keys(Purpose.SAMPLING),
            self.shared,
            num_steps=settings.n_samples * settings.n_thinning,
            thin=settings.n_thinning,
            on_chunk=show,
        )
        log_sum = np.asarray(chains.log_sum, dtype=np.float64)[: problem.num_chains]
        return kept, log_sum - np.log(settings.n_samples)

    def validation_log_prob(self, flat: Array, shared: Shared) -> Float[Array, " validation"]:
        """Log probability of each validation row at a position."""
        return self.problem.model.log_prob(self.unravel(flat), rows_first(shared.validation))

    def _logdensity_fn(self, shared: Shared) -> Callable[[Array], Array]:
        """Log posterior of a flat position given the rows."""
        batch, model = rows_first(shared.rows), self.problem.model

        def logdensity(flat: Array) -> Array:
            # The sum that Model.log_density is, but with parameters of its own for each term: so
            # each gradient is put together as one vector, not added leaf by leaf.
            log_prior = model.log_prior(self.unravel(flat))
            return log_prior + model.log_likelihood(self.unravel(flat), batch)

        return logdensity

    def _step(self, key: Key, chain: Chain, i: Array, shared: Shared) -> tuple[Chain, MCLMCInfo]:
        """Take one step of the sampler with its present settings."""
        sampler = chain.tuner.sampler
        kernel, info = sampler.step(key, chain.kernel, self._logdensity_fn(shared))
        return chain._replace(kernel=kernel, divergent=chain.divergent + info.is_divergent), info

    def _keep_draw(self, chain: Chain, info: MCLMCInfo, shared: Shared) -> tuple[Chain, Any]:
        """Keep a draw and its statistics; add it to the sum over the validation rows."""
        position = chain.kernel.position
        draw = {
            "position": position,
            "logdensity": info.logdensity,
            "energy_change": info.energy_change,
            "diverging": chain.divergent,
        }
        log_sum = jnp.logaddexp(chain.log_sum, self.validation_log_prob(position, shared))
        return chain._replace(log_sum=log_sum, divergent=jnp.zeros(())), draw

    def _keep_subset(self, chain: Chain, info: MCLMCInfo, shared: Shared) -> tuple[Chain, Any]:
        """Keep some parameters only."""
        return chain, {"position": chain.kernel.position[shared.subset]}

    def _fixed_loop(self) -> ChainLoop:
        """Loop of the third phase; where it keeps all parameters, the program of sampling does."""
        if self.num_params <= self.tuner.max_params:
            return self.sampling_loop
        return self._loop(self._step, self._keep_subset)

    def _loop(self, step_fn: Any, keep_fn: Any) -> ChainLoop:
        problem = self.problem
        return ChainLoop(
            step_fn,
            keep_fn,
            problem.placement,
            problem.num_chains,
            chunk_steps=problem.chunk_steps,
        )

    def _keys(self, purpose: Purpose) -> Key:
        """One key per chain for a purpose, on the devices."""
        keys = chain_keys(self.problem.seed, purpose, self.problem.num_chains)
        return self.problem.placement.put_chains(keys)

    def _end_phase(self, chains: Chain, phase: Phase, kept: Any) -> Chain:
        """Conclude a phase of all chains."""
        if kept is None:
            tuner = jax.vmap(lambda state: self.tuner.end_phase(state, phase))(chains.tuner)
        else:
            missing = chains.divergent.shape[0] - self.problem.num_chains
            path = kept["position"]
            padded = np.concatenate([path, np.repeat(path[-1:], missing, axis=0)])
            tuner = self.tuner.end_trajectory(chains.tuner, padded, phase.thin)
        return self.problem.placement.put_chains(chains._replace(tuner=tuner))

    def _pooled_lppd_now(self, chains: Chain) -> float:
        """LPPD of the validation rows by the present positions of all chains."""
        positions = chains.kernel.position[: self.problem.num_chains]
        log_prob = np.asarray(self._log_prob_of_each(positions, self.shared), dtype=np.float64)
        return float(np.mean(np.logaddexp.reduce(log_prob, axis=0) - np.log(len(log_prob))))

    def _explain_non_finite(self) -> str:
        """Say which term of the log density is not finite."""
        model, rows = self.problem.model, self.problem.all_rows()
        params = self.unravel(self.flat[0])
        if not np.isfinite(model.log_prior(params)):
            return "The log prior of chain 0 is not finite; check the prior."
        bad = np.flatnonzero(~np.isfinite(np.asarray(model.log_prob(params, rows))))
        return f"The log likelihood of chain 0 is not finite at rows {bad[:5].tolist()}; check y."

    def _posterior(
        self,
        warm_start: WarmStartReport,
        tuning: TuningReport,
        kept: dict[str, np.ndarray],
        log_prob: np.ndarray,
        seconds: dict[str, float],
    ) -> Posterior:
        """Put the result together."""
        settings, model = self.settings, self.problem.model
        start = np.asarray(self._log_prob_of_each(self.flat, self.shared), dtype=np.float64)
        gain = log_prob - start
        self.problem.monitor.on_end(log_prob.mean(axis=1))
        diverging = kept["diverging"].astype(int)
        num_steps = settings.n_samples * settings.n_thinning
        return Posterior(
            model=model,
            draws=_unravel_draws(self.unravel, kept["position"]),
            sample_stats={
                "logdensity": kept["logdensity"],
                "energy_change": kept["energy_change"],
                "diverging": diverging,
                "step_size": np.repeat(tuning.step_size[:, None], diverging.shape[1], axis=1),
            },
            start=self.start,
            warm_start=warm_start,
            tuning=tuning,
            lppd_start=start.mean(axis=1),
            lppd_chain=log_prob.mean(axis=1),
            lppd_se=gain.std(axis=1) / np.sqrt(gain.shape[1]),
            num_sampling_steps=num_steps,
            num_gradients=gradients_per_step(settings.integrator) * (tuning.num_steps + num_steps),
            seconds=seconds,
        )


def _unravel_draws(unravel: Callable[[Array], Any], positions: np.ndarray) -> Any:
    """Cut flat draws (chains, draws, params) into leaves without copying them to a device."""
    shapes = jax.eval_shape(unravel, jax.ShapeDtypeStruct(positions.shape[2:], positions.dtype))
    leaves, treedef = jax.tree.flatten(shapes)
    ends = np.cumsum([leaf.size for leaf in leaves])
    return jax.tree.unflatten(
        treedef,
        [
            positions[:, :, end - leaf.size : end].reshape(*positions.shape[:2], *leaf.shape)
            for leaf, end in zip(leaves, ends, strict=True)
        ],
    )
