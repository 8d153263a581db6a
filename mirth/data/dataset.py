"""The rows that a model is conditioned on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree, Shaped
from numpy import ndarray

from mirth.core.types import is_tree


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs, targets and weights of N rows, checked once when the object is made.

    Everything is held as NumPy arrays on the host: ``x``, ``weights`` and real targets as float32,
    whole-number and boolean targets as int32. Arrays that have this type already are not copied. A
    column whose offset is far larger than its spread (time stamps, say) loses its digits in
    float32, so scale such inputs first: ``Standardizer`` computes in float64.

    Parameters
    ----------
    x : array of shape (N, features) or (N, ...), or pytree of such arrays
        Inputs, finite. Rows may have axes of their own, such as images
        (N, height, width, channels), if the network takes them; a network of several inputs gets
        them as a dict, or a tuple of arrays.
    y : array of shape (N,) or (N, targets)
        Targets, finite: real numbers, or class indices and counts as integers.
    weights : array of shape (N,), optional
        Weight of each row's log likelihood, non-negative and not all zero; None means 1.
    integer_inputs : bool, default=False
        Keep whole numbers of ``x`` as they are, for networks that look them up or scale them
        themselves: bytes as uint8, others as int32.

    Raises
    ------
    TypeError
        If an array does not hold numbers.
    ValueError
        If shapes do not fit together, there are no rows, values are not finite in the types above,
        or weights are negative or all zero.

    Examples
    --------
    >>> import numpy as np
    >>> dataset = Dataset(np.zeros((3, 2)), np.array([0, 1, 1]))
    >>> len(dataset), dataset.num_features, str(dataset.y.dtype)
    (3, 2, 'int32')
    >>> Dataset(np.array([[0.0], [np.nan]]), np.zeros(2))
    Traceback (most recent call last):
    ...
    ValueError: x holds 1 value that is not finite ..., the first at x[1, 0]; ...
    """

    x: PyTree[Shaped[ndarray, "data ..."]]
    y: Shaped[ndarray, "data ..."]
    weights: Float[ndarray, " data"] | None = None
    integer_inputs: bool = False

    def __post_init__(self) -> None:
        x, y, weights = as_rows(self.x, self.y, self.weights, self.integer_inputs)
        _check_counts(y, weights)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "weights", weights)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def num_features(self) -> int:
        """Number of values in a row of ``x``: columns of a table, or all values of an image."""
        return sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(self.x))

    def take(self, indices: Int[ndarray, " rows"]) -> Dataset:
        """Select rows.

        Parameters
        ----------
        indices : array of shape (rows,)
            Row numbers in the order wanted, repeats allowed; or a boolean mask of shape (N,).

        Returns
        -------
        Dataset
            These rows of ``x``, ``y`` and ``weights``.

        Raises
        ------
        IndexError
            If a row number is not below N.
        ValueError
            If no row is selected, or only rows of weight zero.

        Examples
        --------
        >>> import numpy as np
        >>> dataset = Dataset(np.arange(6.0).reshape(3, 2), np.array([0.0, 1.0, 2.0]))
        >>> dataset.take([2, 0]).y.tolist()
        [2.0, 0.0]
        """
        rows = np.asarray(indices)
        weights = None if self.weights is None else self.weights[rows]
        x = jax.tree.map(lambda leaf: leaf[rows], self.x)
        taken = object.__new__(Dataset)  # the rows were checked when they came
        for name, value in (("x", x), ("y", self.y[rows]), ("weights", weights)):
            object.__setattr__(taken, name, value)
        object.__setattr__(taken, "integer_inputs", self.integer_inputs)
        _check_counts(taken.y, weights)
        return taken


def _check_counts(y: Shaped[ndarray, "data ..."], weights: ndarray | None) -> None:
    """Check that some rows are there and count."""
    if not len(y):
        raise ValueError("there must be at least one row; none was taken.")
    if weights is not None and not weights.any():
        raise ValueError("weights are all zero; at least one row must count.")


def as_rows(x: Any, y: Any, weights: Any, keeps_integers: bool) -> tuple[Any, Any, Any]:
    """Check rows and give them their types; weights may all be zero.

    Parameters
    ----------
    x, y, weights : array-like
        Rows as :class:`Dataset` takes them.
    keeps_integers : bool
        Whether whole numbers of ``x`` stay what they are.

    Returns
    -------
    tuple of arrays
        The same three.

    Raises
    ------
    TypeError, ValueError
        As for :class:`Dataset`.

    Examples
    --------
    >>> as_rows([[1, 2]], [True], None, keeps_integers=False)
    (array([[1., 2.]], dtype=float32), array([1], dtype=int32), None)
    """
    x, y = as_inputs(x, keeps_integers), _as_targets(y)
    num_rows = len(jax.tree.leaves(x)[0])
    if y.ndim not in (1, 2) or len(y) != num_rows or y.size == 0:
        raise ValueError(
            f"y must have shape ({num_rows},) or ({num_rows}, targets), one row for each row of x, "
            f"got {y.shape}."
        )
    return x, y, None if weights is None else _as_weights(weights, num_rows)


def as_inputs(x: Any, keeps_integers: bool) -> Any:
    """Check inputs, an array or a tree of arrays, and give them their types.

    Parameters
    ----------
    x : array-like, or pytree of arrays
        Inputs, as :class:`Dataset` takes them.
    keeps_integers : bool
        Whether whole numbers stay what they are.

    Returns
    -------
    pytree of arrays
        The same structure.

    Raises
    ------
    TypeError, ValueError
        As for :class:`Dataset`.

    Examples
    --------
    >>> as_inputs([[1, 2]], keeps_integers=False)
    array([[1., 2.]], dtype=float32)
    """
    if not is_tree(x):
        return _as_table("x", x, keeps_integers)
    named, treedef = jax.tree_util.tree_flatten_with_path(x, is_leaf=lambda v: not is_tree(v))
    if not named:
        raise ValueError(f"x={x!r} holds no arrays; there is nothing to learn from.")
    leaves = [
        _as_table(f"x{jax.tree_util.keystr(path)}", leaf, keeps_integers) for path, leaf in named
    ]
    lengths = {f"x{jax.tree_util.keystr(path)}": len(leaf) for path, leaf in named}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise ValueError(f"The arrays of x must have equally many rows; {counts}.")
    return jax.tree.unflatten(treedef, leaves)


def _as_table(argument: str, value: Any, keeps_integers: bool) -> Shaped[ndarray, "data ..."]:
    array = np.asarray(value)
    if keeps_integers and array.dtype.kind in "iu":
        array = array if array.dtype == np.uint8 else _as_int32(argument, array)
    else:
        array = _as_float32(argument, value)
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise ValueError(
            f"{argument} must have shape (N, features) with at least one feature, got "
            f"{array.shape}; a single feature is x[:, None], and images may have further axes."
        )
    if len(array) == 0:
        raise ValueError(f"{argument} must have at least one row, got shape {array.shape}.")
    return array


def _as_float32(argument: str, value: Any) -> Float[ndarray, "..."]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{argument} must hold real numbers, got an array of type {array.dtype}; encode text "
            "and categories as numbers first."
        )
    with np.errstate(over="ignore"):  # the next lines report what overflowed
        array = array.astype(np.float32, copy=False)
    bad = ~np.isfinite(array)
    if bad.any():
        count = int(bad.sum())
        first = ", ".join(str(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        raise ValueError(
            f"{argument} holds {count} value{'s that are' if count > 1 else ' that is'} not finite "
            f"in float32 (NaN, infinite or beyond 3.4e38), the first at {argument}[{first}]; "
            "remove these rows or fill in the values."
        )
    return array


def _as_targets(value: Any) -> Shaped[ndarray, "..."]:
    array = np.asarray(value)
    if array.dtype.kind not in "iub":
        return _as_float32("y", array)
    return _as_int32("y", array)


def _as_int32(argument: str, array: Shaped[ndarray, "..."]) -> Int[ndarray, "..."]:
    limits = np.iinfo(np.int32)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise ValueError(
            f"{argument} holds integers from {array.min()} to {array.max()}, which int32 cannot "
            "hold; pass real numbers as floats."
        )
    return array.astype(np.int32, copy=False)


def _as_weights(value: Any, num_rows: int) -> Float[ndarray, " data"]:
    weights = _as_float32("weights", value)
    if weights.shape != (num_rows,):
        raise ValueError(
            f"weights must have shape ({num_rows},), one for each row of x, got {weights.shape}."
        )
    if weights.min() < 0:
        first = int((weights < 0).argmax())
        raise ValueError(
            f"weights[{first}]={float(weights[first])} is negative; weights must be at least 0."
        )
    return weights
