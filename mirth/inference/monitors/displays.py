"""Displays of the progress: bars on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mirth.inference.monitors.monitor import ChainsReport, Monitor, describe_epochs

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
        from rich.table import Column

        console = Console(stderr=True)
        # Nothing here may be longer: a row that does not fit into 80 columns loses its bar.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[score]}"),
            console=console,
        )
        # What a program prints for a pipe must not land on standard error with the bars.
        is_shared = sys.stdout.isatty() or console.is_jupyter
        self._live = Live(self._progress, console=console, redirect_stdout=is_shared)
        self._tasks: dict[str, Any] = {}

    def _move(self, name: str, done: int, total: int | None, count: str, score: str) -> None:
        """Move the bar of a phase; those of earlier phases have come to rest."""
        self._live.start()
        if name not in self._tasks:
            for task in self._progress.tasks:
                self._progress.update(task.id, total=task.total or task.completed)
                self._progress.stop_task(task.id)
            self._tasks[name] = self._progress.add_task(name, total=total, count="", score="")
        self._progress.update(
            self._tasks[name], completed=done, total=total, count=count, score=score
        )

    def _show(self, words: str, *below: Any) -> None:
        """Say how things are below the bars."""
        from rich.console import Group
        from rich.text import Text

        self._live.update(Group(self._progress, Text(words), *below))

    def on_start(self, sentence: str) -> None:
        """Print it above the bars."""
        self._live.console.print(sentence, markup=False, highlight=False)

    def on_note(self, sentence: str) -> None:
        """Print it above the bars."""
        self._live.console.print(sentence, markup=False, highlight=False)

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Move the bar of the optimisation, which has no known end."""
        epoch = int(epochs.max())
        score = f"loss {np.nanmedian(losses):.3f}"
        self._move("warm start", epoch, None, f"epoch {epoch}", score)
        self._show(describe_epochs(epochs, losses))

    def on_chunk(self, report: ChainsReport) -> None:
        """Move the bar of the phase, and show the chains."""
        step, total = report.step, report.num_steps
        self._move(report.phase, step, total, f"{step}/{total}", f"LPPD {report.lppd:.3f}")
        chains = {
            "step size": report.step_size,
            "L": report.L,
            "energy error": report.energy_error,
            "divergent steps": report.num_divergent,
        }
        self._show(str(report), chain_table(chains))

    def close(self) -> None:
        """Leave the bars as they are, without the chains."""
        if not self._live.is_started:
            return
        self._live.update(self._progress, refresh=True)  # a notebook shows no last state by itself
        # There, the end would leave an empty output behind.
        self._live.console.quiet = self._live.console.is_jupyter
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
