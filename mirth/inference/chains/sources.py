"""Sources: where the rows of a step come from, all in memory, batches of these, or a stream.

Each of the three kinds binds the rows of a step: it gives the log likelihood of parameters by them,
scaled to all rows, so a chain need not know which it has. It holds no data, because programs that
outlive a run follow from it; a source has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mirth.core.keys import Purpose
from mirth.core.types import Batch, Key, Params
from mirth.data import EpochBatches
from mirth.inference.engine.feed import Feed, stream_seed
from mirth.inference.problem import Problem
from mirth.inference.rows import features_first, rows_first
from mirth.model import Model, in_row_blocks

Step = int | Int[Array, ""]
LogLikelihood = Callable[[Params], tuple[Float[Array, ""], Float[Array, " terms"]]]
"""Log likelihood of parameters by bound rows, and the terms that it is the sum of."""

_MAX_WATCHED = 2000  # more validation rows would cost more than the steps between two draws


class Source:
    """Data of a run, and how the rows of a step are taken from it.

    Parameters
    ----------
    rows : AllRows, ResidentBatches or StreamedBatches
        How.
    stored : Any
        What the chains see at first: all rows, or the first stack of a stream.
    feeds : mapping of Purpose to Feed, optional
        Batches of a stream for each part of the run.
    """

    def __init__(self, rows: Rows, stored: Any, feeds: Mapping[Purpose, Feed] | None = None):
        self.rows, self.stored, self._feeds = rows, stored, feeds

    def feed(self, purpose: Purpose) -> Feed | None:
        """Give the batches of a part of the run, in their own order; None if all rows are there."""
        return None if self._feeds is None else self._feeds[purpose]


def choose_source(
    problem: Problem, batch_size: int | None, use_validation_rows: bool, batch_order: str
) -> Source:
    """Choose the source of a run.

    Parameters
    ----------
    problem : Problem
        Rows or stream, seed, devices.
    batch_size : int or None
        Most rows of a step; None means all rows.
    use_validation_rows : bool
        Whether the chains condition on the validation rows too.
    batch_order : str
        Order of the batches; a stream has its own.
    """
    if problem.stream is not None:
        assert batch_size is not None, "refused before"
        stream, placement = problem.stream, problem.placement
        feeds = {
            purpose: Feed(stream, batch_size, stream_seed(problem.seed, purpose), placement)
            for purpose in (Purpose.TUNING, Purpose.SAMPLING, Purpose.HALVING)
        }
        return Source(StreamedBatches(stream.num_rows), feeds[Purpose.TUNING].stack(0), feeds)
    rows = problem.rows.all if use_validation_rows else problem.rows.train
    num_rows = rows.y.shape[0]
    if batch_size is not None:
        resident = ResidentBatches(num_rows, min(batch_size, num_rows), batch_order)
        return Source(resident, features_first(rows))
    block_size = problem.choose_block_size(problem.params, rows)
    return Source(AllRows(block_size), features_first(rows))


@dataclasses.dataclass(frozen=True)
class AllRows:
    """Each step sees all rows, in blocks where their activations would be too large.

    Parameters
    ----------
    block_size : int or None
        Most rows at a time.
    """

    block_size: int | None
    statistic: ClassVar[str] = "logdensity"

    def log_likelihood(
        self, model: Model, stored: Any, key: Key, count: Step, i: Step
    ) -> LogLikelihood:
        """Bind all rows."""
        batch = rows_first(stored)
        return lambda params: in_row_blocks(
            model.split_log_likelihood, params, batch, self.block_size
        )

    def watched(self, validation: Batch) -> Batch:
        """Give the validation rows that the chains are watched by: all."""
        return validation


class _BatchSource:
    """What rows that come in batches share."""

    num_rows: int
    statistic: ClassVar[str] = "batch_logdensity"  # a noisy estimate must not pass for the value

    def at(self, stored: Any, key: Key, count: Step, i: Step) -> Batch:
        raise NotImplementedError

    def log_likelihood(
        self, model: Model, stored: Any, key: Key, count: Step, i: Step
    ) -> LogLikelihood:
        """Bind the batch of a step; its log likelihood is scaled to all rows."""
        batch = self.at(stored, key, count, i)
        scale = self.num_rows / jnp.asarray(batch.num_rows, float)

        def log_likelihood(params: Params) -> tuple[Array, Array]:
            # Each row is a term: the rounding of a sum would be scaled up with it.
            total, terms = model.split_log_likelihood(params, batch, rows_per_term=1)
            return scale * total, scale * terms

        return log_likelihood

    def watched(self, validation: Batch) -> Batch:
        """Give the validation rows that the chains are watched by, evenly spread."""
        num_rows = validation.y.shape[0]
        if num_rows <= _MAX_WATCHED:
            return validation
        rows = np.linspace(0, num_rows - 1, _MAX_WATCHED).astype(int)
        return jax.tree.map(lambda leaf: leaf[rows], validation)


@dataclasses.dataclass(frozen=True)
class ResidentBatches(_BatchSource):
    """All rows are on the device; each chain takes batches of them, in an order of its own.

    Parameters
    ----------
    num_rows : int
        Rows of the data.
    batch_size : int
        Most rows of a batch; at most all.
    order : str
        One of :data:`~mirth.data.BATCH_ORDERS`.
    """

    num_rows: int
    batch_size: int
    order: str = "epochs"

    @property
    def batches(self) -> EpochBatches:
        """Rows of each batch."""
        return EpochBatches(self.num_rows, self.batch_size, self.order)

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


@dataclasses.dataclass(frozen=True)
class StreamedBatches(_BatchSource):
    """Batches come from a stream, in stacks; all chains see the same batch at a step.

    Parameters
    ----------
    num_rows : int
        Rows of the data.
    """

    num_rows: int

    def at(self, stored: Any, key: Key, count: Step, i: Step) -> Batch:
        """Give the batch of a step; ``stored`` is its stack."""
        steps = stored.y.shape[0]
        return jax.tree.map(lambda leaf: leaf[i % steps], stored)


Rows = AllRows | ResidentBatches | StreamedBatches
