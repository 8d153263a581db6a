"""Scores against hand examples, closed forms, scoringrules and numerical integration."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import scoringrules
from scipy.integrate import quad
from scipy.special import logsumexp, ndtr
from scipy.stats import norm

from mirth.evaluation import (
    _arrays,
    accuracy,
    brier,
    chainwise_lppd,
    crps_from_samples,
    crps_normal_mixture,
    gaussian_nll,
    interval_score,
    lppd,
    rmse,
    running_lppd,
)


@pytest.fixture
def log_prob() -> np.ndarray:
    return np.random.default_rng(0).normal(-1.0, 2.0, size=(3, 20, 7))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_arrays, "BLOCK_VALUES", 130)


def mixture(num_samples: int, num_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    shape = (num_samples, num_rows)
    return rng.normal(size=num_rows), rng.normal(size=shape), rng.uniform(0.05, 2.0, size=shape)


# Log pointwise predictive density


def test_lppd_is_the_mean_of_log_mean_densities(log_prob: np.ndarray) -> None:
    expected = np.log(np.exp(log_prob[0]).mean(axis=0)).mean()
    assert lppd(log_prob[0]) == pytest.approx(expected, rel=1e-12)


def test_lppd_keeps_leading_axes_and_chainwise_is_one_of_them(log_prob: np.ndarray) -> None:
    expected = [lppd(chain) for chain in log_prob]
    np.testing.assert_allclose(lppd(log_prob), expected, rtol=1e-12)
    np.testing.assert_allclose(chainwise_lppd(log_prob), expected, rtol=1e-12)


def test_running_lppd_pools_chains_up_to_each_draw(log_prob: np.ndarray) -> None:
    expected = [lppd(log_prob[:, : t + 1].reshape(-1, 7)) for t in range(20)]
    np.testing.assert_allclose(running_lppd(log_prob), expected, rtol=1e-12)
    assert running_lppd(log_prob)[-1] == pytest.approx(lppd(log_prob.reshape(60, 7)), rel=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_do_not_change_the_lppd(log_prob: np.ndarray) -> None:
    # 60 draws per row and 130 values per block: blocks of 2, 2, 2 and 1 rows
    pooled = log_prob.reshape(60, 7)
    expected = (logsumexp(pooled, axis=0) - np.log(60)).mean()
    assert lppd(pooled) == pytest.approx(expected, rel=1e-12)
    assert running_lppd(log_prob)[-1] == pytest.approx(expected, rel=1e-12)


def test_lppd_survives_densities_that_underflow() -> None:
    log_prob = np.full((2, 3, 4), -1e6)
    log_prob[1, 2] += 5.0
    expected = -1e6 + np.log((5 + np.exp(5.0)) / 6)
    # 1e6 has a resolution of 1e-10 in float64
    assert lppd(log_prob.reshape(6, 4)) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(running_lppd(log_prob)[:2], -1e6, rtol=0, atol=1e-9)
    assert running_lppd(log_prob)[2] == pytest.approx(expected, abs=1e-9)


def test_a_density_of_zero_counts_and_is_not_dropped() -> None:
    log_prob = np.array([[[-np.inf], [0.0]], [[-np.inf], [-np.inf]]])
    assert lppd(log_prob[0]) == pytest.approx(np.log(0.5))
    np.testing.assert_allclose(chainwise_lppd(log_prob), [np.log(0.5), -np.inf])
    np.testing.assert_allclose(running_lppd(log_prob), [-np.inf, np.log(0.25)])


@pytest.mark.parametrize("function", [lppd, chainwise_lppd, running_lppd])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_impossible_log_densities_are_named(function, bad, log_prob: np.ndarray) -> None:
    log_prob[1, 3, :2] = bad
    log_prob[2, 4, 0] = bad
    name = "NaN" if np.isnan(bad) else r"\+inf"
    with pytest.raises(ValueError, match=f"log_prob is {name} in 2 of 60 draws and 2 of 7 rows"):
        function(log_prob)


def test_jax_float32_is_summed_in_float64() -> None:
    log_prob = np.random.default_rng(2).normal(-50.0, 5.0, size=(2, 50, 300)).astype(np.float32)
    expected = (logsumexp(log_prob.astype(np.float64), axis=1) - np.log(50)).mean(axis=1)
    np.testing.assert_allclose(chainwise_lppd(jnp.asarray(log_prob)), expected, rtol=1e-13)


# Regression


def test_gaussian_nll_is_the_normal_log_density() -> None:
    y, (mean, *_), (std, *_) = mixture(1, 5)
    assert gaussian_nll(y, mean, std) == pytest.approx(-norm.logpdf(y, mean, std).mean())


def test_rmse_over_targets() -> None:
    assert rmse([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 8.0]]) == pytest.approx(2.0)


@pytest.mark.parametrize("num_samples", [1, 2, 17])
def test_crps_of_a_mixture_agrees_with_scoringrules(num_samples: int) -> None:
    y, loc, scale = mixture(num_samples, 40)
    expected = scoringrules.crps_mixnorm(y, loc, scale, m_axis=0, backend="numpy").mean()
    assert crps_normal_mixture(y, loc, scale) == pytest.approx(expected, rel=1e-12)


def test_crps_of_a_mixture_agrees_with_its_integral() -> None:
    y, loc, scale = mixture(5, 1)

    def squared_gap(z: float) -> float:
        return float((ndtr((z - loc) / scale).mean() - (z >= y[0])) ** 2)

    expected = quad(squared_gap, -20, y[0])[0] + quad(squared_gap, y[0], 20)[0]
    assert crps_normal_mixture(y, loc, scale) == pytest.approx(expected, abs=1e-7)


def test_crps_of_narrow_components_is_that_of_points() -> None:
    y, loc, _ = mixture(6, 3)
    points = np.abs(loc - y).mean() - 0.5 * np.abs(loc[:, None] - loc).mean()
    assert crps_normal_mixture(y, loc, np.full_like(loc, 1e-200)) == pytest.approx(points)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_do_not_change_the_crps() -> None:
    y, loc, scale = mixture(17, 40)  # 7 rows in a block
    expected = scoringrules.crps_mixnorm(y, loc, scale, m_axis=0, backend="numpy").mean()
    assert crps_normal_mixture(y, loc, scale) == pytest.approx(expected, rel=1e-12)
    fair = scoringrules.crps_ensemble(y, loc, m_axis=0, estimator="fair", backend="numpy").mean()
    assert crps_from_samples(y, loc) == pytest.approx(fair, rel=1e-12)


def test_crps_of_several_targets_is_that_of_all_values() -> None:
    y, loc, scale = mixture(4, 6)
    shape = (3, 2)
    wide = crps_normal_mixture(y.reshape(shape), loc.reshape(4, *shape), scale.reshape(4, *shape))
    assert wide == pytest.approx(crps_normal_mixture(y, loc, scale), rel=1e-12)
    samples = crps_from_samples(y.reshape(shape), loc.reshape(4, *shape))
    assert samples == pytest.approx(crps_from_samples(y, loc), rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_crps_from_samples_agrees_with_scoringrules(offset: float) -> None:
    y, samples, _ = mixture(30, 25)
    expected = scoringrules.crps_ensemble(
        y, samples, m_axis=0, estimator="fair", backend="numpy"
    ).mean()
    # at 1e8, the inputs themselves are rounded to 1.5e-8
    tolerance = 1e-12 if offset == 0 else 3e-8
    assert crps_from_samples(y + offset, samples + offset) == pytest.approx(expected, abs=tolerance)


def test_crps_from_samples_is_unbiased_for_few_samples() -> None:
    num_rows, num_samples = 40_000, 3
    samples = np.random.default_rng(3).normal(size=(num_samples, num_rows))
    y = np.zeros(num_rows)
    exact = crps_normal_mixture([0.0], [[0.0]], [[1.0]])
    per_row = np.abs(samples).mean(axis=0) - sum(
        np.abs(samples[i] - samples[j]) for i in range(3) for j in range(i)
    ) / (num_samples * (num_samples - 1))
    four_sigma = 4 * per_row.std() / np.sqrt(num_rows)
    # the estimator that divides by S^2 is too large by E|X - X'| / (2 S) = 0.19, some 60 sigma
    assert crps_from_samples(y, samples) == pytest.approx(exact, abs=four_sigma)


def test_interval_score_punishes_misses_by_the_level() -> None:
    y, lower, upper = [0.0, -2.0, 5.0], [-1.0, -1.0, 1.0], [1.0, 1.0, 3.0]
    assert interval_score(y, lower, upper, level=0.8) == pytest.approx((2 + 12 + 22) / 3)
    expected = scoringrules.interval_score(
        np.array(y), np.array(lower), np.array(upper), alpha=0.05, backend="numpy"
    ).mean()
    assert interval_score(y, lower, upper, level=0.95) == pytest.approx(expected)


# Classification


def test_accuracy_of_numbers_and_of_text() -> None:
    assert accuracy([0, 1, 2, 1], np.array([0, 1, 1, 1])) == 0.75
    assert accuracy(np.array(["a", "b"], dtype=object), ["a", "c"]) == 0.5


def test_brier_is_zero_for_certain_truth_and_two_for_certain_error() -> None:
    certain = np.eye(3)
    assert brier([0, 1, 2], certain) == 0.0
    assert brier([1, 2, 0], certain) == 2.0


def test_brier_of_two_classes_is_twice_that_of_one() -> None:
    y, positive = np.array([0, 1, 1]), np.array([0.3, 0.6, 0.9])
    probabilities = np.stack([1 - positive, positive], axis=1)
    assert brier(y, probabilities) == pytest.approx(2 * np.mean((positive - y) ** 2))


# What is refused

ONES = np.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lppd(ONES),
            r"log_prob must have axes \(\.\.\., samples, data\), got",
        ),
        (lambda: lppd(np.ones((0, 3))), r"log_prob is empty: it has shape \(0, 3\)"),
        (lambda: chainwise_lppd(np.ones((2, 2))), r"axes \(chains, draws, data\)"),
        (lambda: running_lppd(np.ones((2, 2))), r"axes \(chains, draws, data\)"),
        (lambda: lppd([["a"]]), "log_prob must hold real numbers"),
        (lambda: rmse(ONES, np.ones((3, 1))), r"same shape: y \(3,\), prediction \(3, 1\)"),
        (lambda: rmse([np.nan], [1.0]), "y has 1 NaN or infinite values among 1"),
        (lambda: rmse([1.0], [np.inf]), "prediction has 1 NaN or infinite"),
        (lambda: gaussian_nll(ONES, ONES, [1.0]), r"same shape: .* std \(1,\)"),
        (lambda: gaussian_nll(ONES, ONES, 0 * ONES), "std must be positive.* least value is 0"),
        (lambda: accuracy(ONES, np.ones(2)), "same shape"),
        (lambda: accuracy(np.ones((3, 1)), np.ones((3, 1))), r"y must have axes \(data\)"),
        (lambda: accuracy(["a"], [0]), "one encoding, got .*decode"),
        (lambda: brier([0.0, 1.0], np.eye(2)), "y_index must hold integer class indices"),
        (lambda: brier([0, 2], np.eye(2)), r"within 0 \.\.\. 1 .* got 0 \.\.\. 2"),
        (lambda: brier([0, -1], np.eye(2)), r"got -1 \.\.\. 0"),
        (lambda: brier([0], np.eye(2)), r"y_index must have shape \(2,\), got \(1,\)"),
        (lambda: brier([0, 1], [[2.0, 1.0], [0.0, 1.0]]), "did you pass logits"),
        (lambda: brier([0, 1], [[1.5, -0.5], [0.0, 1.0]]), "did you pass logits"),
        (lambda: brier([0, 1], [0.5, 0.5]), r"axes \(data, classes\)"),
        (lambda: crps_normal_mixture(ONES, ONES, ONES), r"loc must have axes \(samples, data, "),
        (lambda: crps_normal_mixture(ONES, np.ones((2, 3)), ONES), r"same shape: loc .* scale"),
        (lambda: crps_normal_mixture(ONES, np.ones((3, 2)), np.ones((3, 2))), r"loc\[0\] \(2,\)"),
        (lambda: crps_normal_mixture([0.0], [[0.0]], [[-1.0]]), "scale must be positive"),
        (lambda: crps_from_samples(ONES, np.ones((1, 3))), "samples has 1 draw per row"),
        (lambda: crps_from_samples(ONES, np.ones((3, 2))), r"samples\[0\] \(2,\)"),
        (lambda: interval_score([0.0], [0.0], [1.0], level=90), r"level=90.0 must .* in \(0, 1\)"),
        (lambda: interval_score([0.0], [2.0], [1.0], level=0.9), "above upper in 1 of 1 intervals"),
        (lambda: interval_score(ONES, [0.0], [1.0], level=0.9), "same shape: y"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
