"""Stochastic-gradient Langevin and Hamiltonian dynamics from an ensemble: baselines of SMILE."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from mirth.core.config import Configurable
from mirth.core.random import fold_in
from mirth.core.schedules import Constant, Cosine, Cyclical, Linear
from mirth.core.types import Key
from mirth.core.validation import (
    COUNT,
    NATURAL,
    POSITIVE,
    POSITIVE_OR_NONE,
    Range,
    check_flag,
    check_name,
    check_ranges,
)
from mirth.inference.chains import Chain, ChainSettings, Shared
from mirth.inference.deep_ensemble import START_SHARE, DeepEnsemble, resolve_start
from mirth.inference.health import POLICIES
from mirth.inference.posterior import Posterior
from mirth.inference.stages import ChainRun
from mirth.inference.stochastic_chains import StochasticChains, StochasticSettings
from mirth.samplers import SGHMC, SGLD, MCLMCInfo, MILETuner

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

KERNELS = ("sgld", "psgld", "sghmc", "adaptive-sghmc")
SCHEDULES = ("constant", "linear", "cosine", "cyclical")


class KernelSettings(NamedTuple):
    """Kernel and schedule of a run.

    Parameters
    ----------
    kernel : str
        Name in :data:`KERNELS`.
    schedule : Constant, Linear, Cosine or Cyclical
        Step size by step of the sampling.
    step_size : float
        Step size of the warm-up.
    friction : float
        Share of the momentum that a step loses.
    """

    kernel: str
    schedule: Any
    step_size: float
    friction: float


class SGMCMCChains(StochasticChains):
    """One run: the members of an ensemble, each continued by a stochastic-gradient sampler.

    Parameters
    ----------
    settings : ChainSettings
        What every method asks for.
    stochastic : StochasticSettings
        Batches.
    kernel : KernelSettings
        Kernel and schedule.
    problem : Problem
        Model, rows, seed, devices, monitor.
    params : pytree
        Members, leading axis (chains,).
    """

    def __init__(
        self,
        settings: ChainSettings,
        stochastic: StochasticSettings,
        kernel: KernelSettings,
        problem: Problem,
        params: Any,
    ):
        self.kernel = kernel
        self.sampling_steps = settings.n_samples * settings.n_thinning
        super().__init__(settings, stochastic, problem, params)

    @property
    def gradients_per_step(self) -> int:
        """All of them take one gradient of a batch."""
        return 1

    def _sampler(self, step_size: Any, is_warmup: Any, temperature: float = 1.0) -> SGLD | SGHMC:
        """Build the kernel of a step."""
        name = self.kernel.kernel
        if name in ("sgld", "psgld"):
            preconditioner = "rmsprop" if name == "psgld" else None
            return SGLD(step_size, temperature, preconditioner=preconditioner)
        is_adaptive = name == "adaptive-sghmc"
        sampler = SGHMC(step_size, self.kernel.friction, temperature, adaptive=is_adaptive)
        if not is_adaptive:
            return sampler
        frozen = sampler.frozen()
        return jax.tree.map(lambda a, b: jnp.where(is_warmup, a, b), sampler, frozen)

    def _init_one(self, flat: Array, key: Key, shared: Shared) -> Chain:
        """Start one chain; the microcanonical parts only report the step size."""
        chain = super()._init_one(flat, key, shared)
        batch_key = jax.random.wrap_key_data(chain.extra.batch_key)
        logdensity_fn = self._batch_logdensity_fn(shared, batch_key, 0, 0)
        kernel = self._sampler(self.kernel.step_size, True).init(flat, logdensity_fn, key)
        return chain._replace(kernel=kernel)

    def _step(self, key: Key, chain: Chain, i: Array, shared: Shared) -> tuple[Chain, MCLMCInfo]:
        """Take one step; a cycle that begins explores before."""
        schedule, batch_key = self.kernel.schedule, jax.random.wrap_key_data(chain.extra.batch_key)
        num_steps = chain.extra.num_steps

        def advance(n: Array, kernel: Any, step_size: Array, temperature: float) -> Any:
            sampler = self._sampler(step_size, shared.is_tuning, temperature)
            logdensity_fn = self._batch_logdensity_fn(shared, batch_key, n, i)
            return sampler.step(fold_in(key, n), kernel, logdensity_fn)

        kernel, step_size = chain.kernel, schedule(i, self.sampling_steps)
        if isinstance(schedule, Cyclical):
            # Draws come from the cold part of a cycle only: its hot part is gone through, without
            # noise, in the first step of the cold one.
            hot, cold = cycle(schedule, self.sampling_steps)
            place = i % cold
            count = jnp.where((place == 0) & ~shared.is_tuning, hot, 0)
            length = (hot + cold) * schedule.num_cycles
            kernel = jax.lax.fori_loop(
                0,
                count,
                lambda n, k: advance(num_steps + n, k, schedule(n, length), 0.0)[0],
                kernel,
            )
            num_steps, step_size = num_steps + count, schedule(hot + place, length)
        step_size = jnp.where(shared.is_tuning, self.kernel.step_size, step_size)
        kernel, info = advance(num_steps, kernel, step_size, 1.0)
        sampler = eqx.tree_at(lambda s: s.step_size, chain.tuner.sampler, step_size)
        chain = chain._replace(
            kernel=kernel,
            tuner=chain.tuner._replace(sampler=sampler),
            divergent=chain.divergent + info.is_divergent,
            extra=chain.extra._replace(num_steps=num_steps + 1),
        )
        return chain, info


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


@dataclasses.dataclass(kw_only=True)
class SGMCMC(Configurable):
    r"""Stochastic-gradient Langevin or Hamiltonian dynamics from a deep ensemble.

    ================== ================== ============
    name               ``kernel``         ``schedule``
    ================== ================== ============
    ``sgld``           sgld               constant
    ``psgld``          psgld              constant
    ``csgld``          sgld               cyclical
    ``sghmc``          sghmc              constant
    ``adaptive-sghmc`` adaptive-sghmc     constant
    ================== ================== ============

    Parameters
    ----------
    kernel : {"sgld", "psgld", "sghmc", "adaptive-sghmc"}, default="sghmc"
        Langevin dynamics, plain or preconditioned by RMSprop (:class:`~mirth.samplers.SGLD`), or
        Hamiltonian ones, plain or with scales that are learnt in the warm-up
        (:class:`~mirth.samplers.SGHMC`).
    n_warmup : int, default=10_000
        Steps at the first step size before any draw.
    n_samples : int, default=200
        Draws kept per chain.
    n_thinning : int, default=10
        Steps between two kept draws.
    batch_size : int, default=256
        Most rows of a batch; at most all rows are taken.
    step_size : float, default=1e-5
        Step size of the warm-up, and the first one of the schedule.
    step_size_end : float, optional
        Last step size of the schedule; None means a hundredth of ``step_size``.
    schedule : {"constant", "linear", "cosine", "cyclical"}, default="constant"
        Step size over the sampling.
    n_cycles : int, default=4
        Cycles of the cyclical schedule.
    exploration_fraction : float, default=0.33
        Share of each cycle that goes uphill without noise and gives no draws (cyclical).
    friction : float, default=0.05
        Share of the momentum that a step loses (Hamiltonian kernels).
    use_validation_rows : bool, optional
        Condition the chains on the validation rows as well. None means True for data in memory and
        False for a stream, which cannot be joined with them.
    unhealthy_chains : {"keep", "stop", "drop", "restart"}, default="keep"
        What happens when a chain is frozen, diverging or worse than its start; as for
        :class:`MILE`.
    start : DeepEnsemble, optional
        Settings of the optimisation; None means ``DeepEnsemble()``.

    Raises
    ------
    ValueError
        If a number is outside its range or a name is unknown.

    References
    ----------
    .. [1] Welling and Teh, ICML 2011; Li et al., AAAI 2016; Zhang et al., ICLR 2020.
    .. [2] Chen et al., ICML 2014; Springenberg et al., NeurIPS 2016.

    Examples
    --------
    >>> SGMCMC(kernel="sgld", step_size=1e-4).get_params(deep=False)["kernel"]
    'sgld'
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "n_warmup": NATURAL,
        "n_samples": COUNT,
        "n_thinning": COUNT,
        "batch_size": COUNT,
        "step_size": POSITIVE,
        "step_size_end": POSITIVE_OR_NONE,
        "n_cycles": COUNT,
        "exploration_fraction": Range(low=0, high=1, high_open=True),
        "friction": Range(low=0, high=1, low_open=True),
    }

    kernel: str = "sghmc"
    n_warmup: int = 10_000
    n_samples: int = 200
    n_thinning: int = 10
    batch_size: int = 256
    step_size: float = 1e-5
    step_size_end: float | None = None
    schedule: str = "constant"
    n_cycles: int = 4
    exploration_fraction: float = 0.33
    friction: float = 0.05
    use_validation_rows: bool | None = None
    unhealthy_chains: str = "keep"
    start: DeepEnsemble | None = None

    def __post_init__(self) -> None:
        self.start = resolve_start(self.start)
        check_flag("use_validation_rows", self.use_validation_rows, or_none=True)
        check_ranges(self, self.RANGES)
        check_name("kernel", self.kernel, KERNELS)
        check_name("schedule", self.schedule, SCHEDULES)
        check_name("unhealthy_chains", self.unhealthy_chains, POLICIES)
        if self.schedule == "cyclical" and self.n_cycles > self.n_samples:
            raise ValueError(
                f"n_cycles={self.n_cycles} must be at most n_samples={self.n_samples}: each cycle "
                "gives a draw at least."
            )

    def _schedule(self) -> Constant | Linear | Cosine | Cyclical:
        """Build the schedule."""
        first = self.step_size
        last = first / 100 if self.step_size_end is None else self.step_size_end
        if self.schedule == "cyclical":
            return Cyclical(first, last, self.n_cycles, self.exploration_fraction)
        if self.schedule == "constant":
            return Constant(first)
        return (Linear if self.schedule == "linear" else Cosine)(first, last)

    def run(self, problem: Problem) -> Posterior:
        """Optimise, warm up, sample."""
        assert self.start is not None
        if self.schedule == "cyclical":
            problem.refuse_stream("schedule='cyclical' takes many batches in one step, so it")
        settings = ChainSettings(
            tuner=MILETuner(num_steps=self.n_warmup, phase_fractions=(1.0, 0.0, 0.0)),
            integrator="leapfrog",
            step_size_init=self.step_size,
            n_samples=self.n_samples,
            n_thinning=self.n_thinning,
            use_validation_rows=problem.joins_validation(self.use_validation_rows),
            unhealthy_chains=self.unhealthy_chains,
        )
        stochastic = StochasticSettings(
            batch_size=self.batch_size,
            L=math.inf,
            step_size_rule="fixed",
            guard=None,
            is_preconditioned=False,
            noise_memory=2.0,
            probe_every=1,
        )
        kernel = KernelSettings(self.kernel, self._schedule(), self.step_size, self.friction)
        params, report = self.start.optimise(problem, time_share=START_SHARE)
        return ChainRun(SGMCMCChains(settings, stochastic, kernel, problem, params), report).run()
