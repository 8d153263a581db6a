"""``infer``: any network, likelihood and prior, by any method."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mirth.core.compiled_programs import keep_compiled_programs
from mirth.core.fingerprints import data_hash
from mirth.core.keys import Purpose, purpose_key
from mirth.core.snapshots import Snapshot
from mirth.core.types import Params, is_table
from mirth.core.validation import COUNT, FRACTION, NATURAL, Range
from mirth.data import Dataset, Stream, train_validation_split
from mirth.inference.engine.deadline import Deadline
from mirth.inference.engine.placement import Placement, configure_cpu_devices
from mirth.inference.methods.names import recipe_of, resolve_method
from mirth.inference.monitors.displays import make_monitor
from mirth.inference.monitors.monitor import Monitor, Monitors
from mirth.inference.posterior import Continuation, Posterior
from mirth.inference.problem import Problem
from mirth.inference.rows import Rows, batch_of
from mirth.inference.run.halving import Halving, halve_steps
from mirth.inference.run.stages import STAGE
from mirth.inference.settings import Keep, Run, grouped
from mirth.inference.store.identity import describe, other_run
from mirth.inference.store.recorder import MemoryRecorder, Recorder
from mirth.inference.store.run_folder import RunFolder, read_end
from mirth.model import Model

RANGES: Mapping[str, Range] = {
    "num_chains": COUNT,
    "seed": NATURAL,
    "validation": FRACTION,
}
"""Ranges of the numbers that :func:`infer` takes."""

_SHARE = 0.1
"""Share of the rows that are held back, unless others are given."""


def infer(
    model: Model,
    dataset: Dataset | Stream,
    method: Any = "mile",
    *,
    num_chains: int = 10,
    seed: int = 0,
    validation: Dataset | float | None = 0.1,
    verbose: int | bool = False,
    monitors: Sequence[Monitor] = (),
    run: Run | str | Path | None = None,
    keep: Keep | Callable[[Params], Any] | None = None,
    **old: Any,
) -> Posterior:
    """Sample the posterior of a model.

    Parameters
    ----------
    model : Model
        Network, likelihood and prior.
    dataset : Dataset or Stream
        Rows to condition on, scaled as the network wants them; a :class:`mirth.data.ArrayStream`
        or :class:`mirth.data.BatchStream` for data that do not fit into memory, with a method of
        mini-batches.
    method : str or method object, default="mile"
        A name in :data:`mirth.methods.METHODS` (``"mile"``, ``"psmile"``, ``"auto"``, ...), or an
        object such as ``MILE(n_warmup=5000)``.
    num_chains : int, default=10
        Number of members and chains K.
    seed : int, default=0
        Seed of every random number: the same seed gives the same draws on CPU, whatever the
        chunks, and to rounding on any number of devices.
    validation : Dataset or float, default=0.1
        Rows that stop the optimisation and watch the chains, or the share of the rows of
        ``dataset`` to hold back for it. A stream needs a data set.
    verbose : int or bool, default=False
        Show the progress: 1 bars on a terminal or in a notebook and plain lines elsewhere, 2
        plain lines.
    monitors : sequence of Monitor, default=()
        Who else hears of the progress, such as a :class:`mirth.monitors.TensorBoardMonitor`.
    run : Run, str or path, optional
        Run directory, where a call goes on after a crash; or a :class:`mirth.Run` with that and
        the limit of the time, the devices, the first chain. None keeps all in memory.
    keep : Keep or callable, optional
        What is kept of each draw, a function of the parameters; or a :class:`mirth.Keep` with
        that and the type. None keeps all.
    **old
        Arguments of version 0.1 that stand in ``run``, ``keep`` and ``validation`` now; each is
        warned of.

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
        If the run directory has another run, or another process works on it.
    OSError
        If the run directory or its store cannot be written, or has something else in it.

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
    run, keep, validation = grouped(run, keep, validation, old)
    method, deadline, location = resolve_method(method), Deadline(run.seconds), run.location
    for name, value in (("num_chains", num_chains), ("seed", seed)):
        RANGES[name].check(name, value)
    rows = split_rows(model, dataset, validation, seed)
    # Traced, not run: the network fits the likelihood, or says so.
    jax.eval_shape(model.init, purpose_key(seed, Purpose.NETWORK_INIT), rows.train.x)
    numbers = dict(num_chains=num_chains, seed=seed, first_chain=run.first_chain)
    settings = numbers | _describe_run(model, method, dataset, validation, run, keep)
    with contextlib.ExitStack() as stack:
        listening = [make_monitor(verbose), *_check_monitors(monitors)]
        stack.callback(Monitors(listening).close)
        recorder: Recorder = MemoryRecorder(_snapshot_of(run.go_on_from, settings))
        if run.directory is not None:
            folder = RunFolder(run.directory, settings, run.checkpoint_seconds, location)
            recorder = stack.enter_context(folder)
            listening.append(folder.status)
        problem = Problem(
            model=model,
            rows=rows,
            num_chains=num_chains,
            seed=seed,
            first_chain=run.first_chain,
            placement=run.placement or Placement.automatic(num_chains),
            monitor=Monitors(listening),
            recorder=recorder,
            deadline=deadline,
            chunk_steps=run.chunk_steps,
            data_block_size=run.data_block_size,
            draws_on_disk=run.directory is not None,
            draws_dtype=keep.dtype,
            keep=keep.function,
            stream=dataset if isinstance(dataset, Stream) else None,
        )
        posterior = method.run(problem)
    return _with_continuation(posterior, settings, recorder)


def continue_at_half(
    posterior: Posterior,
    dataset: Dataset | Stream,
    method: Any,
    *,
    validation: Dataset | None = None,
    directory: str | Path | None = None,
    num_draws: int = 100,
    num_settling: int = 25,
) -> Halving:
    """Let the chains of a posterior go on from its end, at their step size and at half of it.

    Parameters
    ----------
    posterior : Posterior
        What :func:`infer` has returned.
    dataset, method, validation
        As given to :func:`infer`; a share of validation rows need not be given again.
    directory : str or path, optional
        Run directory of the posterior, if it has one.
    num_draws, num_settling : int, default=100, 25
        Draws of each chain that count, and those before them that do not, in either continuation.

    Returns
    -------
    Halving
        The draws of all chains of the posterior, and the rows that were held back.

    Raises
    ------
    ValueError, TypeError
        If the posterior has no end to go on from, or none that belongs to these data and this
        method, or if the method has no step size that can be halved.
    RunFolderError
        If the folder is no run directory.
    """
    _prepare_jax()
    method = resolve_method(method)
    settings, snapshot = _end_of(posterior, directory)
    fraction = settings["validation"]
    rows = split_rows(posterior.model, dataset, validation or fraction, settings["seed"])
    run = Run(data_block_size=settings["data_block_size"])
    now = _describe_run(posterior.model, method, dataset, validation or fraction, run, Keep())
    ours = {name: now[name] for name in ("model", "method", "data", "stream") if name in now}
    if reason := other_run(settings, settings | json.loads(json.dumps(ours))):
        raise ValueError(f"posterior is {reason}.")
    num_chains = settings["num_chains"]
    problem = Problem(
        model=posterior.model,
        rows=rows,
        num_chains=num_chains,
        seed=settings["seed"],
        first_chain=settings["first_chain"],
        placement=Placement.automatic(num_chains),
        monitor=Monitor(),
        recorder=Recorder(),
        deadline=Deadline(),
        data_block_size=run.data_block_size,
        stream=dataset if isinstance(dataset, Stream) else None,
    )
    recipe = recipe_of(method, problem, posterior.notes)
    chains = posterior.members - problem.first_chain  # those that were not dropped
    return halve_steps(recipe, problem, snapshot, num_draws, num_settling).of_chains(chains)


def _end_of(posterior: Posterior, directory: str | Path | None) -> tuple[dict[str, Any], Snapshot]:
    """Give what a run was, as JSON holds it, and its end."""
    if directory is not None:
        settings, snapshot = read_end(directory)
    elif posterior.continuation is not None:
        settings, snapshot = posterior.continuation
    else:
        raise ValueError(
            "posterior has no chains to go on with: it is a part of one, joined or loaded. Take "
            "what infer has returned, and with a run directory name it: directory=..."
        )
    if snapshot.record["stage"] != STAGE:
        raise ValueError("posterior is a deep ensemble: it has no chains to go on with.")
    return json.loads(json.dumps(settings)), snapshot


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


def _snapshot_of(posterior: Posterior | None, settings: dict[str, Any]) -> Snapshot | None:
    """Give the state to go on from, if the run is the same but for its length."""
    if posterior is None:
        return None
    end = posterior.continuation
    if end is None:
        raise ValueError(
            "go_on_from has no chains to go on with: it is a part of a posterior, a loaded one, or "
            "of a run directory, where the same call with run= goes on."
        )
    if reason := other_run(end.settings, settings):
        raise ValueError(f"go_on_from is {reason}.")
    return end.snapshot


def _describe_run(
    model: Model,
    method: Any,
    dataset: Dataset | Stream,
    validation: Dataset | float | None,
    run: Run,
    keep: Keep,
) -> dict[str, Any]:
    """Say what the draws follow from, as JSON holds it."""
    given = validation if isinstance(validation, Dataset) else None
    record: dict[str, Any] = {
        "model": describe(model),
        "method": describe(method),
        "draws_dtype": keep.dtype,
        "keep": describe(keep.function),
        "data_block_size": run.data_block_size,
        "draws_store": run.location,
        "validation": float(validation) if isinstance(validation, int | float) else _SHARE,
    }
    if isinstance(dataset, Stream):
        record["stream"] = dataset.fingerprint()
        return record | {"data": data_hash(*_arrays(given))}
    return record | {"data": data_hash(*_arrays(dataset), *_arrays(given))}


def _check_monitors(monitors: Sequence[Monitor]) -> list[Monitor]:
    """Check that all can listen."""
    if isinstance(monitors, Monitor) or not all(isinstance(m, Monitor) for m in monitors):
        raise TypeError(f"monitors={monitors!r} must be a list of mirth.Monitor objects.")
    return list(monitors)


def split_rows(
    model: Model,
    dataset: Dataset | Stream,
    validation: Dataset | float | None,
    seed: int,
) -> Rows:
    """Check the rows of a run, and split the validation rows off unless they are given.

    Parameters
    ----------
    model, dataset, validation, seed
        As given to :func:`infer`.

    Returns
    -------
    Rows
        The same for the same arguments.

    Raises
    ------
    ValueError, TypeError
        If the rows do not belong to the model, or not to each other.
    """
    if isinstance(dataset, Stream):
        if validation is None or isinstance(validation, int | float):
            raise ValueError(
                "A stream needs validation=Dataset(x, y): rows in memory that stop the "
                "optimisation and watch the chains."
            )
        _check_validation(model, validation, dataset.example.x)
        model.likelihood.check_targets(np.asarray(dataset.example.y))
        return Rows(dataset.example, batch_of(validation))
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset must be a mirth.Dataset(x, y), not {type(dataset).__name__}; it checks rows "
            "and types once."
        )
    model.likelihood.check_targets(dataset.y)
    if dataset.weights is not None:
        # A mini-batch of such rows alone would have no mean.
        dataset = dataset.take(np.flatnonzero(dataset.weights))
    if validation is not None and not isinstance(validation, int | float):
        _check_validation(model, validation, dataset.x)
        return Rows(batch_of(dataset), batch_of(validation))
    share = _SHARE if validation is None else validation
    RANGES["validation"].check("validation", share)
    split_seed = int(jax.random.key_data(purpose_key(seed, Purpose.SPLIT))[-1])
    labels = dataset.y if model.likelihood.has_classes else None
    rows, held_back = train_validation_split(len(dataset), share, split_seed, stratify=labels)
    return Rows.cut(dataset.take(np.concatenate([rows, held_back])), len(rows))


def _check_validation(model: Model, validation: Any, x: Any) -> None:
    """Check that validation rows are like those to learn from."""
    if not isinstance(validation, Dataset):
        raise TypeError(
            "validation must be a mirth.Dataset(x, y) or a share of the rows such as 0.1, not "
            f"{type(validation).__name__}."
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


def _arrays(dataset: Dataset | None) -> list[np.ndarray]:
    """Give the arrays of a data set, if there is one."""
    return [] if dataset is None else jax.tree.leaves((dataset.x, dataset.y, dataset.weights))
