"""MILE or pSMILE, whichever the data and the machine allow."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax

from mirth.core.config import Configurable
from mirth.core.keys import Purpose
from mirth.core.types import Params
from mirth.core.validation import POSITIVE, Range, check_ranges
from mirth.inference.chains.chains import Chains, Recipe
from mirth.inference.methods.mile import MILE
from mirth.inference.methods.smile import SMILE
from mirth.inference.posterior import Posterior
from mirth.inference.run.recipes import run_recipe
from mirth.inference.start.deep_ensemble import DeepEnsemble
from mirth.inference.start.starts import resolve_start

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

_REPEATS = 3


@dataclasses.dataclass(kw_only=True)
class Auto(Configurable):
    r"""MILE where a step on all rows is affordable, pSMILE where it is not.

    MILE has no noise in its gradients, and is taken if its step takes at most ``max_ratio`` times
    as long as one of pSMILE: the gradients of both are measured on the devices of the run, after
    the optimisation that both start from. With at most two batches of rows, MILE is taken without
    a measurement, and with a stream pSMILE. A run directory keeps the decision.

    Parameters
    ----------
    n_warmup : int, default=10_000
        Steps of the warm-up.
    n_samples, n_thinning : int, default=200, 10
        Draws kept per chain, and steps between two of them.
    batch_size : int, default=256
        Most rows of a batch of pSMILE.
    max_ratio : float, default=4.0
        Time of a step of MILE, in steps of pSMILE, up to which MILE is taken.
    start : DeepEnsemble, "prior", Posterior or dict, optional
        Settings of the optimisation that the chains start from; None means ``DeepEnsemble()``.
        Other starts are draws of the prior, the last draws of a posterior, and parameters as
        ``model.init`` gives them, with an axis of chains or without.

    Raises
    ------
    ValueError
        If a number is outside its range.

    Examples
    --------
    >>> Auto(max_ratio=10).get_params(deep=False)["max_ratio"]
    10
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        **{name: MILE.RANGES[name] for name in ("n_warmup", "n_samples", "n_thinning")},
        "batch_size": SMILE.RANGES["batch_size"],
        "max_ratio": POSITIVE,
    }

    n_warmup: int = 10_000
    n_samples: int = 200
    n_thinning: int = 10
    batch_size: int = 256
    max_ratio: float = 4.0
    start: DeepEnsemble | Any = None

    def __post_init__(self) -> None:
        self.start = resolve_start(self.start)
        check_ranges(self, self.RANGES)

    def candidates(self) -> dict[str, MILE | SMILE]:
        """Build both methods."""
        budget: dict[str, Any] = {
            name: getattr(self, name) for name in ("n_warmup", "n_samples", "n_thinning", "start")
        }
        return {"MILE": MILE(**budget), "pSMILE": SMILE(**budget, batch_size=self.batch_size)}

    def run(self, problem: Problem) -> Posterior:
        """Optimise, choose, tune, sample."""
        candidates = self.candidates()
        said: list[str] = []

        def choose(params: Params) -> Recipe:
            why = problem.recorder.decide("method", lambda: self._choose(problem, params))
            problem.monitor.on_note(why)
            said.append(why)
            return candidates[why.partition(":")[0]].recipe(problem)

        posterior = run_recipe(choose, self.start, problem)
        return dataclasses.replace(posterior, notes=(*said, *posterior.notes))

    def _choose(self, problem: Problem, params: Params) -> str:
        """Choose by the size of the data or the cost of a step; a sentence that begins with it."""
        if problem.stream is not None:
            return "pSMILE: the data are a stream."
        num_rows = problem.num_train
        if num_rows <= 2 * self.batch_size:
            return f"MILE: {num_rows} rows are at most two batches."
        seconds = {
            name: _seconds_per_step(Chains(method.recipe(problem), problem, params))
            for name, method in self.candidates().items()
        }
        ratio = seconds["MILE"] / seconds["pSMILE"]
        name = "MILE" if ratio <= self.max_ratio else "pSMILE"
        return (
            f"{name}: a step of MILE takes {ratio:.2g} times as long as one of pSMILE "
            f"(max_ratio={self.max_ratio:g})."
        )


def _seconds_per_step(chains: Chains) -> float:
    """Measure the gradients of a step of all chains."""
    placement = chains.problem.placement

    run = chains.programs.gradient
    arguments = (placement.put_chains(chains.flat), chains.keys(Purpose.MOMENTUM), chains.shared)
    jax.block_until_ready(run(*arguments))
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        times.append(time.perf_counter() - began)
    return min(times) * chains.adaptation.gradients_per_step
