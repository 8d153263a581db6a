"""From a recipe and a start to a posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mirth.core.types import Params
from mirth.inference.chains.chains import Chains, Recipe
from mirth.inference.memory import announce
from mirth.inference.posterior import Posterior
from mirth.inference.run.memory import estimate_memory
from mirth.inference.run.stages import ChainRun
from mirth.inference.start.starts import starting_points

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


def run_recipe(
    recipe: Recipe | Callable[[Params], Recipe], start: Any, problem: Problem
) -> Posterior:
    """Say what memory it takes, find the starts, warm up, sample.

    A recipe that depends on the starts is chosen once they are there; the memory is said then.

    Parameters
    ----------
    recipe : Recipe, or function of the starts that gives one
        What a method asks of its chains.
    start : DeepEnsemble, GivenStart or "prior"
        Where they begin.
    problem : Problem
        Model, rows, seed, devices, monitor.
    """
    if isinstance(recipe, Recipe):
        announce(estimate_memory(recipe, problem), problem, stacklevel=4)
    params, report = starting_points(start, problem)
    if not isinstance(recipe, Recipe):
        recipe = recipe(params)
        announce(estimate_memory(recipe, problem), problem, stacklevel=4)
    return ChainRun(Chains(recipe, problem, params), report).run()
