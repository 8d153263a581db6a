"""Simulation-based calibration of ``mirth.infer``, from the ensemble on, with default settings.

Ranks of true values among posterior draws are uniform if all is right. What is tested is the
smallest p-value of the quantities of a case, at a level of 1 % for all of them together; seeds are
fixed, so a test passes always or never. The reduced form has 140 ranks of parameters: it finds a
posterior that is 0.7 times as wide three times in four. The slow one has 700 of the linear model
and finds 0.85 or a shift of 0.2 deviations as often or more; of the network, where each quantity
counts once a simulation, it finds 0.6 or a shift of half a deviation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

LEVEL = 0.01
Simulated = Callable[..., tuple[Any, Any]]


@pytest.fixture(scope="module")
def simulated(simulations: ModuleType) -> Simulated:
    @functools.cache
    def run(
        name: str,
        label: str,
        num: int,
        n_warmup: int,
        n_samples: int,
        n_thinning: int,
        prior_scale: float = 1.0,
    ) -> Any:
        """Give the case and what came of it; another scale of the prior is that of the model."""
        case = simulations.CASES[name]()
        inferred = simulations.CASES[name](prior_scale).model
        method = simulations.methods(n_warmup, n_samples, n_thinning)[label]
        return case, simulations.run_simulations(case, method, num, inferred=inferred)

    return run


REDUCED = ("linear", "psmile", 20, 700, 64, 15)


def smallest(simulations: ModuleType, case: Any, found: Any) -> float:
    """Give the smallest p-value, times their number."""
    values = simulations.p_values(case.names, found)
    return min(values.values()) * len(values)


def assert_independent(found: Any) -> None:
    """Demand as many effective draws as are picked, in nine of ten simulations."""
    assert np.quantile(found.effective, 0.1, axis=0).min() > found.picked.shape[1]


def test_ranks_are_uniform(simulations: ModuleType, simulated: Simulated) -> None:
    case, found = simulated(*REDUCED)
    assert_independent(found)
    assert smallest(simulations, case, found) > LEVEL


def test_draws_that_are_too_narrow_are_found(simulations: ModuleType, simulated: Simulated) -> None:
    case, found = simulated(*REDUCED)
    assert smallest(simulations, case, found.narrowed(0.7)) < LEVEL / 10


@pytest.mark.slow
@pytest.mark.parametrize("label", ["mile", "psmile"])
@pytest.mark.parametrize("name", ["linear", "network"])
def test_ranks_are_uniform_in_many_simulations(
    simulations: ModuleType, simulated: Simulated, name: str, label: str
) -> None:
    case, found = simulated(name, label, 100, *simulations.BUDGETS[name])
    assert_independent(found)
    assert smallest(simulations, case, found) > LEVEL
    if name == "linear":  # a Normal posterior: errors over their deviations are standard Normal
        own = [i for i, other in enumerate(case.names) if other == "parameters"]
        squares = ((found.truth - found.mean) / found.deviation)[:, own] ** 2
        assert abs(squares.mean() - 1) < 4 * np.sqrt(2 / squares.size)


@pytest.mark.slow
def test_a_wrong_prior_is_found(simulations: ModuleType, simulated: Simulated) -> None:
    case, found = simulated("linear", "mile", 60, 500, 80, 10, 0.4)
    assert smallest(simulations, case, found) < LEVEL / 10
