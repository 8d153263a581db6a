"""Streams: every row once an epoch, from any step on, alike or refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirth.data import ArrayStream, BatchStream, Stream

X = np.arange(46, dtype=np.float32).reshape(23, 2)
Y = np.arange(23, dtype=np.float32)


def take(stream: Stream, number: int, *, seed: int = 0, first: int = 0, size: int = 6) -> list[Any]:
    return list(itertools.islice(stream.batches(size, seed, first), number))


def real_targets(batches: list[Any]) -> list[float]:
    return [float(y) for b in batches for y in b.y[: b.num_rows]]


def test_every_row_once_an_epoch_in_another_order() -> None:
    stream = ArrayStream(X, Y)
    num = stream.num_batches(6)
    first, second = take(stream, num), take(stream, num, first=num)
    for epoch in (first, second):
        assert sorted(real_targets(epoch)) == Y.tolist()
        assert {b.y.shape for b in epoch} == {(6,)}
        # 23 rows in 4 batches: 6, 6, 6, 5.
        assert sorted(int(b.num_rows) for b in epoch) == [5, 6, 6, 6]
        for batch in epoch:
            np.testing.assert_array_equal(batch.weights, np.arange(6) < batch.num_rows)
            np.testing.assert_array_equal(batch.x[:, 0], 2 * batch.y)
    assert real_targets(first) != real_targets(second)
    assert real_targets(first) != real_targets(take(stream, num, seed=1))


LISTED = [(X[i : i + 6], Y[i : i + 6]) for i in range(0, 23, 6)]


class Loader:
    """As data loaders are: iterated anew each epoch, without numbers."""

    def __iter__(self) -> Iterator[Any]:
        yield from ({"x": x, "y": y} for x, y in LISTED)


def generate() -> Iterator[Any]:
    yield from LISTED


@pytest.mark.parametrize(
    "stream",
    [
        ArrayStream(X, Y, np.ones(23)),
        BatchStream(LISTED, num_rows=23),
        BatchStream(Loader(), num_rows=23),
        BatchStream(generate, num_rows=23),
    ],
    ids=["arrays", "list", "loader", "function"],
)
def test_a_stream_begins_anywhere(stream: Stream) -> None:
    whole = take(stream, 10)
    for first in (1, 4, 7):
        rest = take(stream, 10 - first, first=first)
        for a, b in zip(whole[first:], rest, strict=True):
            np.testing.assert_array_equal(a.x, b.x)
            np.testing.assert_array_equal(a.y, b.y)
            np.testing.assert_array_equal(a.weights, b.weights)


def test_memory_maps_and_trees(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    tokens = np.arange(23)[:, None]
    stream = ArrayStream({"x": mapped, "tokens": tokens}, Y, integer_inputs=True)
    (batch,) = take(stream, 1)
    np.testing.assert_array_equal(batch.x["tokens"][:, 0], batch.y)
    assert batch.x["tokens"].dtype == np.int32 and type(batch.x["x"]) is np.ndarray
    other = ArrayStream({"x": X + 1, "tokens": tokens}, Y, integer_inputs=True)
    assert stream.fingerprint() != other.fingerprint()
    assert BatchStream(LISTED, 23).fingerprint() != BatchStream(LISTED, 24).fingerprint()


def test_zarr_arrays(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(tmp_path / "x.zarr", shape=X.shape, chunks=(5, 2), dtype="float32")
    array[:] = X
    (batch,) = take(ArrayStream(array, Y), 1)
    np.testing.assert_array_equal(batch.x[:, 0], 2 * batch.y)


def test_weights_come_along() -> None:
    (batch,) = take(ArrayStream(X, Y, Y), 1)
    np.testing.assert_array_equal(
        batch.weights, np.where(np.arange(6) < batch.num_rows, batch.y, 0)
    )
    (batch,) = take(BatchStream([(X, Y, Y)], num_rows=23), 1)
    np.testing.assert_array_equal(batch.weights, Y)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ArrayStream(X, Y[:3]), ValueError, r"equally many rows.*\[3, 23\]"),
        (lambda: ArrayStream(X[:0], Y[:0]), ValueError, "at least one"),
        (lambda: BatchStream(iter(LISTED), 23), TypeError, "iterated once only"),
        (lambda: BatchStream([], 23), ValueError, "batches is empty"),
        (lambda: BatchStream([X], 23), TypeError, "a batch must be .* not ndarray"),
        (lambda: BatchStream([{"a": X}], 23), TypeError, r"not dict with \['a'\]"),
        (lambda: BatchStream(LISTED, 5), ValueError, "num_rows=5 must be the number of rows"),
        (lambda: BatchStream(LISTED, 0), ValueError, "num_rows=0 must be at least 1"),
        (lambda: BatchStream([(X * np.nan, Y)], 23), ValueError, "not finite"),
    ],
)
def test_no_stream(make: Callable[[], Stream], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


BROKEN = X.copy()
BROKEN[1, 1] = np.nan


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        ((BROKEN[:6], Y[:6]), ValueError, r"Batch 1 of the stream: x holds 1 value .*x\[1, 1\]"),
        ((X[:6, :1], Y[:6]), ValueError, "Batch 1 of the stream: Its rows have shapes"),
        ((X[:6], Y[:6].astype(int)), ValueError, "int32.*unlike those of the first"),
        ((X[:7], Y[:7]), ValueError, "It has 7 rows, more than the 6 of the first one"),
        ((X[:6], Y[:5]), ValueError, "Batch 1 of the stream: y must have shape"),
        ("ab", TypeError, "Batch 1 of the stream|a batch must be"),
    ],
)
def test_a_bad_batch(second: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        take(BatchStream([LISTED[0], second], num_rows=23), 2)


def test_a_stream_that_ends() -> None:
    once = iter(LISTED)
    stream = BatchStream(lambda: once, num_rows=23)
    with pytest.raises(ValueError, match="The stream has ended: it gave no batch"):
        take(stream, 9)
