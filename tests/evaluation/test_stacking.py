"""Stacking weights against a brute-force grid and what the objective says of its maximum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from mirth.evaluation import stacking_weights


@pytest.fixture
def log_density() -> np.ndarray:
    """Three chains of which none is best everywhere."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=80)
    centres, widths = np.array([[-0.6], [0.5], [0.1]]), np.array([[0.8], [0.9], [2.0]])
    return -0.5 * ((rows - centres) / widths) ** 2 - np.log(widths)


def objective(weights: np.ndarray, log_density: np.ndarray, prior_rows: float) -> np.ndarray:
    """The objective at many weights, shape (many, chains)."""
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
    mixture = logsumexp(logs[:, :, None] + log_density, axis=1).sum(axis=1)
    return mixture + prior_rows * logs.sum(axis=1)


@pytest.mark.parametrize("prior_rows", [3e-4, 3.0, 300.0])
def test_no_weights_on_a_grid_are_better(log_density: np.ndarray, prior_rows: float) -> None:
    points = np.linspace(0.0, 1.0, 101)
    first, second = np.meshgrid(points, points)
    inside = first + second <= 1
    grid = np.stack([first, second, 1 - first - second], axis=-1)[inside].clip(1e-12)
    found = stacking_weights(log_density, prior_rows=prior_rows)
    values = objective(np.vstack([grid, found]), log_density, prior_rows)
    best = grid[values[:-1].argmax()]
    assert values[-1] >= values[:-1].max() - 1e-8
    assert np.abs(found - best).max() < 0.02  # a mesh of 0.01 in each of two numbers
    assert found.sum() == pytest.approx(1, abs=1e-12) and found.min() > 0


def test_the_prior_pulls_to_equal_weights(log_density: np.ndarray) -> None:
    away = [
        np.abs(stacking_weights(log_density, prior_rows=rows) - 1 / 3).max()
        for rows in (0.03, 3.0, 3e2, 3e5)
    ]
    assert away == sorted(away, reverse=True) and away[0] > 0.2 and away[-1] < 1e-4


def test_a_prior_of_m_rows_is_m_rows_that_one_chain_each_explains(log_density: np.ndarray) -> None:
    rows = np.where(np.eye(3) == 1, 0.0, -np.inf)
    with_rows = np.concatenate([log_density, rows, rows, rows], axis=1)
    found = stacking_weights(with_rows, prior_rows=1e-9)
    np.testing.assert_allclose(stacking_weights(log_density, prior_rows=3), found, atol=1e-5)


def test_equal_chains_have_equal_weights_whatever_the_rows() -> None:
    same = np.tile(np.random.default_rng(1).normal(size=30), (4, 1))
    np.testing.assert_array_equal(stacking_weights(same), np.full(4, 0.25))


def test_one_chain_has_all_the_weight() -> None:
    np.testing.assert_array_equal(stacking_weights(np.zeros((1, 5))), [1.0])


def test_a_row_that_counts_twice_is_there_twice(log_density: np.ndarray) -> None:
    counts = np.arange(80) % 3
    repeated = np.repeat(log_density, counts, axis=1)
    weighted = stacking_weights(log_density, weights=counts)
    np.testing.assert_allclose(weighted, stacking_weights(repeated), atol=1e-5)
    assert np.abs(weighted - stacking_weights(log_density)).max() > 1e-3


def test_units_of_a_row_and_rows_without_a_density_do_not_matter(log_density: np.ndarray) -> None:
    expected = stacking_weights(log_density)
    moved = log_density + np.linspace(-2000, 2000, 80)
    moved = np.concatenate([moved, np.full((3, 2), -np.inf)], axis=1)
    # At the maximum an error of 1e-10 nats per row moves weights by its root.
    np.testing.assert_allclose(stacking_weights(moved), expected, atol=1e-5)


@pytest.mark.parametrize("num_rows", [5, 1000])
def test_many_chains_reach_the_maximum(num_rows: int) -> None:
    rng = np.random.default_rng(2)
    log_density = 30 * rng.normal(size=(50, num_rows))  # rows disagree by hundreds of nats
    w = stacking_weights(log_density, prior_rows=0.02)
    density = np.exp(log_density - log_density.max(axis=0))
    slope = (density / (w @ density)).sum(axis=1) + 0.02 / w
    # At the maximum of a concave function on the simplex all slopes are equal.
    np.testing.assert_allclose(slope, num_rows + 1.0, rtol=1e-4)


def test_what_is_wrong_is_named(log_density: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must have axes \(chains, data\)"):
        stacking_weights(log_density[0])
    with pytest.raises(ValueError, match="prior_rows"):
        stacking_weights(log_density, prior_rows=0.0)
    with pytest.raises(ValueError, match="one number of at least 0 for each of the 80 rows"):
        stacking_weights(log_density, weights=np.ones(3))
    with pytest.raises(ValueError, match="log_density is NaN in 2 of 2 draws"):
        stacking_weights(np.full((2, 3), np.nan))
