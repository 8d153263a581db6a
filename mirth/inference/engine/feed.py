"""Feeds: stacks of batches of a stream, read ahead by a thread."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import jax
import numpy as np

from mirth.core.keys import Purpose, purpose_key
from mirth.core.types import Batch
from mirth.data import Stream
from mirth.inference.engine.placement import Placement

_MAX_STACK_BYTES = 32 * 2**20
_MAX_STACK_STEPS = 512


class Feed:
    """Stacks of batches; a thread reads the next one while the devices work on the present one.

    Parameters
    ----------
    stream : Stream
        The data.
    batch_size : int
        Rows asked for.
    seed : int
        Seed of the order.
    placement : Placement
        Devices.
    """

    def __init__(self, stream: Stream, batch_size: int, seed: int, placement: Placement):
        self.stream, self.batch_size, self.seed = stream, batch_size, seed
        self.placement = placement
        self.steps = stack_steps(stream, batch_size)
        self._reader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mirth-batches")
        self._iterator: tuple[int, Iterator[Batch]] = (-1, iter(()))
        self._coming: tuple[int, concurrent.futures.Future[Batch]] | None = None
        self._present: tuple[int, Batch] | None = None

    def stack(self, number: int) -> Batch:
        """Give the batches of the steps from ``number * steps`` on, axes (steps, rows, ...).

        Raises
        ------
        ValueError, TypeError
            If a batch cannot be used.
        """
        if self._present is not None and self._present[0] == number:
            return self._present[1]
        if self._coming is None or self._coming[0] != number:
            self._coming = (number, self._reader.submit(self._read, number))
        stack = self.placement.put_shared(self._coming[1].result())
        self._present = (number, stack)
        self._coming = (number + 1, self._reader.submit(self._read, number + 1))
        return stack

    def _read(self, number: int) -> Batch:
        """Read a stack, in the thread."""
        begin, batches = self._iterator
        if begin != number:
            batches = self.stream.batches(self.batch_size, self.seed, number * self.steps)
        parts = [next(batches) for _ in range(self.steps)]
        self._iterator = (number + 1, batches)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


def stack_steps(stream: Stream, batch_size: int) -> int:
    """Choose how many batches are read at a time, by their bytes."""
    rows = stream.size(batch_size)
    row_bytes = sum(
        leaf[0].nbytes for leaf in jax.tree.leaves((stream.example.x, stream.example.y))
    )
    return int(np.clip(_MAX_STACK_BYTES // max(1, rows * row_bytes), 1, _MAX_STACK_STEPS))


def stream_seed(seed: int, purpose: Purpose) -> int:
    """Give the seed of the order in which a part of the run sees a stream."""
    return int(jax.random.key_data(purpose_key(seed, purpose))[-1])
