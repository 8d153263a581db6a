"""Batches: every row once an epoch, in an order of its own, from nothing but key and step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mirth.core.keys import Purpose, chain_keys
from mirth.data.batches import EpochBatches, permuted

pytestmark = pytest.mark.usefixtures("unoptimised")


def epoch(batches: EpochBatches, key: Any, number: int = 0) -> list[np.ndarray]:
    first = number * batches.num_batches
    rows = jax.jit(jax.vmap(lambda step: batches.rows(key, step)))
    index, weight = map(np.asarray, rows(jnp.arange(first, first + batches.num_batches)))
    return [i[w > 0] for i, w in zip(index, weight, strict=True)]


SIZES = [(1, 1), (2, 1), (7, 7), (10, 4), (11, 4), (100, 32), (1000, 256), (1021, 3), (5000, 4999)]


@pytest.mark.parametrize(
    ("num_rows", "batch_size"),
    [
        pytest.param(*sizes, marks=[] if sizes in SIZES[:4] + SIZES[-1:] else pytest.mark.slow)
        for sizes in SIZES
    ],
)
def test_an_epoch_has_every_row_once(num_rows: int, batch_size: int) -> None:
    batches = EpochBatches(num_rows, batch_size)
    found = epoch(batches, jax.random.key(num_rows))
    assert sorted(np.concatenate(found).tolist()) == list(range(num_rows))
    sizes = {len(rows) for rows in found}
    assert max(sizes) == batches.size <= batch_size and max(sizes) - min(sizes) <= 1


def test_a_sweep_goes_forwards_and_back() -> None:
    batches, key = EpochBatches(10, 3, "sweeps"), jax.random.key(0)
    orders = [epoch(batches, key, n) for n in range(4)]
    for there, back in ((0, 1), (2, 3)):
        assert sorted(np.concatenate(orders[there]).tolist()) == list(range(10))
        for one, two in zip(orders[there], orders[back][::-1], strict=True):
            np.testing.assert_array_equal(one, two)
    assert np.concatenate(orders[0]).tolist() != np.concatenate(orders[2]).tolist()


def test_replacement_draws_each_row_alike() -> None:
    batches, num = EpochBatches(20, 8, "replacement"), 5000
    rows = jax.jit(jax.vmap(lambda step: batches.rows(jax.random.key(1), step)))
    index, weight = rows(jnp.arange(num))
    counts = np.bincount(np.asarray(index).ravel(), minlength=20)
    # 20 rows in 3 batches of at most 8: each step draws 7.
    assert counts.sum() == 7 * num and np.asarray(weight).min() == 1
    assert scipy.stats.chisquare(counts).pvalue > 1e-4
    repeated = [len(set(row)) < len(row) for row in np.asarray(index).tolist()]
    expected = 1 - np.prod(1 - np.arange(7) / 20)
    assert abs(np.mean(repeated) - expected) < 4 * np.sqrt(expected * (1 - expected) / num)


def test_an_unknown_order_is_named() -> None:
    with pytest.raises(ValueError, match="order='sweep' .*'sweeps'"):
        EpochBatches(10, 3, "sweep")


def test_chains_and_epochs_have_orders_of_their_own() -> None:
    batches = EpochBatches(200, 50)
    one, two = chain_keys(0, Purpose.BATCHES, 2)
    orders = [np.concatenate(epoch(batches, key, n)) for key in (one, two) for n in (0, 1)]
    for i in range(4):
        for j in range(i):
            # Two random orders agree at one place on average; ten have a chance of 1e-7.
            assert (orders[i] == orders[j]).sum() < 10
    np.testing.assert_array_equal(orders[1], np.concatenate(epoch(batches, one, 1)))


def test_the_permutation_has_no_preference() -> None:
    """Where a number goes is uniform, and so is the distance of two neighbours afterwards."""
    size, num = 60, 20_000
    keys = jax.random.split(jax.random.key(0), num)
    numbers = jnp.arange(size)
    orders = np.asarray(jax.jit(jax.vmap(lambda k: permuted(k, numbers, size)))(keys))
    counts = np.stack([np.bincount(orders[:, j], minlength=size) for j in (0, 17, 59)])
    distance = np.bincount((orders[:, 1] - orders[:, 0]) % size, minlength=size)[1:]
    for table in (*counts, distance):
        assert scipy.stats.chisquare(table).pvalue > 1e-4
    # The number of fixed points of a random permutation has mean and variance 1.
    fixed = (orders == np.arange(size)).sum(axis=1)
    assert abs(fixed.mean() - 1) < 4 / np.sqrt(num) and abs(fixed.var() - 1) < 0.06


def test_steps_far_away_cost_nothing() -> None:
    batches = EpochBatches(1000, 256)
    rows, weight = jax.jit(batches.rows)(jax.random.key(0), 2**31 - 1)
    assert rows.shape == (250,) and weight.sum() == 250


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "error", "match"),
    [
        (10, 11, ValueError, "batch_size=11 must be at most the number of rows, 10"),
        (10, 0, ValueError, "batch_size=0 must be at least 1"),
        (10, 2.5, TypeError, "batch_size=2.5 must be an integer"),
    ],
)
def test_wrong_sizes(num_rows: Any, batch_size: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        EpochBatches(num_rows, batch_size)
