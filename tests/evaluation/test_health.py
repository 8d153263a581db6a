"""Verdicts on chains and the sentence about them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mirth.core.outcomes import ChainVerdict
from mirth.evaluation import (
    HealthLimits,
    distance_between,
    judge_chains,
    relative_displacement,
    summarize_health,
)

MOVED, FROZEN = ChainVerdict.MOVED, ChainVerdict.FROZEN
DIVERGING, WORSE = ChainVerdict.DIVERGING, ChainVerdict.WORSE_THAN_START
AT_CAP, UNSETTLED = ChainVerdict.AT_CAP, ChainVerdict.NOT_CONVERGED


def judge_one(
    distance: float = 0.1, rate: float = 0.0, gain: float = 0.1, **options: Any
) -> ChainVerdict:
    (verdict,) = judge_chains([distance], [rate], [0.5 + gain], [0.5], **options)
    return verdict


def test_displacement_of_independent_draws() -> None:
    # |theta_t - theta_1|^2 has mean 2 d, but 0 for t = 1; |theta_t|^2 has mean d
    flat = np.random.default_rng(0).normal(size=(3, 100, 1000))
    # relative deviation: sqrt(8 d) / (2 d) for the first draw's norm and less for the others
    np.testing.assert_allclose(relative_displacement(flat), np.sqrt(2 * 0.99), rtol=0.1)


def test_displacement_has_no_unit_and_no_location() -> None:
    flat = np.random.default_rng(0).normal(1.0, 0.1, size=(2, 50, 4))
    expected = relative_displacement(flat)
    # squares of 1e25 overflow in float32
    huge = (1e25 * flat).astype(np.float32)
    np.testing.assert_allclose(relative_displacement(huge), expected, rtol=1e-5)


def test_displacement_of_frozen_chains_is_zero() -> None:
    flat = np.zeros((2, 10, 3), dtype=np.float32)
    flat[0] = 0.1
    np.testing.assert_array_equal(relative_displacement(jnp.asarray(flat)), [0.0, 0.0])


def test_a_rounding_in_float32_is_frozen_and_a_small_walk_is_not() -> None:
    start = np.random.default_rng(0).normal(size=200).astype(np.float32)
    rounding = np.stack([start, np.nextafter(start, np.float32(np.inf))])
    walk = np.stack([start, start * np.float32(1.0001)])
    distance = relative_displacement(np.stack([rounding, walk]))
    assert judge_chains(distance, [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]) == [FROZEN, MOVED]


def test_distance_between_two_positions() -> None:
    begin, end = np.array([[3.0, 4.0]] * 3), np.array([[3.0, 4.0], [0.0, 0.0], [3.0, np.inf]])
    np.testing.assert_array_equal(distance_between(begin, end), [0.0, 1.0, np.nan])
    np.testing.assert_array_equal(distance_between(end[2:], begin[2:]), [np.nan])
    # the norm of the difference, over the root of the summed squares of both: 1 / sqrt(25 + 32)
    assert distance_between([[3.0, 4.0]], [[4.0, 4.0]]) == pytest.approx(1 / np.sqrt(57))
    # squares of 1e25 overflow in float32
    huge = np.float32([[3e25, 4e25]])
    np.testing.assert_allclose(distance_between(huge, -huge), np.sqrt(2), rtol=1e-6)


def test_a_chain_at_a_threshold_is_healthy() -> None:
    assert judge_one(distance=1e-6) is MOVED
    assert judge_one(distance=0.0, limits=HealthLimits(frozen_below=0.0)) is MOVED
    assert judge_one(rate=0.25, limits=HealthLimits(diverging_above=0.25)) is MOVED
    for k in range(1, 400):  # a share of one in twenty steps, however it is rounded
        assert judge_one(rate=k / (20 * k)) is MOVED
        assert judge_one(rate=(k + 1) / (20 * k)) is DIVERGING
    # 0.5 - 0.25 is exact
    assert judge_one(gain=-0.25, limits=HealthLimits(tolerance=0.25)) is MOVED
    assert judge_one(gain=-0.25, lppd_standard_error=[0.125]) is MOVED


def test_a_fact_that_is_not_given_gives_no_verdict() -> None:
    moved, frozen, rates = [0.1, 0.1, 0.1], [0.1, 0.0, 0.1], [0.0, 0.0, 0.1]
    assert judge_chains(moved, np.zeros(3)) == [MOVED] * 3
    assert judge_chains(moved, np.zeros(3), is_at_cap=[False, True, True]) == [
        MOVED,
        AT_CAP,
        AT_CAP,
    ]
    assert judge_chains(frozen, rates, is_at_cap=[True] * 3) == [AT_CAP, FROZEN, DIVERGING]
    worse = judge_chains(moved, np.zeros(3), [-1.0] * 3, np.zeros(3), is_at_cap=[True, False, True])
    assert worse == [AT_CAP, WORSE, AT_CAP]


def test_numbers_that_overflowed_are_judged() -> None:
    nan, inf = np.nan, np.inf
    assert judge_one(distance=nan) is MOVED
    assert judge_one(distance=nan, rate=1.0) is DIVERGING
    lppd_chain = [nan, nan, nan, 0.0, inf, inf, 0.0]
    lppd_start = [0.0, -inf, nan, nan, inf, 0.0, inf]
    verdicts = judge_chains(np.ones(7), np.zeros(7), lppd_chain, lppd_start)
    assert verdicts == [WORSE, MOVED, MOVED, MOVED, MOVED, MOVED, WORSE]
    for unknown in (nan, inf):
        assert judge_one(gain=-0.06, lppd_standard_error=[unknown]) is WORSE
        assert judge_one(gain=-0.04, lppd_standard_error=[unknown]) is MOVED


def test_thresholds() -> None:
    assert judge_one() is MOVED
    assert judge_one(distance=0.9e-6) is FROZEN
    assert judge_one(distance=1.1e-6) is MOVED
    assert judge_one(distance=0.9e-6, limits=HealthLimits(frozen_below=1e-7)) is MOVED
    assert judge_one(rate=0.05) is MOVED
    assert judge_one(rate=0.051) is DIVERGING
    assert judge_one(rate=0.051, limits=HealthLimits(diverging_above=0.1)) is MOVED
    assert judge_one(gain=-0.049) is MOVED
    assert judge_one(gain=-0.051) is WORSE
    assert judge_one(gain=-0.051, limits=HealthLimits(tolerance=0.06)) is MOVED


def test_a_loss_within_its_standard_error_is_no_verdict() -> None:
    assert judge_one(gain=-0.1, lppd_standard_error=[0.06]) is MOVED
    assert judge_one(gain=-0.1, lppd_standard_error=[0.04]) is WORSE
    assert (
        judge_one(gain=-0.1, lppd_standard_error=[0.04], limits=HealthLimits(standard_errors=3.0))
        is MOVED
    )
    assert judge_one(gain=-0.02, lppd_standard_error=[0.001]) is MOVED  # below the tolerance


def test_a_chain_that_mixes_badly() -> None:
    assert judge_one(rhat=[1.2], num_effective=[10.0]) is MOVED
    assert judge_one(rhat=[1.21]) is judge_one(num_effective=[9.9]) is UNSETTLED
    assert judge_one(rhat=[np.nan], num_effective=[np.nan]) is MOVED
    assert judge_one(rhat=[np.nan], num_effective=[3.0]) is UNSETTLED
    assert judge_one(rhat=[1.3], limits=HealthLimits(rhat_above=1.4)) is MOVED
    assert judge_one(num_effective=[8.0], limits=HealthLimits(effective_below=5.0)) is MOVED
    assert judge_one(gain=-1.0, rhat=[3.0]) is WORSE


def test_the_graver_verdict_comes_first() -> None:
    assert judge_one(distance=0.0, rate=1.0, gain=-1.0) is FROZEN
    assert judge_one(rate=1.0, gain=-1.0) is DIVERGING


def test_infinite_lppd() -> None:
    lppd_chain, lppd_start = [-np.inf, -np.inf, 0.0], [0.0, -np.inf, -np.inf]
    verdicts = judge_chains(np.ones(3), np.zeros(3), lppd_chain, lppd_start)
    assert verdicts == [WORSE, MOVED, MOVED]


def test_the_sentence_names_chains() -> None:
    verdicts = [MOVED, DIVERGING, WORSE, FROZEN, WORSE, DIVERGING, DIVERGING, FROZEN]
    assert summarize_health(verdicts) == (
        "Of 8 chains (numbered from 0), chains 3 and 7 did not move; chains 1, 5 and 6 kept "
        "diverging; chains 2 and 4 predict worse than their start."
    )
    assert summarize_health([MOVED, WORSE]) == (
        "Of 2 chains (numbered from 0), chain 1 predicts worse than its start."
    )
    assert summarize_health([MOVED] * 10) == (
        "All chains (10) moved and predict no worse than their start."
    )


TWO = np.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge_chains(TWO, TWO, TWO, np.zeros(3)), r"same shape: .* lppd_start \(3,\)"),
        (lambda: judge_chains(0.0, TWO, TWO, TWO), r"distance must have axes \(chains\)"),
        (lambda: judge_chains(TWO, [np.nan, 0], TWO, TWO), "divergence_rate has 1 NaN"),
        (lambda: judge_chains(TWO, [0, 3], TWO, TWO), "divergence_rate must be a share .* divide"),
        (lambda: judge_chains(TWO, [-1, 0], TWO, TWO), "divergence_rate must be a share"),
        (lambda: judge_chains(TWO, TWO, TWO), "lppd_chain and lppd_start belong together"),
        (lambda: judge_chains(TWO, TWO, lppd_start=TWO), "lppd_chain and lppd_start belong"),
        (lambda: judge_chains(TWO, TWO, lppd_standard_error=TWO), "pass both or none of the three"),
        (lambda: judge_chains(TWO, TWO, is_at_cap=[True]), r"same shape: .* is_at_cap \(1,\)"),
        (lambda: judge_one(lppd_standard_error=TWO), r"lppd_standard_error \(2,\)"),
        (lambda: judge_one(rhat=TWO), r"rhat \(2,\)"),
        (lambda: judge_one(num_effective=TWO), r"num_effective \(2,\)"),
        (lambda: HealthLimits(rhat_above=0.9), "rhat_above=0.9 must"),
        (lambda: HealthLimits(effective_below=-1.0), "effective_below=-1.0 must"),
        (lambda: judge_one(limits=HealthLimits(frozen_below=-1.0)), "frozen_below=-1.0 must"),
        (lambda: judge_one(limits=HealthLimits(diverging_above=5)), "diverging_above=5.0 must"),
        (lambda: judge_one(limits=HealthLimits(tolerance=-0.1)), "tolerance=-0.1 must"),
        (lambda: judge_one(limits=HealthLimits(standard_errors=-2)), "standard_errors=-2.0 must"),
        (lambda: summarize_health([]), "verdicts is empty"),
        (lambda: relative_displacement(np.ones((2, 3))), "flat must have axes"),
        (lambda: relative_displacement(np.ones((2, 1, 3))), "flat has one draw per chain"),
        (lambda: relative_displacement(np.full((2, 2, 3), np.nan)), "flat has 12 NaN"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
