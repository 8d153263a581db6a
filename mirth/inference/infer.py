"""``infer``: any network, likelihood and prior, by any method."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mirth.core.compiled_programs import keep_compiled_programs
from mirth.core.fingerprints import data_hash
from mirth.core.keys import Purpose, purpose_key
from mirth.core.snapshots import Snapshot
from mirth.core.types import Batch, Params, is_table
from mirth.core.validation import (
    COUNT,
    FRACTION,
    NATURAL,
    NON_NEGATIVE,
    Range,
    check_duration,
    check_name,
)
from mirth.data import Dataset, Stream, train_validation_split
from mirth.inference.engine.deadline import Deadline
from mirth.inference.engine.placement import Placement, configure_cpu_devices
from mirth.inference.methods.names import resolve_method
from mirth.inference.monitors.displays import make_monitor
from mirth.inference.monitors.monitor import Monitor, Monitors
from mirth.inference.posterior import Continuation, Posterior
from mirth.inference.problem import Problem
from mirth.inference.store.draws import store_location
from mirth.inference.store.identity import describe, other_run
from mirth.inference.store.recorder import MemoryRecorder, Recorder
from mirth.inference.store.run_folder import RunFolder
from mirth.model import Model

DRAW_TYPES = ("float32", "float16", "bfloat16")
"""Types in which draws can be kept."""

RANGES: Mapping[str, Range] = {
    "num_chains": COUNT,
    "first_chain": NATURAL,
    "seed": NATURAL,
    "validation_fraction": FRACTION,
    "chunk_steps": COUNT,
    "data_block_size": COUNT,
    "checkpoint_seconds": NON_NEGATIVE,
}
"""Ranges of the numbers that :func:`infer` takes."""


def infer(
    model: Model,
    dataset: Dataset | Stream,
    method: Any = "mile",
    *,
    num_chains: int = 10,
    first_chain: int = 0,
    seed: int = 0,
    validation: Dataset | None = None,
    validation_fraction: float = 0.1,
    placement: Placement | None = None,
    chunk_steps: int | None = None,
    data_block_size: int | None = None,
    verbose: int | bool = False,
    monitors: Sequence[Monitor] = (),
    max_time: float | str | None = None,
    out: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    draws_store: str | Path | None = None,
    draws_dtype: str = "float32",
    keep: Callable[[Params], Any] | None = None,
    go_on_from: Posterior | None = None,
) -> Posterior:
    """Sample the posterior of a model.

    Parameters
    ----------
    model : Model
        Network, likelihood and prior.
    dataset : Dataset or Stream
        Rows to condition on, scaled as the network wants them; an :class:`ArrayStream` or a
        :class:`BatchStream` for data that do not fit into memory, with a method of mini-batches.
    method : str or method object, default="mile"
        A name in :data:`METHODS` (``"mile"``, ``"psmile"``, ``"auto"``, ...), or an object
        such as ``MILE(n_warmup=5000)``.
    num_chains : int, default=10
        Number of members and chains K.
    first_chain : int, default=0
        Number of the first chain. The draws of a chain depend on its number, not on the others, so
        several machines can run some each (:func:`join_chains`).
    seed : int, default=0
        Seed of every random number: the same seed gives the same draws on CPU, whatever the
        chunks, and to rounding on any number of devices.
    validation : Dataset, optional
        Rows that stop the optimisation and watch the chains; None splits them off ``dataset``. A
        stream needs them.
    validation_fraction : float, default=0.1
        Share of the rows to split off.
    placement : Placement, optional
        Devices; None chooses by platform.
    chunk_steps : int, optional
        Steps of a compiled chunk; None finds a number that takes about a second.
    data_block_size : int, optional
        Most rows that a gradient takes at a time: the memory for activations does not grow with
        the rows. It changes results only to rounding. None chooses by
        :meth:`~mirth.inference.problem.Problem.choose_block_size`.
    verbose : int or bool, default=False
        Show the progress: 1 bars on a terminal or in a notebook and plain lines elsewhere, 2
        plain lines.
    monitors : sequence of Monitor, default=()
        Who else hears of the progress, such as a :class:`TensorBoardMonitor`.
    max_time : float or str, optional
        Limit of the time in seconds, or as ``"10min"``; of all processes that work on a run
        directory together. The phases are cut in proportion as soon as the speed is known, so
        the draws depend on the machine. The result is valid, and late by one chunk at most.
    out : str or path, optional
        Run directory: the draws go to disk while the chains run, the state is kept from time to
        time, and the same call goes on from there after a crash, an interrupt or the end (with a
        larger ``n_samples``). None keeps everything in memory.
    checkpoint_seconds : float, default=30
        Least time between two checkpoints in the run directory.
    draws_store : str or path, optional
        Where the draws of the run directory go: another folder, or a URL such as
        ``"s3://bucket/run.zarr"`` (with ``mirth[remote]`` and the protocol's own package, here
        s3fs). A later call must name the same place. None means ``draws.zarr`` in the run
        directory.
    draws_dtype : {"float32", "float16", "bfloat16"}, default="float32"
        Type in which draws are kept; predictions compute in float32 all the same. ``"bfloat16"``
        has three digits less and no limit at 65504.
    keep : callable, optional
        What is kept of each draw, a function of the parameters such as
        ``lambda params: params["network"]["dense_2"]``, or the outputs for some inputs: draws of a
        large network need not be held. ``Posterior.draws`` has what it gives. None keeps all.
    go_on_from : Posterior, optional
        Result of the same call with a smaller ``n_samples``: the chains go on where they stand, to
        the draws that a longer run would have had. For a run without directory.

    Returns
    -------
    Posterior
        Draws, statistics and reports.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or the network does not fit the likelihood.
    SamplingError
        If the log density is not finite anywhere.
    RunInterrupted
        If Ctrl-C or SIGTERM stopped a run with a run directory; its state is kept.
    RunFolderError
        If ``out`` has another run, or another process works on it.
    OSError
        If ``out`` or ``draws_store`` cannot be written, or has something else in it.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    >>> data = mirth.Dataset(x, np.sin(3 * x[:, 0]))
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> method = mirth.MILE(n_warmup=100, n_samples=5)
    >>> posterior = mirth.infer(model, data, method, num_chains=2)
    >>> posterior.num_chains, posterior.num_draws
    (2, 5)
    """
    _prepare_jax()
    method = resolve_method(method)
    numbers: dict[str, Any] = dict(num_chains=num_chains, first_chain=first_chain, seed=seed)
    sizes: dict[str, Any] = dict(chunk_steps=chunk_steps, data_block_size=data_block_size)
    _check_numbers(**numbers, **sizes, checkpoint_seconds=checkpoint_seconds)
    numbers["draws_dtype"] = check_name("draws_dtype", draws_dtype, DRAW_TYPES)
    deadline = Deadline(None if max_time is None else check_duration("max_time", max_time))
    location = _location(draws_store, out)
    train, held = map(_to_batch, _split(model, dataset, validation, validation_fraction, seed))
    # Traced, not run: the network fits the likelihood, or says so.
    jax.eval_shape(model.init, purpose_key(seed, Purpose.NETWORK_INIT), train.x)
    with contextlib.ExitStack() as stack:
        listening = [make_monitor(verbose), *_check_monitors(monitors)]
        stack.callback(Monitors(listening).close)
        settings = numbers | _describe_run(model, method, dataset, validation)
        settings |= dict(data_block_size=data_block_size, draws_store=location, keep=describe(keep))
        settings["validation_fraction"] = validation_fraction
        recorder: Recorder = MemoryRecorder(_snapshot_of(go_on_from, settings, out))
        if out is not None:
            folder = RunFolder(out, settings, checkpoint_seconds, location)
            recorder = stack.enter_context(folder)
            listening.append(folder.status)
        problem = Problem(
            **(numbers | sizes),
            model=model,
            train=train,
            validation=held,
            placement=placement or Placement.automatic(num_chains),
            monitor=Monitors(listening),
            recorder=recorder,
            deadline=deadline,
            draws_on_disk=out is not None,
            keep=keep,
            stream=dataset if isinstance(dataset, Stream) else None,
        )
        posterior = method.run(problem)
    return _with_continuation(posterior, settings, recorder)


def _prepare_jax() -> None:
    """Set what JAX reads once, unless the user has."""
    configure_cpu_devices()
    keep_compiled_programs()


def _with_continuation(
    posterior: Posterior, settings: dict[str, Any], recorder: Recorder
) -> Posterior:
    """Let a run in memory be gone on with."""
    if not isinstance(recorder, MemoryRecorder) or recorder.snapshot is None:
        return posterior
    return dataclasses.replace(posterior, continuation=Continuation(settings, recorder.snapshot))


def _snapshot_of(
    posterior: Posterior | None, settings: dict[str, Any], out: str | Path | None
) -> Snapshot | None:
    """Give the state to go on from, if the run is the same but for its length."""
    if posterior is None:
        return None
    if out is not None:
        raise ValueError(
            f"go_on_from and out={str(out)!r} exclude each other: a run directory knows where its "
            "chains stand."
        )
    end = posterior.continuation
    if end is None:
        raise ValueError(
            "go_on_from has no chains to go on with: it is a part of a posterior, a loaded one, or "
            "of a run directory, where the same call with out= goes on."
        )
    if reason := other_run(end.settings, settings):
        raise ValueError(f"go_on_from is {reason}.")
    return end.snapshot


def _describe_run(
    model: Model, method: Any, dataset: Dataset | Stream, validation: Dataset | None
) -> dict[str, Any]:
    """Say what the draws follow from, as JSON holds it."""
    record = {"model": describe(model), "method": describe(method)}
    if isinstance(dataset, Stream):
        record["stream"] = dataset.fingerprint()
        return record | {"data": data_hash(*_arrays(validation))}
    return record | {"data": data_hash(*_arrays(dataset), *_arrays(validation))}


def _check_numbers(**values: Any) -> None:
    """Check the ranges of numbers that are given."""
    for name, value in values.items():
        if value is not None:
            RANGES[name].check(name, value)


def _check_monitors(monitors: Sequence[Monitor]) -> list[Monitor]:
    """Check that all can listen."""
    if isinstance(monitors, Monitor) or not all(isinstance(m, Monitor) for m in monitors):
        raise TypeError(f"monitors={monitors!r} must be a list of mirth.Monitor objects.")
    return list(monitors)


def _split(
    model: Model,
    dataset: Dataset | Stream,
    validation: Dataset | None,
    validation_fraction: float,
    seed: int,
) -> tuple[Dataset | Batch, Dataset]:
    """Check the rows, and split the validation rows off unless they are given."""
    if isinstance(dataset, Stream):
        if validation is None:
            raise ValueError(
                "A stream needs validation=Dataset(x, y): rows in memory that stop the "
                "optimisation and watch the chains."
            )
        _check_validation(model, validation, dataset.example.x)
        model.likelihood.check_targets(np.asarray(dataset.example.y))
        return dataset.example, validation
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset must be a mirth.Dataset(x, y), not {type(dataset).__name__}; it checks rows "
            "and types once."
        )
    model.likelihood.check_targets(dataset.y)
    if dataset.weights is not None:
        # A mini-batch of such rows alone would have no mean.
        dataset = dataset.take(np.flatnonzero(dataset.weights))
    if validation is not None:
        _check_validation(model, validation, dataset.x)
        return dataset, validation
    RANGES["validation_fraction"].check("validation_fraction", validation_fraction)
    split_seed = int(jax.random.key_data(purpose_key(seed, Purpose.SPLIT))[-1])
    labels = dataset.y if model.likelihood.has_classes else None
    rows, held_back = train_validation_split(
        len(dataset), validation_fraction, split_seed, stratify=labels
    )
    return dataset.take(rows), dataset.take(held_back)


def _check_validation(model: Model, validation: Any, x: Any) -> None:
    """Check that validation rows are like those to learn from."""
    if not isinstance(validation, Dataset):
        raise TypeError(
            f"validation must be a mirth.Dataset(x, y) or None, not {type(validation).__name__}."
        )
    model.likelihood.check_targets(validation.y)
    found, expected = (jax.tree.map(lambda leaf: leaf.shape[1:], v) for v in (validation.x, x))
    if found == expected:
        return
    if is_table(validation.x) and is_table(x):
        raise ValueError(
            f"validation has {found[0]} features per row, but dataset has {expected[0]}."
        )
    raise ValueError(f"validation has rows of shape {found}, but dataset has {expected}.")


def _location(draws_store: str | Path | None, out: str | Path | None) -> str | None:
    """Check where the draws shall go."""
    if draws_store is None:
        return None
    if out is None:
        raise ValueError(
            f"draws_store={str(draws_store)!r} needs a run directory, which keeps the state of the "
            "run: out=FOLDER of infer, run_directory=FOLDER of an estimator."
        )
    return store_location(draws_store)


def _arrays(dataset: Dataset | None) -> list[np.ndarray]:
    """Give the arrays of a data set, if there is one."""
    return [] if dataset is None else jax.tree.leaves((dataset.x, dataset.y, dataset.weights))


def _to_batch(dataset: Dataset | Batch) -> Batch:
    """Put the rows of a data set on the default device."""
    weights = None if dataset.weights is None else jnp.asarray(dataset.weights)
    return Batch(jax.tree.map(jnp.asarray, dataset.x), jnp.asarray(dataset.y), weights)
