"""What a run directory says of its run: running, finished, interrupted, failed, killed."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import pytest

import mirth
from mirth.core.outcomes import ChainVerdict
from mirth.inference import ChainsReport, Monitor, RunStatus, read_status
from mirth.inference.run import reviews, stages
from mirth.inference.store.run_folder import FORMAT, SCHEMA_VERSION, RunFolder
from tests.inference.test_run_folder import Stop

pytestmark = pytest.mark.usefixtures("unoptimised")

SCRIPT = Path(__file__).with_name("killed_run.py")
SHORT: dict[str, Any] = {"n_warmup": 20, "n_samples": 10, "chunk_steps": 5}


def directory(path: Path, status: Any = None, **marker: Any) -> Path:
    """Make a run directory as a process leaves it."""
    path.mkdir(parents=True, exist_ok=True)
    made = {"format": FORMAT, "schema_version": SCHEMA_VERSION} | marker
    (path / "manifest.json").write_text(json.dumps(made))
    if status is not None:
        text = status if isinstance(status, str) else json.dumps(status)
        (path / "status.json").write_text(text)
    return path


class Look(Monitor):
    """Read the status at every report."""

    def __init__(self, folder: Path):
        self.folder, self.seen = folder, list[RunStatus]()
        self.reports = list[ChainsReport]()

    def look(self) -> None:
        self.seen.append(read_status(self.folder))

    def on_epochs(self, epochs: Any, losses: Any, seconds: float) -> None:
        self.look()

    def on_chunk(self, report: ChainsReport) -> None:
        self.reports.append(report)
        self.look()


def test_a_run_that_goes_on_and_ends(
    run: Any, tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    for module in (reviews, stages):
        host_patch.setattr(module, "FIRST_STEPS", 8)

    def judge(distance: Any, *_: Any, **__: Any) -> Any:
        return [ChainVerdict.MOVED, ChainVerdict.FROZEN]

    host_patch.setattr(reviews, "judge_chains", judge)
    look = Look(tmp_path / "run")
    run(**SHORT, out=look.folder, monitors=[look])
    assert all(status.is_running and status.folder == look.folder for status in look.seen)
    # The file of the run directory is the last who hears, so each look sees the report before.
    assert [status.phase for status in look.seen[:2]] == ["starting", "warm start"]
    after = [*look.seen[1 + len(look.seen) - len(look.reports) :], read_status(look.folder)]
    assert [(s.phase, s.step, s.num_steps) for s in after] == [
        (r.phase, r.step, r.num_steps) for r in look.reports
    ]
    assert after[0].verdicts == () and after[0].health is None  # before the first review
    times = [status.time for status in after]
    assert times == sorted(times) and times[-1] is not None
    assert abs(datetime.datetime.now(datetime.UTC) - times[-1]) < datetime.timedelta(minutes=5)
    seconds = [status.seconds for status in after]
    assert seconds == sorted(seconds) and seconds == [r.seconds for r in look.reports]
    end = after[-1]
    assert end.state == "finished" and not end.is_running and end.pid == os.getpid()
    assert end.verdicts == (ChainVerdict.MOVED, ChainVerdict.FROZEN)
    assert end.health == "Of 2 chains (numbered from 0), chain 1 did not move."
    assert end.notes[0].endswith(end.health)
    assert end.L == tuple(look.reports[-1].L.tolist())
    assert end.epochs == () and len(end.validation_loss) == 2
    assert end.memory is not None and "This run needs about" in end.memory


def test_interrupted_and_failed_runs_say_so(run: Any, tmp_path: Path) -> None:
    with pytest.raises(mirth.RunInterrupted):
        run(**SHORT, out=tmp_path, monitors=[Stop("sampling")])
    status = read_status(tmp_path)
    assert (status.state, status.phase, status.step) == ("interrupted", "sampling", 5)
    assert str(status).endswith("goes on by the same call of infer")

    class Full(Monitor):
        def on_chunk(self, report: Any) -> None:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        run(**SHORT, out=tmp_path, monitors=[Full()])
    failed = read_status(str(tmp_path))
    assert (failed.state, failed.error) == ("failed", "OSError: No space left on device")
    assert "failed, " in str(failed) and "OSError: No space left on device, goes" in str(failed)
    run(**SHORT, out=tmp_path)
    assert read_status(tmp_path).state == "finished" and read_status(tmp_path).error is None


def test_a_killed_process(tmp_path: Path) -> None:
    """Another process works on the run, and is killed while it samples or shortly before."""
    paths = [tmp_path / "run", tmp_path / "draws.npz", tmp_path / "cache"]
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; import killed_run; killed_run.run(*sys.argv[2:])"
    )
    command = [sys.executable, "-c", code, str(SCRIPT.parent), *map(str, paths)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        seen: RunStatus | None = None
        while process.poll() is None and (seen is None or seen.step is None):
            time.sleep(0.002)
            if (paths[0] / "manifest.json").exists():
                seen = read_status(paths[0])
        process.kill()
    assert process.returncode == -signal.SIGKILL and seen is not None
    assert seen.is_running and seen.pid == process.pid
    killed = read_status(paths[0])
    assert killed.state == "killed" and killed.pid == process.pid
    assert killed.step is not None and killed.health is None
    assert str(killed).startswith(f"{paths[0]}: killed, {killed.phase}: step {killed.step}/")


def test_a_process_that_was_killed_at_once(tmp_path: Path) -> None:
    """Before it said what the run is, and before it said how far it is."""
    (tmp_path / "lock").touch()
    states = [read_status(tmp_path)]
    directory(tmp_path)
    states.append(read_status(tmp_path))
    with filelock.FileLock(tmp_path / "lock"):
        states.append(read_status(tmp_path))
    assert [(s.state, s.phase) for s in states] == [
        ("killed", "starting"), ("killed", "starting"), ("running", "starting"),
    ]  # fmt: skip


def test_a_run_that_ends_while_it_is_looked_at(
    tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    """The lock is looked at first, so the run was held and then says that it has finished."""
    directory(tmp_path, {"state": "running"})
    lock = filelock.FileLock(tmp_path / "lock")
    lock.acquire()
    read_text = Path.read_text

    def ended(self: Path, **options: Any) -> str:
        if self.name == "status.json":
            self.write_text('{"state": "finished"}')
            lock.release()
        return read_text(self, **options)

    host_patch.setattr(Path, "read_text", ended)
    assert read_status(tmp_path).state == "running"  # as it was
    assert read_status(tmp_path).state == "finished"


def test_a_look_keeps_no_run_from_its_folder(tmp_path: Path) -> None:
    tmp_path.joinpath("lock").touch()
    look = filelock.FileLock(tmp_path / "lock", thread_local=False)
    look.acquire()
    release = threading.Timer(0.1, look.release)
    release.start()
    with RunFolder(tmp_path, {}):  # would have said that another process works on it
        assert read_status(tmp_path).is_running
    release.join()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: None, FileNotFoundError, r"no folder .*/rum\. Did you mean '.*/run'\?"),
        (
            lambda p: p.mkdir(),
            FileNotFoundError,
            r"rum is no run directory: .*manifest\.json.*run=",
        ),
        (
            lambda p: directory(p, format="mirth demo"),
            ValueError,
            "holds a mirth demo, but a mirth",
        ),
        (
            lambda p: directory(p, schema_version=2, mirth_version="0.0.1"),
            ValueError,
            rf"schema version 2, but .* reads version {SCHEMA_VERSION}; .* install mirth 0\.0\.1",
        ),
        (
            lambda p: directory(p, '{"state": "runn'),
            ValueError,
            r"status\.json is damaged; .*Draws",
        ),
        (lambda p: directory(p, [1]), ValueError, r"status\.json is damaged"),
        (lambda p: directory(p, {"state": "happy"}), ValueError, r"status\.json is damaged"),
        (lambda p: directory(p, {"step": "many"}), ValueError, r"status\.json is damaged"),
        (lambda p: directory(p, {"verdicts": ["WELL"]}), ValueError, r"status\.json is damaged"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, make: Any, error: type[Exception], message: str
) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "rum")
    with pytest.raises(error, match=message):
        read_status(tmp_path / "rum")


def test_the_record_is_what_the_file_has(tmp_path: Path) -> None:
    kept = {
        "state": "interrupted", "phase": "sampling", "step": 20, "num_steps": 100, "seconds": 4.5,
        "seconds_left": 8.0, "steps_per_second": 10.0, "validation_lppd": 0.5,
        "validation_loss": [0.5, None], "num_effective": 30.0, "effective_per_second": 2.5,
        "verdicts": ["MOVED", "AT_CAP"], "step_size": [0.1, None], "L": [1.0, 2.0],
        "energy_error": [0.2, None], "num_divergent": [3, 0], "notes": ["A note."],
        "memory": "Little.", "peak_bytes": 3 * 2**29, "time": "2026-01-02T03:04:05+00:00",
        "pid": 7, "epochs": [3, 4], "error": "none",
    }  # fmt: skip
    status = read_status(directory(tmp_path, kept))
    assert status.to_record() == kept | {"folder": str(tmp_path), "has_config": False}
    assert {*status.to_record()} == {field.name for field in dataclasses.fields(RunStatus)}
    assert math.isnan(status.step_size[1])
    assert hash(status.verdicts) and status.verdicts[1] is ChainVerdict.AT_CAP
    assert str(status) == (
        f"{tmp_path}: interrupted, sampling: step 20/100: epoch 4, 10 steps/s, 8 s left, "
        "validation LPPD 0.500, 2.5 effective draws/s, 1.50 GiB of memory, 3 divergent steps, "
        "none, goes on by the same call of infer"
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.state = "finished"  # type: ignore[misc]
