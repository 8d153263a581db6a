"""The ranks and their test, on posteriors that are drawn exactly: they pass, and faults do not."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

NUM_SIMULATIONS, NUM_AXES = 60, 5
NAMES = ("parameters",) * NUM_AXES


def found(simulations: ModuleType, seed: int, prior: float = 1.0) -> Any:
    """Simulate independent Normal means, each from one noisy number; prior: of the inference."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(NUM_SIMULATIONS, NUM_AXES))
    seen = truth + rng.normal(size=truth.shape)
    deviation = np.full(truth.shape, 1 / np.sqrt(1 + prior**-2))
    noise = rng.normal(size=(NUM_SIMULATIONS, 31, NUM_AXES))
    mean = deviation**2 * seen
    picked = mean[:, None] + deviation[:, None] * noise
    return simulations.Found(truth, mean, deviation, picked, np.full(truth.shape, 31.0))


def p_value(simulations: ModuleType, posterior: Any) -> float:
    return simulations.p_values(NAMES, posterior)["parameters"]


def test_p_values_of_a_right_posterior_are_uniform(simulations: ModuleType) -> None:
    values = [p_value(simulations, found(simulations, seed)) for seed in range(200)]
    # A tenth of them below 0.1, with a standard error of 2 %.
    assert 0.02 < np.mean(np.array(values) < 0.1) < 0.18
    assert 0.4 < np.mean(values) < 0.6  # 1 / 2, with a standard error of 2 %


def test_faults_have_small_p_values(simulations: ModuleType) -> None:
    right = found(simulations, 0)
    assert p_value(simulations, right) > 0.05
    assert p_value(simulations, right.narrowed(0.7)) < 1e-3
    assert p_value(simulations, right.narrowed(1.5)) < 1e-3
    assert p_value(simulations, found(simulations, 0, prior=0.4)) < 1e-3
    shifted = right._replace(picked=right.picked + 0.5 * right.deviation[:, None])
    assert p_value(simulations, shifted) < 1e-3


def test_the_size_of_a_fault(simulations: ModuleType) -> None:
    shift, width = found(simulations, 0).narrowed(0.7).shift_and_width()
    # 300 numbers: standard errors of 6 % of a deviation, which is too small, and of 4 %.
    assert abs(shift.mean()) < 4 * 0.06 / 0.7
    assert np.sqrt(1 / np.mean(width**-2.0)) == pytest.approx(0.7, rel=4 * 0.04)


def test_a_simulation_is_looked_at_as_a_whole(simulations: ModuleType) -> None:
    rng = np.random.default_rng(0)
    slow = np.cumsum(rng.normal(size=(4, 80, 1)), axis=1)
    values = np.concatenate([rng.normal(size=(4, 80, 1)), slow], axis=2)
    one = simulations.summarise(np.zeros(2), values, 31)
    flat = values.reshape(320, 2)
    np.testing.assert_allclose([one.mean, one.deviation], [flat.mean(axis=0), flat.std(axis=0)])
    places = [np.flatnonzero((flat == picked).all(axis=1)).item() for picked in one.picked]
    assert set(np.diff(places)) == {10, 11} and places[0] == 5 and places[-1] == 314
    # A chain that hardly moves has no 31 effective draws to pick from.
    assert one.effective[0] > 200 and one.effective[1] < 31


def test_bins_must_divide_the_ranks(simulations: ModuleType) -> None:
    counts = simulations.histogram(np.array([[0, 3], [4, 31]]), 31)
    assert counts.tolist() == [2, 1, 0, 0, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="7 bins do not divide the 32 ranks"):
        simulations.histogram(np.zeros(3, int), 31, 7)
