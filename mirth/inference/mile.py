"""MILE: Microcanonical Langevin Ensembles."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mirth.core.config import Configurable
from mirth.core.validation import check_int, check_name, check_real
from mirth.inference.chains import ChainSettings, EnsembleChains
from mirth.inference.deep_ensemble import DeepEnsemble
from mirth.inference.memory import announce_memory
from mirth.inference.posterior import Posterior
from mirth.inference.stages import ChainRun
from mirth.samplers import SCHEMES, MILETuner

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


@dataclasses.dataclass(kw_only=True)
class MILE(Configurable):
    r"""Microcanonical Langevin Ensembles.

    K networks are optimised independently (:class:`DeepEnsemble`); each one starts a full-batch
    microcanonical Langevin chain, tuned in three phases (:class:`~mirth.samplers.MILETuner`); the
    draws of all chains are pooled. One step costs two gradients (one with ``leapfrog``), so a
    chain takes 2 (``n_warmup`` + ``n_samples`` x ``n_thinning``) gradients of the whole data set.

    Parameters
    ----------
    n_warmup : int, default=10_000
        Steps of the tuning. The paper has 50 000, which predict better for five times the time;
        the measured curve is in ``docs/performance.md``.
    n_samples : int, default=200
        Draws kept per chain; 1000 in the paper.
    n_thinning : int, default=10
        Steps between two kept draws.
    energy_variance_start, energy_variance_end : float, default=0.5, 0.02
        Target of the energy error's variance per dimension, at the first step and at the end of
        the second phase. The paper ends at 0.1, the default of the tuner; the shorter steps of
        0.02 are less biased and predicted better in all measurements (``docs/performance.md``).
    phase_fractions : tuple of float, default=(0.8, 0.1, 0.1)
        Shares of the three phases of the warm-up.
    step_size_init : float, default=1e-3
        First step size. The tuner jumps up to 21-fold at once, then climbs by 0.3 % a step, so a
        guess that is far too small wastes a short warm-up.
    trust : float, default=1.5
        How far an energy error may be from the target to count in full.
    n_effective : float, default=100
        Memory of the step-size average, in steps.
    L_factor : float, default=0.4
        Decoherence length in units of the distance between independent draws.
    max_params, max_kept : int, default=2000, 10_000
        Parameters and steps that the third phase looks at.
    cap_shrink, cap_growth : float, default=0.8, 1.0005
        Factors of the largest allowed step size after a divergent and after a good step.
    diagonal_preconditioning : bool, default=False
        Scale each parameter by its spread in the second phase.
    integrator : {"mclachlan", "leapfrog"}, default="mclachlan"
        Scheme of the dynamics.
    use_validation_rows : bool, default=True
        Condition the chains on the validation rows as well: they were only held back to stop the
        optimisation. If False the rows stay unseen, and the LPPD shown while sampling is honest.
    start : DeepEnsemble, optional
        Settings of the optimisation; None means ``DeepEnsemble()``.

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

    n_warmup: int = 10_000
    n_samples: int = 200
    n_thinning: int = 10
    energy_variance_start: float = 0.5
    energy_variance_end: float = 0.02
    phase_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    step_size_init: float = 1e-3
    trust: float = 1.5
    n_effective: float = 100.0
    L_factor: float = 0.4
    max_params: int = 2000
    max_kept: int = 10_000
    cap_shrink: float = 0.8
    cap_growth: float = 1.0005
    diagonal_preconditioning: bool = False
    integrator: str = "mclachlan"
    use_validation_rows: bool = True
    start: DeepEnsemble | None = None

    def __post_init__(self) -> None:
        if self.start is None:
            self.start = DeepEnsemble()
        if not isinstance(self.start, DeepEnsemble):
            raise TypeError(
                f"start={self.start!r} must be an object mirth.DeepEnsemble(...) or None."
            )
        for name in ("diagonal_preconditioning", "use_validation_rows"):
            if getattr(self, name) not in (True, False):
                raise TypeError(f"{name}={getattr(self, name)!r} must be True or False.")
        check_int("n_warmup", self.n_warmup, minimum=0)
        check_int("n_samples", self.n_samples, minimum=1)
        check_int("n_thinning", self.n_thinning, minimum=1)
        check_real("step_size_init", self.step_size_init, low=0.0, low_open=True)
        check_real("n_effective", self.n_effective, low=1.0, low_open=True)
        check_name("integrator", self.integrator, list(SCHEMES))
        self.tuner()

    def tuner(self) -> MILETuner:
        """Build the tuner with these settings."""
        return MILETuner(
            num_steps=self.n_warmup,
            energy_variance_start=self.energy_variance_start,
            energy_variance_end=self.energy_variance_end,
            phase_fractions=self.phase_fractions,
            trust=self.trust,
            num_effective=self.n_effective,
            L_factor=self.L_factor,
            max_params=self.max_params,
            max_kept=self.max_kept,
            cap_shrink=self.cap_shrink,
            cap_growth=self.cap_growth,
            diagonal_preconditioning=self.diagonal_preconditioning,
        )

    def run(self, problem: Problem) -> Posterior:
        """Optimise, tune, sample."""
        assert self.start is not None
        settings = ChainSettings(
            tuner=self.tuner(),
            integrator=self.integrator,
            step_size_init=self.step_size_init,
            n_samples=self.n_samples,
            n_thinning=self.n_thinning,
            use_validation_rows=self.use_validation_rows,
        )
        announce_memory(settings, problem)
        params, report = self.start.optimise(problem)
        return ChainRun(EnsembleChains(settings, problem, params), report).run()
