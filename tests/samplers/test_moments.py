from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.samplers.moments import init_moments, update_moments, variance


@jax.jit
def accumulate(values, weights):
    def one(moments, row):
        return update_moments(moments, *row), None

    return jax.lax.scan(one, init_moments(values[0]), (values, weights))[0]


def run(values, weights):
    return accumulate(jnp.asarray(values, jnp.float32), jnp.asarray(weights, jnp.float32))


def test_weighted_moments_equal_those_of_numpy():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(500, 3)) * [1e-3, 1, 1e3], rng.uniform(0, 2, size=500)
    moments = run(values, weights)
    mean = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(moments.weight, weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-4, atol=1e-4 * values.std(axis=0).min())
    expected = np.average((values - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(variance(moments), expected, rtol=1e-5)


@pytest.mark.parametrize("offset", [1e4, -1e5])
def test_a_large_offset_does_not_spoil_the_variance(offset):
    # E[x^2] - E[x]^2 in float32 has an error of eps * offset^2 = 12 here, or more.
    x = (offset + np.random.default_rng(1).normal(size=(5000, 1))).astype(np.float32)
    moments = run(x, np.ones(5000))
    ulp = np.spacing(np.float32(abs(offset)))
    # The mean stops moving once a step of 1 / n is below half a unit in its last place.
    np.testing.assert_allclose(moments.mean, x.mean(dtype=np.float64), atol=30 * ulp)
    np.testing.assert_allclose(variance(moments), x.var(axis=0, dtype=np.float64), rtol=5e-3)


def test_a_weight_of_zero_changes_nothing():
    values = np.random.default_rng(2).normal(size=(6, 2))
    kept = run(values[[0, 2, 5]], [1.0, 0.5, 2.0])
    with_zeros = run(values, [1.0, 0.0, 0.5, 0.0, 0.0, 2.0])
    jax.tree.map(np.testing.assert_array_equal, with_zeros, kept)


def test_nothing_seen_yet_has_no_spread():
    tree = {"a": jnp.ones(2), "b": jnp.ones(())}
    moments = update_moments(init_moments(tree), tree, jnp.zeros(()))
    assert moments.weight == 0
    jax.tree.map(
        np.testing.assert_array_equal, variance(moments), jax.tree.map(np.zeros_like, tree)
    )


def test_one_value_is_its_own_mean():
    moments = run([[3.0, -1.0]], [0.25])
    np.testing.assert_array_equal(moments.mean, [3, -1])
    np.testing.assert_array_equal(variance(moments), [0, 0])
