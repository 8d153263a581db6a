"""Stochastic-gradient Langevin and Hamiltonian dynamics from an ensemble: baselines of SMILE."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from mirth.core.config import Configurable
from mirth.core.schedules import Constant, Cosine, Cyclical, Linear
from mirth.core.validation import (
    COUNT,
    NATURAL,
    NON_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_NONE,
    Range,
    check_flag,
    check_name,
    check_ranges,
)
from mirth.inference.chains.chains import Recipe
from mirth.inference.posterior import Posterior
from mirth.inference.run.health import POLICIES
from mirth.inference.run.recipes import run_recipe
from mirth.inference.start.deep_ensemble import DeepEnsemble
from mirth.inference.start.starts import resolve_start
from mirth.samplers import SGHMC, SGLD, Schedule, Scheduled

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

KERNELS = ("sgld", "psgld", "sghmc", "adaptive-sghmc")
SCHEDULES = ("constant", "linear", "cosine", "cyclical")


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

    The step size is not tuned, and it decides. On an exact linear regression with batches of a
    tenth of the rows (``docs/validity.md``) the variances over the exact ones are between 0.9 and
    1.2 with SGLD and 1e-4, between 0.97 and 4.8 with SGHMC and 0.01, and between 0.6 and 4.4, not
    mixed, with adaptive SGHMC and 1e-3.

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
    schedule : {"constant", "linear", "cosine", "cyclical"} or schedule, default="constant"
        Step size over the sampling; in Python also one of ``mirth.core.schedules``, or any function
        of the step and the number of steps, which takes the place of ``step_size_end``,
        ``n_cycles`` and ``exploration_fraction``.
    n_cycles : int, default=4
        Cycles of the cyclical schedule.
    exploration_fraction : float, default=0.33
        Share of each cycle that goes uphill without noise and gives no draws (cyclical).
    friction : float, default=0.05
        Share of the momentum that a step loses (Hamiltonian kernels).
    temperature : float, default=1
        Temperature T of the dynamics: they sample the posterior to the power 1/T, for T = 1 the
        posterior; 0 leaves the noise out.
    use_validation_rows : bool, optional
        Condition the chains on the validation rows as well. None means True for data in memory and
        False for a stream, which cannot be joined with them.
    unhealthy_chains : {"keep", "stop", "drop", "restart"}, default="keep"
        What happens when a chain is frozen, diverging or worse than its start; as for
        :class:`MILE`.
    start : DeepEnsemble, "prior", Posterior or dict, optional
        Settings of the optimisation that the chains start from; None means ``DeepEnsemble()``.
        Other starts are draws of the prior, the last draws of a posterior, and parameters as
        ``model.init`` gives them, with an axis of chains or without.

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
        "temperature": NON_NEGATIVE,
    }

    kernel: str = "sghmc"
    n_warmup: int = 10_000
    n_samples: int = 200
    n_thinning: int = 10
    batch_size: int = 256
    step_size: float = 1e-5
    step_size_end: float | None = None
    schedule: str | Schedule = "constant"
    n_cycles: int = 4
    exploration_fraction: float = 0.33
    friction: float = 0.05
    temperature: float = 1.0
    use_validation_rows: bool | None = None
    unhealthy_chains: str = "keep"
    start: DeepEnsemble | Any = None

    def __post_init__(self) -> None:
        self.start = resolve_start(self.start)
        check_flag("use_validation_rows", self.use_validation_rows, or_none=True)
        check_ranges(self, self.RANGES)
        check_name("kernel", self.kernel, KERNELS)
        if isinstance(self.schedule, str):
            check_name("schedule", self.schedule, SCHEDULES)
        elif isinstance(self.schedule, type) or not callable(self.schedule):
            raise TypeError(
                f"schedule={self.schedule!r} must be a name ({', '.join(SCHEDULES)}) or a function "
                "of the step and the number of steps, such as one of mirth.core.schedules."
            )
        check_name("unhealthy_chains", self.unhealthy_chains, POLICIES)
        schedule = self._schedule()
        if isinstance(schedule, Cyclical) and schedule.num_cycles > self.n_samples:
            raise ValueError(
                f"n_cycles={schedule.num_cycles} must be at most n_samples={self.n_samples}: each "
                "cycle gives a draw at least."
            )

    def _schedule(self) -> Schedule:
        """Build the schedule, unless it is given."""
        if callable(self.schedule):
            return self.schedule
        first = self.step_size
        last = first / 100 if self.step_size_end is None else self.step_size_end
        if self.schedule == "cyclical":
            return Cyclical(first, last, self.n_cycles, self.exploration_fraction)
        if self.schedule == "constant":
            return Constant(first)
        return (Linear if self.schedule == "linear" else Cosine)(first, last)

    def _kernel(self) -> SGLD | SGHMC:
        """Build the kernel with the step size of the warm-up."""
        if self.kernel in ("sgld", "psgld"):
            preconditioner = "rmsprop" if self.kernel == "psgld" else None
            return SGLD(self.step_size, self.temperature, preconditioner=preconditioner)
        is_adaptive = self.kernel == "adaptive-sghmc"
        return SGHMC(self.step_size, self.friction, self.temperature, adaptive=is_adaptive)

    def recipe(self, problem: Problem) -> Recipe:
        """Put together what is asked of the chains."""
        schedule, steps = self._schedule(), self.n_samples * self.n_thinning
        if isinstance(schedule, Cyclical):
            problem.refuse_stream("schedule='cyclical' takes many batches in one step, so it")
        return Recipe(
            adaptation=Scheduled(self._kernel(), self.n_warmup, schedule, steps),
            n_samples=self.n_samples,
            n_thinning=self.n_thinning,
            batch_size=self.batch_size,
            use_validation_rows=problem.joins_validation(self.use_validation_rows),
            unhealthy_chains=self.unhealthy_chains,
        )

    def run(self, problem: Problem) -> Posterior:
        """Optimise, warm up, sample."""
        return run_recipe(self.recipe(problem), self.start, problem)
