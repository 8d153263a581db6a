"""What a method says about the test rows, reduced to what scores and pictures need."""

from __future__ import annotations

import dataclasses
import time
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from mirth.evaluation import (
    accuracy,
    brier,
    coverage_curve,
    expected_calibration_error,
    interval_coverage,
    interval_width,
    quantile_calibration_error,
    rmse,
)
from mirth.prediction import CategoricalPredictive, Predictive
from mirth.report import Column

LEVEL = 0.9  # of the intervals in tables and pictures
Rows = Float[np.ndarray, " data"]


@dataclasses.dataclass(frozen=True, eq=False)
class RegressionForecast:
    r"""Predictive distribution of each test row by numbers.

    The score ``inside_90`` is the share of the targets within the intervals, ends included. The
    score ``coverage_90``, to be compared with 90 %, is the same for continuous targets. Intervals
    of counts end at whole numbers, so those of the true model hold 90 % or more, often much more.
    There ``coverage_90`` is the share of rows whose randomised PIT u is in the middle,
    :math:`|u - \tfrac12| \le 0.45`: of the true model 90 %. Targets between the ends count, those
    at an end by chance, as often as the level needs.

    Parameters
    ----------
    mean, lower, upper : array of shape (rows,)
        Mean and central 90% interval, in the units of the target.
    pit : array of shape (rows,)
        Distribution function at the target, or a random number within its jump there.
    log_prob : array of shape (rows,)
        Log density at the target, nats.
    crps : array of shape (rows,)
        Continuous ranked probability score, in the units of the target.
    epistemic, aleatoric : array of shape (rows,), optional
        Standard deviation of the draws' means, and of the noise.
    has_atoms : bool, default=False
        Whether single values have a probability of their own, as counts do.
    """

    columns: ClassVar[dict[str, Column]] = {
        "lppd": Column("LPPD", ".3f", best="highest"),
        "rmse": Column("RMSE", "#.4g", best="lowest"),
        "crps": Column("CRPS", "#.4g", best="lowest"),
        "coverage_90": Column("90% coverage", ".1%", best=LEVEL),
    }

    mean: Rows
    lower: Rows
    upper: Rows
    pit: Rows
    log_prob: Rows
    crps: Rows
    epistemic: Rows | None = None
    aleatoric: Rows | None = None
    has_atoms: bool = False

    def scores(self, y: np.ndarray) -> dict[str, float]:
        """Score the forecast against the targets of the test rows."""
        inside = interval_coverage(y, self.lower, self.upper)
        covered = coverage_curve(self.pit, [LEVEL])[0] if self.has_atoms else inside
        return {
            "lppd": float(self.log_prob.mean()),
            "rmse": rmse(y, self.mean),
            "crps": float(self.crps.mean()),
            "coverage_90": float(covered),
            "inside_90": inside,
            "width_90": interval_width(self.lower, self.upper),
            "quantile_calibration_error": quantile_calibration_error(self.pit),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class ClassForecast:
    """Predictive distribution of each test row over the classes.

    Parameters
    ----------
    probabilities : array of shape (rows, classes)
        Averaged over draws.
    log_prob : array of shape (rows,)
        Log probability of the true class, nats.
    epistemic, aleatoric : array of shape (rows,), optional
        Mutual information of label and draw, and mean entropy of the draws, nats.
    """

    columns: ClassVar[dict[str, Column]] = {
        "lppd": Column("LPPD", ".3f", best="highest"),
        "accuracy": Column("accuracy", ".1%", best="highest"),
        "brier": Column("Brier", ".4f", best="lowest"),
        "ece": Column("ECE", ".4f", best="lowest"),
    }

    probabilities: Float[np.ndarray, "data classes"]
    log_prob: Rows
    epistemic: Rows | None = None
    aleatoric: Rows | None = None

    def scores(self, y: np.ndarray) -> dict[str, float]:
        """Score the forecast against the class indices of the test rows."""
        return {
            "lppd": float(self.log_prob.mean()),
            "accuracy": accuracy(y, self.probabilities.argmax(axis=1)),
            "brier": brier(y, self.probabilities),
            "ece": expected_calibration_error(y, self.probabilities),
        }


Forecast = RegressionForecast | ClassForecast


def forecast_of(dist: Predictive | CategoricalPredictive, y: np.ndarray) -> Forecast:
    """Reduce a predictive distribution.

    Parameters
    ----------
    dist : Predictive or CategoricalPredictive
        Distribution of the test rows.
    y : array of shape (rows,)
        Their targets, or class indices.

    Returns
    -------
    RegressionForecast or ClassForecast
    """
    if isinstance(dist, CategoricalPredictive):
        return ClassForecast(
            dist.probabilities(), dist.log_prob(y), dist.epistemic(), dist.aleatoric()
        )
    lower, upper = dist.interval(LEVEL).T
    return RegressionForecast(
        mean=dist.mean(),
        lower=lower,
        upper=upper,
        pit=dist.pit(y),
        log_prob=dist.log_prob(y),
        crps=dist.crps(y),
        epistemic=np.sqrt(dist.epistemic()),
        aleatoric=np.sqrt(dist.aleatoric()),
        has_atoms=dist.has_atoms,
    )


def linear_regression(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> tuple[RegressionForecast, float]:
    """Fit least squares with one Normal noise level, by the residuals of the training rows.

    Parameters
    ----------
    x_train, x_test : array of shape (rows, features)
        Inputs; standardised inside by the training rows.
    y_train, y_test : array of shape (rows,)
        Targets.

    Returns
    -------
    forecast : RegressionForecast
        Of the test rows.
    seconds : float
        Time of the fit.
    """
    from scipy.stats import norm
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    begin = time.perf_counter()
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(x_train, y_train)
    residuals = y_train - model.predict(x_train)
    degrees = max(1, len(residuals) - model[-1].rank_ - 1)
    # Noise of zero (a perfect fit) would make every other target impossible.
    sigma = max(np.sqrt(residuals @ residuals / degrees), 1e-6 * y_train.std())
    seconds = time.perf_counter() - begin
    mean = model.predict(x_test)
    noise = norm(mean, sigma)
    z = (y_test - mean) / sigma
    # Gneiting and Raftery (2007), equation 21: the CRPS of a Normal.
    crps = sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    lower, upper = noise.interval(LEVEL)
    return (
        RegressionForecast(mean, lower, upper, noise.cdf(y_test), noise.logpdf(y_test), crps),
        seconds,
    )


def logistic_regression(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray
) -> tuple[ClassForecast, float]:
    """Fit logistic regression with scikit-learn's default penalty.

    Parameters
    ----------
    x_train, x_test : array of shape (rows, features)
        Inputs; standardised inside by the training rows.
    y_train, y_test : integer array of shape (rows,)
        Class indices; the training rows have all classes.

    Returns
    -------
    forecast : ClassForecast
        Of the test rows.
    seconds : float
        Time of the fit.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    begin = time.perf_counter()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    model.fit(x_train, y_train)
    seconds = time.perf_counter() - begin
    log_probabilities = model.predict_log_proba(x_test)
    log_prob = log_probabilities[np.arange(len(y_test)), y_test]
    return ClassForecast(model.predict_proba(x_test), log_prob), seconds
