"""Calibration against hand examples and against predictions whose calibration is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from mirth.evaluation import (
    coverage_curve,
    expected_calibration_error,
    interval_coverage,
    interval_width,
    pit_histogram,
    quantile_calibration_error,
    reliability_curve,
)

NUM_ROWS = 20_000


def normal_pit(predicted_std: float) -> np.ndarray:
    """PIT of standard Normal targets under a Normal prediction with another deviation."""
    return norm.cdf(np.random.default_rng(0).normal(size=NUM_ROWS) / predicted_std)


def four_sigma(share: float | np.ndarray) -> np.ndarray:
    return 4 * np.sqrt(share * (1 - np.asarray(share)) / NUM_ROWS)


def test_coverage_counts_bounds_as_inside() -> None:
    assert interval_coverage([0.0, 1.0, 1.5], lower=[0.0] * 3, upper=[1.0] * 3) == 2 / 3
    assert interval_width([[0.0, 1.0]], [[0.5, 2.5]]) == 1.0


def test_coverage_of_a_normal_agrees_with_its_quantiles() -> None:
    y = np.random.default_rng(1).normal(size=NUM_ROWS)
    bound = np.full(NUM_ROWS, norm.ppf(0.95))
    assert abs(interval_coverage(y, -bound, bound) - 0.9) < four_sigma(0.9)


@pytest.mark.parametrize("predicted_std", [1.0, 0.5, 2.0])
def test_coverage_curve_of_a_normal(predicted_std: float) -> None:
    levels = np.array([0.5, 0.75, 0.9, 0.95])
    exact = 2 * norm.cdf(predicted_std * norm.ppf((1 + levels) / 2)) - 1
    gap = np.abs(coverage_curve(normal_pit(predicted_std)) - exact)
    assert (gap < four_sigma(exact)).all()


def test_coverage_curve_is_the_coverage_of_intervals() -> None:
    y = np.random.default_rng(2).normal(size=500)
    bound = np.full(500, norm.ppf(0.85))
    by_interval = interval_coverage(y, -bound, bound)
    assert coverage_curve(norm.cdf(y), levels=[0.7])[0] == by_interval


@pytest.mark.parametrize("predicted_std", [0.5, 2.0])
def test_quantile_calibration_error_of_a_wrong_width(predicted_std: float) -> None:
    levels = np.arange(1, 20) / 20
    observed = norm.cdf(predicted_std * norm.ppf(levels))
    exact = np.sqrt(np.mean((observed - levels) ** 2))
    error = quantile_calibration_error(normal_pit(predicted_std))
    # each observed frequency has a deviation below 0.5 / sqrt(N), and so has their norm
    assert error == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(NUM_ROWS))


def test_quantile_calibration_error_vanishes_on_uniform_pit() -> None:
    assert quantile_calibration_error((np.arange(1000) + 0.5) / 1000) < 1e-12
    assert quantile_calibration_error(np.zeros(10), levels=[0.5]) == 0.5
    assert quantile_calibration_error(np.zeros(10), levels=[0.25]) == 0.75


def test_a_target_on_the_quantile_counts_as_below_and_as_covered() -> None:
    assert quantile_calibration_error([0.25], levels=[0.25]) == 0.75
    assert coverage_curve([0.25, 0.75], levels=[0.5])[0] == 1.0


def test_pit_histogram_is_a_density_with_a_binomial_band() -> None:
    histogram = pit_histogram(np.linspace(0, 1, 60), bins=5, band_level=0.9)
    np.testing.assert_allclose(histogram.edges, np.arange(6) / 5)
    np.testing.assert_allclose(histogram.density, 1.0)
    low, high = histogram.band_lower * 60 / 5, histogram.band_upper * 60 / 5
    assert binom.cdf(high, 60, 0.2) - binom.cdf(low - 1, 60, 0.2) >= 0.9
    assert binom.cdf(high - 1, 60, 0.2) - binom.cdf(low, 60, 0.2) < 0.9


def test_pit_histogram_shows_intervals_that_are_too_narrow() -> None:
    density, _, low, high = pit_histogram(normal_pit(0.5))
    assert density[0] > high and density[-1] > high and density[4] < low
    density, _, low, high = pit_histogram(normal_pit(1.0), band_level=1 - 1e-6)
    assert ((density > low) & (density < high)).all()


def test_ece_by_hand() -> None:
    probabilities = [[0.95, 0.05], [0.85, 0.15], [0.35, 0.65], [0.45, 0.55]]
    y = [0, 1, 1, 1]
    # (0.8, 1]: confidence 0.9, accuracy 0.5; (0.6, 0.8]: 0.65 and 1; (0.4, 0.6]: 0.55 and 1
    expected = 2 / 4 * 0.4 + 1 / 4 * 0.35 + 1 / 4 * 0.45
    assert expected_calibration_error(y, probabilities, n_bins=5) == pytest.approx(expected)
    # one bin: mean confidence 0.75 is the accuracy
    assert expected_calibration_error(y, probabilities, n_bins=1) == pytest.approx(0, abs=1e-12)


def test_reliability_bins_are_closed_above() -> None:
    probabilities = np.array([[0.7, 0.3], [0.70001, 0.29999], [1.0, 0.0], [0.5, 0.5]])
    curve = reliability_curve([0, 1, 0, 1], probabilities, n_bins=10)
    np.testing.assert_array_equal(curve.num_rows, [0, 0, 0, 0, 1, 0, 1, 1, 0, 1])
    np.testing.assert_allclose(curve.accuracy[[4, 6, 7, 9]], [0, 1, 0, 1])
    np.testing.assert_allclose(curve.confidence[[4, 6, 7, 9]], [0.5, 0.7, 0.70001, 1.0])
    assert np.isnan(curve.accuracy[0]) and np.isnan(curve.confidence[0])


def test_rounding_above_one_stays_in_the_last_bin() -> None:
    probabilities = np.array([[1.0000001, 0.0]], dtype=np.float32)
    assert probabilities[0, 0] > 1
    np.testing.assert_array_equal(
        reliability_curve([0], probabilities, n_bins=3).num_rows, [0, 0, 1]
    )


def test_ece_of_calibrated_labels_is_small() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet([1.0, 1.0, 1.0], size=NUM_ROWS)
    y = (rng.uniform(size=(NUM_ROWS, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    # At most sum_b (N_b / N) * 0.5 / sqrt(N_b) <= 0.5 * sqrt(bins / N) on average; its deviation
    # is below 0.5 / sqrt(N).
    bound = 0.5 * np.sqrt(15 / NUM_ROWS) + 4 * 0.5 / np.sqrt(NUM_ROWS)
    assert expected_calibration_error(y, probabilities) < bound
    assert expected_calibration_error((y + 1) % 3, probabilities) > 10 * bound


PIT = np.array([0.2, 0.8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval_coverage([0.0], [2.0], [1.0]), "above upper in 1 of 1"),
        (lambda: interval_coverage([0.0], [0.0, 1.0], [1.0, 2.0]), "same shape"),
        (lambda: interval_width([0.0], [[1.0]]), "same shape"),
        (lambda: interval_width([np.nan], [1.0]), "lower has 1 NaN"),
        (lambda: pit_histogram([0.5, 1.2]), r"pit must hold .* got 0\.5 \.\.\. 1\.2"),
        (lambda: pit_histogram([]), "pit is empty"),
        (lambda: pit_histogram(PIT, bins=1), "bins=1 must be at least 2"),
        (lambda: pit_histogram(PIT, band_level=95), "band_level=95.0 must"),
        (lambda: quantile_calibration_error([-0.1]), "pit must hold"),
        (lambda: quantile_calibration_error(PIT, levels=[0.5, 1.0]), r"levels\[1\]=1\.0 must"),
        (lambda: coverage_curve(PIT, levels=[]), "levels is empty"),
        (lambda: coverage_curve(PIT, levels=[50]), r"levels\[0\]=50\.0 must"),
        (lambda: reliability_curve([0, 1], np.eye(2), n_bins=0), "n_bins=0 must be at least 1"),
        (lambda: reliability_curve([0, 3], np.eye(2)), "y_index must be within"),
        (lambda: expected_calibration_error([0, 1], 2 * np.eye(2)), "sum to 1"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
