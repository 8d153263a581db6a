"""Checks of the inputs that are predicted for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree, Shaped

from mirth.core.types import Params, is_tree


def check_inputs(x: Any, draws: Params) -> PyTree[np.ndarray]:
    """Check the inputs and give real numbers the precision of the draws.

    Parameters
    ----------
    x : array-like of shape (rows, features) or (rows, ...), or pytree of arrays
        Inputs, scaled.
    draws : pytree of arrays
        Parameters of all draws.

    Returns
    -------
    array or pytree of arrays
        The same structure.

    Raises
    ------
    ValueError
        If an array has fewer than two axes, no rows, no numbers, numbers that are not finite, or
        another number of rows than the others.

    Examples
    --------
    >>> check_inputs([[1.0, 2.0]], {"weight": np.zeros(3, np.float32)}).dtype
    dtype('float32')
    """
    common = np.result_type(*(leaf.dtype for leaf in jax.tree.leaves(draws)))
    dtype = jax.dtypes.canonicalize_dtype(common)
    x = jax.tree.map(lambda leaf: _check_array(leaf, dtype), x if is_tree(x) else np.asarray(x))
    if len({len(leaf) for leaf in jax.tree.leaves(x)}) > 1:
        shapes = jax.tree.map(np.shape, x)
        raise ValueError(f"x has arrays of different numbers of rows: {shapes}.")
    return x


def _check_array(x: Any, dtype: Any) -> Shaped[np.ndarray, "data ..."]:
    """Check one array of inputs."""
    x = np.asarray(x)
    if x.ndim < 2 or not len(x):
        raise ValueError(
            f"x has shape {x.shape}; pass scaled inputs of shape (rows, features), or (rows, ...) "
            "for images, with at least one row. A single row is x[None]."
        )
    if x.dtype.kind not in "fiu":
        raise ValueError(f"x has the type {x.dtype}; encode it as numbers, as in the fit.")
    if x.dtype.kind != "f":
        return x
    if not all_finite([x]):
        raise ValueError("x has numbers that are not finite; fill or drop these rows.")
    return x.astype(dtype)


def all_finite(arrays: Sequence[np.ndarray]) -> bool:
    """Whether no array has a number that is infinite or NaN.

    Examples
    --------
    >>> all_finite([np.zeros(2), np.array([np.nan])])
    False
    """
    return all(np.isfinite(array).all() for array in arrays)
