"""Estimators that weigh their chains by stacking."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mirth
from mirth import BNNClassifier, BNNRegressor, MirthWarning, results
from mirth.estimators._weights import weigh

pytestmark = pytest.mark.usefixtures("unoptimised")

START = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=20, batch_size=16)
METHOD = mirth.MILE(n_warmup=100, n_samples=30, n_thinning=2, start=START)
OPTIONS: dict[str, Any] = dict(
    hidden_layer_sizes=(), likelihood="homoscedastic", method=METHOD, n_members=3, random_state=0
)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2))
    return x, x @ [1.0, -0.5] + 0.3 * rng.normal(size=90)


@pytest.fixture(scope="module")
def stacked(rows: Any) -> BNNRegressor:
    return BNNRegressor(**OPTIONS, weights="stacking").fit(*rows)


def test_chains_are_weighed_by_the_rows_that_they_learnt_from(stacked: Any, rows: Any) -> None:
    train = stacked._session.rows().train
    plain = dataclasses.replace(stacked.posterior_, chain_weights=None)
    expected = results.stack(plain, mirth.Dataset(train.x, train.y))
    weights = stacked.posterior_.chain_weights
    np.testing.assert_array_equal(weights, expected.chain_weights)
    assert np.ptp(weights) > 1e-4
    dist = results.predict_dist(plain, stacked.x_scaler_.transform(rows[0]), **stacked._units())
    assert np.abs(stacked.predict(rows[0]) - dist.mean()).max() > 1e-6
    assert "of 81 rows" in stacked.diagnostics_.summary
    assert str(stacked.diagnostics_).splitlines()[0].endswith("weight")


def test_the_ensemble_has_the_weights_of_its_own_fit(stacked: Any, rows: Any) -> None:
    twin = stacked.as_deep_ensemble()
    alone = BNNRegressor(**OPTIONS | {"method": START}, weights="stacking").fit(*rows)
    np.testing.assert_allclose(
        twin.posterior_.chain_weights, alone.posterior_.chain_weights, rtol=1e-5
    )
    np.testing.assert_allclose(twin.predict(rows[0]), alone.predict(rows[0]), rtol=1e-5)
    assert "on 9 held-out rows" in twin.posterior_.notes[-1]
    assert sum("stacking" in note for note in twin.posterior_.notes) == 1


def test_files_copies_and_compression_keep_them(stacked: Any, rows: Any, tmp_path: Path) -> None:
    stacked.save(tmp_path / "model")
    loaded = mirth.load(tmp_path / "model")
    assert loaded.weights == "stacking"
    for one, other in ((loaded, stacked), (loaded.as_deep_ensemble(), stacked.as_deep_ensemble())):
        np.testing.assert_array_equal(one.predict(rows[0]), other.predict(rows[0]))
    small = stacked.compress(5)
    np.testing.assert_array_equal(small.posterior_.chain_weights, stacked.posterior_.chain_weights)


def test_more_members_have_weights_of_their_own(rows: Any) -> None:
    options = OPTIONS | {"method": START, "n_members": 2}
    reg = BNNRegressor(**options, weights="stacking").fit(*rows)
    reg.fit_more(n_members=3)
    whole = BNNRegressor(**OPTIONS | {"method": START}, weights="stacking").fit(*rows)
    np.testing.assert_allclose(
        reg.posterior_.chain_weights, whole.posterior_.chain_weights, rtol=1e-5
    )
    assert sum("stacking" in note for note in reg.posterior_.notes) == 1


def test_classes(rows: Any) -> None:
    options = dict(hidden_layer_sizes=(3,), method=START, n_members=3, random_state=0)
    labels = np.where(rows[1] > 0, "yes", "no")
    equal, other = (
        BNNClassifier(**options, weights=weights).fit(rows[0], labels)
        for weights in ("equal", "stacking")
    )
    assert equal.posterior_.chain_weights is None
    found = results.predict_dist(other.posterior_, other.x_scaler_.transform(rows[0]))
    np.testing.assert_allclose(other.predict_proba(rows[0]), found.probabilities(), rtol=1e-6)
    assert np.abs(equal.predict_proba(rows[0]) - other.predict_proba(rows[0])).max() > 1e-6


def test_too_few_draws_are_told_of_before_the_fit_or_after(stacked: Any, rows: Any) -> None:
    few = BNNRegressor(method=mirth.MILE(n_samples=24), weights="stacking")
    with pytest.raises(ValueError, match="needs 25 draws per chain .* n_samples=24; give it more"):
        few.fit(*rows)
    with pytest.raises(ValueError, match="weights"):
        BNNRegressor(weights="stacked").fit(*rows)
    # A limit of the time may leave fewer than were asked for.
    cut = dataclasses.replace(stacked.posterior_, chain_weights=None)
    cut = cut.take_draws(np.tile(np.arange(10), (3, 1)))
    with pytest.warns(MirthWarning, match="there are 10, so the chains count alike"):
        found = weigh(cut, stacked._session, "stacking")
    assert found.posterior.chain_weights is None
