"""Data that do not fit into memory: batches that are read while the chains run.

A stream gives the batch of every step in order, for ever: at the end of an epoch it begins anew. It
can begin at any step, so that a run that was killed goes on with the batch it would have seen.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from mirth.core.types import Batch
from mirth.core.validation import check_int
from mirth.data.dataset import as_rows

_HASHED_ROWS = 256


class Stream(abc.ABC):
    """What a stream is to the rest of the library.

    Parameters
    ----------
    num_rows : int
        Rows N of the whole data; the likelihood of a batch is scaled up to them.
    example : Batch
        Some rows, checked: they tell types and shapes.
    integer_inputs : bool
        Whether whole numbers of ``x`` stay what they are.
    """

    def __init__(self, num_rows: int, example: Batch, integer_inputs: bool):
        self.num_rows = check_int("num_rows", num_rows, minimum=1)
        self.example, self.integer_inputs = example, integer_inputs

    @abc.abstractmethod
    def size(self, batch_size: int) -> int:
        """Rows of the largest batch, if ``batch_size`` is asked for."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Text that tells this data from other data, without reading all of it."""

    @abc.abstractmethod
    def _read(self, batch_size: int, seed: int, first: int) -> Iterator[tuple[Any, Any, Any]]:
        """Yield x, y and weights of the batches from step ``first`` on, as they are."""

    def num_batches(self, batch_size: int) -> int:
        """Batches of an epoch."""
        return -(-self.num_rows // self.size(batch_size))

    def batches(self, batch_size: int, seed: int, first: int = 0) -> Iterator[Batch]:
        """Yield checked batches of equal shape.

        Parameters
        ----------
        batch_size : int
            Rows asked for.
        seed : int
            Seed of the order, where the stream chooses one.
        first : int, default=0
            Step of the first batch.

        Yields
        ------
        Batch of NumPy arrays
            ``size(batch_size)`` rows, of which the first ``num_rows`` are real; the others repeat
            the last one with weight 0.

        Raises
        ------
        ValueError, TypeError
            If a batch is no batch, or not like the first one.
        """
        size = self.size(batch_size)
        for step, (x, y, weights) in enumerate(self._read(batch_size, seed, first), start=first):
            try:
                rows = Batch(*as_rows(x, y, weights, self.integer_inputs))
                yield _filled_up(self._checked(rows, size), size)
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"Batch {step} of the stream: {error}") from error
        raise ValueError(
            "The stream has ended: it gave no batch when an epoch began anew. Pass a loader that "
            "can be iterated again and again, or a function that makes a new iterator each time."
        )

    def _checked(self, batch: Batch, size: int) -> Batch:
        """Refuse a batch that is not like the example."""
        if len(batch.y) > size:
            raise ValueError(f"It has {len(batch.y)} rows, more than the {size} of the first one.")
        rows = [(b.x, b.y) for b in (batch, self.example)]
        found, expected = (jax.tree.map(lambda a: (*a.shape[1:], a.dtype.name), r) for r in rows)
        if found != expected:
            raise ValueError(
                f"Its rows have shapes and types {found}, unlike those of the first one, {expected}"
                "; all batches must be alike but for the number of rows."
            )
        return batch


def _filled_up(batch: Batch, size: int) -> Batch:
    """Give a batch explicit weights and repeat its last row with weight 0 up to a size."""
    num_rows = len(batch.y)
    weights: Any = np.ones(num_rows, np.float32) if batch.weights is None else batch.weights

    def fill(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.repeat(leaf[-1:], size - num_rows, axis=0)])

    x, y = jax.tree.map(fill, (batch.x, batch.y))
    weights = np.concatenate([weights, np.zeros(size - num_rows, np.float32)])
    return Batch(x, y, weights, np.int32(num_rows))


class ArrayStream(Stream):
    """Rows of arrays that stay where they are, such as memory maps, HDF5 or Zarr arrays.

    Every epoch has a random order of its own, kept as 4 bytes per row. Within an epoch each row is
    used once; the rows are spread evenly over its batches.

    Parameters
    ----------
    x : array-like of shape (N, features) or (N, ...), or pytree of them
        Inputs. An array needs ``shape`` and reading by sorted row numbers, ``x[rows]``.
    y : array-like of shape (N,) or (N, targets)
        Targets.
    weights : array-like of shape (N,), optional
        Weight of each row's log likelihood; None means 1.
    integer_inputs : bool, default=False
        Keep whole numbers of ``x`` as they are: bytes as uint8, others as int32.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not have equally many rows, or as for :class:`Dataset`; each batch is
        checked when it is read.

    Examples
    --------
    >>> import numpy as np
    >>> stream = ArrayStream(np.arange(10.0)[:, None], np.zeros(10))
    >>> batches = stream.batches(batch_size=4, seed=0)
    >>> rows = [next(batches) for _ in range(stream.num_batches(4))]
    >>> sorted(float(v) for b in rows for v in b.x[: b.num_rows, 0]) == list(range(10))
    True
    """

    def __init__(
        self, x: PyTree[Any], y: Any, weights: Any = None, *, integer_inputs: bool = False
    ):
        self._arrays = jax.tree.map(
            lambda leaf: leaf if hasattr(leaf, "shape") else np.asarray(leaf),
            (x, y, weights),
            is_leaf=lambda leaf: isinstance(leaf, list),
        )
        lengths = {leaf.shape[0] for leaf in jax.tree.leaves(self._arrays)}
        (num_rows,) = lengths if len(lengths) == 1 else (0,)
        if not num_rows:
            raise ValueError(
                "x, y and weights must have equally many rows, at least one; they have "
                f"{sorted(lengths)}."
            )
        example = Batch(*as_rows(*self._take(np.arange(min(2, num_rows))), integer_inputs))
        super().__init__(num_rows, example, integer_inputs)

    def size(self, batch_size: int) -> int:
        """Rows of the largest batch: N spread evenly over the fewest batches."""
        num_batches = -(-self.num_rows // min(batch_size, self.num_rows))
        return -(-self.num_rows // num_batches)

    def fingerprint(self) -> str:
        """Hash some rows, evenly spread."""
        rows = np.unique(np.linspace(0, self.num_rows - 1, _HASHED_ROWS).astype(int))
        digest = hashlib.sha256(str(self.num_rows).encode())
        for leaf in jax.tree.leaves(self._take(rows)):
            digest.update(f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
        return digest.hexdigest()[:32]

    def _take(self, rows: np.ndarray) -> tuple[Any, Any, Any]:
        """Read rows."""
        return jax.tree.map(lambda leaf: np.ascontiguousarray(leaf[rows]), self._arrays)

    def _read(self, batch_size: int, seed: int, first: int) -> Iterator[tuple[Any, Any, Any]]:
        num_batches = self.num_batches(batch_size)
        epoch, batch = divmod(first, num_batches)
        while True:
            order = np.arange(self.num_rows, dtype=np.uint32)
            np.random.default_rng((seed, epoch)).shuffle(order)
            for rows in np.array_split(order, num_batches)[batch:]:
                # Sorted, because files are read faster that way, and some only that way.
                yield self._take(np.sort(rows))
            epoch, batch = epoch + 1, 0


class BatchStream(Stream):
    """Batches that somebody else makes: a data loader, a list, a pipeline.

    The batches are taken as they come, so ``batch_size`` of a method means nothing here, and their
    order and size are those of the loader. All chains see the same batch at a step.

    Parameters
    ----------
    batches : iterable, sequence, or callable
        An iterable that begins anew each time it is iterated (a PyTorch or Grain ``DataLoader``), a
        sequence that is indexed by the step (a list, a Grain ``MapDataset`` of batches), or a
        function without arguments that gives an iterator over one epoch. A batch is (x, y) or
        (x, y, weights), or a mapping with these names.
    num_rows : int
        Rows N of the whole data.
    integer_inputs : bool, default=False
        Keep whole numbers of ``x`` as they are: bytes as uint8, others as int32.

    Raises
    ------
    TypeError, ValueError
        If ``batches`` can be iterated once only, is empty, or gives something else than batches;
        each batch is checked when it comes.

    Examples
    --------
    >>> import numpy as np
    >>> batches = [(np.zeros((4, 2)), np.zeros(4)), (np.ones((2, 2)), np.ones(2))]
    >>> stream = BatchStream(batches, num_rows=6)
    >>> [int(batch.num_rows) for batch, _ in zip(stream.batches(4, seed=0), range(4))]
    [4, 2, 4, 2]
    """

    def __init__(
        self,
        batches: Iterable[Any] | Callable[[], Iterator[Any]],
        num_rows: int,
        *,
        integer_inputs: bool = False,
    ):
        if isinstance(batches, Iterator):
            raise TypeError(
                f"batches={batches!r} can be iterated once only, and each epoch begins anew; pass "
                "the loader itself, or a function that makes an iterator."
            )
        self._loader = batches
        first = next(self._from(0), None)
        if first is None:
            raise ValueError("batches is empty: its first epoch has no batch.")
        example = Batch(*as_rows(*_parts(first), integer_inputs))
        self._size = len(example.y)
        super().__init__(num_rows, example, integer_inputs)
        if self._size > num_rows:
            raise ValueError(
                f"num_rows={num_rows} must be the number of rows of the whole data, but the first "
                f"batch alone has {self._size}."
            )

    def size(self, batch_size: int) -> int:
        """Rows of the first batch."""
        return self._size

    def fingerprint(self) -> str:
        """Name shapes and types: a loader may have another order each time."""
        leaves = jax.tree.leaves((self.example.x, self.example.y))
        shapes = ", ".join(f"{leaf.dtype}{leaf.shape[1:]}" for leaf in leaves)
        return f"{self.num_rows} rows in batches of {self._size}: {shapes}"

    def _read(self, batch_size: int, seed: int, first: int) -> Iterator[tuple[Any, Any, Any]]:
        for batch in self._from(first):
            yield _parts(batch)

    def _from(self, first: int) -> Iterator[Any]:
        """Yield batches from a step on; where they have no numbers, by reading those before."""
        loader: Any = self._loader
        if hasattr(loader, "__getitem__") and hasattr(loader, "__len__"):
            step = first
            while len(loader):
                yield loader[step % len(loader)]
                step += 1
            return
        skipped = 0
        while True:
            is_empty = True
            for batch in loader() if callable(loader) else iter(loader):
                is_empty = False
                if skipped < first:
                    skipped += 1
                else:
                    yield batch
            if is_empty:
                return


def _parts(batch: Any) -> tuple[Any, Any, Any]:
    """Split a batch into x, y and weights."""
    if isinstance(batch, Mapping) and {"x", "y"} <= batch.keys() <= {"x", "y", "weights"}:
        return batch["x"], batch["y"], batch.get("weights")
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):
        return batch[0], batch[1], batch[2] if len(batch) == 3 else None
    raise TypeError(
        f"a batch must be (x, y), (x, y, weights) or a mapping with these names, not "
        f"{type(batch).__name__}"
        + (f" with {sorted(map(str, batch))}." if isinstance(batch, Mapping) else ".")
    )
