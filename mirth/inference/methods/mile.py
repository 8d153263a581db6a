"""MILE: Microcanonical Langevin Ensembles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mirth.core.config import Configurable, takes_moved_parameters
from mirth.core.validation import (
    COUNT,
    COUNT_OR_NONE,
    NON_NEGATIVE,
    POSITIVE_OR_NONE,
    Range,
    check_flag,
    check_name,
    check_ranges,
)
from mirth.inference.chains.chains import Recipe
from mirth.inference.posterior import Posterior
from mirth.inference.run.budget import BUDGETS
from mirth.inference.run.health import POLICIES
from mirth.inference.run.recipes import run_recipe
from mirth.inference.start.deep_ensemble import DeepEnsemble
from mirth.inference.start.starts import resolve_start
from mirth.samplers import MCLMC, SCHEMES, MILETuner, ThreePhases

# Network of the default estimator, about 1 000 parameters, and what it was measured with.
_PARAMS, _WARMUP, _THINNING, _STEP_SIZE = 1000, 10_000, 10, 1e-3
_MOST_GROWTH = 5.0  # 50 000 steps, as many as the paper has

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


class Lengths(NamedTuple):
    """How long the chains of a network are.

    Parameters
    ----------
    n_warmup, n_thinning : int
        Steps of the tuning, and between two draws.
    step_size_init : float
        First step size.
    """

    n_warmup: int
    n_thinning: int
    step_size_init: float


@takes_moved_parameters
@dataclasses.dataclass(kw_only=True)
class MILE(Configurable):
    r"""Microcanonical Langevin Ensembles.

    K networks are optimised independently (:class:`DeepEnsemble`); each one starts a full-batch
    microcanonical Langevin chain, tuned in three phases (:class:`~mirth.samplers.MILETuner`); the
    draws of all chains are pooled. One step costs two gradients (one with ``leapfrog``), so a
    chain takes 2 (``n_warmup`` + ``n_samples`` x ``n_thinning``) gradients of the whole data set.

    The chains are not adjusted. On an exact linear regression of 11 parameters
    (``docs/validity.md``) all variances are within 5 % of the exact ones, but for the two
    narrowest, which are 20 % and 25 % too small at the default energy variance of the tuner.

    Parameters
    ----------
    n_warmup : int, optional
        Steps of the tuning; None means 10 000 for up to 1 000 parameters, and more for larger
        networks (:meth:`lengths`). The paper has 50 000, which predict better for five times the
        time; the measured curve is in ``docs/performance.md``.
    n_samples : int, default=200
        Draws kept per chain; 1000 in the paper.
    n_thinning : int, optional
        Steps between two kept draws. None means 10, and in the proportion of the warm-up more
        where that is chosen by the size of the network.
    tuner : MILETuner, optional
        Settings of the tuning: the energy targets, the shares of the phases, the memory of its
        averages, the decoherence length, diagonal preconditioning. Its ``num_steps`` is
        ``n_warmup`` by another name; give one of the two.
    step_size_init : float, optional
        First step size; None means 0.001 for up to 1 000 parameters, growing with the square root
        of their number. The tuner jumps up to 21-fold at once, then climbs by 0.3 % a step, so a
        guess that is far too small wastes a short warm-up.
    integrator : {"mclachlan", "leapfrog"}, default="mclachlan"
        Scheme of the dynamics.
    use_validation_rows : bool, optional
        Condition the chains on the validation rows as well: they were only held back to stop the
        optimisation. If False the rows stay unseen, and the LPPD shown while sampling is honest.
        None means True for a fixed budget and False for an automatic one, which is judged by them.
    budget : {"fixed", "auto"}, default="fixed"
        With ``"auto"`` ``n_warmup`` and ``n_samples`` are limits. The first phase ends when two
        doublings of its steps in a row have gained less than ``min_gain``, and the others are
        cut in proportion; sampling ends when a doubling of the draws has gained less than
        ``min_gain`` and all chains together have ``min_effective`` effective draws.
    min_gain : float, default=0.02
        Least gain of the validation rows' pooled LPPD that pays for a doubling, nats per row.
    min_effective : float, default=400
        Least effective sample size in function space, all chains together.
    unhealthy_chains : {"keep", "stop", "drop", "restart"}, default="keep"
        What happens when a chain is frozen, diverging, held at the cap of its step size or worse
        than its start: it is named only; the run ends with an error; the chain is left out of
        the result; it begins anew at its start with the median settings of the others (up to
        three times and only while the step size is tuned, then it is left out).
    start : DeepEnsemble, "prior", Posterior or dict, optional
        Settings of the optimisation that the chains start from; None means ``DeepEnsemble()``.
        Other starts are draws of the prior, the last draws of a posterior, and parameters as
        ``model.init`` gives them, with an axis of chains or without.

    Raises
    ------
    ValueError
        If a number is outside its range.

    References
    ----------
    .. [1] Sommer et al., "Microcanonical Langevin Ensembles: Advancing the Sampling of Bayesian
       Neural Networks", ICLR 2025, arXiv 2502.06335.

    Examples
    --------
    >>> MILE(n_warmup=1000, n_samples=50).get_params(deep=False)["n_warmup"]
    1000
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "n_warmup": MILETuner.RANGES["num_steps"],
        "n_samples": COUNT,
        "n_thinning": COUNT_OR_NONE,
        "step_size_init": POSITIVE_OR_NONE,
        "min_gain": NON_NEGATIVE,
        "min_effective": NON_NEGATIVE,
    }
    MOVED: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "n_effective": ("MILETuner", "tuner", "num_effective"),
        **{
            name: ("MILETuner", "tuner", name)
            for name in MILETuner.RANGES
            if not name.startswith("num_")
        },
        "diagonal_preconditioning": ("MILETuner", "tuner", "diagonal_preconditioning"),
    }

    n_warmup: int | None = None
    n_samples: int = 200
    n_thinning: int | None = None
    tuner: MILETuner = dataclasses.field(default_factory=MILETuner)
    step_size_init: float | None = None
    integrator: str = "mclachlan"
    use_validation_rows: bool | None = None
    budget: str = "fixed"
    min_gain: float = 0.02
    min_effective: float = 400.0
    unhealthy_chains: str = "keep"
    start: DeepEnsemble | Any = None

    def __post_init__(self) -> None:
        self.start = resolve_start(self.start)
        if not isinstance(self.tuner, MILETuner):
            raise TypeError(
                f"tuner={self.tuner!r} must be a mirth.samplers.MILETuner, such as "
                "MILETuner(energy_variance_end=0.1)."
            )
        if self.n_warmup is not None and self.tuner.num_steps not in (None, self.n_warmup):
            raise ValueError(
                f"n_warmup={self.n_warmup} and num_steps={self.tuner.num_steps} of the tuner are "
                "the same number; give one of them."
            )
        check_flag("use_validation_rows", self.use_validation_rows, or_none=True)
        check_ranges(self, self.RANGES)
        check_name("integrator", self.integrator, list(SCHEMES))
        check_name("budget", self.budget, BUDGETS)
        check_name("unhealthy_chains", self.unhealthy_chains, POLICIES)
        if self.budget == "auto" and self.use_validation_rows:
            raise ValueError(
                "budget='auto' is judged by the validation rows, so use_validation_rows must be "
                "False or None."
            )

    def lengths(self, num_params: int) -> Lengths:
        r"""Give the numbers of steps, and the first step size, for a network of a size.

        What is None follows from the number of parameters d: with
        :math:`g = \sqrt{\max(1, d / 1000)}`, 5 at most, the warm-up has 10 000 g steps and 10 g lie
        between two draws; the first step size is 0.001 :math:`\sqrt{\max(1, d / 1000)}`.

        Parameters
        ----------
        num_params : int
            Parameters of the model.

        Returns
        -------
        Lengths
            ``n_warmup``, ``n_thinning`` and ``step_size_init``.

        Examples
        --------
        >>> MILE().lengths(900).n_warmup, MILE().lengths(4000).n_warmup
        (10000, 20000)
        >>> MILE(n_warmup=500).lengths(4000).n_thinning
        10
        """
        growth = math.sqrt(max(1.0, num_params / _PARAMS))
        longer = min(growth, _MOST_GROWTH)
        n_warmup = self.tuner.num_steps if self.n_warmup is None else self.n_warmup
        n_thinning, step_size = self.n_thinning, self.step_size_init
        if n_thinning is None:
            n_thinning = round(_THINNING * (longer if n_warmup is None else 1.0))
        return Lengths(
            round(_WARMUP * longer) if n_warmup is None else n_warmup,
            n_thinning,
            _STEP_SIZE * growth if step_size is None else step_size,
        )

    def recipe(self, problem: Problem) -> Recipe:
        """Put together what is asked of the chains."""
        lengths = self.lengths(problem.num_params)
        kernel = MCLMC(lengths.step_size_init, 1.0, integrator=self.integrator)
        return Recipe(
            adaptation=ThreePhases.of(kernel, self.tuner.of_length(lengths.n_warmup)),
            n_samples=self.n_samples,
            n_thinning=lengths.n_thinning,
            batch_size=None,
            use_validation_rows=self.use_validation_rows in (True, None) and self.budget == "fixed",
            unhealthy_chains=self.unhealthy_chains,
            budget=self.budget,
            min_gain=self.min_gain,
            min_effective=self.min_effective,
        )

    def run(self, problem: Problem) -> Posterior:
        """Optimise, tune, sample."""
        problem.refuse_stream("MILE")
        return run_recipe(self.recipe(problem), self.start, problem)
