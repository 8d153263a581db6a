"""Run directories: what a run leaves on the disk while it goes on, and how it is taken up again.

================= ======================================================================
``manifest.json`` what the run is: settings, hash of the data, software
``status.json``   how far it is; replaced as a whole after a chunk
``checkpoints``   the last two states that the run can go on from
``draws.zarr``    the draws, axes (chain, draw, ...), written in whole chunks; or elsewhere
``lock``          held by the process that works on the run
================= ======================================================================
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import jax
import numpy as np

from mirth.core.folders import MARKERS, read_marker, write_json
from mirth.core.outcomes import RunInterrupted
from mirth.core.snapshots import Checkpoints, Snapshot
from mirth.inference.store.draws import DrawStore, claim_store
from mirth.inference.store.identity import other_run
from mirth.inference.store.recorder import Recorder
from mirth.inference.store.status_file import StatusFile

FORMAT = "mirth chains"
SCHEMA_VERSION = 7
MARKER = MARKERS[0]
DECISIONS = "decisions.json"
LOCK = "lock"
LOCK_SECONDS = 0.5  # who reads the status takes the lock for an instant, to see if it is free
STORE = "draws.zarr"
_PACKAGES = ("jax", "jaxlib", "numpy", "zarr")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunFolderError(ValueError):
    """A folder that the run cannot go on in."""


class RunFolder(Recorder):
    """Recorder of a run in a folder.

    Use it as a context manager: it holds the lock, and turns the first Ctrl-C or SIGTERM into a
    checkpoint and a :class:`~mirth.core.outcomes.RunInterrupted` after the chunk; a second one
    stops at once.

    Parameters
    ----------
    folder : str or path
        The folder; made if there is none.
    settings : mapping
        What the run is, as JSON holds it. A run is taken up only with the same settings, except
        that those of :data:`GROWING` may be larger.
    checkpoint_seconds : float, default=30
        Least time between two checkpoints; 0 keeps one after every chunk.
    draws_store : str, optional
        Where the draws go (:func:`~mirth.inference.store.draws.store_location`); None means
        ``draws.zarr`` in the folder.

    Raises
    ------
    RunFolderError
        If the folder has another run, or another process works on it.
    FileExistsError
        If the folder, or the place for the draws, has something else in it.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: Mapping[str, Any],
        checkpoint_seconds: float = 30.0,
        draws_store: str | None = None,
    ):
        self.folder = Path(folder)
        self.draws_store = draws_store
        self._id = uuid.uuid4().hex  # of a new run; draws elsewhere are marked with it
        self.settings = json.loads(json.dumps(settings))
        self.checkpoint_seconds = checkpoint_seconds
        self._checkpoints = Checkpoints(self.folder / "checkpoints")
        self._lock = filelock.FileLock(self.folder / LOCK, timeout=LOCK_SECONDS)
        self.status = StatusFile(self.folder)
        self._signal: str | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._last = time.monotonic()

    def __enter__(self) -> RunFolder:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise RunFolderError(
                f"Another process works on {self.folder}. Wait for it, or give another folder."
            ) from None
        try:
            self._check_folder()
        except BaseException:
            self._lock.release()
            raise
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
        if error is None:
            self.status.write(state="finished")
        elif isinstance(error, RunInterrupted):
            self.status.write(state="interrupted")
        else:
            with contextlib.suppress(OSError):  # the error at hand is the one to be heard of
                self.status.write(state="failed", error=f"{kind.__name__}: {error}")
        self._lock.release()

    def restore(self) -> Snapshot | None:
        """Give the newest checkpoint that is whole."""
        return self._checkpoints.read()

    def offer(self, make: Callable[[], Snapshot], *, is_due: bool = False) -> None:
        """Keep the state if it is time, or if the run has been asked to stop."""
        is_late = time.monotonic() - self._last >= self.checkpoint_seconds
        if not (is_due or is_late or self._signal):
            return
        self._checkpoints.write(make())
        self._last = time.monotonic()
        if self._signal and not is_due:
            raise RunInterrupted(self._signal, self.folder)

    def decide(self, name: str, make: Callable[[], str]) -> str:
        """Make a decision once, and keep it."""
        file = self.folder / DECISIONS
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if name not in kept:
            kept[name] = make()
            write_json(file, kept)
        return kept[name]

    def draws(self, num_draws: int, tail: Mapping[str, np.ndarray], num_stored: int) -> DrawStore:
        """Give the store of this run."""
        place: dict[str, Any] = {"location": self.folder / STORE}
        if self.draws_store is not None:
            place = {"location": self.draws_store, "owner": self._id}
        return DrawStore(num_draws=num_draws, tail=tail, num_stored=num_stored, **place)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._signal:
            raise KeyboardInterrupt  # the second time: at once
        self._signal = signal.Signals(number).name

    def _check_folder(self) -> None:
        """Write what the run is into a new folder, or compare."""
        if not (self.folder / MARKER).exists():
            foreign = [p.name for p in self.folder.iterdir() if p.name != LOCK]
            if foreign:
                raise FileExistsError(
                    f"{self.folder} has other things in it ({', '.join(sorted(foreign)[:3])}); "
                    "give a new folder."
                )
            self._claim_store()  # first: a place that cannot be written is not put down
            self._write_manifest()
            return
        kept = read_marker(self.folder, FORMAT, SCHEMA_VERSION)
        self._id = kept.get("id", self._id)
        if reason := other_run(kept["settings"], self.settings):
            raise RunFolderError(f"{self.folder} has {reason}, or another folder.")
        self._claim_store()
        self._write_manifest()

    def _claim_store(self) -> None:
        if self.draws_store is not None:
            claim_store(self.draws_store, self._id)

    def _write_manifest(self) -> None:
        record = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "mirth_version": importlib.metadata.version("mirth"),
            "id": self._id,
            "settings": self.settings,
            "software": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "device": str(jax.devices()[0].device_kind),
        }
        write_json(self.folder / MARKER, record)


def read_end(folder: str | Path) -> tuple[dict[str, Any], Snapshot]:
    """Read what a run directory is and where its chains stand, without working on it.

    Raises
    ------
    RunFolderError
        If it is no run directory, or has no checkpoint yet.
    DamagedFileError
        If no checkpoint can be read.
    """
    try:
        settings = read_marker(folder, FORMAT, SCHEMA_VERSION)["settings"]
    except (FileNotFoundError, ValueError) as error:
        raise RunFolderError(str(error)) from error
    snapshot = Checkpoints(Path(folder) / "checkpoints").read()
    if snapshot is None:
        raise RunFolderError(f"{folder} has no checkpoint: its chains have not started yet.")
    return settings, snapshot
