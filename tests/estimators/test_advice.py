"""A fit that loses to its own ensemble says so, and names the cause if it knows it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mirth
from mirth.estimators._advice import advice
from mirth.model import MLP, Bernoulli, Model

RNG = np.random.default_rng(0)
WIDE = RNG.normal(size=(40, 31))
RATINGS = RNG.integers(1, 4, size=40).astype(float)


def test_known_causes() -> None:
    normal, auto = mirth.priors.NormalPrior(), mirth.priors.FanInNormalPrior()
    plain = Model(MLP((4,)), mirth.Normal(), normal)
    continuous = RNG.normal(size=40)
    assert "number of columns (31)" in advice(plain, WIDE, continuous)
    assert "columns" not in advice(plain, WIDE[:, :30], continuous)
    assert "columns" not in advice(Model(MLP((4,)), mirth.Normal(), auto), WIDE, continuous)
    said = advice(plain, WIDE[:, :3], RATINGS)
    assert "3 distinct values" in said and said.endswith("or another prior may help.")
    rounded = mirth.likelihoods.Rounded(mirth.Normal(), resolution=1.0, origin=1.0)
    assert "distinct" not in advice(Model(MLP((4,)), rounded, normal), WIDE[:, :3], RATINGS)
    classes = Model(MLP((4,), num_outputs=1), Bernoulli(), normal)
    assert "distinct" not in advice(classes, WIDE[:, :3], RATINGS.astype(int) % 2)


def expanded(num_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four numbers, each as 24 piecewise linear columns: 96 columns as encodings make them."""
    u = rng.uniform(size=(num_rows, 4))
    ends = np.linspace(0, 1, 25)[:-1]
    X = np.concatenate([np.clip((u[:, [j]] - ends) * 24, 0, 1) for j in range(4)], axis=1)
    noise = 0.1 * rng.normal(size=num_rows)
    return X, np.sin(5 * u[:, 0]) + u[:, 1] * u[:, 2] + noise


def test_a_fit_that_loses_warns() -> None:
    rng = np.random.default_rng(0)
    X, y = expanded(300, rng)
    options = {"likelihood": "normal", "validation_fraction": 0.2, "random_state": 0}
    prior, method = mirth.priors.NormalPrior(scale=2.0), mirth.MILE(n_warmup=1000, n_samples=40)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = mirth.BNNRegressor((16, 16), prior=prior, method=method, n_members=3, **options)
        model.fit(X, y)
    said = [str(w.message) for w in caught if issubclass(w.category, mirth.MirthWarning)]
    worse = [text for text in said if "Together they predict worse than the ensemble" in text]
    assert len(worse) == 1 and "number of columns (96)" in worse[0]
    assert "60 validation rows (those that stop an optimisation), each left out" in worse[0]
    assert "Together they predict worse" in model.diagnostics_.summary
    # The warning is right.
    X, y = expanded(500, rng)
    scores = [e.predict_dist(X).log_prob(y).mean() for e in (model, model.as_deep_ensemble())]
    assert scores[0] < scores[1] - 0.1


@pytest.mark.parametrize("y", ["regression", "classes"])
def test_a_fit_that_gains_does_not_warn(y: str) -> None:
    X = RNG.normal(size=(150, 3))
    target = np.sin(2 * X[:, 0]) + 0.1 * RNG.normal(size=150)
    method = mirth.MILE(n_warmup=300, n_samples=30)
    options = {"method": method, "n_members": 2, "random_state": 0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if y == "classes":
            mirth.BNNClassifier((8,), **options).fit(X, target > 0)
        else:
            mirth.BNNRegressor((8,), **options).fit(X, target)
    assert not [w for w in caught if "predict worse than the ensemble" in str(w.message)]
