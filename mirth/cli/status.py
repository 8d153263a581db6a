"""How far a run is, read from its folder: for people, for programs, and as a live table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirth.inference.monitors.displays import chain_table

if TYPE_CHECKING:
    from rich.console import Console, Group

Status = dict[str, Any]
_CHAIN_FIELDS = {
    "step_size": "step size",
    "L": "L",
    "energy_error": "energy error",
    "num_divergent": "divergent steps",
}
_SHOWN_NOTES = 5


def read_status(folder: str | Path) -> Status:
    """Read how far a run is.

    Parameters
    ----------
    folder : str or path
        Folder of ``mirth run``, or run directory of ``mirth.infer``.

    Returns
    -------
    dict
        What ``status.json`` has, with the true ``state``: starting, running, interrupted, failed,
        killed (the process is gone without a word), finished.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    """
    path = Path(folder)
    is_whole_run = (path / "config.yaml").is_file()
    file = (path / "chains" if is_whole_run else path) / "status.json"
    is_held = _is_held(path)
    if not is_whole_run and not file.is_file():
        raise FileNotFoundError(f"{path} has no run: there is no {file}.")
    try:
        status: Status = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        status = {"state": "running" if is_held else "killed", "phase": "starting"}
    if is_whole_run and status["state"] == "finished":
        from mirth.experiments.runs import is_finished

        if not is_finished(path):
            status |= {"state": "running", "phase": "writing the results"}
    if is_held:
        status["state"] = "running"
        status.pop("error", None)  # of an earlier try
    elif status["state"] == "running":
        status["state"] = "killed"
    error = path / "error.txt"  # also of what came before or after the chains
    if status["state"] in ("killed", "failed") and is_whole_run and error.is_file():
        text = " ".join(error.read_text(encoding="utf-8").split())
        status |= {"state": "failed", "error": text}
    return status


def _is_held(path: Path) -> bool:
    """Whether a process works on the run."""
    import filelock

    if not (path / "lock").exists():
        return False
    try:
        with filelock.FileLock(path / "lock", timeout=0):
            return False
    except filelock.Timeout:
        return True


def sentence(status: Status, folder: str | Path) -> str:
    """Put a status into one line.

    Parameters
    ----------
    status : dict
        Of ``read_status``.
    folder : str or path
        The run.

    Returns
    -------
    str
        The line.
    """
    words = [f"{folder}: {status['state']}"]
    if "phase" in status:
        words.append(_phase(status))
    if status.get("steps_per_second"):
        words += [f"{status['steps_per_second']:.0f} steps/s", _left(status)]
    if status.get("validation_lppd") is not None:
        words.append(f"validation LPPD {status['validation_lppd']:.3f}")
    if status.get("effective_per_second") is not None:
        words.append(f"{status['effective_per_second']:.2g} effective draws/s")
    if status.get("peak_bytes") is not None:
        words.append(f"{status['peak_bytes'] / 2**30:.2f} GiB of memory")
    if sum(status.get("num_divergent", [])):
        words.append(f"{sum(status['num_divergent'])} divergent steps")
    if "error" in status:
        words.append(status["error"])
    if status["state"] in ("interrupted", "killed", "failed"):
        words.append(f"go on by: mirth resume {folder}")
    return ", ".join(words)


def _phase(status: Status) -> str:
    share = f": step {status['step']}/{status['num_steps']}" if "step" in status else ""
    epochs = f": epoch {max(status['epochs'])}" if "epochs" in status else ""
    return f"{status['phase']}{share}{epochs}"


def _left(status: Status) -> str:
    seconds = status.get("seconds_left")
    return "" if seconds is None else f"{seconds:.0f} s left"


def table(status: Status, folder: str | Path) -> Group:
    """Put a status into a sentence, and a table with a row for each chain.

    Parameters
    ----------
    status : dict
        Of ``read_status``.
    folder : str or path
        The run.

    Returns
    -------
    rich.console.Group
        Both.
    """
    from rich.console import Group
    from rich.text import Text

    lines = [sentence(status, folder), *status.get("notes", [])[-_SHOWN_NOTES:]]
    text = Text("\n".join(lines))
    columns = {title: status[name] for name, title in _CHAIN_FIELDS.items() if name in status}
    return Group(text, chain_table(columns)) if columns else Group(text)


def watch(
    folder: str | Path,
    console: Console,
    *,
    seconds: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Status:
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
    dict
        The last status.
    """
    from rich.live import Live

    if not console.is_terminal:
        last = ""
        while True:
            status = read_status(folder)
            text = sentence(status, folder)
            if text != last:
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            if status["state"] != "running":
                return status
            last = text
            sleep(seconds)
    status = read_status(folder)
    with Live(table(status, folder), console=console, auto_refresh=False) as live:
        while status["state"] == "running":
            sleep(seconds)
            status = read_status(folder)
            live.update(table(status, folder), refresh=True)
    return status
