"""From a recipe and a start to a posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirth.inference.chains.chains import Chains, Recipe
from mirth.inference.posterior import Posterior
from mirth.inference.run.memory import announce_memory
from mirth.inference.run.stages import ChainRun
from mirth.inference.start.starts import starting_points

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


def run_recipe(recipe: Recipe, start: Any, problem: Problem) -> Posterior:
    """Say what memory it takes, find the starts, warm up, sample.

    Parameters
    ----------
    recipe : Recipe
        What a method asks of its chains.
    start : DeepEnsemble, GivenStart or "prior"
        Where they begin.
    problem : Problem
        Model, rows, seed, devices, monitor.
    """
    announce_memory(recipe, problem)
    params, report = starting_points(start, problem)
    return ChainRun(Chains(recipe, problem, params), report).run()
