"""Displays of the progress: bars on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mirth.inference.monitor import ChainsReport, Monitor, describe_epochs

if TYPE_CHECKING:
    from rich.table import Table

_SECONDS_BETWEEN_LINES = 10.0
_MAX_ROWS = 16


class LineMonitor(Monitor):
    """Plain log lines, at most one in ten seconds and one at the end of each phase."""

    def __init__(self, stream: Any = None):
        self._stream = stream
        self._last = -np.inf

    def _say(self, text: str, is_due: bool) -> None:
        now = time.monotonic()
        if is_due or now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            print(f"mirth: {text}", file=self._stream or sys.stderr, flush=True)

    def on_note(self, sentence: str) -> None:
        """Say it at once."""
        self._say(sentence, is_due=True)

    def on_start(self, sentence: str) -> None:
        """Say it, without a claim on the next ten seconds."""
        print(f"mirth: {sentence}", file=self._stream or sys.stderr, flush=True)

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Say it if it is time."""
        self._say(f"warm start: {describe_epochs(epochs, losses)}", is_due=False)

    def on_chunk(self, report: ChainsReport) -> None:
        """Say it if it is time, or at the end of a phase."""
        is_over = report.step >= report.num_steps
        self._say(f"{report.phase} {report.step}/{report.num_steps}: {report}", is_due=is_over)

    def on_end(self, lppd_chain: np.ndarray) -> None:
        """Say it."""
        self._say(f"done, LPPD by chain {np.round(lppd_chain, 3).tolist()}", is_due=True)


class BarMonitor(Monitor):
    """A bar per phase and a table of the chains, on a terminal or in a notebook, by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:>22}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
            console=console,
        )
        self._live = Live(self._progress, console=console)
        self._tasks: dict[str, Any] = {}

    def _task(self, name: str, total: int | None) -> Any:
        self._live.start()
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, words="")
        return self._tasks[name]

    def on_start(self, sentence: str) -> None:
        """Print it above the bars."""
        self._live.console.print(sentence, markup=False, highlight=False)

    def on_note(self, sentence: str) -> None:
        """Print it above the bars."""
        self._live.console.print(sentence, markup=False, highlight=False)

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Move the bar of the optimisation."""
        task = self._task("warm start", int(epochs.max()))
        words = describe_epochs(epochs, losses)
        self._progress.update(
            task, completed=int(epochs.max()), total=int(epochs.max()), words=words
        )

    def on_chunk(self, report: ChainsReport) -> None:
        """Move the bar of the phase, and show the chains."""
        from rich.console import Group

        task = self._task(report.phase, report.num_steps)
        self._progress.update(
            task, completed=report.step, total=report.num_steps, words=str(report)
        )
        chains = {
            "step size": report.step_size,
            "L": report.L,
            "energy error": report.energy_error,
            "divergent steps": report.num_divergent,
        }
        self._live.update(Group(self._progress, chain_table(chains)))

    def close(self) -> None:
        """Leave the bars as they are, without the chains."""
        self._live.update(self._progress)
        self._live.stop()


def chain_table(columns: Mapping[str, Sequence[Any] | np.ndarray]) -> Table:
    """Tabulate numbers of chains, one row for each of the first 16.

    Parameters
    ----------
    columns : mapping
        Numbers by heading, one for each chain; None is not known.

    Returns
    -------
    rich.table.Table
        The table.

    Examples
    --------
    >>> chain_table({"step size": [0.1, 0.2]}).row_count
    2
    """
    from rich.table import Table

    shown = Table("chain")
    for name in columns:
        shown.add_column(name, justify="right")
    rows = list(zip(*columns.values(), strict=True))
    for k, values in enumerate(rows[:_MAX_ROWS]):
        shown.add_row(str(k), *("-" if v is None else f"{v:.3g}" for v in values))
    if len(rows) > _MAX_ROWS:
        shown.add_row(f"{len(rows) - _MAX_ROWS} more")
    return shown


def make_monitor(verbose: int | bool) -> Monitor:
    """Choose a display.

    Parameters
    ----------
    verbose : int or bool
        0 is silent; 1 shows bars on a terminal or in a notebook with ipywidgets, and plain lines
        elsewhere; 2 always plain lines.
    """
    if not verbose:
        return Monitor()
    if verbose == 1 and (sys.stderr.isatty() or _is_notebook()):
        return BarMonitor()
    return LineMonitor()


def _is_notebook() -> bool:
    """Whether this is a notebook that can show bars which move."""
    if "IPython" not in sys.modules:
        return False
    import importlib.util

    from rich.console import Console

    return Console().is_jupyter and importlib.util.find_spec("ipywidgets") is not None
