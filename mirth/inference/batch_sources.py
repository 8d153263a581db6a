"""Where the batches of a step come from: rows on the device, or a stream that is read ahead."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mirth.core.keys import Purpose
from mirth.core.types import Batch, Key
from mirth.data import EpochBatches, Stream
from mirth.inference.feed import Feed, stream_seed
from mirth.inference.placement import Placement
from mirth.inference.problem import features_first, rows_first

Step = int | Int[Array, ""]


class ResidentRows:
    """All rows are on the device; each chain has its own order of them.

    Parameters
    ----------
    rows : Batch
        All rows.
    batch_size : int
        Most rows of a batch.
    """

    def __init__(self, rows: Batch, batch_size: int):
        self.num_rows: int = rows.y.shape[0]
        self.batches = EpochBatches(self.num_rows, min(batch_size, self.num_rows))
        self.first = features_first(rows)

    def at(self, stored: Any, key: Key, count: Step, i: Step) -> Batch:
        """Give the batch of a step.

        Parameters
        ----------
        stored : tuple
            What the chains see: all rows.
        key : Key
            Key of the chain's batches.
        count : int scalar
            Steps of the chain so far; they choose the batch.
        i : int scalar
            Number of the step in the loop; it is of use for a stream only.
        """
        index, weight = self.batches.rows(key, count)
        rows = rows_first(stored)
        x, y, own = jax.tree.map(lambda leaf: leaf[index], (rows.x, rows.y, rows.weights))
        return Batch(x, y, weight if own is None else weight * own, jnp.sum(weight))

    def feed(self, purpose: Purpose) -> None:
        """Nothing needs to be fed: the rows are there."""


class StreamedRows:
    """Rows come in blocks of steps; all chains see the same batch at a step.

    Parameters
    ----------
    stream : Stream
        The data.
    batch_size : int
        Rows asked for.
    seed : int
        Seed of the run.
    placement : Placement
        Devices.
    """

    def __init__(self, stream: Stream, batch_size: int, seed: int, placement: Placement):
        self.stream, self.batch_size = stream, batch_size
        self.seed, self.placement = seed, placement
        self.num_rows = stream.num_rows
        self._feeds: dict[Purpose, Feed] = {}
        self.first = self.feed(Purpose.TUNING).block(0)

    def at(self, stored: Any, key: Key, count: Step, i: Step) -> Batch:
        """Give the batch of a step; ``stored`` is its block."""
        steps = stored.y.shape[0]
        return jax.tree.map(lambda leaf: leaf[i % steps], stored)

    def feed(self, purpose: Purpose) -> Feed:
        """Give the batches of one part of the run, in an order of its own."""
        if purpose not in self._feeds:
            self._feeds[purpose] = Feed(
                self.stream, self.batch_size, stream_seed(self.seed, purpose), self.placement
            )
        return self._feeds[purpose]
