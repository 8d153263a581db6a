"""Compressed estimators: smaller, as good, and honest about what was lost."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.estimators import BNNClassifier, BNNRegressor
from mirth.results.compression import compress, exchange

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(scope="module")
def rows(table: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the same kind as the table, that were not fitted."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(120, 2))
    y = 50 + 3 * (np.sin(z[:, 0]) + 0.5 * z[:, 1] + 0.1 * rng.normal(size=120))
    return z * [1.0, 1000.0] + [0.0, 5000.0], y


def lppd(estimator: Any, X: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(estimator.predict_dist(X).log_prob(y)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_shape_type_and_predictions(
    regressor: BNNRegressor, table: tuple[np.ndarray, np.ndarray], dtype: str
) -> None:
    small = regressor.compress(5, dtype=dtype)
    for leaf in jax.tree.leaves(small.posterior_.draws):
        assert leaf.shape[:2] == (2, 5) and leaf.dtype.name == dtype
    assert all(s.shape == (2, 5) for s in small.posterior_.sample_stats.values())
    # With all draws only the rounding is left: relative 2^-11 and 2^-8 of each weight.
    rounded = regressor.compress(20, dtype=dtype)
    error = np.abs(rounded.predict(table[0]) - regressor.predict(table[0])).max() / np.std(table[1])
    assert error <= {"float32": 0.0, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    assert (error > 0) == (dtype != "float32")
    assert np.isfinite(rounded.predict_interval(table[0])).all()


def test_draws_without_targets_are_equally_spaced(regressor: BNNRegressor) -> None:
    small = regressor.compress(4, dtype="float32")
    kept = small.posterior_.positions()
    np.testing.assert_array_equal(kept, regressor.posterior_.positions()[:, [4, 9, 14, 19]])


@pytest.mark.parametrize("n_draws", [1, 2, 4])
def test_chosen_draws_beat_equal_spacing(
    regressor: BNNRegressor, rows: tuple[np.ndarray, np.ndarray], n_draws: int
) -> None:
    """Where every fifth draw is a bad one, on rows that the choice did not see."""
    X, y = rows
    rng = np.random.default_rng(0)

    def spoil(leaf: np.ndarray) -> np.ndarray:
        leaf = np.array(leaf)
        leaf[:, 4::5] += rng.normal(size=leaf[:, 4::5].shape)
        return leaf

    spoilt = copy.copy(regressor)
    draws = jax.tree.map(spoil, regressor.posterior_.draws)
    spoilt.posterior_ = dataclasses.replace(regressor.posterior_, draws=draws)
    spoilt._renewed()
    equal = spoilt.compress(n_draws)
    chosen = spoilt.compress(n_draws, X=X[:80], y=y[:80])
    assert lppd(chosen, X[80:], y[80:]) > lppd(equal, X[80:], y[80:]) + 0.1
    report = chosen.compression_
    assert report.lppd > report.lppd_equal_spacing + 0.1


def test_report_is_what_the_predictions_say(
    regressor: BNNRegressor, rows: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    X, y = rows
    small = regressor.compress(2, dtype="bfloat16", X=X, y=y)
    report, log_scale = small.compression_, np.log(regressor.y_scaler_.scale[0])
    np.testing.assert_allclose(report.lppd, lppd(small, X, y) + log_scale, atol=1e-5)
    np.testing.assert_allclose(report.lppd_all, lppd(regressor, X, y) + log_scale, atol=1e-5)
    assert report.loss == report.lppd_all - report.lppd
    assert "2 of 20 draws per chain, bfloat16: LPPD" in str(report)
    assert str(report) in small.diagnostics_.summary
    small.save(tmp_path / "small.mirth")
    loaded = mirth.load(tmp_path / "small.mirth")
    assert loaded.compression_ == report
    np.testing.assert_array_equal(loaded.predict(X), small.predict(X))
    regressor.save(tmp_path / "whole.mirth")
    size, whole = ((tmp_path / f"{name}.mirth").stat().st_size for name in ("small", "whole"))
    assert size < whole


def test_loss_without_targets_is_a_distance(regressor: BNNRegressor) -> None:
    """It estimates a Kullback-Leibler divergence: about 0 for all draws, above it for few."""
    assert abs(regressor.compress(20, dtype="float32").compression_.loss) < 1e-6
    few = regressor.compress(1).compression_
    assert few.loss > 0.01 and not few.is_held_out


def test_classifier(classifier: BNNClassifier, table: tuple[np.ndarray, np.ndarray]) -> None:
    labels = classifier.predict(table[0])
    small = classifier.compress(2, X=table[0], y=labels)
    assert small.compression_.lppd > small.compression_.lppd_equal_spacing
    assert np.mean(small.predict(table[0]) == labels) > 0.9
    with pytest.raises(ValueError, match="label 'none', which was not fitted"):
        classifier.compress(2, X=table[0][:3], y=["low", "none", "top"])


def test_reverted_steps_are_not_lost(regressor: BNNRegressor) -> None:
    posterior = regressor.posterior_
    counts = np.arange(40, dtype=np.int32).reshape(2, 20)
    posterior = type(posterior)(**vars(posterior) | {"sample_stats": {"diverging": counts}})
    some = posterior.take_draws(np.array([[3, 19], [0, 7]])).sample_stats["diverging"]
    assert some[0].tolist() == [counts[0, :4].sum(), counts[0, 4:].sum()]
    assert some[1].tolist() == [counts[1, 0], counts[1, 1:].sum()]


def test_each_exchange_is_the_best_one() -> None:
    """Against trying every draw and scoring the whole mixture anew."""
    rng = np.random.default_rng(0)
    log_prob, start = rng.normal(size=(2, 6, 30)), np.array([[0, 1], [0, 1]])

    def score(chosen: np.ndarray) -> float:
        if any(len(set(picks)) < len(picks) for picks in chosen):
            return -np.inf
        picked = np.concatenate([log_prob[k, picks] for k, picks in enumerate(chosen)])
        return float(np.logaddexp.reduce(picked).sum())

    best = start.copy()
    for chain, slot in np.ndindex(2, 2):
        others = [best.copy() for _ in range(6)]
        for draw, other in enumerate(others):
            other[chain, slot] = draw
        best = max(others, key=score)
    assert score(best) > score(start)
    np.testing.assert_array_equal(exchange(log_prob, start), np.sort(best, axis=1))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_draws": 21}, "n_draws=21 is more than the 20 draws"),
        ({"n_draws": 0}, "n_draws=0 must be at least 1"),
        ({"dtype": "float8"}, "dtype='float8' is not known"),
        ({"X": [[1.0, 2.0]]}, "both X and y"),
        ({"y": [1.0]}, "both X and y"),
    ],
)
def test_bad_input(regressor: BNNRegressor, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        regressor.compress(**options)


def test_numbers_too_large_for_float16(regressor: BNNRegressor) -> None:
    posterior = regressor.posterior_
    draws = jax.tree.map(lambda leaf: leaf * 0 + 7e4, posterior.draws)
    posterior = type(posterior)(**vars(posterior) | {"draws": draws})
    x = regressor._diagnostic_rows
    with pytest.raises(ValueError, match="ends at 65504, but a draw holds 70000; use 'bfloat16'"):
        compress(posterior, 1, x=x)
