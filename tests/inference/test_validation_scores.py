"""How chains are judged by the validation rows, whether they were fitted to them or not."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.stats

import mirth
from mirth.inference.reports import FITTED, HELD_OUT, LEFT_OUT, ValidationScores, joined_scores
from mirth.results.diagnostics import judge, judged_by, loses_to_start


def normal_posterior(num_rows: int, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Log densities of y ~ N(theta, 1) by draws under a flat prior, and the exact ones left out."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=num_rows)
    theta = y.mean() + rng.normal(size=(2, num_draws)) / np.sqrt(num_rows)
    others = (y.sum() - y) / (num_rows - 1)
    exact = scipy.stats.norm(others, np.sqrt(1 + 1 / (num_rows - 1))).logpdf(y)
    return scipy.stats.norm.logpdf(y, theta[..., None]), exact


def test_rows_that_were_fitted_are_left_out() -> None:
    draws, exact = normal_posterior(12, 2000)
    scores = ValidationScores.of(np.zeros((2, 12)), draws)
    naive = np.logaddexp.reduce(draws, axis=1) - np.log(2000)
    assert scores.kind == LEFT_OUT and scores.unreliable < 0.2
    error = abs(scores.chain - exact).max()
    assert error < 0.05 < abs(naive - exact).max()  # twelve rows: what is fitted looks better
    np.testing.assert_array_equal(scores.lppd_chain, scores.chain.mean(axis=1))


def test_a_row_that_counted_twice_is_left_out_twice() -> None:
    draws, _ = normal_posterior(12, 2000)
    once, twice = (ValidationScores.of(np.zeros((2, 12)), draws, np.full(12, w)) for w in (1, 2))
    assert (twice.lppd_chain < once.lppd_chain).all()


def test_too_few_draws_are_named() -> None:
    draws = np.random.default_rng(0).normal(size=(2, 24, 5))
    scores = ValidationScores.of(np.zeros((2, 5)), draws)
    assert scores.kind == FITTED and "fitted to as well" in scores.rows
    expected = np.log(np.exp(draws).mean(axis=1))
    np.testing.assert_allclose(scores.chain, expected, rtol=1e-12)


def test_what_overflowed_is_ruled_out() -> None:
    draws = np.random.default_rng(0).normal(size=(2, 100, 5))
    draws[0, 3, 1], draws[1, :, 2] = np.nan, np.inf
    scores = ValidationScores.of(np.zeros((2, 5)), draws)
    assert np.isneginf(scores.chain[0, 1]) and np.isneginf(scores.chain[1, 2])
    assert np.isfinite(np.delete(scores.chain, [1, 2], axis=1)).all()


def test_the_standard_error_knows_that_the_start_was_chosen() -> None:
    # Differences of 0 and 1 of two rows; starts of 0, or of 0 and 2; infinite ones are not known.
    start = np.array([[0.0, 0.0], [0.0, 2.0], [0.0, 0.0], [-np.inf, 0.0]])
    chain = np.array([[0.0, 1.0], [0.0, 3.0], [-np.inf, 0.0], [-np.inf, 0.0]])
    found = ValidationScores(start, chain, HELD_OUT).standard_error
    expected = [np.sqrt(0.25 / 2), np.sqrt((0.25 + 1) / 2), np.nan, np.nan]
    np.testing.assert_allclose(found, expected)


def test_the_gain_is_that_of_mixtures() -> None:
    rng = np.random.default_rng(0)
    start, chain = rng.normal(size=(2, 3, 40))
    scores = ValidationScores(start, chain, HELD_OUT)
    ensemble = np.log(np.exp(start).mean(axis=0))
    gains = np.log(np.exp(chain).mean(axis=0)) - ensemble
    error = np.sqrt((gains.var() + ensemble.var()) / 40)
    np.testing.assert_allclose(scores.gain(), (gains.mean(), error))
    weights = np.array([0.5, 0.5, 0.0])
    np.testing.assert_allclose(
        scores.gain(weights)[0],
        (np.log(weights @ np.exp(chain)) - np.log(np.exp(start).mean(axis=0))).mean(),
    )


def test_scores_of_parts() -> None:
    rng = np.random.default_rng(0)
    one, two, other = (ValidationScores(*rng.normal(size=(2, 3, n)), HELD_OUT) for n in (7, 7, 8))
    joined = joined_scores([one, two])
    assert joined is not None and joined.chain.shape == (6, 7)
    np.testing.assert_array_equal(joined.take_chains(np.array([4])).start, two.start[1:2])
    assert joined_scores([one, other]) is joined_scores([one, None]) is None


def fitted(**options: Any) -> Any:
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    model = mirth.Model(mirth.MLP((4,)), mirth.Normal())
    start = mirth.DeepEnsemble(max_epochs=3)
    method = mirth.MILE(start=start, n_warmup=20, n_thinning=1, **options)
    return mirth.infer(model, mirth.Dataset(x, x[:, 0]), method, num_chains=2)


def test_what_a_run_says_of_its_rows() -> None:
    """Fitted rows are left out, others are not; the numbers are those of the draws."""
    joined = fitted(n_samples=30)
    assert joined.scores.kind == LEFT_OUT and joined.scores.chain.shape == (2, 6)
    assert fitted(n_samples=24).scores.kind == FITTED
    held = fitted(n_samples=24, use_validation_rows=False)
    assert held.scores.kind == HELD_OUT
    for posterior in (joined, held):
        for name in ("lppd_chain", "lppd_start"):
            expected = getattr(posterior.scores, name)
            np.testing.assert_array_equal(getattr(posterior, name), expected)
        np.testing.assert_array_equal(posterior.lppd_se, posterior.scores.standard_error)
    one = joined.take_chains([1])
    np.testing.assert_array_equal(one.scores.chain, joined.scores.chain[1:])
    assert joined.start_as_posterior().scores is None


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (-0.2, "worse than the ensemble that they started from, by 0.200 ± 0.000"),
        (-0.04, "about as well as the ensemble that they started from (-0.040 ± 0.000)"),
        (0.3, "better than the ensemble that they started from, by 0.300 ± 0.000"),
    ],
)
def test_all_chains_together_are_compared_with_the_ensemble(gain: float, said: str) -> None:
    loses = "worse" in said
    posterior = fitted(n_samples=5)
    start = np.zeros((2, 50))
    scores = ValidationScores(start, start + gain, HELD_OUT)
    posterior = dataclasses.replace(posterior, scores=scores, lppd_chain=posterior.lppd_start)
    assert loses_to_start(posterior) is loses
    assert f"Together they predict {said}, in nats per row of 50 " in judged_by(posterior)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        judge(posterior, advice="Do this.")
    assert any("Do this." in str(w.message) for w in caught) is loses


def test_a_loss_within_three_standard_errors_is_chance() -> None:
    posterior = fitted(n_samples=5)
    noise = np.random.default_rng(0).normal(size=50)
    noise = (noise - noise.mean()) / noise.std() * np.sqrt(50) * 0.1  # a standard error of 0.1
    for loss, loses in ((0.25, False), (0.35, True)):
        scores = ValidationScores(np.zeros((2, 50)), np.tile(noise - loss, (2, 1)), HELD_OUT)
        found = loses_to_start(dataclasses.replace(posterior, scores=scores))
        assert found is loses
