"""Everything that a method needs to run: model, rows, seed, devices, monitors."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from mirth.core.types import Batch
from mirth.inference.budget import Deadline
from mirth.inference.monitor import Monitor
from mirth.inference.placement import Placement
from mirth.inference.recorder import Recorder
from mirth.model import Model


@dataclasses.dataclass(frozen=True)
class Problem:
    """What :func:`mirth.infer` hands to a method.

    Parameters
    ----------
    model : Model
        Network, likelihood and prior.
    train, validation : Batch
        Scaled rows to learn from, and rows held back to stop the optimisation and to watch the
        chains.
    num_chains : int
        Number of members and chains K.
    seed : int
        Seed of every random number of the run.
    placement : Placement
        Devices.
    monitor : Monitor
        Display of the progress.
    recorder : Recorder
        Keeps what must outlive the process.
    deadline : Deadline
        Limit of the time of the run.
    chunk_steps : int, optional
        Steps of a compiled chunk; None finds a number by time. The draws do not depend on it.
    """

    model: Model
    train: Batch
    validation: Batch
    num_chains: int
    seed: int
    placement: Placement
    monitor: Monitor
    recorder: Recorder
    deadline: Deadline
    chunk_steps: int | None = None

    def all_rows(self) -> Batch:
        """Training and validation rows together."""
        first, second = self.train, self.validation
        if first.weights is not None or second.weights is not None:
            first, second = first.weighted(), second.weighted()
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def features_first(batch: Batch) -> tuple[Array, Shaped[Array, "data ..."], Array | None]:
    """Store a batch with the data axis contiguous, as the built-in network reads it."""
    return jnp.asarray(batch.x.T), batch.y, batch.weights


def rows_first(stored: tuple[Array, Array, Array | None]) -> Batch:
    """Undo :func:`features_first` under tracing: the two transpositions cancel."""
    x, y, weights = stored
    return Batch(x.T, y, weights)
