"""The status of a run as a file, replaced as a whole whenever something has changed."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mirth.core.folders import finite, write_json
from mirth.inference.monitors.monitor import ChainsReport, Monitor

STATUS = "status.json"
_MAX_NOTES = 50


class StatusFile(Monitor):
    """Monitor that keeps ``status.json`` of a run directory.

    Parameters
    ----------
    folder : str or path
        The run directory.
    """

    def __init__(self, folder: str | Path):
        self._path = Path(folder) / STATUS
        self._status: dict[str, Any] = {}
        self._notes: list[str] = []

    def write(self, **status: Any) -> None:
        """Say something anew; what is not said anew stays.

        So an interrupted run shows the phase and the step it was in.
        """
        self._status |= status
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = {**self._status, "time": now, "pid": os.getpid(), "peak_bytes": peak_memory()}
        write_json(self._path, finite(record))

    def on_start(self, sentence: str) -> None:
        """Note what memory the run will need."""
        self._status.setdefault("phase", "starting")
        self.write(state="running", memory=sentence)

    def on_note(self, sentence: str) -> None:
        """Keep the last sentences."""
        self._notes = [*self._notes, sentence][-_MAX_NOTES:]
        self.write(notes=self._notes)

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Note how far the optimisation is."""
        self.write(
            state="running",
            phase="warm start",
            epochs=epochs.tolist(),
            validation_loss=losses.tolist(),
            seconds=seconds,
        )

    def on_chunk(self, report: ChainsReport) -> None:
        """Note how far the chains are."""
        self._status.pop("epochs", None)
        self.write(
            state="running",
            phase=report.phase,
            seconds=report.seconds,
            verdicts=[verdict.name for verdict in report.verdicts],
            step=report.step,
            num_steps=report.num_steps,
            steps_per_second=report.steps_per_second,
            seconds_left=report.seconds_left,
            validation_lppd=report.lppd,
            num_effective=report.num_effective,
            effective_per_second=report.effective_per_second,
            step_size=report.step_size.tolist(),
            L=report.L.tolist(),
            energy_error=report.energy_error.tolist(),
            num_divergent=report.num_divergent.tolist(),
        )


def peak_memory() -> int | None:
    """Give the most memory that this process has held, in bytes; None where it is not known.

    Examples
    --------
    >>> peak = peak_memory()
    >>> peak is None or peak > 2**20
    True
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
