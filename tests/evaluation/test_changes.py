"""Changes between two sets of chains: how often chance is called a change, and how large it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mirth.evaluation import lppd_change, mean_change

CHAINS, DRAWS, REPEATS = 4, 150, 100


def autoregressive(rng: np.random.Generator, memory: float, values: int) -> np.ndarray:
    """Stationary chains of unit variance whose draws remember the one before."""
    noise = rng.normal(size=(CHAINS, DRAWS, values))
    draws = noise.copy()
    for t in range(1, DRAWS):
        draws[:, t] = memory * draws[:, t - 1] + np.sqrt(1 - memory**2) * noise[:, t]
    return draws


def spread_over_rows(rng: np.random.Generator, memory: float, mix: np.ndarray) -> np.ndarray:
    """Values of many rows that depend on a few coordinates, in modes that are chains' own."""
    modes = 30 * np.random.default_rng(5).normal(size=(CHAINS, 1, mix.shape[1]))
    return autoregressive(rng, memory, len(mix)) @ mix + modes


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_chance_is_rarely_seen_and_intervals_hold(memory: float) -> None:
    """Of 100 pairs 1 is expected to be seen; more than 6 would be in one of 10 000 cases.

    Intervals leave out 10 % of the true sizes, and the effective sample sizes are estimates: 25 of
    100 would be left out in one of 100 000 cases.
    """
    seen, missed = 0, 0
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        mix = rng.normal(size=(3, 20))
        before, after = (spread_over_rows(rng, memory, mix) for _ in range(2))
        seen += mean_change(before, after).is_seen
        shift = 0.4 * mix[0]
        change = mean_change(before, after + shift)
        missed += not change.low <= np.sqrt(np.mean(shift**2)) <= change.high
    assert seen <= 6
    assert missed <= 25


def test_size_has_no_part_of_chance() -> None:
    """The mean of its square is that of the true change, within 4 standard errors."""
    squares = []
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        before, after = (autoregressive(rng, 0.0, 30) for _ in range(2))
        change = mean_change(before, after + 0.2)
        squares.append(change.size**2)
        assert change.error == pytest.approx(np.sqrt(2 / (CHAINS * DRAWS)), rel=0.3)
    assert abs(np.mean(squares) - 0.2**2) < 4 * np.std(squares) / np.sqrt(REPEATS)


def test_luck_shows_no_more_than_an_average_result() -> None:
    """A difference of exactly nothing would bound a change by 0."""
    draws = autoregressive(np.random.default_rng(0), 0.0, 1)
    other = draws[:, ::-1] + 0.0
    change = mean_change(draws, other)
    assert change.size == 0.0 and change.p_value > 0.99
    assert change.high >= change.error


@pytest.mark.parametrize("is_same", [True, False])
def test_values_that_never_move_have_no_error(is_same: bool) -> None:
    before = np.ones((2, 10, 3))
    change = mean_change(before, before + (0.0 if is_same else 0.5))
    size = 0.0 if is_same else 0.5
    assert change == (size, 0.0, size, size, float(is_same))
    log_prob = lppd_change(-before, -before + size)
    assert log_prob.size == pytest.approx(size)
    assert log_prob.is_seen is not is_same


def test_lppd_has_the_sign_of_the_second_set_and_the_error_of_a_bootstrap() -> None:
    rng = np.random.default_rng(1)
    log_prob: Any = [-1 + 0.5 * rng.normal(size=(2, 400, 1)) * np.ones(5) for _ in range(400)]
    changes = [
        lppd_change(one, two) for one, two in zip(log_prob[::2], log_prob[1::2], strict=True)
    ]
    spread, said = np.std([c.size for c in changes]), np.mean([c.error for c in changes])
    assert said == pytest.approx(spread, rel=0.2)  # four standard errors of a deviation of 200
    better = lppd_change(log_prob[0], log_prob[1] + 0.3)
    assert better.size == pytest.approx(0.3, abs=5 * better.error) and better.is_seen
    assert lppd_change(log_prob[0], log_prob[1] - 0.3).size < 0
