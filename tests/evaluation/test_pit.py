"""PIT values of counts and of atoms: uniform for the true distribution, and only for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import lognorm, nbinom, norm, poisson

from mirth.evaluation import (
    coverage_curve,
    interval_coverage,
    pit_histogram,
    quantile_calibration_error,
    randomised_pit,
)

NUM_ROWS = 20_000
LEVELS = np.array([0.5, 0.75, 0.9, 0.95])
QUANTILES = np.arange(1, 20) / 20
# Each observed frequency has a deviation of at most 0.5 / sqrt(N), and so has their mean square.
FOUR_SIGMA = 4 * 0.5 / np.sqrt(NUM_ROWS)


@dataclasses.dataclass(frozen=True)
class Kind:
    """Distribution function, probability of single values and samples for a mean."""

    cdf: Callable[[np.ndarray, float], np.ndarray]
    mass: Callable[[np.ndarray, float], np.ndarray]
    sample: Callable[[np.random.Generator, float], np.ndarray]


def zero_inflated(rng: np.random.Generator, mean: float) -> np.ndarray:
    return rng.poisson(mean, NUM_ROWS) * (rng.uniform(size=NUM_ROWS) < 0.6)


def hurdle(rng: np.random.Generator, mean: float) -> np.ndarray:
    """Nothing in 30 % of the rows, else a positive amount."""
    return mean * rng.lognormal(size=NUM_ROWS) * (rng.uniform(size=NUM_ROWS) < 0.7)


KINDS = {
    "poisson": Kind(poisson.cdf, poisson.pmf, lambda rng, mean: rng.poisson(mean, NUM_ROWS)),
    "negative binomial": Kind(
        lambda y, mean: nbinom.cdf(y, 2, 2 / (2 + mean)),
        lambda y, mean: nbinom.pmf(y, 2, 2 / (2 + mean)),
        lambda rng, mean: rng.negative_binomial(2, 2 / (2 + mean), NUM_ROWS),
    ),
    "zero-inflated": Kind(
        lambda y, mean: 0.4 + 0.6 * poisson.cdf(y, mean),
        lambda y, mean: 0.4 * (y == 0) + 0.6 * poisson.pmf(y, mean),
        zero_inflated,
    ),
    "hurdle": Kind(
        lambda y, mean: 0.3 + 0.7 * lognorm.cdf(y, 1, scale=mean),
        lambda y, mean: 0.3 * (y == 0),
        hurdle,
    ),
    "censored": Kind(
        lambda y, mean: np.where(y < 2, norm.cdf(y, mean), 1.0),
        lambda y, mean: norm.cdf(0, mean) * (y == 0) + norm.sf(2, mean) * (y == 2),
        lambda rng, mean: np.clip(rng.normal(mean, size=NUM_ROWS), 0, 2),
    ),
}
each = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def targets(kind: Kind, mean: float = 0.5) -> np.ndarray:
    return kind.sample(np.random.default_rng(0), mean)


@each
def test_the_true_model_is_calibrated(kind: Kind) -> None:
    y = targets(kind)
    pit = randomised_pit(kind.cdf(y, 0.5), kind.mass(y, 0.5))
    assert quantile_calibration_error(pit) < FOUR_SIGMA
    assert np.all(np.abs(coverage_curve(pit) - LEVELS) < FOUR_SIGMA)
    histogram = pit_histogram(pit, band_level=0.999)
    assert histogram.band_lower < histogram.density.min()
    assert histogram.density.max() < histogram.band_upper
    # The rule is what does it: the distribution function alone is far from uniform.
    assert quantile_calibration_error(kind.cdf(y, 0.5)) > 5 * FOUR_SIGMA


@each
def test_a_wrong_mean_is_found_out(kind: Kind) -> None:
    """The error of a mean that is off by a half is what the definition gives."""
    y = targets(kind)
    at_most, mass = kind.cdf(y, 0.75), kind.mass(y, 0.75)
    pit = randomised_pit(at_most, mass)
    # The mean over the random numbers, given the targets.
    gap = QUANTILES - (at_most - mass)[:, None]
    inside = np.clip(gap / np.maximum(mass, 1e-300)[:, None], 0, 1)
    expected = np.sqrt(np.mean((inside.mean(axis=0) - QUANTILES) ** 2))
    assert expected > 2 * FOUR_SIGMA
    assert quantile_calibration_error(pit) == pytest.approx(expected, abs=FOUR_SIGMA)
    assert quantile_calibration_error(pit) > FOUR_SIGMA


def test_intervals_of_whole_numbers_hold_more_and_are_covered_as_often_as_they_say() -> None:
    y = targets(KINDS["poisson"])
    low, high = (np.full(NUM_ROWS, poisson.ppf(p, 0.5)) for p in (0.05, 0.95))
    exact = poisson.cdf(high[0], 0.5) - poisson.cdf(low[0] - 1, 0.5)
    assert exact > 0.98
    assert interval_coverage(y, low, high) == pytest.approx(exact, abs=FOUR_SIGMA)
    pit = randomised_pit(poisson.cdf(y, 0.5), poisson.pmf(y, 0.5))
    covered = np.abs(pit - 0.5) <= 0.45
    assert np.mean(covered) == coverage_curve(pit, [0.9])[0] == pytest.approx(0.9, abs=FOUR_SIGMA)
    # Only ends are left to chance.
    assert not covered[(y < low) | (y > high)].any()
    assert covered[(y > low) & (y < high)].all()


def test_continuous_targets_keep_their_values() -> None:
    cdf = norm.cdf(np.random.default_rng(1).normal(size=(50, 2)))
    np.testing.assert_array_equal(randomised_pit(cdf, np.zeros((50, 2))), cdf)


def test_random_places_are_reproducible_and_within_the_jump() -> None:
    y = targets(KINDS["poisson"])[:1000]
    cdf, mass = poisson.cdf(y, 0.5), poisson.pmf(y, 0.5)
    pit = randomised_pit(cdf, mass)
    np.testing.assert_array_equal(pit, randomised_pit(cdf, mass, seed=0))
    np.testing.assert_array_equal(pit[:10], randomised_pit(cdf[:10], mass[:10]))
    assert not np.any(pit == randomised_pit(cdf, mass, seed=1))
    assert np.all((pit > poisson.cdf(y - 1, 0.5)) & (pit <= cdf))
    # Data that were made from the same seed have nothing to do with the places.
    same = np.random.default_rng(0).random(1000)
    share = (cdf - pit) / mass
    assert abs(np.corrcoef(same, share)[0, 1]) < 4 / np.sqrt(1000)


def test_rounding_of_float32_is_no_error() -> None:
    np.testing.assert_array_equal(randomised_pit([1 + 1e-7, -1e-8], [0.0, 0.0]), [1.0, 0.0])
    assert randomised_pit([1e-7], [1.0001e-7])[0] >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.5], [0.1]), "same shape"),
        (([1.5], [0.1]), r"cdf must hold .* got 1\.5 \.\.\. 1\.5"),
        (([0.5], [0.6]), "mass must be between 0 and cdf"),
        (([0.5], [-0.1]), "mass must be between 0 and cdf"),
        (([0.5], [np.nan]), "mass has 1 NaN"),
        (([], []), "cdf is empty"),
        (([0.5], [0.1], -1), "seed=-1 must be at least 0"),
    ],
)
def test_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        randomised_pit(*arguments)
