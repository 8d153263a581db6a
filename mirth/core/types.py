"""Types that every layer shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

Params: TypeAlias = PyTree
"""What is sampled: any pytree of floating point arrays."""

Key: TypeAlias = jax.Array
"""A typed JAX key, from ``jax.random.key``."""

LogDensityFn: TypeAlias = Callable[[Any], Float[Array, ""]]
"""An unnormalised log density: position -> scalar. All that a sampler ever sees of a model.

It may have a method ``with_terms(position) -> (scalar, vector)``, whose vector sums up to the
scalar: differences of large log densities are then taken term by term (``samplers/energy.py``)."""


class Batch(NamedTuple):
    """Rows that a log density is conditioned on.

    Parameters
    ----------
    x : array of shape (data, features) or (data, ...), or pytree of such arrays
        Inputs, already scaled; images and the like have further axes.
    y : array of shape (data,) or (data, targets)
        Targets: scaled numbers, or class indices.
    weights : array of shape (data,), optional
        Weight of each row's log likelihood; None means 1. Padding rows have weight 0.
    num_rows : int or scalar array, optional
        Number of rows that are not padding; None means all of them.

    Examples
    --------
    >>> import numpy as np
    >>> batch = Batch(np.zeros((3, 2)), np.zeros(3))
    >>> batch.weights is None
    True
    """

    x: PyTree[Shaped[Array, "data ..."]]
    y: Shaped[Array, "data ..."]
    weights: Float[Array, " data"] | None = None
    num_rows: Any = None

    def weighted(self) -> Batch:
        """Give every row an explicit weight."""
        if self.weights is not None:
            return self
        return self._replace(weights=jnp.ones(self.y.shape[0], float))


def is_table(x: Any) -> bool:
    """Whether inputs are one array of shape (data, features).

    Examples
    --------
    >>> import numpy as np
    >>> is_table(np.zeros((3, 2))), is_table({"tokens": np.zeros((3, 2))})
    (True, False)
    """
    return getattr(x, "ndim", 0) == 2


def is_tree(x: Any) -> bool:
    """Whether inputs are several arrays: a dict, a tuple of arrays, or another pytree.

    Lists, tuples of numbers and tables with named columns are one array.

    Examples
    --------
    >>> import numpy as np
    >>> is_tree((np.zeros((3, 2)), np.zeros((3, 1)))), is_tree(np.zeros((3, 2))), is_tree([[1, 2]])
    (True, False, False)
    """
    if isinstance(x, list) or hasattr(x, "__array__"):
        return False
    if isinstance(x, tuple) and not all(hasattr(item, "__array__") or is_tree(item) for item in x):
        return False
    return not jax.tree_util.all_leaves([x])
