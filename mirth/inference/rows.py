"""The rows of a run: cut once into those to learn from and those held back, and owned here.

They stay on the host, in one order; what is cut is a view. Who needs them on a device puts there
what it needs, in the form that it needs.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from mirth.core.types import Batch, is_table
from mirth.data import Dataset


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Rows in memory.

    Parameters
    ----------
    train : Batch
        Scaled rows to learn from; of a stream, some of them.
    validation : Batch
        Rows held back, to stop the optimisation and to watch the chains.

    Examples
    --------
    >>> data = Dataset(np.zeros((5, 1)), np.arange(5.0))
    >>> rows = Rows.cut(data, 3)
    >>> rows.train.y.tolist(), rows.validation.y.tolist()
    ([0.0, 1.0, 2.0], [3.0, 4.0])
    >>> rows.all.y is data.y and np.shares_memory(rows.train.y, data.y)
    True
    """

    train: Batch
    validation: Batch

    @classmethod
    def cut(cls, dataset: Dataset, num_train: int) -> Rows:
        """Learn from the first rows of a data set and hold the others back."""
        whole = batch_of(dataset)
        first = jax.tree.map(lambda leaf: leaf[:num_train], whole)
        rest = jax.tree.map(lambda leaf: leaf[num_train:], whole)
        rows = cls(first, rest)
        vars(rows)["all"] = whole
        return rows

    @functools.cached_property
    def all(self) -> Batch:
        """Rows to learn from, then rows held back; rows without weights among others weigh 1."""
        first, second = self.train, self.validation
        if first.weights is not None or second.weights is not None:
            first, second = first.weighted(), second.weighted()
        return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)


def batch_of(dataset: Dataset) -> Batch:
    """Give the arrays of a data set as rows."""
    x, y, weights = dataset.x, dataset.y, dataset.weights
    return Batch(x, y, weights)  # type: ignore[arg-type]  # of NumPy, put on devices later


def features_first(batch: Batch) -> tuple[Any, Shaped[Array, "data ..."], Array | None]:
    """Store tables with the data axis contiguous, as the built-in network reads them.

    Images and other rows with axes of their own stay as they are.
    """
    x = batch.x.T if is_table(batch.x) else batch.x
    return jax.tree.map(jnp.asarray, x), batch.y, batch.weights


def rows_first(stored: tuple[Any, Array, Array | None]) -> Batch:
    """Undo :func:`features_first` under tracing: the two transpositions cancel."""
    x, y, weights = stored
    return Batch(x.T if is_table(x) else x, y, weights)
