"""The linear models and the reduction of predictive distributions to scores."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import mirth
from mirth.evaluation import crps_normal_mixture
from mirth.experiments.forecasts import (
    ClassForecast,
    RegressionForecast,
    forecast_of,
    linear_regression,
    logistic_regression,
)
from mirth.model import FunctionalNetwork, Model
from mirth.prediction import Predictive

RNG = np.random.default_rng(0)
X = RNG.normal(5.0, 3.0, (60, 2))
Y = 1 + X @ [2.0, -1.0] + RNG.normal(size=60)
LABELS = (Y > np.median(Y)).astype(int)
TRAIN, TEST = slice(0, 40), slice(40, 60)


def test_linear_regression_is_least_squares_with_its_residual_noise() -> None:
    forecast, seconds = linear_regression(X[TRAIN], Y[TRAIN], X[TEST], Y[TEST])
    design = np.column_stack([np.ones(60), X])
    weights, squares, *_ = np.linalg.lstsq(design[TRAIN], Y[TRAIN])
    mean, sigma = design[TEST] @ weights, np.sqrt(squares[0] / (40 - 3))
    noise = stats.norm(mean, sigma)
    np.testing.assert_allclose(forecast.mean, mean)
    np.testing.assert_allclose(forecast.log_prob, noise.logpdf(Y[TEST]))
    np.testing.assert_allclose(forecast.pit, noise.cdf(Y[TEST]))
    np.testing.assert_allclose(forecast.lower, noise.ppf(0.05))
    np.testing.assert_allclose(forecast.upper, noise.ppf(0.95))
    expected = crps_normal_mixture(Y[TEST], mean[None], np.full((1, 20), sigma))
    assert forecast.crps.mean() == pytest.approx(expected)
    assert seconds > 0


def test_perfect_fit_has_a_finite_score() -> None:
    exact = X @ [1.0, 2.0]
    forecast, _ = linear_regression(X[TRAIN], exact[TRAIN], X[TEST], exact[TEST])
    assert np.isfinite(forecast.log_prob).all()


def test_more_columns_than_rows() -> None:
    wide = RNG.normal(size=(20, 30))
    forecast, _ = linear_regression(wide[:10], Y[:10], wide[10:], Y[10:20])
    assert np.isfinite(list(forecast.scores(Y[10:20]).values())).all()


def test_logistic_regression_scores_the_true_class() -> None:
    forecast, _ = logistic_regression(X[TRAIN], LABELS[TRAIN], X[TEST], LABELS[TEST])
    of_truth = forecast.probabilities[np.arange(20), LABELS[TEST]]
    np.testing.assert_allclose(forecast.log_prob, np.log(of_truth))
    scores = forecast.scores(LABELS[TEST])
    assert scores["lppd"] == pytest.approx(np.log(of_truth).mean())
    assert scores["accuracy"] > 0.8  # the classes are nearly separable
    assert scores["brier"] == pytest.approx(2 * np.mean((1 - of_truth) ** 2))


class NormalDist:
    """A predictive distribution of the same Normal in every row."""

    has_atoms = False

    def __init__(self, mean: float, std: float, rows: int):
        self.noise, self.rows = stats.norm(mean, std), rows

    def __getattr__(self, name: str) -> Any:
        values = {"mean": self.noise.mean(), "epistemic": 4.0, "aleatoric": 9.0}
        return lambda: np.full(self.rows, values[name])

    def interval(self, level: float) -> np.ndarray:
        return np.tile(self.noise.interval(level), (self.rows, 1))

    def pit(self, y: np.ndarray) -> np.ndarray:
        return self.noise.cdf(y)

    def log_prob(self, y: np.ndarray) -> np.ndarray:
        return self.noise.logpdf(y)

    def crps(self, y: np.ndarray) -> np.ndarray:
        return np.abs(y)


def test_regression_scores_from_a_distribution() -> None:
    y = np.array([0.0, 1.0, -1.0, 10.0])
    dist: Any = NormalDist(0.0, 1.0, 4)
    forecast = forecast_of(dist, y)
    assert isinstance(forecast, RegressionForecast)
    scores = forecast.scores(y)
    assert scores["coverage_90"] == scores["inside_90"] == 0.75
    np.testing.assert_array_equal(forecast.pit, stats.norm.cdf(y))
    assert scores["width_90"] == pytest.approx(2 * stats.norm.ppf(0.95))
    assert scores["crps"] == 3.0
    assert scores["rmse"] == pytest.approx(np.sqrt(102 / 4))
    assert scores["lppd"] == pytest.approx(stats.norm.logpdf(y).mean())
    assert forecast.epistemic is not None and forecast.epistemic[0] == 2.0
    assert forecast.aleatoric is not None and forecast.aleatoric[0] == 3.0


NUM_COUNTS = 5000


def poisson_forecast(mean: float, y: np.ndarray) -> RegressionForecast:
    """The forecast of counts that one draw says are Poisson with this mean."""
    network = FunctionalNetwork(lambda key, x: jnp.zeros(1), lambda w, x: x * w)
    draws = {"network": np.full((1, 1, 1), np.log(mean), np.float32)}
    model = Model(network, mirth.likelihoods.Poisson())
    forecast = forecast_of(Predictive(model, draws, np.ones((len(y), 1))), y)
    assert isinstance(forecast, RegressionForecast) and forecast.has_atoms
    return forecast


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    return np.random.default_rng(1).poisson(0.5, NUM_COUNTS).astype(float)


def test_counts_of_the_true_model_score_as_calibrated(counts: np.ndarray) -> None:
    scores = poisson_forecast(0.5, counts).scores(counts)
    # Four deviations of an observed frequency, at most 0.5 / sqrt(N).
    sigma = 4 * 0.5 / np.sqrt(NUM_COUNTS)
    assert scores["quantile_calibration_error"] < sigma
    assert scores["coverage_90"] == pytest.approx(0.9, abs=sigma)
    # The intervals are [0, 2]: what they hold is no 90 %, and has its own name.
    assert scores["inside_90"] == pytest.approx(stats.poisson.cdf(2, 0.5), abs=sigma)
    assert scores["inside_90"] > 0.98
    assert poisson_forecast(0.5, counts).scores(counts) == scores


@pytest.mark.parametrize("mean", [0.25, 0.75])
def test_counts_of_a_wrong_mean_are_found_out(mean: float, counts: np.ndarray) -> None:
    k, levels = np.arange(20)[:, None], np.arange(1, 20) / 20
    at_most, own = stats.poisson.cdf(k, mean), stats.poisson.pmf(k, mean)
    # Probability of a PIT of at most each level while the mean is 0.5.
    below = stats.poisson.pmf(k, 0.5).T @ np.clip((levels - at_most + own) / own, 0, 1)
    error = np.sqrt(np.mean((below - levels) ** 2))
    scores = poisson_forecast(mean, counts).scores(counts)
    sigma = 4 * 0.5 / np.sqrt(NUM_COUNTS)
    assert scores["quantile_calibration_error"] == pytest.approx(error, abs=sigma)
    assert scores["quantile_calibration_error"] > sigma
    assert scores["coverage_90"] == pytest.approx(below[0, -1] - below[0, 0], abs=sigma)
    # Narrow intervals are too narrow at this level; wide ones show at others only.
    assert (abs(scores["coverage_90"] - 0.9) > sigma) == (mean < 0.5)


@pytest.mark.parametrize("kind", [RegressionForecast, ClassForecast])
def test_table_columns_are_scores(kind: Any) -> None:
    if kind is RegressionForecast:
        scores = kind(*np.full((6, 3), 0.5)).scores(np.zeros(3))
    else:
        scores = kind(np.full((3, 2), 0.5), np.zeros(3)).scores(np.zeros(3, int))
    assert set(kind.columns) <= set(scores)
