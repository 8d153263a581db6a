"""Fits with every kind of target: counts, positive numbers, rates, several targets, order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mirth
from mirth import BNNClassifier, BNNRegressor
from mirth.estimators._checks import resolve_prior
from mirth.estimators._targets import resolve_likelihood
from mirth.inference import resolve_method
from mirth.model import PRIORS
from mirth.model.likelihoods import REGRESSION

pytestmark = [
    pytest.mark.usefixtures("unoptimised"),
    pytest.mark.filterwarnings("ignore::mirth.MirthWarning"),  # the budget is tiny
]

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (60, 2))
RATE = np.exp(1 + X[:, 0])
TARGETS: dict[str, np.ndarray] = {
    "student_t": 3 * X[:, 0] + RNG.standard_t(3, 60),
    "laplace": 3 * X[:, 0] + RNG.laplace(size=60),
    "quantile": 3 * X[:, 0] + RNG.laplace(size=60),
    "log_normal": np.exp(X[:, 0] + 0.2 * RNG.normal(size=60)),
    "gamma": 1e6 * RATE * RNG.gamma(5, 0.2, 60),
    "poisson": RNG.poisson(RATE),
    "negative_binomial": RNG.poisson(RATE * RNG.gamma(1, 1, 60)),
    "beta": RNG.beta(5 * RATE, 10),
    "multivariate_normal": np.c_[50 + X[:, 0], 100 * X[:, 1]] + RNG.normal(size=(60, 2)),
}


@pytest.fixture
def small(short: dict[str, Any]) -> dict[str, Any]:
    return short | {"hidden_layer_sizes": (4,)}


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("poisson", "tiny"),
        ("gamma", "tiny"),
        ("multivariate_normal", "tiny"),
        pytest.param("beta", "tiny", marks=pytest.mark.slow),
        *(pytest.param(name, "small", marks=pytest.mark.slow) for name in TARGETS),
    ],
)
def test_fits(name: str, budget: str, request: pytest.FixtureRequest) -> None:
    """By MILE, and by the ensemble alone where the program is the same."""
    y = TARGETS[name]
    reg = BNNRegressor(**request.getfixturevalue(budget), likelihood=name).fit(X, y)
    mean, interval = reg.predict(X), reg.predict_interval(X)
    assert mean.shape == y.shape and interval.shape == (60, 2, *y.shape[1:])
    assert np.isfinite(mean).all() and (interval[:, 0] <= interval[:, 1]).all()
    covered = np.mean((interval[:, 0] <= y) & (y <= interval[:, 1]))
    assert covered > 0.6
    if name not in ("quantile", "negative_binomial"):  # a working model; noise of twice the mean
        assert reg.score(X, y) > 0.05
    if name == "poisson":
        quantiles = reg.predict_quantiles(X)
        np.testing.assert_array_equal(quantiles, np.round(quantiles))
        np.testing.assert_array_equal(interval, np.round(interval))
        assert (reg.y_scaler_.mean, reg.y_scaler_.scale) == (0.0, 1.0)
    elif name == "gamma":
        assert reg.y_scaler_.mean == 0.0
        np.testing.assert_allclose(reg.y_scaler_.scale, y.mean())
        assert (interval > 0).all()
    elif name == "multivariate_normal":
        np.testing.assert_allclose(reg.y_scaler_.scale, y.std(axis=0))
        assert reg.sample_predictive(X, 3).shape == (3, 60, 2)
        assert reg.predict_uncertainty(X).epistemic.shape == (60, 2)


@pytest.mark.parametrize("name", ["student_t", pytest.param("log_normal", marks=pytest.mark.slow)])
def test_optimised_fits(name: str, tiny: dict[str, Any]) -> None:
    reg = BNNRegressor(**tiny, likelihood=name).fit(X, TARGETS[name])
    assert reg.score(X, TARGETS[name]) > 0.2
    assert np.isfinite(reg.predict_dist(X).log_prob(TARGETS[name])).all()


def test_a_change_of_units_is_exact(tiny: dict[str, Any]) -> None:
    y = TARGETS["gamma"]
    one, two = (
        BNNRegressor(**tiny, likelihood="gamma").fit(X, unit * y) for unit in (1.0, 2.0**20)
    )
    np.testing.assert_array_equal(two.predict(X), 2.0**20 * one.predict(X))
    np.testing.assert_allclose(
        two.predict_dist(X).log_prob(2.0**20 * y),
        one.predict_dist(X).log_prob(y) - 20 * np.log(2),
        rtol=1e-6,
    )


def test_one_likelihood_for_each_of_several_targets(tiny: dict[str, Any]) -> None:
    y = np.c_[TARGETS["laplace"], TARGETS["poisson"]]
    # A count that is fitted as a number would be found to be rounded.
    same = BNNRegressor(**tiny, resolution=None).fit(X, y)
    default = mirth.likelihoods.StudentT()
    assert same.model_.likelihood == mirth.likelihoods.Independent((default, default))
    mixed = mirth.likelihoods.Independent(
        (mirth.likelihoods.Laplace(), mirth.likelihoods.Poisson())
    )
    reg = BNNRegressor(**tiny, likelihood=mixed).fit(X, y)
    assert reg.y_scaler_.scale[1] == 1.0 and reg.y_scaler_.mean[1] == 0.0
    median = reg.predict_quantiles(X, 0.5)
    assert median.shape == (60, 1, 2)
    np.testing.assert_array_equal(median[..., 1], np.round(median[..., 1]))


def test_nested_parameters_and_persistence(tiny: dict[str, Any], tmp_path: Any) -> None:
    from mirth.estimators import load

    reg = BNNRegressor(**tiny, likelihood=mirth.likelihoods.AsymmetricLaplace())
    reg.set_params(likelihood__level=0.9).fit(X, TARGETS["quantile"])
    assert reg.model_.likelihood.level == 0.9
    reg.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.likelihood == reg.likelihood
    np.testing.assert_array_equal(loaded.predict(X), reg.predict(X))


@pytest.mark.parametrize(
    "likelihood", [pytest.param("bernoulli", marks=pytest.mark.slow), "ordinal"]
)
def test_classes(likelihood: str, tiny: dict[str, Any]) -> None:
    edges = [0.0] if likelihood == "bernoulli" else [-0.5, 0.5]
    labels = np.digitize(X[:, 0], edges) + 5  # sorted, but not from 0
    clf = BNNClassifier(**tiny, likelihood=likelihood).fit(X, labels)
    probabilities = clf.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert clf.score(X, labels) > 0.6
    if likelihood == "ordinal":  # all classes share one direction
        expected = probabilities @ np.arange(3)
        assert np.corrcoef(expected, X[:, 0])[0, 1] > 0.7


BAD: list[tuple[Any, Any, type, str]] = [
    ("poisson", X[:, 0], ValueError, r"Poisson takes whole numbers"),
    ("gamma", X[:, 0], ValueError, r"Gamma takes positive numbers"),
    ("beta", 2 + X[:, 0], ValueError, r"Beta takes numbers between 0 and 1"),
    ("multivariate_normal", X[:, 0], ValueError, r"needs y of shape \(rows, targets\)"),
    (
        mirth.likelihoods.MultivariateNormal(num_targets=3),
        X,
        ValueError,
        r"takes 3 targets per row",
    ),
    (
        mirth.likelihoods.Independent((mirth.Normal(),)),
        X[:, 0],
        ValueError,
        r"takes 1 targets per row",
    ),
    ("normal", np.c_[X[:, 0], np.ones(60)], ValueError, r"y\[:, 1\] is constant \(1 in all 60"),
    (
        mirth.likelihoods.Bernoulli(),
        X[:, 0],
        TypeError,
        r"must be a name .*or an object such as mirth.Normal",
    ),
    ("poison", X[:, 0], ValueError, r"did you mean 'poisson'"),
]


@pytest.mark.parametrize(("likelihood", "y", "error", "message"), BAD)
def test_bad_targets(
    likelihood: Any, y: Any, error: type, message: str, tiny: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        BNNRegressor(**tiny, likelihood=likelihood).fit(X, y)


def test_bernoulli_has_two_classes(tiny: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="num_classes=2, but y has 3 classes"):
        BNNClassifier(**tiny, likelihood="bernoulli").fit(X, np.arange(60) % 3)


def test_names_are_found_whatever_their_case() -> None:
    assert resolve_likelihood("Student-T", ()) == mirth.likelihoods.StudentT()
    assert resolve_likelihood("MULTIVARIATE-NORMAL", (2,)).target_shape == (2,)
    assert resolve_prior("Student-t") == PRIORS["student_t"]()
    assert resolve_method("DEEP-ensemble") == mirth.DeepEnsemble()


def test_every_name_is_known_to_the_configuration() -> None:
    from mirth.experiments.config import LIKELIHOOD_NAMES, parse_config

    assert set(LIKELIHOOD_NAMES["regression"]) == set(REGRESSION) - {"multivariate_normal"}
    for name in (*LIKELIHOOD_NAMES["regression"], *LIKELIHOOD_NAMES["classification"]):
        record = {"data": {"path": "a.csv", "target": "y"}, "model": {"likelihood": name}}
        assert parse_config(record).model.likelihood == name
