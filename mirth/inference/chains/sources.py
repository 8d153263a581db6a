"""Sources: where the rows of a step come from, all in memory, batches of these, or a stream.

A source says what is stored on the devices (all rows, or a stack of batches of the stream), and
binds the rows of a step: it gives the log likelihood of parameters by them, scaled to all rows. So
a chain need not know which of the three it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mirth.core.keys import Purpose
from mirth.core.types import Batch, Key, Params
from mirth.data import EpochBatches, Stream
from mirth.inference.engine.feed import Feed, stream_seed
from mirth.inference.engine.placement import Placement
from mirth.inference.problem import Problem, features_first, rows_first
from mirth.model import Model, in_row_blocks

Step = int | Int[Array, ""]
LogLikelihood = Callable[[Params], Float[Array, ""]]

_MAX_WATCHED = 2000  # more validation rows would cost more than the steps between two draws


def choose_source(
    problem: Problem, batch_size: int | None, use_validation_rows: bool
) -> AllRows | ResidentBatches | StreamedBatches:
    """Choose the source of a run.

    Parameters
    ----------
    problem : Problem
        Rows or stream, seed, devices.
    batch_size : int or None
        Most rows of a step; None means all rows.
    use_validation_rows : bool
        Whether the chains condition on the validation rows too.
    """
    if problem.stream is not None:
        assert batch_size is not None, "refused before"
        return StreamedBatches(problem.stream, batch_size, problem.seed, problem.placement)
    rows = problem.all_rows() if use_validation_rows else problem.train
    if batch_size is not None:
        return ResidentBatches(rows, batch_size)
    key = jax.random.key(0)
    params = jax.eval_shape(problem.model.init, key, problem.train.x)
    return AllRows(rows, problem.choose_block_size(params, rows))


class AllRows:
    """Each step sees all rows, in blocks where their activations would be too large.

    Parameters
    ----------
    rows : Batch
        All rows.
    block_size : int or None
        Most rows at a time.
    """

    def __init__(self, rows: Batch, block_size: int | None):
        self.block_size = block_size
        self.stored = features_first(rows)

    def log_likelihood(
        self, model: Model, stored: Any, key: Key, count: Step, i: Step
    ) -> LogLikelihood:
        """Bind all rows."""
        batch = rows_first(stored)
        return lambda params: in_row_blocks(model.log_likelihood, params, batch, self.block_size)

    def watched(self, validation: Batch) -> Batch:
        """Give the validation rows that the chains are watched by: all."""
        return validation

    def feed(self, purpose: Purpose) -> None:
        """Nothing needs to be fed: the rows are there."""


class _BatchSource:
    """What sources of batches share."""

    num_rows: int

    def at(self, stored: Any, key: Key, count: Step, i: Step) -> Batch:
        raise NotImplementedError

    def log_likelihood(
        self, model: Model, stored: Any, key: Key, count: Step, i: Step
    ) -> LogLikelihood:
        """Bind the batch of a step; its log likelihood is scaled to all rows."""
        batch = self.at(stored, key, count, i)
        scale = self.num_rows / jnp.asarray(batch.num_rows, float)
        return lambda params: scale * model.log_likelihood(params, batch)

    def watched(self, validation: Batch) -> Batch:
        """Give the validation rows that the chains are watched by, evenly spread."""
        num_rows = validation.y.shape[0]
        if num_rows <= _MAX_WATCHED:
            return validation
        rows = np.linspace(0, num_rows - 1, _MAX_WATCHED).astype(int)
        return jax.tree.map(lambda leaf: leaf[rows], validation)


class ResidentBatches(_BatchSource):
    """All rows are on the device; each chain takes batches of them, in an order of its own.

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
        self.stored = features_first(rows)

    def at(self, stored: Any, key: Key, count: Step, i: Step) -> Batch:
        """Give the batch of a step.

        Parameters
        ----------
        stored : tuple
            All rows.
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


class StreamedBatches(_BatchSource):
    """Batches come from a stream, in stacks; all chains see the same batch at a step.

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
        self.stored = self.feed(Purpose.TUNING).stack(0)

    def at(self, stored: Any, key: Key, count: Step, i: Step) -> Batch:
        """Give the batch of a step; ``stored`` is its stack."""
        steps = stored.y.shape[0]
        return jax.tree.map(lambda leaf: leaf[i % steps], stored)

    def feed(self, purpose: Purpose) -> Feed:
        """Give what reads the stream for one part of the run, in an order of its own."""
        if purpose not in self._feeds:
            self._feeds[purpose] = Feed(
                self.stream, self.batch_size, stream_seed(self.seed, purpose), self.placement
            )
        return self._feeds[purpose]
