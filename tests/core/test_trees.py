from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mirth.core.trees import (
    tree_all_finite,
    tree_dot,
    tree_norm,
    tree_normal,
    tree_select,
    tree_size,
)

TREE = {"a": jnp.arange(6.0).reshape(2, 3), "b": [jnp.array(-2.0), jnp.full(2, 0.5)]}


def test_size_dot_and_norm_are_those_of_the_raveled_vector():
    flat = np.asarray(ravel_pytree(TREE)[0])
    other = jax.tree.map(lambda leaf: 2 * leaf + 1, TREE)
    assert tree_size(TREE) == 9
    np.testing.assert_allclose(tree_dot(TREE, other), flat @ (2 * flat + 1), rtol=1e-6)
    np.testing.assert_allclose(tree_norm(TREE), np.linalg.norm(flat), rtol=1e-6)
    assert tree_norm(jax.tree.map(jnp.zeros_like, TREE)) == 0


def test_normal_draws_are_independent_over_leaves_and_draws():
    like = {"a": jnp.zeros(2000), "b": jnp.zeros((2, 1000))}
    first, second = tree_normal(jax.random.key(0), like, 2)
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, like)
    draws = np.array([leaf.ravel() for tree in (first, second) for leaf in tree.values()])
    # Correlations and moments of 2000 independent numbers, to 4 standard errors.
    np.testing.assert_allclose(np.corrcoef(draws), np.eye(4), atol=4 / np.sqrt(2000))
    np.testing.assert_allclose(draws.mean(axis=1), 0, atol=4 / np.sqrt(2000))
    np.testing.assert_allclose(draws.std(axis=1), 1, atol=4 / np.sqrt(4000))
    again = tree_normal(jax.random.key(0), like, 2)
    np.testing.assert_array_equal(again[1]["b"], second["b"])


def test_normal_draws_have_the_type_of_the_leaf():
    (draw,) = tree_normal(jax.random.key(0), {"a": jnp.zeros(3, jnp.float16)}, 1)
    assert draw["a"].dtype == jnp.float16


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_one_number_makes_a_tree_not_finite(bad):
    assert tree_all_finite(TREE)
    assert tree_all_finite(TREE, jnp.ones(()))
    assert not tree_all_finite(TREE, bad)
    assert not tree_all_finite(TREE | {"a": TREE["a"].at[1, 2].set(bad)})


def test_select_takes_one_tree_as_a_whole():
    other = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), TREE)
    chosen = jax.jit(tree_select)(True, TREE, other)
    jax.tree.map(np.testing.assert_array_equal, chosen, TREE)
    assert not tree_all_finite(tree_select(jnp.array(False), TREE, other))
