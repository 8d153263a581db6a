"""How far a run is, read from its folder by anybody at any time.

A run directory of :func:`mirth.infer` may stand in the folder of a run of a configuration, as
``chains``; such a folder has a lock of its own, and work to do before and after the chains.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock

from mirth.core.folders import MARKERS, finite, missing, read_marker
from mirth.core.outcomes import ChainVerdict
from mirth.evaluation import summarize_health
from mirth.inference.store.run_folder import FORMAT, LOCK, SCHEMA_VERSION
from mirth.inference.store.status_file import STATUS

CONFIG, CHAINS, ERROR = "config.yaml", "chains", "error.txt"
"""Of a run of a configuration: what it is, its run directory, and why its last try has failed."""

STATES = ("running", "finished", "interrupted", "failed", "killed")
_WRITTEN = STATES[:-1]  # a process that is killed writes nothing

_NUMBERS = (
    "seconds", "steps_per_second", "seconds_left", "validation_lppd", "num_effective",
    "effective_per_second",
)  # fmt: skip
_COUNTS = ("step", "num_steps", "pid", "peak_bytes")
_TEXTS = ("phase", "memory", "error")
_NUMBERS_BY_CHAIN = ("validation_loss", "step_size", "L", "energy_error")
_COUNTS_BY_CHAIN = ("epochs", "num_divergent")


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """How far a run is, as :func:`read_status` finds it.

    What is not known yet, or never will be, is None, or an empty tuple where there is a number for
    each chain. A run that has ended shows the phase and the step that it was in.

    Parameters
    ----------
    folder : Path
        The run.
    state : {"running", "finished", "interrupted", "failed", "killed"}
        A process works on it; it has its draws (and its results, if it has a configuration); it
        was asked to stop and has kept its state; an error has ended it; its process is gone
        without a word.
    has_config : bool
        Whether it is a run of a configuration (``mirth run``), not of :func:`mirth.infer` alone.
    phase : str, optional
        ``starting``, ``warm start``, a phase of the tuning, ``sampling``, ``writing the results``.
    step, num_steps : int, optional
        Steps done and steps to do in this phase.
    epochs : tuple of int
        Epochs of each member of the ensemble, while it is optimised.
    validation_loss : tuple of float
        Lowest loss of the validation rows so far, of each member.
    seconds : float, optional
        Time that the run has used at its last report, all its processes together; while the
        ensemble is optimised, of that alone.
    seconds_left : float, optional
        Time that the rest of the phase will take.
    steps_per_second : float, optional
        Rate of each chain.
    validation_lppd : float, optional
        LPPD of the validation rows in nats per row.
    num_effective, effective_per_second : float, optional
        Effective draws of all chains together, and per second of sampling.
    verdicts : tuple of ChainVerdict
        On each chain, by the last review.
    step_size, L, energy_error : tuple of float
        Of each chain; NaN where it is not known.
    num_divergent : tuple of int
        Reverted steps of each chain in the last chunk.
    notes : tuple of str
        What a person should know: unhealthy chains, an early end; the last ones.
    memory : str, optional
        What memory the run needs, as it was estimated.
    peak_bytes : int, optional
        The most memory that its process has held.
    time : datetime, optional
        When all this was written.
    pid : int, optional
        The process that has written it.
    error : str, optional
        Why the run has failed.

    Examples
    --------
    >>> print(RunStatus(Path("run"), "killed", phase="sampling", step=20, num_steps=100))
    run: killed, sampling: step 20/100, goes on by the same call of infer
    """

    folder: Path
    state: str
    has_config: bool = False
    phase: str | None = None
    step: int | None = None
    num_steps: int | None = None
    epochs: tuple[int, ...] = ()
    validation_loss: tuple[float, ...] = ()
    seconds: float | None = None
    seconds_left: float | None = None
    steps_per_second: float | None = None
    validation_lppd: float | None = None
    num_effective: float | None = None
    effective_per_second: float | None = None
    verdicts: tuple[ChainVerdict, ...] = ()
    step_size: tuple[float, ...] = ()
    L: tuple[float, ...] = ()
    energy_error: tuple[float, ...] = ()
    num_divergent: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    memory: str | None = None
    peak_bytes: int | None = None
    time: datetime.datetime | None = None
    pid: int | None = None
    error: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether a process works on it."""
        return self.state == "running"

    @property
    def health(self) -> str | None:
        """Sentence about the unhealthy chains; None if no review has found one."""
        if all(verdict is ChainVerdict.MOVED for verdict in self.verdicts):
            return None
        return summarize_health(self.verdicts)

    def to_record(self) -> dict[str, Any]:
        """Give what is known as JSON holds it."""
        record: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                value = [v.name if isinstance(v, ChainVerdict) else v for v in value] or None
            elif isinstance(value, datetime.datetime):
                value = value.isoformat()
            elif isinstance(value, Path):
                value = str(value)
            if value is not None:
                record[field.name] = value
        known: dict[str, Any] = finite(record)
        return known

    def __str__(self) -> str:
        """Put it into one line."""
        words = [f"{self.folder}: {self.state}"]
        if self.phase is not None:
            share = "" if self.step is None else f": step {self.step}/{self.num_steps}"
            epoch = f": epoch {max(self.epochs)}" if self.epochs else ""
            words.append(f"{self.phase}{share}{epoch}")
        if self.steps_per_second:
            words.append(f"{self.steps_per_second:.0f} steps/s")
            words += [] if self.seconds_left is None else [f"{self.seconds_left:.0f} s left"]
        if self.validation_lppd is not None:
            words.append(f"validation LPPD {self.validation_lppd:.3f}")
        if self.effective_per_second is not None:
            words.append(f"{self.effective_per_second:.2g} effective draws/s")
        if self.peak_bytes is not None:
            words.append(f"{self.peak_bytes / 2**30:.2f} GiB of memory")
        if sum(self.num_divergent):
            words.append(f"{sum(self.num_divergent)} divergent steps")
        if self.error is not None:
            words.append(self.error)
        if self.state in ("interrupted", "killed", "failed"):
            again = f"go on by: mirth resume {self.folder}"
            words.append(again if self.has_config else "goes on by the same call of infer")
        return ", ".join(words)


def read_status(run: str | Path) -> RunStatus:
    """Read how far a run is, while it goes on or afterwards.

    The state follows from three things. A process that works on a run holds its lock, and no other
    can: so who holds it is running, whatever the files say. Who ends in order writes how. So a run
    that says it is running and whose lock is free was killed.

    Parameters
    ----------
    run : str or path
        Run directory of :func:`mirth.infer` (``run=``) or of an estimator (``run_directory=``), or
        folder of ``mirth run``.

    Returns
    -------
    RunStatus
        State, phase, step, health and times.

    Raises
    ------
    FileNotFoundError
        If there is no such folder (the nearest name is suggested), or it is no run directory.
    ValueError
        If it is something else that mirth has written, was written by a version of mirth with
        another schema, or its status file is damaged.

    Examples
    --------
    >>> import tempfile, numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> data = mirth.Dataset(x, x[:, 0])
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = mirth.infer(model, data, "deep_ensemble", num_chains=2, run=folder)
    ...     mirth.read_status(folder).state
    'finished'
    """
    path = Path(run)
    if not path.is_dir():
        raise missing("folder", path)
    has_config = (path / CONFIG).is_file()
    is_held = _is_held(path)  # first: a run that ends meanwhile has not been killed
    record = _read_record(path / CHAINS if has_config else path, is_begun=has_config)
    if has_config and record["state"] == "finished" and not has_results(path):
        record |= {"state": "running", "phase": "writing the results"}
    if not is_held and record["state"] == "running":
        is_held = _is_held(path)  # again: it may have begun meanwhile
    if is_held:
        record["state"] = "running"
        record.pop("error", None)  # of an earlier try
    elif record["state"] == "running":
        record["state"] = "killed"
    error = path / ERROR  # also of what came before or after the chains
    if has_config and record["state"] in ("killed", "failed") and error.is_file():
        text = " ".join(error.read_text(encoding="utf-8").split())
        record |= {"state": "failed", "error": text}
    return _status_of(path, has_config, record)


def has_results(folder: str | Path) -> bool:
    """Whether a run of a configuration has its results, and those of its present configuration.

    Parameters
    ----------
    folder : str or path
        Folder of ``mirth run``.

    Returns
    -------
    bool
    """
    import yaml

    path = Path(folder)
    try:
        manifest = json.loads((path / MARKERS[0]).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    # The text as it stands: a later version of mirth may know more settings.
    config = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
    return bool(manifest.get("config") == config)


def _is_held(path: Path) -> bool:
    """Whether a process works on the run."""
    if not (path / LOCK).exists():
        return False
    try:
        with filelock.FileLock(path / LOCK, timeout=0):
            return False
    except filelock.Timeout:
        return True


def _read_record(path: Path, *, is_begun: bool) -> dict[str, Any]:
    """Read what a run directory says of itself; it says nothing before its marker is there."""
    has_marker = (path / MARKERS[0]).is_file()
    if not has_marker and (is_begun or [file.name for file in path.iterdir()] == [LOCK]):
        return {"state": "running", "phase": "starting"}
    if not has_marker:
        raise FileNotFoundError(
            f"{path} is no run directory: there is no {path / MARKERS[0]}. Give the folder that "
            "was run= of mirth.infer, run_directory= of an estimator, or --out of mirth run."
        )
    read_marker(path, FORMAT, SCHEMA_VERSION)
    file = path / STATUS
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"state": "running", "phase": "starting"}
    except ValueError:
        record = None
    if not isinstance(record, dict) or record.get("state", "running") not in _WRITTEN:
        raise _damaged(file)
    return {"state": "running"} | record


def _damaged(file: Path) -> ValueError:
    return ValueError(
        f"{file} is damaged; it is not the JSON that mirth has written. Draws and checkpoints are "
        "in other files: who goes on with the run writes a new one."
    )


def _status_of(path: Path, has_config: bool, record: Mapping[str, Any]) -> RunStatus:
    """Give what was read its types."""

    def each(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda values: tuple(convert(value) for value in values)

    kinds: dict[str, Callable[[Any], Any]] = dict.fromkeys(_NUMBERS, float)
    kinds |= dict.fromkeys(_COUNTS, int) | dict.fromkeys(_TEXTS, str)
    kinds |= dict.fromkeys(_NUMBERS_BY_CHAIN, each(lambda v: math.nan if v is None else float(v)))
    kinds |= dict.fromkeys(_COUNTS_BY_CHAIN, each(int))
    kinds |= {"notes": each(str), "verdicts": each(lambda name: ChainVerdict[name])}
    kinds["time"] = datetime.datetime.fromisoformat
    try:
        known = {n: kinds[n](v) for n, v in record.items() if n in kinds and v is not None}
    except (TypeError, ValueError, KeyError):
        raise _damaged((path / CHAINS if has_config else path) / STATUS) from None
    return RunStatus(path, record["state"], has_config, **known)
