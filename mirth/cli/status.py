"""How far a run is, as a table and as one that lives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mirth.inference.monitors.displays import chain_table
from mirth.inference.store.run_status import RunStatus, read_status

if TYPE_CHECKING:
    from rich.console import Console, Group

_CHAIN_FIELDS = {
    "step_size": "step size",
    "L": "L",
    "energy_error": "energy error",
    "num_divergent": "divergent steps",
}
_SHOWN_NOTES = 5


def table(status: RunStatus) -> Group:
    """Put a status into a sentence, and a table with a row for each chain.

    Parameters
    ----------
    status : RunStatus
        Of ``read_status``.

    Returns
    -------
    rich.console.Group
        Both.
    """
    from rich.console import Group
    from rich.text import Text

    text = Text("\n".join([str(status), *status.notes[-_SHOWN_NOTES:]]))
    known = {title: getattr(status, name) for name, title in _CHAIN_FIELDS.items()}
    columns = {
        title: [None if math.isnan(v) else v for v in values]
        for title, values in known.items()
        if values
    }
    return Group(text, chain_table(columns)) if columns else Group(text)


def watch(
    folder: str | Path,
    console: Console,
    *,
    seconds: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> RunStatus:
    """Show a run until it ends.

    Parameters
    ----------
    folder : str or path
        The run.
    console : rich.console.Console
        A live table if it is a terminal, else a line whenever something has changed.
    seconds : float, default=1
        Time between two looks.
    sleep : callable, optional
        Waits.

    Returns
    -------
    RunStatus
        The last one.
    """
    from rich.live import Live

    if not console.is_terminal:
        last = ""
        while True:
            status = read_status(folder)
            text = str(status)
            if text != last:
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            if not status.is_running:
                return status
            last = text
            sleep(seconds)
    status = read_status(folder)
    with Live(table(status), console=console, auto_refresh=False) as live:
        while status.is_running:
            sleep(seconds)
            status = read_status(folder)
            live.update(table(status), refresh=True)
    return status
