"""Display of the progress: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mirth.inference.loop import ChunkReport

_SECONDS_BETWEEN_LINES = 10.0


class Monitor:
    """Silent base: what a display is told. Every method may be left as it is."""

    def on_start(self, sentence: str) -> None:
        """Hear what the run will need, before anything runs."""

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Hear of the optimisation: epochs and best validation losses of the members."""

    def on_chunk(self, report: ChunkReport, lppd: float) -> None:
        """Hear of a chunk of steps, and the present LPPD of the validation rows."""

    def on_end(self, lppd_chain: np.ndarray) -> None:
        """Hear that the run has succeeded, with the LPPD of each chain."""

    def close(self) -> None:
        """Hear that nothing follows; called after an error or an interrupt, too."""


def describe_epochs(epochs: np.ndarray, losses: np.ndarray) -> str:
    """Put the state of the optimisation into words."""
    return f"epoch {int(epochs.max())}, validation loss {np.nanmedian(losses):.3f} (median)"


def describe_chunk(report: ChunkReport, lppd: float) -> str:
    """Put the state of the chains into words."""
    rate = (report.step - report.first_step) / max(report.seconds, 1e-9)
    divergent = int(report.stats.num_divergent.sum())
    words = [
        f"{rate:.0f} steps/s",
        f"{(report.num_steps - report.step) / rate:.0f} s left",
        f"step size {np.median(report.stats.step_size):.2g}",
        f"energy error {np.sqrt(np.median(report.stats.squared_energy_change)):.2g}",
        f"validation LPPD {lppd:.3f}",
    ]
    return ", ".join(words + ([f"{divergent} divergent"] if divergent else []))


class LineMonitor(Monitor):
    """Plain log lines, at most one in ten seconds and one at the end of each phase."""

    def __init__(self, stream: Any = None):
        self._stream = stream
        self._last = -np.inf

    def _say(self, text: str, is_due: bool) -> None:
        now = time.monotonic()
        if is_due or now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            print(text, file=self._stream or sys.stderr, flush=True)

    def on_start(self, sentence: str) -> None:
        print(f"mirth: {sentence}", file=self._stream or sys.stderr, flush=True)

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        self._say(f"mirth: warm start: {describe_epochs(epochs, losses)}", is_due=False)

    def on_chunk(self, report: ChunkReport, lppd: float) -> None:
        is_over = report.step >= report.num_steps
        share = f"{report.step}/{report.num_steps}"
        self._say(f"mirth: {report.phase} {share}: {describe_chunk(report, lppd)}", is_due=is_over)

    def on_end(self, lppd_chain: np.ndarray) -> None:
        self._say(f"mirth: done, LPPD by chain {np.round(lppd_chain, 3).tolist()}", is_due=True)


class BarMonitor(Monitor):
    """A bar per phase on a terminal, by the library rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description:>22}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}

    def _task(self, name: str, total: int | None) -> Any:
        self._progress.start()
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, words="")
        return self._tasks[name]

    def on_start(self, sentence: str) -> None:
        self._progress.console.print(sentence)

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        task = self._task("warm start", int(epochs.max()))
        words = describe_epochs(epochs, losses)
        self._progress.update(
            task, completed=int(epochs.max()), total=int(epochs.max()), words=words
        )

    def on_chunk(self, report: ChunkReport, lppd: float) -> None:
        task = self._task(report.phase, report.num_steps)
        self._progress.update(task, completed=report.step, words=describe_chunk(report, lppd))

    def close(self) -> None:
        self._progress.stop()


def make_monitor(verbose: int | bool) -> Monitor:
    """Choose a display.

    Parameters
    ----------
    verbose : int or bool
        0 is silent; 1 shows a bar on a terminal and plain lines elsewhere; 2 always plain lines.
    """
    if not verbose:
        return Monitor()
    if verbose == 1 and sys.stderr.isatty():
        return BarMonitor()
    return LineMonitor()
