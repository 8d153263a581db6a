"""Runs from a configuration, which go on after a kill and can be made longer.

=================== ====================================================================
``config.yaml``      the configuration with all its values
``environment.json`` software, devices and the data file when the run began
``chains``           run directory of :func:`mirth.infer`: draws, state, status
``log.txt``          what was said, with the time
``error.txt``        why the last try ended, if it was an error
``lock``             held by the process that works on the run
``tensorboard``      the progress as TensorBoard events, if the configuration says so
=================== ====================================================================

At the end come the files of :func:`mirth.experiments.fit_table`; ``manifest.json`` is the last.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from mirth.core.folders import write_json, write_text
from mirth.core.validation import find_name
from mirth.estimators import BNNClassifier, BNNRegressor
from mirth.experiments.comparison import Comparison
from mirth.experiments.config import LIKELIHOOD_NAMES, RunConfig, parse_config
from mirth.experiments.config_files import read_config, write_config
from mirth.experiments.environment import describe, environment
from mirth.experiments.tables import Prepared, fit_into, prepare
from mirth.inference import Monitor
from mirth.inference.monitors.trackers import TRACKERS
from mirth.inference.store.draws import open_store, store_location
from mirth.inference.store.run_folder import LOCK, LOCK_SECONDS, RunFolderError
from mirth.inference.store.run_status import CHAINS, CONFIG, ERROR, has_results
from mirth.report import Table

ENVIRONMENT, LOG = "environment.json", "log.txt"

Show = Callable[[Table | str], None]


def start_run(
    config: RunConfig,
    folder: str | Path,
    *,
    verbose: int | bool = False,
    show: Show = lambda _: None,
) -> Comparison:
    """Begin a run and take it to its end.

    Parameters
    ----------
    config : RunConfig
        What to do.
    folder : str or path
        The folder to make.
    verbose : int or bool, default=False
        Show the progress.
    show : callable, optional
        Receives tables and sentences to print.

    Returns
    -------
    Comparison
        The scores.

    Raises
    ------
    FileExistsError
        If there is something in the folder.
    FileNotFoundError, ValueError, TypeError
        If the table or a value cannot be used; nothing has been written then.
    RunInterrupted
        If Ctrl-C or SIGTERM stopped it; ``resume_run`` goes on.
    """
    path = Path(folder)
    if (path / CONFIG).is_file():
        raise FileExistsError(
            f"{path} has a run already; go on by: mirth resume {path}, or give another folder."
        )
    left = {LOCK, ENVIRONMENT}  # by a process that was killed before it wrote the configuration
    if path.exists() and (not path.is_dir() or {p.name for p in path.iterdir()} - left):
        raise FileExistsError(f"{path} is not empty; give the name of a new folder.")
    # From now on the run must not depend on where a command is called.
    data = config.data.model_copy(update={"path": str(Path(config.data.path).absolute())})
    store = None if config.draws_store is None else store_location(config.draws_store)
    config = config.model_copy(update={"data": data, "draws_store": store})
    prepared = _prepare(config)
    path.mkdir(parents=True, exist_ok=True)
    with _held(path):
        file = {"path": data.path, "sha256": _file_hash(data.path)}
        write_json(path / ENVIRONMENT, environment() | {"seed": config.seed, "data": file})
        write_config(path / CONFIG, config)
        return _fit(path, config, prepared, verbose, show)


def resume_run(
    folder: str | Path, *, verbose: int | bool = False, show: Show = lambda _: None
) -> Comparison | None:
    """Take a run that was stopped or killed to its end, as if it had never been.

    Parameters
    ----------
    folder : str or path
        Folder of ``start_run``.
    verbose, show
        As for ``start_run``.

    Returns
    -------
    Comparison or None
        The scores; None if the run was finished already.

    Raises
    ------
    FileNotFoundError
        If there is no run, or its table is gone.
    RunFolderError
        If the table has changed, or another process works on the run.
    """
    path = Path(folder)
    config = _config_of(path)
    if has_results(path):
        return None
    with _held(path):
        _check_data(path)
        return _fit(path, config, _prepare(config), verbose, show)


def extend_run(
    folder: str | Path, n_samples: int, *, verbose: int | bool = False, show: Show = lambda _: None
) -> Comparison:
    """Go on with the chains of a finished run, and write model and scores anew.

    Parameters
    ----------
    folder : str or path
        Folder of ``start_run``.
    n_samples : int
        Draws per chain that it shall have, the present ones included.
    verbose, show
        As for ``start_run``.

    Returns
    -------
    Comparison
        The scores.

    Raises
    ------
    ValueError
        If the run is not finished, has as many draws, or is a deep ensemble, which has no chains.
    FileNotFoundError, RunFolderError
        As for ``resume_run``.
    """
    path = Path(folder)
    config = _config_of(path)
    if config.method.name != "mile":
        raise ValueError(f"{path} is a {config.method.name}: it has no chains to go on with.")
    if not has_results(path):
        raise RunFolderError(f"the run in {path} is not finished; first: mirth resume {path}")
    if n_samples <= config.method.n_samples:
        raise ValueError(
            f"n_samples={n_samples} must be more than the {config.method.n_samples} draws that "
            f"each chain of {path} has."
        )
    record = config.model_dump(mode="json")
    config = parse_config(record | {"method": record["method"] | {"n_samples": n_samples}})
    with _held(path):
        _check_data(path)
        prepared = _prepare(config)
        write_config(path / CONFIG, config)
        return _fit(path, config, prepared, verbose, show)


def _config_of(path: Path) -> RunConfig:
    if not (path / CONFIG).is_file():
        raise FileNotFoundError(f"{path} has no run: the file {path / CONFIG} is missing.")
    return read_config(path / CONFIG)


def _prepare(config: RunConfig) -> Prepared:
    """Read the table, and check what can only be checked once the task is known."""
    data = config.data
    if config.draws_store is not None:
        open_store(config.draws_store)  # an unknown protocol is heard of before a folder is made
    _trackers(config, Path())  # a missing library, too
    prepared = prepare(
        data.path, data.target, config.task, data.test_fraction, config.seed, data.drop
    )
    if config.model.likelihood is not None:
        known = LIKELIHOOD_NAMES[prepared.case.task]
        find_name(f"model.likelihood (for a {prepared.case.task})", config.model.likelihood, known)
    return prepared


def _trackers(config: RunConfig, path: Path) -> list[Monitor]:
    """Make the monitors that the configuration asks for; they write nothing yet."""
    try:
        return [TRACKERS[name](path) for name in dict.fromkeys(config.track)]
    except ImportError as error:
        raise ValueError(f"track={list(config.track)}: {error}") from error


def _fit(
    path: Path, config: RunConfig, prepared: Prepared, verbose: int | bool, show: Show
) -> Comparison:
    """Fit, or go on with the fit, and write the results."""
    model = config.model
    options: dict[str, Any] = {} if model.likelihood is None else {"likelihood": model.likelihood}
    is_regression = prepared.case.task == "regression"
    if is_regression:
        options |= {"normalize_y": model.normalize_y, "resolution": model.resolution}
    estimator = (BNNRegressor if is_regression else BNNClassifier)(
        model.hidden_layer_sizes,
        activation=model.activation,
        prior=model.prior.build(),
        robust_scaling=model.robust_scaling,
        method=config.method.build(),
        n_members=config.n_members,
        validation_fraction=config.data.validation_fraction,
        random_state=config.seed,
        verbose=verbose,
        run_directory=path / CHAINS,
        checkpoint_seconds=config.checkpoint_seconds,
        max_time=config.max_time,
        monitors=_trackers(config, path),
        draws_store=config.draws_store,
        weights=config.weights,
        **options,
    )
    with _error_kept(path / ERROR), _logged(path / LOG, show) as say:
        say(prepared.sentence())
        record = config.model_dump(mode="json")
        return fit_into(path, prepared, estimator, say, bias_check=config.bias_check, config=record)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other processes away."""
    try:
        with filelock.FileLock(path / LOCK, timeout=LOCK_SECONDS):
            yield
    except filelock.Timeout:
        raise RunFolderError(
            f"another process works on {path}; look at it by: mirth watch {path}"
        ) from None


def _file_hash(file: str) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_data(path: Path) -> None:
    """Check that the table is the one that the run began with."""
    kept = json.loads((path / ENVIRONMENT).read_text(encoding="utf-8"))["data"]
    if not Path(kept["path"]).is_file():
        raise FileNotFoundError(f"the table {kept['path']} of the run in {path} is gone.")
    if _file_hash(kept["path"]) != kept["sha256"]:
        raise RunFolderError(
            f"the table {kept['path']} has changed since the run in {path} began; put the old "
            "file back, or begin another run."
        )


@contextlib.contextmanager
def _error_kept(file: Path) -> Iterator[None]:
    """Write down why a run ends, so that it does not look killed; an interrupt is no error."""
    file.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):  # the error at hand is the one to be heard of
            write_text(file, f"{type(error).__name__}: {error}\n")
        raise


@contextlib.contextmanager
def _logged(file: Path, show: Show) -> Iterator[Show]:
    """Give a ``show`` that also writes to a log; warnings and errors go there, too."""

    def write(text: str) -> None:
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(f"{now} {text.rstrip()}\n")

    def say(what: Table | str) -> None:
        write(what if isinstance(what, str) else "\n" + _as_text(what))
        show(what)

    before = warnings.showwarning

    def note(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
        write(f"{category.__name__}: {message}")
        before(message, category, *place, **options)

    write(f"Process {os.getpid()}. {describe(environment())}")
    warnings.showwarning = note
    try:
        yield say
    except BaseException as error:
        write(f"{type(error).__name__}: {error}")
        raise
    finally:
        warnings.showwarning = before
    write("Finished.")


def _as_text(table: Table) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=160).print(table.to_rich())
    return stream.getvalue()
