from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from mirth.data import Dataset

X = np.arange(6.0).reshape(3, 2)
Y = np.array([0.5, 1.5, 2.5])


def test_types_and_size() -> None:
    dataset = Dataset(X, Y, np.ones(3))
    assert len(dataset) == 3
    assert dataset.num_features == 2
    arrays = (dataset.x, dataset.y, dataset.weights)
    assert all(type(a) is np.ndarray and a.dtype == np.float32 for a in arrays)


@pytest.mark.parametrize("dtype", [bool, np.int64, np.uint8])
def test_class_indices_are_int32(dtype: Any) -> None:
    dataset = Dataset(X.astype(int), np.array([0, 1, 1], dtype=dtype))
    assert dataset.y.dtype == np.int32
    assert dataset.y.tolist() == [0, 1, 1]
    assert dataset.x.dtype == np.float32


def test_lists_and_several_targets() -> None:
    dataset = Dataset(X.tolist(), np.ones((3, 4)))  # type: ignore[arg-type]
    assert dataset.x.shape == (3, 2)
    assert dataset.y.shape == (3, 4)


def test_arrays_of_the_right_type_are_not_copied() -> None:
    x = X.astype(np.float32)
    assert Dataset(x, Y).x is x


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Dataset(X, Y).x = X  # type: ignore[misc]


@pytest.mark.parametrize(
    ("x", "y", "weights", "message"),
    [
        (X[:, 0], Y, None, "x must have shape (N, features) with at least one feature, got (3,)"),
        (X[:, :0], Y, None, "x must have shape (N, features) with at least one feature"),
        (X[:0], Y[:0], None, "x must have at least one row"),
        (X, Y[:2], None, "y must have shape (3,) or (3, targets), one row for each row of x"),
        (X, Y[:, None, None], None, "got (3, 1, 1)"),
        (X, np.ones((3, 0)), None, "got (3, 0)"),
        (X, Y, np.ones(2), "weights must have shape (3,)"),
        (X, Y, np.ones((3, 1)), "weights must have shape (3,)"),
        (X, Y, np.array([1.0, -0.5, -1.0]), "weights[1]=-0.5 is negative"),
        (X, Y, np.zeros(3), "weights are all zero"),
        (X, np.array([0, 1, 2**31]), None, "y holds integers from 0 to 2147483648"),
    ],
)
def test_wrong_values(x: Any, y: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Dataset(x, y, weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_are_counted_and_located(bad: float) -> None:
    x, y, weights = np.zeros((4, 3)), np.zeros(4), np.ones(4)
    x[2, 1] = y[3] = weights[0] = bad
    with pytest.raises(ValueError, match=r"^x holds 1 value that is not finite .*at x\[2, 1\];"):
        Dataset(x, np.zeros(4))
    with pytest.raises(ValueError, match=r"^y holds 1 value that is not finite .*at y\[3\];"):
        Dataset(np.zeros((4, 3)), y)
    with pytest.raises(ValueError, match=r"^weights holds 1 value .*at weights\[0\];"):
        Dataset(np.zeros((4, 3)), np.zeros(4), weights)
    x[3, 0] = bad
    with pytest.raises(ValueError, match=r"^x holds 2 values that are .*at x\[2, 1\];"):
        Dataset(x, np.zeros(4))


@pytest.mark.parametrize("array", [np.array(["a", "b", "c"]), np.array([1j, 2, 3])])
def test_wrong_types(array: Any) -> None:
    with pytest.raises(TypeError, match="^y must hold real numbers, got an array of type "):
        Dataset(X, array)
    with pytest.raises(TypeError, match="^x must hold real numbers"):
        Dataset(array[:, None], Y)


def test_take() -> None:
    dataset = Dataset(X, Y, np.array([1.0, 2.0, 3.0]))
    taken = dataset.take(np.array([2, 0, 2]))
    assert taken.x.tolist() == X[[2, 0, 2]].tolist()
    assert taken.y.tolist() == Y[[2, 0, 2]].tolist()
    assert taken.weights is not None and taken.weights.tolist() == [3.0, 1.0, 3.0]
    assert dataset.take(np.array([False, True, False])).y.tolist() == [1.5]
    assert Dataset(X, Y).take(np.array([0])).weights is None


def test_take_refuses_what_no_data_set_can_be() -> None:
    dataset = Dataset(X, Y, np.array([1.0, 0.0, 1.0]))
    with pytest.raises(IndexError, match="out of bounds"):
        dataset.take(np.array([3]))
    with pytest.raises(ValueError, match="at least one row"):
        dataset.take(np.array([], dtype=int))
    with pytest.raises(ValueError, match="all zero"):
        dataset.take(np.array([1]))


def test_rows_may_be_images() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(3, 2, 2, 2)
    dataset = Dataset(x, np.arange(3))
    assert dataset.x.dtype == np.float32 and dataset.num_features == 8
    np.testing.assert_array_equal(dataset.take([2, 0]).x, x[[2, 0]])
    with pytest.raises(ValueError, match="at least one feature, got \\(3, 0, 2\\)"):
        Dataset(np.zeros((3, 0, 2)), np.arange(3))


def test_several_inputs() -> None:
    x = {"tokens": np.array([[1, 2], [3, 4], [5, 6]]), "size": [[0.5], [1.5], [2.5]]}
    dataset = Dataset(x, Y, integer_inputs=True)
    assert dataset.x["tokens"].dtype == np.int32 and dataset.x["size"].dtype == np.float32
    assert len(dataset) == 3 and dataset.num_features == 3
    assert dataset.take([2]).x["tokens"].tolist() == [[5, 6]]
    assert dataset.take([2]).integer_inputs
    pair = Dataset((np.zeros((3, 2)), np.zeros((3, 4, 4, 1))), Y)
    assert pair.num_features == 18
    # Rows in tuples are one table, as before.
    assert Dataset(((1, 2), (3, 4), (5, 6)), Y).x.shape == (3, 2)


def test_whole_numbers_are_kept_on_request() -> None:
    x = np.arange(6, dtype=np.int64).reshape(3, 2)
    assert Dataset(x, Y).x.dtype == np.float32
    assert Dataset(x, Y, integer_inputs=True).x.dtype == np.int32
    assert Dataset(x.astype(np.uint8), Y, integer_inputs=True).x.dtype == np.uint8
    with pytest.raises(ValueError, match="^x holds integers from .* which int32 cannot hold"):
        Dataset(x + 2**40, Y, integer_inputs=True)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({}, "holds no arrays"),
        ({"a": X, "b": X[:2]}, r"x\['a'\] has 3, x\['b'\] has 2"),
        ({"a": X, "b": np.zeros(3)}, r"x\['b'\] must have shape \(N, features\)"),
        ({"a": X * np.nan}, r"x\['a'\] holds .* not finite"),
    ],
)
def test_bad_trees(x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dataset(x, Y)
