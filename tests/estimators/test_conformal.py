"""Conformal calibration: its guarantee, and its agreement with another library."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.exceptions import NotFittedError

from mirth import BNNClassifier, BNNRegressor
from mirth.estimators import load
from mirth.results.conformal import (
    IntervalCalibration,
    SetCalibration,
    credible_sets,
)

pytestmark = pytest.mark.usefixtures("unoptimised")

Table = tuple[np.ndarray, np.ndarray]


class NormalForecast:
    """A predictive distribution: Normal, with numbers of its own for each row."""

    def __init__(self, mean: Any, std: Any):
        self.mean, self.std = mean, std

    def cdf(self, y: np.ndarray) -> np.ndarray:
        return stats.norm.cdf(y - self.mean, scale=np.maximum(self.std, 1e-300))

    def quantile(self, levels: np.ndarray) -> np.ndarray:
        return np.stack([self.mean + self.std * stats.norm.ppf(level) for level in levels], axis=1)


NUM_CALIBRATION, NUM_TEST = 99, 300


def within_exact_band(counts: np.ndarray, level: float) -> None:
    """Compare the numbers of covered test rows in random splits with their exact distribution.

    The number of test scores below the k-th smallest calibration score is beta-binomial, whatever
    the scores, and independent between random splits of one pool.
    """
    k = int(np.ceil((NUM_CALIBRATION + 1) * level - 1e-9))
    exact = stats.betabinom(NUM_TEST, k, NUM_CALIBRATION + 1 - k)
    error = exact.std() / np.sqrt(len(counts))
    assert abs(counts.mean() - exact.mean()) < 4 * error
    assert exact.mean() / NUM_TEST >= level
    # Not only the mean: as many splits in the central 80 % band as it holds.
    low, high = exact.ppf([0.1, 0.9])
    share = exact.cdf(high) - exact.cdf(low - 1)
    inside = np.sum((low <= counts) & (counts <= high))
    assert abs(inside - len(counts) * share) < 4 * np.sqrt(len(counts) * share * (1 - share))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_intervals_cover_a_skewed_target_as_often_as_promised(level: float) -> None:
    """200 random splits; the forecast is symmetric, biased and too narrow."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 3, size=NUM_CALIBRATION + NUM_TEST)
    y = x**2 + (1 + x) * rng.exponential(size=len(x))
    mean, std = x**2 + 0.5, 0.3 * (1 + x)
    counts, plain = [], []
    for _ in range(200):
        order = rng.permutation(len(x))
        old, new = order[:NUM_CALIBRATION], order[NUM_CALIBRATION:]
        calibration = IntervalCalibration.of(NormalForecast(mean[old], std[old]), y[old])
        forecast = NormalForecast(mean[new], std[new])
        low, high = calibration.interval(forecast, level).T
        counts.append(np.sum((low <= y[new]) & (y[new] <= high)))
        plain.append(np.mean(np.abs(forecast.cdf(y[new]) - 0.5) <= level / 2))
    within_exact_band(np.array(counts), level)
    assert np.mean(plain) < level - 0.15


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_sets_hold_the_class_as_often_as_promised(score: str) -> None:
    rng = np.random.default_rng(1)
    truth = rng.dirichlet([0.5] * 4, size=NUM_CALIBRATION + NUM_TEST)
    labels = np.array([rng.choice(4, p=row) for row in truth])
    stated = truth**3 + 0.01 * rng.uniform(size=truth.shape)  # far too certain
    stated /= stated.sum(axis=1, keepdims=True)
    counts, sizes = [], []
    for seed in range(200):
        order = rng.permutation(len(labels))
        old, new = order[:NUM_CALIBRATION], order[NUM_CALIBRATION:]
        calibration = SetCalibration.of(stated[old], labels[old], score, seed)
        sets = calibration.sets(stated[new], 0.8)
        counts.append(np.sum(sets[np.arange(NUM_TEST), labels[new]]))
        sizes.append(sets.sum(axis=1).min())
    if score == "lac":
        within_exact_band(np.array(counts), 0.8)
    else:  # sets hold whole classes where the score counts a share: never empty, more often right
        assert np.mean(counts) / NUM_TEST > 0.8 and min(sizes) == 1
    assert stated.max(axis=1).mean() > np.mean(stated.argmax(axis=1) == labels) + 0.1


def test_counts_are_covered_at_least_as_often() -> None:
    """The distribution function of counts has steps, where scores are equal."""

    class PoissonForecast:
        def cdf(self, y: Any) -> np.ndarray:
            return stats.poisson.cdf(y, 2.0)

        def quantile(self, levels: np.ndarray) -> np.ndarray:
            return np.broadcast_to(stats.poisson.ppf(levels, 2.0), (1, len(levels)))

    rng = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        calibration = IntervalCalibration.of(PoissonForecast(), rng.poisson(4.0, size=50))
        low, high = calibration.interval(PoissonForecast(), 0.7)[0]
        covered.append(stats.poisson.cdf(high, 4.0) - stats.poisson.cdf(low - 1, 4.0))
    assert np.mean(covered) > 0.7


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_the_sets_are_those_of_mapie(
    score: str, classifier: BNNClassifier, table: Table, labels: np.ndarray
) -> None:
    from mapie.classification import SplitConformalClassifier

    X, text, levels = table[0], np.array(["low", "mid", "top"])[labels], [0.6, 0.8, 0.9]
    old, new = np.arange(0, 80, 2), np.arange(1, 80, 2)
    theirs = SplitConformalClassifier(
        classifier, levels, conformity_score=score, prefit=True, random_state=classifier.seed_
    ).conformalize(X[old], text[old])
    ours = copy.copy(classifier).conformalize(X[old], text[old], conformity_score=score)
    sets = ours.predict_set(X[new], levels)
    np.testing.assert_array_equal(sets, theirs.predict_set(X[new])[1])
    assert sets.shape == (40, 3, 3)
    np.testing.assert_array_equal(ours.predict_set(X[new], 0.8), sets[:, :, 1])
    assert (sets[:, :, :-1] <= sets[:, :, 1:]).all()
    assert (ours.predict_set(X[new]) != classifier.predict_set(X[new])).any()


def test_with_one_noise_level_the_intervals_are_those_of_absolute_residuals() -> None:
    """|F - 1/2| and |y - mean| then rank the rows alike, and MAPIE has the second."""
    from mapie.regression import SplitConformalRegressor

    class Identity(RegressorMixin, BaseEstimator):
        n_features_in_ = 1  # so it counts as fitted

        def fit(self, X: Any, y: Any) -> Identity:
            return self

        def predict(self, X: np.ndarray) -> np.ndarray:
            return X[:, 0]

    rng = np.random.default_rng(3)
    x = rng.normal(size=(150, 1))
    y = x[:, 0] + rng.gumbel(size=150)
    theirs = SplitConformalRegressor(Identity(), [0.5, 0.9], prefit=True)
    expected = theirs.conformalize(x[:100], y[:100]).predict_interval(x[100:])[1]
    ours = IntervalCalibration.of(NormalForecast(x[:100, 0], 2.0), y[:100])
    actual = ours.interval(NormalForecast(x[100:, 0], 2.0), [0.5, 0.9])
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


def test_the_regressor(regressor: BNNRegressor, table: Table) -> None:
    """Through the network, in units of y: in the interval are the rows with a small score."""
    X, y = table
    calibrated = copy.copy(regressor)
    assert calibrated.conformalize(X[:50], y[:50] + 0.4) is calibrated
    assert regressor.calibration_ is None
    intervals = calibrated.predict_interval(X[50:], [0.3, 0.8])
    assert intervals.shape == (30, 2, 2)
    np.testing.assert_array_equal(calibrated.predict_interval(X[50:], 0.8), intervals[:, :, 1])
    scores = np.abs(regressor.predict_dist(X[50:]).cdf(y[50:] + 0.4) - 0.5)
    expected = scores[:, None] <= calibrated.calibration_.threshold([0.3, 0.8])
    inside = (intervals[:, 0].T <= y[50:] + 0.4) & (y[50:] + 0.4 <= intervals[:, 1].T)
    np.testing.assert_array_equal(inside.T, expected)
    assert expected.any() and not expected.all()
    # The calibration has seen targets that are too high; the distribution itself has not.
    plain = regressor.predict_interval(X[50:], 0.8)
    assert (np.diff(intervals[:, :, 1]) > np.diff(plain)).all()
    np.testing.assert_array_equal(calibrated.predict(X), regressor.predict(X))


def test_a_calibration_belongs_to_one_fit(
    regressor: BNNRegressor, table: Table, tiny: dict[str, Any], tmp_path: Path
) -> None:
    X, y = table
    calibrated = copy.copy(regressor).conformalize(X[:50], y[:50])
    intervals = calibrated.predict_interval(X)
    twins = [pickle.loads(pickle.dumps(calibrated))]
    calibrated.save(tmp_path / "model")
    twins.append(load(tmp_path / "model"))
    for twin in twins:
        np.testing.assert_array_equal(twin.predict_interval(X), intervals)
    assert calibrated.as_deep_ensemble().calibration_ is None
    assert clone(calibrated).calibration_ is None
    assert calibrated.set_params(**tiny).fit(X, y).calibration_ is None


def test_sets_and_class_weights_are_saved(
    table: Table, labels: np.ndarray, tiny: dict[str, Any], tmp_path: Path
) -> None:
    weights = {0: 2.0, 2: 0.5}
    clf = BNNClassifier(**tiny, class_weight=weights).fit(table[0], labels)
    clf.conformalize(table[0], labels, "aps").save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.class_weight == weights
    np.testing.assert_array_equal(loaded.predict_set(table[0]), clf.predict_set(table[0]))


def test_finite_where_the_distribution_has_no_mass(regressor: BNNRegressor, table: Table) -> None:
    """F is 0 or 1 there and ranks nothing; the scores go on as distances."""
    X, y = table
    far = y.copy()
    far[:20] += np.linspace(100, 119, 20)
    calibrated = copy.copy(regressor).conformalize(X, far)
    scores = calibrated.calibration_.scores
    assert (np.diff(scores[:20]) != 0).all() and scores[:20].min() > 0.5 > scores[20:].max()
    # Just wide enough for the row that has the threshold as its score.
    intervals = calibrated.predict_interval(X, [0.5, 0.9])
    row = np.argmin(np.abs(scores - calibrated.calibration_.threshold(0.9)))
    np.testing.assert_allclose(intervals[row, 1, 1], far[row], rtol=1e-6)
    assert (np.diff(intervals[:, :, 1]) > 10 * np.diff(intervals[:, :, 0])).all()
    # Nothing but one value is possible to the model, and something else has happened.
    certain = NormalForecast(np.zeros(20), 0.0)
    assert np.isfinite(IntervalCalibration.of(certain, np.ones(20)).interval(certain, 0.9)).all()


@pytest.mark.parametrize(("num_rows", "level", "needed"), [(8, 0.9, 9), (50, 0.99, 99)])
def test_too_few_rows(num_rows: int, level: float, needed: int) -> None:
    scores = np.random.default_rng(0).uniform(size=needed)
    text = rf"confidence_level={level} needs at least {needed} calibration rows.* had {num_rows};"
    with pytest.raises(ValueError, match=text):
        IntervalCalibration(scores[:num_rows]).threshold([0.5, level])
    assert IntervalCalibration(scores).threshold(level) == scores.max()


def test_ranks() -> None:
    """The ceil((n + 1) c)-th smallest, where rounding of the product adds nothing."""
    calibration = IntervalCalibration(np.arange(1, 100)[::-1])
    assert (100 * 0.29 != 29) and calibration.threshold(0.29) == 29
    np.testing.assert_array_equal(calibration.threshold([1e-12, 0.011, 0.99]), [1, 2, 99])


def test_equal_probabilities_are_treated_equally() -> None:
    probabilities = np.array([[0.2, 0.4, 0.4], [0.25, 0.5, 0.25]])
    np.testing.assert_array_equal(
        credible_sets(probabilities, [0.3, 0.6]),
        [[[0, 0], [1, 1], [1, 1]], [[0, 1], [1, 1], [0, 1]]],
    )


def test_calibration_rows_that_cannot_be_used(
    regressor: BNNRegressor, classifier: BNNClassifier, table: Table, labels: np.ndarray
) -> None:
    X, y = table
    text = np.array(["low", "mid", "top"])[labels]
    cases: list[tuple[Any, tuple, str]] = [
        (regressor, (X, y[:-1]), r"inconsistent numbers of samples: \[80, 79\]"),
        (regressor, (X, np.full(80, np.nan)), r"y_cal contains NaN"),
        (regressor, (X, np.stack([y, y], axis=1)), r"y should be a 1d array"),
        (regressor, (X, text), r"could not convert string"),
        (classifier, (X, text[:-1]), r"inconsistent numbers of samples"),
        (classifier, (X, np.where(labels == 0, "odd", text)), r"y_cal has the label 'odd'.*'low'"),
        (classifier, (X, labels), r"y_cal has the label \d, which y did not have at fit"),
        (classifier, (X, text, "apss"), r"conformity_score='apss'.*did you mean 'aps'"),
    ]
    for estimator, rows, message in cases:
        with pytest.raises(ValueError, match=message):
            estimator.conformalize(*rows)
        assert estimator.calibration_ is None
        with pytest.raises(NotFittedError):
            clone(estimator).conformalize(*rows)
