"""SMILE and pSMILE: microcanonical ensembles with mini-batches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp

from mirth.core.config import Configurable
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
from mirth.data import BATCH_ORDERS
from mirth.inference.chains.chains import Recipe
from mirth.inference.posterior import Posterior
from mirth.inference.run.health import POLICIES
from mirth.inference.run.recipes import run_recipe
from mirth.inference.start.deep_ensemble import DeepEnsemble
from mirth.inference.start.starts import resolve_start
from mirth.samplers import (
    STEP_SIZE_RULES,
    STOCHASTIC_SCHEMES,
    EnergyGuard,
    MILETuner,
    NoisyEnergy,
    ReleasedGuard,
    ReleasedNoisyEnergy,
    StochasticMCLMC,
)

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


@dataclasses.dataclass(kw_only=True)
class SMILE(Configurable):
    r"""Microcanonical Langevin ensembles with mini-batches.

    Each network of an ensemble (:class:`DeepEnsemble`) starts a chain whose steps see one batch
    each (:class:`~mirth.samplers.StochasticMCLMC`). The noise of the gradients turns the momentum,
    in the directions in which it is strong more than in others, and that biases the draws. Three
    things keep the bias small: with ``preconditioned`` the dynamics run in coordinates in which
    the noise of all parameters has the same size; the momentum is ``refreshed`` in all directions
    alike; and a step is so short that its noise turns the momentum by ``max_turn`` at most. The
    published names are

    ================= ================== ================ =========== ===========
    name              ``preconditioned`` step_size_rule   guarded     refreshed
    ================= ================== ================ =========== ===========
    ``smile-naive``   False              fixed            False       False
    ``smile``         False              energy           True        True
    ``psmile-naive``  True               fixed            False       False
    ``psmile``        True               energy           True        True
    ================= ================== ================ =========== ===========

    On an exact linear regression with batches of a tenth of the rows (``docs/validity.md``) the
    variances of ``psmile`` are between 0.85 and 1.03 of the exact ones, those of ``smile`` between
    0.89 and 1.12, and those of the naive forms off by factors.

    Parameters
    ----------
    n_warmup : int, default=10_000
        Steps in which step size, noise scale and energy statistics are learnt.
    n_samples : int, default=200
        Draws kept per chain.
    n_thinning : int, default=10
        Steps between two kept draws.
    batch_size : int, default=256
        Most rows of a batch; the rows of an epoch are spread evenly over its batches. At most all
        rows are taken.
    step_size : float, default=1e-3
        First step size, in units in which the noise scale has unit root mean square; it stays
        under the rule "fixed".
    step_size_rule : {"energy", "quantiles", "fixed"}, default="energy"
        Bring the variance of the energy error per dimension to a target, as MILE does; the
        published rule, which compares each error with quantiles of those before; or neither.
    energy_variance_start, energy_variance_end : float, default=0.5, 0.002
        Targets at the first step and at the end of the warm-up (rule "energy").
    guarded : bool, default=True
        Undo steps whose energy error is an outlier.
    reset_probability, alpha, rate, beta : float, default=0.98, 0.1, 0.02, 0.01
        Of the guard and the rule of quantiles: :class:`~mirth.samplers.EnergyGuard`.
    preconditioned : bool, default=True
        Let the noise scale precondition the dynamics.
    noise_memory : float, default=100
        Gradients that the noise scale remembers.
    noise_rank : int, default=0
        Directions along which noise that is correlated between parameters is whitened, too
        (:class:`~mirth.samplers.NoiseSketch`); each costs two vectors of memory and remembers
        ``noise_memory`` gradients. The warm-up needs two blocks of 4 ``noise_rank`` steps, at
        least 32 each, before anything is whitened. 0 knows of each parameter's noise alone.
    refreshed : bool, default=True
        Refresh the momentum in all directions alike; False leaves it to the noise of the
        gradients, as the paper does.
    L : float, optional
        Decoherence length of the refreshment, in units of the scaled position. None learns it from
        the noise: ``L_factor`` times :math:`2 d / (\epsilon \sigma^2)`, the length over which
        white noise forgets a direction, with the step size :math:`\epsilon`, d parameters and the
        root mean square :math:`\sigma` of the gradient's noise.
    L_factor : float, default=1.0
        Factor of a learnt L: a smaller one makes the noise matter less, and the chains slower.
    max_turn : float, optional, default=0.15
        Largest turn of the momentum by the noise of a step, in radians: step sizes that a rule
        learns are at most max_turn :math:`\sqrt d / \sigma`. None bounds nothing.
    batch_order : {"epochs", "sweeps", "replacement"}, default="epochs"
        Order of the rows, for data in memory (:class:`~mirth.data.EpochBatches`).
    integrator : {"leapfrog", "mclachlan", "velocity", "stale"}, default="leapfrog"
        Scheme, with 1, 2, 3 and 2 gradients of a batch per step.
    probe_every : int, default=10
        Steps from one energy error to the next where it costs two log densities (``leapfrog``,
        ``mclachlan``).
    published : bool, default=False
        Control the energy error as the released code does, for comparison: ``integrator="stale"``,
        ``step_size_rule="quantiles"`` (unless it is "fixed"), no refreshment and no bound of the
        turn, log densities compared across
        batches, its statistics and noise scale, resets that keep the gradient of the rejected point
        and stop the momentum, and an adaptation that goes on while sampling. ``probe_every`` and
        ``noise_memory`` do not apply.
    use_validation_rows : bool, optional
        Condition the chains on the validation rows as well. None means True for data in memory and
        False for a stream, which cannot be joined with them.
    unhealthy_chains : {"keep", "stop", "drop", "restart"}, default="keep"
        What happens when a chain is frozen, diverging, held at the cap of its step size or worse
        than its start; as for :class:`MILE`.
    start : DeepEnsemble, "prior", Posterior or dict, optional
        Settings of the optimisation that the chains start from; None means ``DeepEnsemble()``.
        Other starts are draws of the prior, the last draws of a posterior, and parameters as
        ``model.init`` gives them, with an axis of chains or without.

    Raises
    ------
    ValueError
        If a number is outside its range, or two settings contradict each other.

    References
    ----------
    .. [1] "SMILE", arXiv 2602.06500.

    Examples
    --------
    >>> SMILE(n_warmup=1000, batch_size=64).get_params(deep=False)["batch_size"]
    64
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "n_warmup": NATURAL,
        "n_samples": COUNT,
        "n_thinning": COUNT,
        "batch_size": COUNT,
        "step_size": POSITIVE,
        "L": POSITIVE_OR_NONE,
        "L_factor": POSITIVE,
        "max_turn": POSITIVE_OR_NONE,
        "energy_variance_start": POSITIVE,
        "energy_variance_end": POSITIVE,
        "noise_memory": Range(low=1, low_open=True),
        "noise_rank": NATURAL,
        "probe_every": COUNT,
        **EnergyGuard.RANGES,
    }

    n_warmup: int = 10_000
    n_samples: int = 200
    n_thinning: int = 10
    batch_size: int = 256
    step_size: float = 1e-3
    step_size_rule: str = "energy"
    energy_variance_start: float = 0.5
    energy_variance_end: float = 0.002
    guarded: bool = True
    reset_probability: float = 0.98
    alpha: float = 0.1
    rate: float = 0.02
    beta: float = 0.01
    preconditioned: bool = True
    noise_memory: float = 100.0
    noise_rank: int = 0
    refreshed: bool = True
    L: float | None = None
    L_factor: float = 1.0
    max_turn: float | None = 0.15
    batch_order: str = "epochs"
    integrator: str = "leapfrog"
    probe_every: int = 10
    published: bool = False
    use_validation_rows: bool | None = None
    unhealthy_chains: str = "keep"
    start: DeepEnsemble | Any = None

    def __post_init__(self) -> None:
        self.start = resolve_start(self.start)
        check_flag("guarded", self.guarded)
        check_flag("preconditioned", self.preconditioned)
        check_flag("use_validation_rows", self.use_validation_rows, or_none=True)
        check_ranges(self, self.RANGES)
        check_name("integrator", self.integrator, list(STOCHASTIC_SCHEMES))
        check_name("batch_order", self.batch_order, BATCH_ORDERS)
        check_name("step_size_rule", self.step_size_rule, STEP_SIZE_RULES)
        check_name("unhealthy_chains", self.unhealthy_chains, POLICIES)
        check_flag("refreshed", self.refreshed)
        check_flag("published", self.published)
        if self.L is not None and (self.published or not self.refreshed):
            why = "published=True" if self.published else "refreshed=False"
            raise ValueError(f"{why} has no decoherence length; leave out L={self.L!r}.")
        if self.noise_rank and (self.published or not self.preconditioned):
            why = "published=True" if self.published else "preconditioned=False"
            raise ValueError(
                f"{why} does not whiten the noise; leave out noise_rank={self.noise_rank!r}."
            )
        if self.published and self.integrator not in ("leapfrog", "stale"):
            raise ValueError(
                f"published=True has the integrator 'stale'; leave out integrator="
                f"{self.integrator!r}."
            )
        if self.step_size_rule == "quantiles" and not self.guarded:
            raise ValueError("step_size_rule='quantiles' needs guarded=True: the guard has them.")

    def recipe(self, problem: Problem) -> Recipe:
        """Put together what is asked of the chains."""
        if problem.stream is not None and self.batch_order != "epochs":
            raise ValueError(
                f"batch_order={self.batch_order!r} needs data in memory; a stream gives its "
                "batches in an order of its own."
            )
        if self.noise_rank >= problem.num_params:
            raise ValueError(
                f"noise_rank={self.noise_rank!r} must be less than the number of parameters, "
                f"{problem.num_params}."
            )
        tuner = MILETuner(
            num_steps=self.n_warmup,
            energy_variance_start=self.energy_variance_start,
            energy_variance_end=self.energy_variance_end,
            phase_fractions=(0.8, 0.2, 0.0),
        )
        scheme, rule = self.integrator, self.step_size_rule
        numbers = (self.reset_probability, self.alpha, self.rate, self.beta)
        build, guard = NoisyEnergy, EnergyGuard(*numbers)
        if self.published:
            build, guard, scheme = ReleasedNoisyEnergy, ReleasedGuard(*numbers), "stale"
            if rule == "energy":
                rule = "quantiles" if self.guarded else "fixed"
        is_refreshed = self.refreshed and not self.published
        learns_L = self.L is None and is_refreshed
        # Infinite until it is learnt; as an array, for a kernel that refreshes its momentum.
        L: Any = jnp.array(jnp.inf) if learns_L else self.L or math.inf
        adaptation = build(
            kernel=StochasticMCLMC(self.step_size, L, integrator=scheme),
            num_steps=self.n_warmup,
            tuner=tuner,
            step_size_rule=rule,
            guard=guard if self.guarded else None,
            preconditioned=self.preconditioned,
            noise_memory=self.noise_memory,
            probe_every=self.probe_every,
            max_turn=None if self.published or rule == "fixed" else self.max_turn,
            L_factor=self.L_factor if learns_L else None,
            rank=self.noise_rank,
        )
        return Recipe(
            adaptation=adaptation,
            n_samples=self.n_samples,
            n_thinning=self.n_thinning,
            batch_size=self.batch_size,
            use_validation_rows=problem.joins_validation(self.use_validation_rows),
            batch_order=self.batch_order,
            unhealthy_chains=self.unhealthy_chains,
        )

    def run(self, problem: Problem) -> Posterior:
        """Optimise, learn, sample."""
        return run_recipe(self.recipe(problem), self.start, problem)
