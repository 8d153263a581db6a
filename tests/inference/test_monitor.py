"""Several monitors as one, and the status of a run as a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirth.core.outcomes import ChainVerdict
from mirth.inference import ChainsReport, Monitor
from mirth.inference.monitors.monitor import Monitors
from mirth.inference.store.status_file import StatusFile

LOSSES = np.array([0.5, np.inf])


def report(**fields: Any) -> ChainsReport:
    chains = {"step_size": np.array([0.1, 0.2]), "L": np.array([1.0, np.nan])}
    chains |= {"energy_error": np.array([0.3, np.inf]), "num_divergent": np.array([0, 4])}
    head = {"phase": "sampling", "step": 20, "num_steps": 100, "steps_per_second": 10.0}
    return ChainsReport(**(head | {"lppd": 0.25} | chains | fields))


def read(folder: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return status


def test_the_status_of_the_warm_start_gives_way_to_that_of_the_chains(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    status.on_epochs(np.array([3, 5]), LOSSES, 0.1)
    found = read(tmp_path)
    assert (found["state"], found["phase"]) == ("running", "warm start")
    assert (found["epochs"], found["validation_loss"]) == ([3, 5], [0.5, None])
    assert found["seconds"] == 0.1
    verdicts = (ChainVerdict.MOVED, ChainVerdict.FROZEN)
    status.on_chunk(
        report(num_effective=30.0, effective_per_second=15.0, seconds=2.5, verdicts=verdicts)
    )
    found = read(tmp_path)
    assert found.pop("pid") == os.getpid() and found.pop("time") and "peak_bytes" in found
    del found["peak_bytes"]
    assert found == {
        "state": "running",
        "phase": "sampling",
        "seconds": 2.5,
        "verdicts": ["MOVED", "FROZEN"],
        "step": 20,
        "num_steps": 100,
        "steps_per_second": 10.0,
        "seconds_left": 8.0,
        "validation_lppd": 0.25,
        "num_effective": 30.0,
        "effective_per_second": 15.0,
        "step_size": [0.1, 0.2],
        "L": [1.0, None],
        "energy_error": [0.3, None],
        "num_divergent": [0, 4],
        "validation_loss": [0.5, None],  # of the start, which stays true
    }


def test_what_is_not_said_anew_stays(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    status.on_chunk(report())
    status.write(state="interrupted")
    assert (read(tmp_path)["state"], read(tmp_path)["step"]) == ("interrupted", 20)


def test_the_last_notes_are_kept(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    for n in range(60):
        status.on_note(f"Note {n}.")
    assert read(tmp_path)["notes"] == [f"Note {n}." for n in range(10, 60)]


class Listener(Monitor):
    def __init__(self, error: Exception | None = None):
        self.heard: list[str] = []
        self.error = error

    def on_start(self, sentence: str) -> None:
        self.heard.append(sentence)

    def on_note(self, sentence: str) -> None:
        self.heard.append(sentence)

    def on_epochs(self, epochs: Any, losses: Any, seconds: float) -> None:
        self.heard.append("epochs")

    def on_chunk(self, report: ChainsReport) -> None:
        self.heard.append("chunk")

    def on_end(self, lppd_chain: Any) -> None:
        self.heard.append("end")

    def close(self) -> None:
        self.heard.append("close")
        if self.error is not None:
            raise self.error


def test_everyone_hears_everything() -> None:
    listeners = [Listener(), Listener()]
    together = Monitors(listeners)
    together.on_start("start")
    together.on_note("note")
    together.on_epochs(np.ones(2), LOSSES, 0.1)
    together.on_chunk(report())
    together.on_end(np.zeros(2))
    together.close()
    for one in listeners:
        assert one.heard == ["start", "note", "epochs", "chunk", "end", "close"]


def test_all_are_closed_even_if_some_fail() -> None:
    listeners = [Listener(OSError("first")), Listener(ValueError("second")), Listener()]
    with pytest.raises(OSError, match="first"):
        Monitors(listeners).close()
    assert [one.heard for one in listeners] == [["close"]] * 3
