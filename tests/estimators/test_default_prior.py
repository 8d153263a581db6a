"""The default prior follows from the table: how well can it be predicted, how wide is it?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mirth
from mirth.estimators.default_prior import explained_share, one_hot

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4))
NOISE = RNG.normal(size=300)


def test_the_share_is_that_of_rows_that_were_not_fitted() -> None:
    assert explained_share(X, NOISE) < 0.1  # trees would explain their own rows
    assert explained_share(X, X[:, 0]) > 0.99  # a line: ridge
    assert explained_share(X, np.abs(X[:, 0])) > 0.8  # no line: trees
    # Half of the variance is signal.
    np.testing.assert_allclose(explained_share(X, X[:, 0] + NOISE), 0.5, atol=0.07)


def test_the_share_has_no_unit() -> None:
    y = X[:, 0] + NOISE
    np.testing.assert_allclose(explained_share(X, 1e3 * y + 7), explained_share(X, y), rtol=1e-6)


def test_classes_and_several_targets() -> None:
    labels = (X[:, 0] > 0).astype(int)
    assert explained_share(X, one_hot(labels)) > 0.8
    assert explained_share(X, one_hot(RNG.integers(0, 2, 300))) < 0.1
    both = explained_share(X, np.stack([X[:, 0], NOISE], axis=1))
    each = [explained_share(X, y) for y in (X[:, 0], NOISE)]
    np.testing.assert_allclose(both, np.mean(each), atol=0.05)
    constant = np.stack([X[:, 0], np.ones(300)], axis=1)
    np.testing.assert_allclose(explained_share(X, constant), each[0], atol=0.02)


def test_weights_count() -> None:
    """Rows of noise that weigh nothing do not hide what the others follow."""
    y = np.where(np.arange(300) < 150, X[:, 0], 5 * NOISE)
    weights = np.where(np.arange(300) < 150, 1.0, 1e-6)
    assert explained_share(X, y, weights) > 0.9 > 0.5 > explained_share(X, y)


def test_small_tables_are_noisy_and_large_ones_are_cut() -> None:
    assert explained_share(X[:19], X[:19, 0]) == 0.0
    many = np.tile(X, (20, 1))
    assert explained_share(many, many[:, 0]) > 0.99


def test_the_scale_follows_from_the_share() -> None:
    auto = mirth.priors.AutoPrior(noisy_scale=0.5, smooth_scale=2.0)
    shares = (-1.0, 0.6, 0.675, 0.75, 1.0)
    expected = (0.5, 0.5, 1.0, 2.0, 2.0)
    np.testing.assert_allclose([auto.choose(share).scale for share in shares], expected)
    for field in ("noisy_scale", "smooth_scale"):
        with pytest.raises(ValueError, match=f"^{field}=0"):
            mirth.priors.AutoPrior(**{field: 0.0})


def chosen(
    X: np.ndarray, y: np.ndarray, estimator: Any = mirth.BNNRegressor, **options: Any
) -> Any:
    model = estimator((4,), method="deep_ensemble", n_members=1, random_state=0, **options)
    return model.fit(X, y)


def test_estimators_choose() -> None:
    noisy, smooth = chosen(X, NOISE), chosen(1e3 * X, X[:, 0])
    assert noisy.model_.prior == mirth.priors.FanInNormalPrior(scale=1.0)
    assert smooth.model_.prior == mirth.priors.FanInNormalPrior(scale=3.0)
    classes = chosen(X, X[:, 0] > 0, mirth.BNNClassifier)
    assert classes.model_.prior == smooth.model_.prior
    own = chosen(X, NOISE, prior=mirth.priors.AutoPrior(noisy_scale=0.3))
    assert own.model_.prior.scale == pytest.approx(0.3)
    given = chosen(X, NOISE, prior="normal")
    assert given.model_.prior == mirth.priors.NormalPrior()
    own.set_params(prior__noisy_scale=0.4)
    assert math.isclose(own.fit(X, NOISE).model_.prior.scale, 0.4)


def test_what_was_chosen_is_kept(tmp_path: Path) -> None:
    own = mirth.priors.AutoPrior(noisy_scale=0.3)
    chosen(X, NOISE, prior=own).save(tmp_path / "a.mirth")
    again = mirth.load(tmp_path / "a.mirth")
    assert again.prior == own and again.model_.prior.scale == pytest.approx(0.3)


def test_a_prior_that_is_none() -> None:
    with pytest.raises(ValueError, match="did you mean 'auto'|'auto'"):
        chosen(X, NOISE, prior="auot")
    with pytest.raises(TypeError, match=r"must be a name \(auto, normal"):
        chosen(X, NOISE, prior=3.0)
