"""Leave-one-out scores against exact posteriors and ArviZ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mirth.evaluation import _arrays, chainwise_leave_one_out, leave_one_out, lppd
from mirth.evaluation.loo import MIN_DRAWS


def linear_model(
    num_draws: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log densities of rows under exact draws, and exact leave-one-out log densities.

    y ~ N(X theta, 1) with theta ~ N(0, 4 I); a weight c is a row that is seen c times.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = x @ rng.normal(size=4) + rng.normal(size=60)
    weights = np.ones(60) if weights is None else weights

    def posterior(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        covariance = np.linalg.inv((x.T * counts) @ x + np.eye(4) / 4)
        return covariance @ (x.T @ (counts * y)), covariance

    mean, covariance = posterior(weights)
    theta = rng.multivariate_normal(mean, covariance, size=num_draws)
    exact = np.empty(60)
    for n in range(60):
        mean, covariance = posterior(np.where(np.arange(60) == n, 0.0, weights))
        exact[n] = norm.logpdf(y[n], x[n] @ mean, np.sqrt(1 + x[n] @ covariance @ x[n]))
    return norm.logpdf(y, theta @ x.T), exact


@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 1.0, 60)])
def test_the_score_is_that_of_the_exact_posterior_without_the_row(weights) -> None:
    log_prob, exact = linear_model(20_000, weights)
    scores = leave_one_out(log_prob, weights)
    assert scores.share_above() == 0
    # The error of a ratio of means over independent draws, by the variance of its influence.
    counts = np.ones(60) if weights is None else weights
    ratios = np.exp(-counts * log_prob)
    density = np.exp(log_prob)
    influence = ratios * (density / np.exp(exact) - 1) / ratios.mean(axis=0)
    errors = influence.std(axis=0) / np.sqrt(20_000)
    assert np.all(np.abs(scores.pointwise - exact) < 4.5 * errors)
    # What a row adds to its own prediction is larger than all errors.
    assert lppd(log_prob) - exact.mean() > 10 * np.sqrt(np.sum(errors**2)) / 60


def test_weights_matter() -> None:
    log_prob, _ = linear_model(200)
    heavy, light = (leave_one_out(log_prob, np.full(60, c)) for c in (2.0, 0.0))
    assert np.all(heavy.pointwise < leave_one_out(log_prob).pointwise)
    # A row that was not fitted is scored by all draws alike, and has no tail.
    assert light.elpd == pytest.approx(lppd(log_prob), rel=1e-12)
    assert np.all(np.isneginf(light.pareto_k))


@pytest.mark.parametrize("num_draws", [30, 100, 900])
def test_numbers_are_those_of_arviz(num_draws: int) -> None:
    arviz_stats = pytest.importorskip("arviz_stats.base")
    rng = np.random.default_rng(1)
    width = rng.uniform(0.05, 4.0, size=40)  # from short tails to those that nothing can smooth
    log_prob = -width * rng.normal(size=(2, num_draws, 40)) ** 2
    scores = chainwise_leave_one_out(log_prob)
    for chain in range(2):
        chains = log_prob[chain].T[:, None]  # (data, chain, draw)
        elpd, k, _ = arviz_stats.array_stats.loo(chains, chain_axis=1, draw_axis=2)
        np.testing.assert_allclose(scores.pointwise[chain], elpd, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(scores.pareto_k[chain], k, rtol=1e-9, atol=1e-11)
    assert scores.pareto_k.min() < 0.3 and scores.pareto_k.max() > 1


def test_blocks_and_leading_axes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log_prob = -(np.random.default_rng(2).normal(size=(3, 40, 7)) ** 2)
    whole = chainwise_leave_one_out(log_prob)
    monkeypatch.setattr(_arrays, "BLOCK_VALUES", 600)  # two rows of 8 numbers on a grid of 32
    parts = [leave_one_out(chain) for chain in log_prob.astype(np.float64)]
    for name in ("pointwise", "pareto_k", "elpd"):  # sums of other lengths are rounded otherwise
        expected = [getattr(part, name) for part in parts]
        np.testing.assert_allclose(getattr(whole, name), expected, rtol=1e-12)


def test_the_standard_error_is_that_of_a_mean() -> None:
    scores = leave_one_out(-(np.random.default_rng(3).normal(size=(50, 30)) ** 2))
    expected = np.sqrt(np.var(scores.pointwise, ddof=1) / 30)
    assert scores.standard_error == pytest.approx(expected)
    one = leave_one_out(-(np.random.default_rng(3).normal(size=(50, 1)) ** 2))
    assert np.isnan(one.standard_error)


def test_a_row_that_all_draws_like_alike_needs_no_smoothing() -> None:
    log_prob = -(np.random.default_rng(4).normal(size=(50, 2)) ** 2)
    log_prob[:, 1] = -0.25
    scores = leave_one_out(log_prob)
    assert scores.pointwise[1] == pytest.approx(-0.25, rel=1e-12)
    assert np.isneginf(scores.pareto_k[1]) and np.isfinite(scores.pareto_k[0])


def test_draws_that_are_all_the_same_tell_nothing() -> None:
    moving = np.random.default_rng(5).normal(-1.0, 0.1, size=(50, 6))
    frozen = np.repeat(moving[:1], 50, axis=0)
    k = chainwise_leave_one_out([moving, frozen]).pareto_k
    assert np.all(np.isposinf(k[1])) and np.all(np.isfinite(k[0]))


def test_a_draw_that_rules_a_row_out_leaves_it_without_a_density() -> None:
    log_prob = -(np.random.default_rng(6).normal(size=(50, 3)) ** 2)
    log_prob[7, 1] = -np.inf
    scores = leave_one_out(log_prob)
    assert np.isneginf(scores.pointwise[1]) and np.isposinf(scores.pareto_k[1])
    assert np.all(np.isfinite(scores.pointwise[[0, 2]]))


def test_densities_that_underflow_keep_their_digits() -> None:
    log_prob = -(np.random.default_rng(7).normal(size=(100, 5)) ** 2)
    far = leave_one_out(log_prob - 1e6)
    near = leave_one_out(log_prob)
    # 1e6 has a resolution of 1e-10 in float64
    np.testing.assert_allclose(far.pointwise + 1e6, near.pointwise, rtol=0, atol=1e-8)


def test_what_cannot_be_scored_is_named() -> None:
    with pytest.raises(ValueError, match=f"has 24 draws and the fit of a tail needs {MIN_DRAWS}"):
        leave_one_out(np.zeros((24, 3)))
    with pytest.raises(ValueError, match="log_prob is NaN in 1 of 30 draws and 1 of 3 rows"):
        leave_one_out(np.where(np.eye(30, 3) * np.arange(3) == 1, np.nan, -1.0))
    with pytest.raises(ValueError, match="one number of at least 0 for each of the 3 rows"):
        leave_one_out(np.zeros((30, 3)), weights=[1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match=r"must have axes \(chains, draws, data\)"):
        chainwise_leave_one_out(np.zeros((30, 3)))
