"""Small vector-space operations on pytrees of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from mirth.core.random import fold_in, standard_normals


def leaf_name(path: Any) -> str:
    """Name a leaf by its path in a tree, joined by dots.

    Examples
    --------
    >>> leaves = jax.tree_util.tree_leaves_with_path({"network": ({"weight": 1.0},)})
    >>> [leaf_name(path) for path, _ in leaves]
    ['network.0.weight']
    """
    return jax.tree_util.keystr(path, simple=True, separator=".")


def unraveller(tree: PyTree) -> tuple[Callable[[Array], PyTree], jax.ShapeDtypeStruct]:
    """Give the function that makes such a tree of one vector, and what the vector is.

    Nothing is computed, so nothing is compiled: ``ravel_pytree`` outside of compiled code is a
    program for each shape.

    Parameters
    ----------
    tree : pytree of arrays, or of their shapes
        A tree.

    Examples
    --------
    >>> unravel, vector = unraveller({"a": np.zeros((2, 3)), "b": np.zeros(4)})
    >>> vector.shape, unravel(np.arange(10.0))["a"].shape
    ((10,), (2, 3))
    """
    found = []

    def ravel(tree: PyTree) -> Array:
        flat, unravel = ravel_pytree(tree)
        found.append(unravel)
        return flat

    vector = jax.eval_shape(ravel, tree)
    return found[0], vector


def full_precision(values: Any) -> np.ndarray:
    """Give an array, with 16-bit numbers as float32: they are for keeping, not for computing.

    Examples
    --------
    >>> full_precision(np.ones(2, np.float16)).dtype.name, full_precision(np.ones(2)).dtype.name
    ('float32', 'float64')
    """
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def tree_size(tree: PyTree) -> int:
    """Give the number of scalars in all leaves.

    Examples
    --------
    >>> tree_size({"a": np.zeros((2, 3)), "b": np.zeros(4)})
    10
    """
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def tree_dot(a: PyTree, b: PyTree) -> Float[Array, ""]:
    """Inner product over all leaves."""
    return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b))))


def tree_norm(a: PyTree) -> Float[Array, ""]:
    """Euclidean norm over all leaves."""
    return jnp.sqrt(tree_dot(a, a))


def tree_normal(key: jax.Array, like: PyTree, num: int) -> list[PyTree]:
    """Draw ``num`` trees of standard Normal numbers shaped like ``like`` from one key."""
    leaves, treedef = jax.tree.flatten(like)
    draws = [
        standard_normals(fold_in(key, i), num, leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return [jax.tree.unflatten(treedef, [draw[n] for draw in draws]) for n in range(num)]


def tree_all_finite(*trees: PyTree) -> Bool[Array, ""]:
    """Tell whether every number in every leaf is finite."""
    leaves = jax.tree.leaves(trees)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def tree_select(condition: Bool[Array, ""], if_true: Any, if_false: Any) -> Any:
    """Choose between two trees leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)
