"""Everything that a method needs to run: model, rows, seed, devices, monitors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from mirth.core.keys import Purpose, chain_keys, purpose_key
from mirth.core.trees import tree_size
from mirth.core.types import Batch, Key, Params, is_table
from mirth.data import Stream
from mirth.inference.engine.deadline import Deadline
from mirth.inference.engine.placement import Placement
from mirth.inference.monitors.monitor import Monitor
from mirth.inference.store.recorder import Recorder
from mirth.model import Model, activation_bytes

_CPU_WHOLE_BYTES = 4 * 2**20
_CPU_BLOCK_BYTES = 2**20
_MIN_BLOCK_ROWS = 256


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
    data_block_size : int, optional
        Most rows of a gradient at a time; None lets :meth:`choose_block_size` choose.
    draws_on_disk : bool, default=False
        Whether draws leave the memory while the chains run.
    first_chain : int, default=0
        Number of the first chain.
    draws_dtype : str, default="float32"
        Type in which draws are kept.
    keep : callable, optional
        What is kept of a draw: a function of the parameters.
    stream : Stream, optional
        Where the rows to learn from come from, if not from memory; ``train`` are some of them then.
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
    data_block_size: int | None = None
    draws_on_disk: bool = False
    first_chain: int = 0
    draws_dtype: str = "float32"
    keep: Callable[[Params], Any] | None = None
    stream: Stream | None = None

    def keys(self, purpose: Purpose) -> Key:
        """Give one key per chain for a purpose."""
        return chain_keys(self.seed, purpose, self.num_chains, self.first_chain)

    @functools.cached_property
    def params(self) -> Any:
        """Shapes of the parameters of one chain; the model is traced once for all who ask."""
        key = purpose_key(self.seed, Purpose.NETWORK_INIT)
        return jax.eval_shape(self.model.init, key, self.train.x)

    @property
    def num_params(self) -> int:
        """Parameters of the model, those of the likelihood and the prior included."""
        return tree_size(self.params)

    @property
    def num_train(self) -> int:
        """Rows to learn from."""
        return self.train.y.shape[0] if self.stream is None else self.stream.num_rows

    def refuse_stream(self, what: str) -> None:
        """Raise a TypeError if the data come as a stream, for a method that needs all rows."""
        if self.stream is not None:
            raise TypeError(
                f"{what} needs all rows in memory, but the data are a {type(self.stream).__name__};"
                " pass a mirth.Dataset, or take a method of mini-batches such as 'psmile'."
            )

    def joins_validation(self, wanted: bool | None) -> bool:
        """Say whether chains condition on the validation rows too; None leaves it to the data."""
        if wanted:
            self.refuse_stream("use_validation_rows=True")
        return self.stream is None if wanted is None else wanted

    def all_rows(self) -> Batch:
        """Training and validation rows together."""
        first, second = self.train, self.validation
        if first.weights is not None or second.weights is not None:
            first, second = first.weighted(), second.weighted()
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)

    def chains_at_once(self) -> int:
        """Chains that one device runs at the same time."""
        placement = self.placement
        if placement.sequential:
            return 1
        return placement.padded(self.num_chains) // len(placement.devices)

    def choose_block_size(self, params: Params, rows: Batch) -> int | None:
        """Choose how many rows a gradient takes at a time; None means all of them.

        On a CPU all rows, if their activations need at most 4 MiB; else as many as keep 1 MiB
        (about the second-level cache of a core), but at least 256. That was the fastest size or
        nearly so, with the compiled kernel and by XLA (``docs/performance.md``). On an accelerator
        all rows, unless the activations of its chains need more than half of its memory.

        Parameters
        ----------
        params : pytree of arrays, or of their shapes
            Parameters of one chain.
        rows : Batch of arrays, or of their shapes
            All rows.
        """
        num_rows, wanted = rows.y.shape[0], self.data_block_size
        if wanted is None:
            most, block_bytes = _activation_limits(self.placement.devices[0])
            per_row = self.chains_at_once() * activation_bytes(self.model, params, rows)
            if most is None or num_rows * per_row <= most:
                return None
            wanted = max(_MIN_BLOCK_ROWS, block_bytes // per_row)
        return wanted if wanted < num_rows else None


def _activation_limits(device: jax.Device) -> tuple[int | None, int]:
    """Bytes of activations beyond which blocks are cut (None: never), and those of a block."""
    if device.platform == "cpu":
        return _CPU_WHOLE_BYTES, _CPU_BLOCK_BYTES
    # Of all the memory, not of what is free now: a run that is taken up must choose the same.
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return (limit // 2, limit // 2) if limit else (None, 0)


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
