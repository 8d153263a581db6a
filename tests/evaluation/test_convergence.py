"""Effective sample sizes and R-hat against known chains and independent implementations."""

from __future__ import annotations

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax import diagnostics as blackjax_diagnostics
from scipy.signal import lfilter

from mirth.evaluation import (
    _arrays,
    chainwise_split_rhat,
    effective_sample_size,
    function_space_diagnostics,
    parameter_space_diagnostics,
    rank_normalized_ess,
    split_rhat,
)


def autoregressive(rho: float, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Stationary AR(1) chains along axis 1 with unit variance."""
    noise = np.random.default_rng(seed).normal(size=shape)
    noise[:, 1:] *= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=1)


# Effective sample size


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("num_chains", [1, 3])
def test_ess_of_an_autoregression(rho: float, num_chains: int) -> None:
    num_draws, num_values = 4000, 100
    ess = effective_sample_size(autoregressive(rho, (num_chains, num_draws, num_values)))
    # The time tau = (1 + rho) / (1 - rho) is summed up to a noisy cut: the estimates of its
    # 100 independent copies tell their own standard error, and keeping positive noise only
    # biases tau upwards by about its standard deviation sqrt(2 (2 m + 1) / N), m lags long.
    exact = num_chains * num_draws * (1 - rho) / (1 + rho)
    four_sigma = 4 * ess.std() / np.sqrt(num_values)
    lags = 4 * (1 + rho) / (1 - rho)
    bias = exact * np.sqrt(2 * (2 * lags + 1) / (num_chains * num_draws))
    assert exact - bias - four_sigma < ess.mean() < exact + four_sigma


def test_ess_of_anticorrelated_draws_exceeds_their_number() -> None:
    ess = effective_sample_size(autoregressive(-0.5, (2, 4000, 50)))
    exact = 8000 * 3
    assert abs(ess.mean() - exact) < 4 * ess.std() / np.sqrt(50) + 0.05 * exact
    alternating = np.where(np.arange(1000) % 2, 1.0, -1.0)[None]
    assert effective_sample_size(alternating) == pytest.approx(1000 * np.log10(1000))


@pytest.mark.parametrize(("num_chains", "num_draws"), [(1, 37), (4, 500)])
def test_agrees_with_blackjax(num_chains: int, num_draws: int) -> None:
    # 37 draws are padded to an odd length for the Fourier transform. Where the even lag at the cut
    # exceeds the last pair, blackjax lowers it and Stan does not; not so in these chains.
    x = autoregressive(0.8, (num_chains, num_draws, 12))
    with jax.enable_x64(True):
        ess = jax.jit(blackjax_diagnostics.effective_sample_size)(x)
        rhat = jax.jit(blackjax_diagnostics.rhat)(x[:, num_draws % 2 :])
        np.testing.assert_allclose(effective_sample_size(x), ess, rtol=1e-9)
        np.testing.assert_allclose(split_rhat(x), rhat, rtol=1e-9)


def test_chains_that_disagree_score_as_in_arviz() -> None:
    # Autocorrelations stay positive to the last lag here, where implementations differ. The
    # numbers are those of arviz-stats 0.8.0: ess (identity, bulk) and rhat (rank).
    t, c = np.arange(50.0), np.arange(4.0)[:, None]
    x = np.sin(0.05 * t**2 + c) + 0.3 * np.sin(0.2 * t) + 0.5 * c
    assert effective_sample_size(x) == pytest.approx(6.045448675368018, rel=1e-9)
    assert rank_normalized_ess(x) == pytest.approx(14.049868283398677, rel=1e-9)
    assert split_rhat(x) == pytest.approx(1.2201159366037617, rel=1e-9)


@pytest.mark.skipif(not importlib.util.find_spec("arviz_stats"), reason="needs arviz-stats")
@pytest.mark.parametrize("num_draws", [8, 37, 600])
def test_agrees_with_arviz(num_draws: int) -> None:
    from arviz_stats.base import array_stats

    x = autoregressive(0.7, (4, num_draws)) ** 3
    x[0] += 0.3
    ess = array_stats.ess(x, chain_axis=0, draw_axis=1, method="identity")
    assert effective_sample_size(x) == pytest.approx(float(ess), rel=1e-9)
    even = x[:, num_draws % 2 :]
    bulk = array_stats.ess(even, chain_axis=0, draw_axis=1, method="bulk")
    assert rank_normalized_ess(x) == pytest.approx(float(bulk), rel=1e-9)
    rhat = array_stats.rhat(even, chain_axis=0, draw_axis=1, method="rank")
    assert split_rhat(x) == pytest.approx(float(rhat), rel=1e-9)


def test_the_fewest_draws() -> None:
    x = np.array([[0.0, 1.0, 0.5, 2.0]])
    # no pair is used: the time is at its bound
    assert effective_sample_size(x) == pytest.approx(4 * np.log10(4))
    assert np.isfinite(rank_normalized_ess(np.sin(np.arange(8.0))[None]))


def test_values_keep_their_shape_and_are_scored_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = autoregressive(0.5, (2, 100, 3, 5))
    monkeypatch.setattr(_arrays, "BLOCK_VALUES", 800)  # 4 of the 15 values in a block
    for function in (effective_sample_size, rank_normalized_ess, split_rhat):
        result = function(x)
        assert result.shape == (3, 5)
        np.testing.assert_allclose(result[2, 1], function(x[:, :, 2, 1]), rtol=1e-10)
    chainwise = chainwise_split_rhat(x)
    assert chainwise.shape == (2, 3, 5)
    np.testing.assert_allclose(chainwise[1, 2, 1], chainwise_split_rhat(x[1:, :, 2, 1])[0])


def test_float32_far_from_zero_is_computed_in_float64() -> None:
    x = (1000 + autoregressive(0.5, (2, 500, 4))).astype(np.float32)
    for function in (effective_sample_size, rank_normalized_ess, split_rhat):
        expected = function(x.astype(np.float64))
        np.testing.assert_allclose(function(jnp.asarray(x)), expected, rtol=1e-9)


# The mean of 0.1 is rounded, so a constant chain is not constant relative to its mean.
@pytest.mark.parametrize("function", [effective_sample_size, rank_normalized_ess, split_rhat])
@pytest.mark.parametrize("num_chains", [1, 3])
def test_a_constant_gives_nan(function, num_chains: int) -> None:
    x = autoregressive(0.5, (num_chains, 1000, 2))
    x[:, :, 1] = 0.1
    first, second = function(x)
    assert np.isfinite(first) and np.isnan(second)


def test_chains_frozen_apart_have_no_ess_and_infinite_rhat() -> None:
    x = np.broadcast_to(np.array([[0.1], [0.2], [0.3]]), (3, 100))
    assert np.isnan(effective_sample_size(x))
    assert np.isposinf(split_rhat(x))


# R-hat


def test_rhat_by_its_formula() -> None:
    # After rank normalisation of 0 ... 3, split into (0, 1) and (2, 3); no tie, nothing folded.
    from scipy.stats import norm

    z = norm.ppf((np.arange(1, 5) - 0.375) / 4.25)
    within = (z[1] - z[0]) ** 2 / 2
    between = np.var([z[:2].mean(), z[2:].mean()], ddof=1)
    expected = np.sqrt((within / 2 + between) / within)
    x = np.arange(4.0)[None]
    assert chainwise_split_rhat(x, n_splits=2)[0] == pytest.approx(expected)
    assert split_rhat(x) == pytest.approx(expected)


def test_split_rhat_sees_location_and_spread() -> None:
    x = np.random.default_rng(0).normal(size=(4, 1000, 3))
    x[0, :, 1] += 1.0
    x[0, :, 2] *= 3.0
    same, shifted, wider = split_rhat(x)
    # 8 half chains of n = 500: R-hat^2 - 1 is about (F - 1) / n, F with 7 degrees of freedom and
    # deviation sqrt(2 / 7)
    assert same < np.sqrt(1 + (5 * np.sqrt(2 / 7)) / 500)
    assert shifted > 1.05 and wider > 1.05


def test_two_levels_have_an_rhat() -> None:
    x = np.tile([0.0, 1.0], (2, 50))  # equally often: all are equally far from the median
    assert split_rhat(x) == pytest.approx(np.sqrt(24.5 / 25), abs=0.01)


def test_chainwise_rhat_ignores_that_chains_disagree() -> None:
    x = autoregressive(0.3, (3, 2000)) + 10 * np.arange(3)[:, None]
    assert split_rhat(x) > 2
    # parts of n = 500 with 500 / 1.86 effective draws; F - 1 with 3 degrees of freedom
    five_sigma = np.sqrt(1 + 5 * np.sqrt(2 / 3) * 1.86 / 500)
    assert (chainwise_split_rhat(x) < five_sigma).all()


def test_chainwise_rhat_sees_a_step_that_only_finer_parts_show() -> None:
    x = np.random.default_rng(0).normal(size=(1, 1000))
    x[0, 250:750] += 3.0  # both halves have the same mean
    assert chainwise_split_rhat(x, n_splits=2) < 1.02
    assert chainwise_split_rhat(x, n_splits=4) > 1.3


def test_the_oldest_draws_are_left_out() -> None:
    x = autoregressive(0.3, (2, 101))
    np.testing.assert_array_equal(chainwise_split_rhat(x), chainwise_split_rhat(x[:, 1:]))
    np.testing.assert_array_equal(split_rhat(x), split_rhat(x[:, 1:]))
    np.testing.assert_array_equal(rank_normalized_ess(x), rank_normalized_ess(x[:, 1:]))


# Function and parameter space


def test_diagnostics_are_medians_over_values() -> None:
    flat = autoregressive(0.5, (3, 200, 7))
    result = parameter_space_diagnostics(flat)
    expected = [np.median(rank_normalized_ess(flat[k : k + 1])) for k in range(3)]
    np.testing.assert_allclose(result.ess, expected)
    assert result.ess_total == pytest.approx(sum(expected))
    np.testing.assert_allclose(result.rhat, np.median(chainwise_split_rhat(flat), axis=1))
    assert result.rhat_pooled == pytest.approx(np.median(split_rhat(flat)))


def test_function_space_is_parameter_space_of_the_outputs() -> None:
    outputs = autoregressive(0.5, (2, 100, 10, 2))
    by_function = function_space_diagnostics(outputs)
    by_parameter = parameter_space_diagnostics(outputs.reshape(2, 100, 20))
    np.testing.assert_array_equal(by_function.ess, by_parameter.ess)
    np.testing.assert_array_equal(by_function.rhat, by_parameter.rhat)
    assert by_function.rhat_pooled == by_parameter.rhat_pooled


def test_frozen_chains_and_values_are_left_out_by_name() -> None:
    flat = autoregressive(0.5, (3, 200, 5))
    flat[1] = 0.1  # a frozen chain
    flat[:, :, 0] = 0.1  # and a frozen value
    result = parameter_space_diagnostics(flat)
    np.testing.assert_array_equal(np.isnan(result.ess), [False, True, False])
    np.testing.assert_array_equal(np.isnan(result.rhat), [False, True, False])
    moving = np.median(rank_normalized_ess(flat[:1, :, 1:]))
    assert result.ess[0] == pytest.approx(moving)
    assert result.ess_total == pytest.approx(result.ess[0] + result.ess[2])


@pytest.mark.parametrize(
    ("function", "limit", "shape"),
    [
        (function_space_diagnostics, "max_rows", (2, 50, 30, 2)),
        (parameter_space_diagnostics, "max_params", (2, 50, 60)),
    ],
)
def test_a_random_choice_of_values(function, limit: str, shape: tuple[int, ...]) -> None:
    x = autoregressive(0.5, shape)
    results = [function(x, **{limit: 8, "seed": seed}).ess_total for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]
    assert results[0] != function(x).ess_total
    # values that are not chosen are not looked at: at most 8 of 30 rows or 60 parameters
    x[:, 7, : shape[2] - 8] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        function(x)
    keep = np.random.default_rng(0).choice(shape[2], 8, replace=False)
    x[:, 7, keep] = 0.0
    assert function(x, **{limit: 8, "seed": 0}).ess.shape == (2,)


FEW = np.random.default_rng(0).normal(size=(2, 7))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effective_sample_size(np.ones(5)), r"axes \(chains, draws, \.\.\.\), got shape"),
        (lambda: effective_sample_size(FEW[:, :3]), "x has 3 draws per chain and this needs 4"),
        (lambda: effective_sample_size([[0.0, 1.0, np.nan, 3.0]]), "x has 1 NaN or infinite"),
        (lambda: rank_normalized_ess(FEW), "7 draws per chain and this needs 8"),
        (lambda: split_rhat(FEW[:, :3]), "3 draws per chain and this needs 4"),
        (lambda: split_rhat([[0.0, 1.0, np.inf, 3.0]]), "x has 1 NaN or infinite"),
        (lambda: chainwise_split_rhat(FEW), "7 draws per chain and this needs 8"),
        (lambda: chainwise_split_rhat(FEW, n_splits=1), "n_splits=1 must be at least 2"),
        (lambda: function_space_diagnostics(np.ones((2, 9, 3))), "outputs must have axes"),
        (lambda: function_space_diagnostics(np.ones((2, 9, 3, 1)), max_rows=0), "max_rows=0"),
        (lambda: function_space_diagnostics(np.ones((2, 7, 3, 1))), "outputs has 7 draws"),
        (lambda: parameter_space_diagnostics(FEW), "flat must have axes"),
        (lambda: parameter_space_diagnostics(np.ones((2, 9, 3)), max_params=0), "max_params=0"),
        (lambda: parameter_space_diagnostics(np.ones((2, 0, 3))), "flat is empty"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
