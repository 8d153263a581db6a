"""Arrays that stay on the disk and are read when they are indexed."""

from __future__ import annotations

from typing import Any

import numpy as np


class StoredArray:
    """Draws in a store: like a NumPy array where it is asked for shape, type or a part.

    Parameters
    ----------
    array : array on disk, shape (chains, draws, ...)
        Anything with ``shape``, ``dtype`` and indexing by integers and slices, such as an array of
        Zarr.
    held_as : dtype, optional
        Type of the numbers whose bits the array holds under another one.
    dtype : dtype, optional
        Type in which they are given; None means as they are held.

    Examples
    --------
    >>> import numpy as np
    >>> stored = StoredArray(np.arange(6.0).reshape(2, 3))
    >>> stored.shape, stored[1, :2].tolist(), float(np.asarray(stored).sum())
    ((2, 3), [3.0, 4.0], 15.0)
    """

    def __init__(self, array: Any, held_as: Any = None, dtype: Any = None):
        self._array = array
        self._held_as = np.dtype(array.dtype if held_as is None else held_as)
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype = np.dtype(self._held_as if dtype is None else dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes that it would take in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._array[index]).view(self._held_as).astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        return f"StoredArray(shape={self.shape}, dtype={self.dtype})"

    def take_chains(self, chains: np.ndarray) -> StoredArray:
        """Give a view of some chains, which stays on the disk as well."""
        return StoredArray(_SomeChains(self._array, chains), self._held_as, self.dtype)

    def full_precision(self) -> StoredArray:
        """Give a view that gives 16-bit numbers as float32."""
        if self.dtype.itemsize != 2:
            return self
        return StoredArray(self._array, self._held_as, np.float32)

    def joined(self) -> JoinedDraws:
        """Give a view with the axes of chains and draws joined, one chain after another."""
        return JoinedDraws(self)


class _SomeChains:
    """View of an array on disk that has some entries of its first axis only."""

    def __init__(self, array: Any, chains: np.ndarray):
        self._array, self._chains = array, np.asarray(chains)
        self.shape = (len(self._chains), *array.shape[1:])
        self.dtype = array.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        which = self._chains[slice(None) if first is Ellipsis else first]
        if which.ndim == 0:
            return np.asarray(self._array[(int(which), *rest)])
        if not len(which):
            return np.empty(self.shape, self.dtype)[(slice(0), *rest)]
        return np.stack([self._array[(int(k), *rest)] for k in which])


class JoinedDraws:
    """View of a :class:`StoredArray` with the axes (chains, draws) joined.

    Parameters
    ----------
    stored : StoredArray
        Draws, shape (chains, draws, ...).

    Examples
    --------
    >>> import numpy as np
    >>> joined = StoredArray(np.arange(6.0).reshape(2, 3)).joined()
    >>> joined.shape, joined[2:5].tolist(), joined[np.array([5, 0])].tolist()
    ((6,), [2.0, 3.0, 4.0], [5.0, 0.0])
    """

    def __init__(self, stored: StoredArray):
        self._stored = stored
        self._num_draws = stored.shape[1]
        self.shape: tuple[int, ...] = (stored.shape[0] * stored.shape[1], *stored.shape[2:])
        self.dtype = stored.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self[index : index + 1][0]
        if not isinstance(index, slice):
            return self._pick(np.asarray(index))
        start, stop, step = index.indices(len(self))
        if step != 1:
            return self._pick(np.arange(start, stop, step))
        pieces = []
        while start < stop:  # a slice may reach over the end of a chain
            chain, draw = divmod(start, self._num_draws)
            count = min(stop - start, self._num_draws - draw)
            pieces.append(self._stored[chain, draw : draw + count])
            start += count
        if not pieces:
            return np.empty((0, *self.shape[1:]), self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _pick(self, indices: np.ndarray) -> np.ndarray:
        """Read single draws."""
        if indices.dtype == bool:
            indices = np.flatnonzero(indices)
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for i, at in enumerate(indices):
            out[i] = self._stored[divmod(int(at) % len(self), self._num_draws)]
        return out
