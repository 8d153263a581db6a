"""Progress sent to TensorBoard and MLflow."""

from __future__ import annotations

import copy
import math
import os
import struct
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mirth
from mirth.inference.monitors import trackers

pytestmark = pytest.mark.usefixtures("unoptimised")


def report(step: int = 40, first_step: int = 0, **fields: Any) -> mirth.monitors.ChainsReport:
    chains = {
        "step_size": np.array([0.1, 0.2, 0.4]),
        "L": np.array([1.0, 2.0, 3.0]),
        "energy_error": np.array([0.3, np.nan, 0.1]),
        "num_divergent": np.array([0, 2, 3]),
    }
    head = {"phase": "sampling", "step": step, "num_steps": 100, "steps_per_second": 20.0}
    return mirth.monitors.ChainsReport(
        **(head | {"lppd": -1.25} | chains | fields), first_step=first_step
    )


Curves = dict[str, list[tuple[int, float]]]


def read_events(folder: Path) -> tuple[Curves, list[tuple[int, str]]]:
    """Curves by tag and notes, from the records: length, its checksum, event, its checksum."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    curves: Curves = {}
    notes = []
    for file in sorted(folder.iterdir()):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += length + 16
            for value in event.summary.value:
                if value.tag == "notes/text_summary":
                    notes.append((event.step, value.tensor.string_val[0].decode()))
                else:
                    curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves, notes


def test_events_of_a_report(tmp_path: Path) -> None:
    monitor = mirth.monitors.TensorBoardMonitor(tmp_path / "new" / "events")
    monitor.on_start("This run needs little.")
    monitor.on_note("Before the chains.")
    monitor.on_epochs(np.array([3, 7, 5]), np.array([1.0, np.inf, 2.0]), 0.1)
    monitor.on_chunk(report(first_step=60, num_effective=50.0, effective_per_second=2.5))
    monitor.on_note("Chain 2 diverges.")
    monitor.on_end(np.array([0.5, math.nan, 0.25]))
    monitor.close()
    curves, notes = read_events(tmp_path / "new" / "events")
    expected = {
        "warm start/epochs/median": [(7, 5.0)],
        "warm start/epochs/min": [(7, 3.0)],
        "warm start/epochs/max": [(7, 7.0)],
        "warm start/validation loss/median": [(7, 1.5)],
        "warm start/validation loss/min": [(7, 1.0)],
        "warm start/validation loss/max": [(7, 2.0)],
        "validation LPPD": [(100, -1.25)],
        "speed/steps per second": [(100, 20.0)],
        "speed/effective draws per second": [(100, 2.5)],
        "effective draws": [(100, 50.0)],
        "divergent steps": [(100, 5.0)],
        "step size/median": [(100, 0.2)],
        "step size/min": [(100, 0.1)],
        "step size/max": [(100, 0.4)],
        "L/median": [(100, 2.0)],
        "L/min": [(100, 1.0)],
        "L/max": [(100, 3.0)],
        "energy error/median": [(100, 0.2)],
        "energy error/min": [(100, 0.1)],
        "energy error/max": [(100, 0.3)],
        "final LPPD by chain": [(0, 0.5), (2, 0.25)],
    }
    assert {tag: [step for step, _ in curve] for tag, curve in curves.items()} == {
        tag: [step for step, _ in curve] for tag, curve in expected.items()
    }
    for tag, curve in expected.items():
        assert curves[tag] == [(step, np.float32(value)) for step, value in curve], tag
    assert notes == [
        (0, "This run needs little."),
        (0, "Before the chains."),
        (100, "Chain 2 diverges."),
    ]


def test_nothing_finite_is_nothing_written(tmp_path: Path) -> None:
    monitor = mirth.monitors.TensorBoardMonitor(tmp_path)
    none = np.full(3, np.nan)
    monitor.on_epochs(np.zeros(2, int), np.full(2, np.inf), 0.1)
    monitor.on_chunk(report(lppd=-math.inf, step_size=none, L=none, energy_error=none * np.inf))
    monitor.close()
    assert {tag.partition("/")[0] for tag in read_events(tmp_path)[0]} == {
        "warm start", "speed", "divergent steps",
    }  # fmt: skip


def test_steps_of_a_run_grow_over_its_phases(run: Any, tmp_path: Path) -> None:
    posterior = run(
        num_chains=3, n_warmup=20, n_samples=10, chunk_steps=8,
        monitors=[mirth.monitors.TensorBoardMonitor(tmp_path)],
    )  # fmt: skip
    curves, _ = read_events(tmp_path)
    # The phases have 16, 2 and 2 steps; then come 10 draws.
    assert [step for step, _ in curves["validation LPPD"]] == [8, 16, 18, 20, 28, 30]
    final = [value for _, value in curves["final LPPD by chain"]]
    np.testing.assert_array_equal(final, np.float32(posterior.lppd_chain))
    assert max(step for step, _ in curves["warm start/epochs/max"]) == max(
        posterior.warm_start.epochs
    )


def test_steps_go_on_where_a_run_is_taken_up(run: Any, tmp_path: Path) -> None:
    class Stopping(mirth.Monitor):
        def on_chunk(self, report: mirth.monitors.ChainsReport) -> None:
            if report.phase == "sampling":
                raise KeyboardInterrupt

    options = {"n_warmup": 20, "n_samples": 10, "chunk_steps": 8, "checkpoint_seconds": 0.0}
    tracker = mirth.monitors.TensorBoardMonitor(tmp_path / "events")
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "run", monitors=[tracker, Stopping()], **options)
    run(out=tmp_path / "run", monitors=[tracker], **options)
    assert len(list((tmp_path / "events").iterdir())) == 2
    steps = [step for step, _ in read_events(tmp_path / "events")[0]["validation LPPD"]]
    # The state of the first chunk of draws was not kept, because a monitor came before.
    assert steps == [8, 16, 18, 20, 28, 28, 30]


def test_a_disk_that_cannot_be_written_loses_no_run(run: Any, tmp_path: Path) -> None:
    (tmp_path / "events").touch()  # a file where the folder should be
    plain = run(n_warmup=10, n_samples=3)
    with pytest.warns(mirth.MirthWarning, match="TensorBoardMonitor is told no more.*FileExists"):
        tracked = run(
            n_warmup=10,
            n_samples=3,
            monitors=[mirth.monitors.TensorBoardMonitor(tmp_path / "events")],
        )
    np.testing.assert_array_equal(tracked.positions(), plain.positions())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is full")
def test_one_warning_and_then_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tensorboardX

    real = tensorboardX.RecordWriter
    monkeypatch.setattr(tensorboardX, "RecordWriter", lambda path: real("/dev/full"))
    monitor = mirth.monitors.TensorBoardMonitor(tmp_path)
    monitor.on_chunk(report(10))
    worker = monitor._worker
    assert worker is not None
    worker._thread.join()
    with pytest.warns(mirth.MirthWarning, match="No space left on device") as caught:
        for step in range(20, 100):
            monitor.on_chunk(report(step))
        monitor.on_end(np.zeros(3))
        monitor.close()
    assert len(caught) == 1
    monkeypatch.undo()
    monitor.on_chunk(report(10))  # another run
    monitor.close()
    assert "validation LPPD" in read_events(tmp_path)[0]


def test_a_server_that_never_answers_does_not_hold_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(trackers, "_SECONDS_TO_CLOSE", 0.01)
    monkeypatch.setattr(trackers._EventFile, "numbers", lambda *_: answer.wait())
    monitor = mirth.monitors.TensorBoardMonitor(tmp_path)
    for step in range(2000):
        monitor.on_chunk(report(step))
    with pytest.warns(mirth.MirthWarning, match="TimeoutError"):
        monitor.close()
    answer.set()


def test_a_tracker_is_copied_with_an_estimator(tmp_path: Path) -> None:
    monitor = mirth.monitors.TensorBoardMonitor(tmp_path)
    monitor.on_note("One.")
    monitor.close()
    other = copy.deepcopy(monitor)
    other.on_note("Two.")
    other.close()
    assert read_events(tmp_path)[1] == [(0, "One."), (0, "Two.")]


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [
        ("TensorBoardMonitor", "tensorboardX", "tensorboardX: pip install 'mirth[tensorboard]'"),
        ("MLflowMonitor", "mlflow", "mlflow-skinny: pip install 'mirth[mlflow]'"),
    ],
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it could not be found
    with pytest.raises(ImportError, match=f"{kind} needs the package") as caught:
        getattr(mirth.monitors, kind)("folder")
    assert package in str(caught.value)


class FakeServer:
    """As much of MLflow as is used."""

    def __init__(self) -> None:
        self.experiments = {"Default": "0"}
        self.runs: list[Any] = []

    def client(self, tracking_uri: str | None) -> FakeServer:
        self.uri = tracking_uri
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        number = self.experiments.get(name)
        return number and SimpleNamespace(experiment_id=number)

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, number: str, run_name: str | None) -> Any:
        made = {"experiment": number, "name": run_name, "metrics": [], "tags": {}}
        self.runs.append(made)
        return SimpleNamespace(info=SimpleNamespace(run_id=len(self.runs) - 1))

    def log_batch(self, number: int, metrics: list[Any]) -> None:
        assert len(metrics) <= 1000
        self.runs[number]["metrics"] += metrics

    def set_tag(self, number: int, key: str, value: str) -> None:
        assert len(value) <= 5000
        self.runs[number]["tags"][key] = value

    def set_terminated(self, number: int, status: str) -> None:
        self.runs[number]["status"] = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    made = FakeServer()
    package: Any = ModuleType("mlflow")
    package.MlflowClient = made.client
    package.entities = ModuleType("mlflow.entities")
    package.entities.Metric = lambda *fields: fields
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.entities", package.entities)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return made


def test_mlflow(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = mirth.monitors.MLflowMonitor("houses", "prices", "http://localhost:5000")
    monitor.on_chunk(report(first_step=60))
    monitor.on_note("Chain 2 diverges.")
    monitor.on_note("x" * 6000)
    monitor.on_end(np.zeros(1500))
    monitor.close()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "others")
    monitor = mirth.monitors.MLflowMonitor()
    monitor.on_note("Chain 3 diverges.")
    monitor.close()
    assert server.experiments == {"Default": "0", "prices": "1", "others": "2"}
    one, two = server.runs
    assert server.uri is None
    assert (one["experiment"], one["name"], one["status"]) == ("1", "houses", "FINISHED")
    assert (two["experiment"], two["name"], two["status"]) == ("2", None, "FAILED")
    assert two["tags"] == {"mlflow.note.content": "- Step 0: Chain 3 diverges."}
    found = {(name, step): value for name, value, _, step in one["metrics"]}
    assert found["step size/median", 100] == 0.2
    assert found["final LPPD by chain", 1499] == 0.0


def test_mlflow_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "server").as_uri()
    monitor = mirth.monitors.MLflowMonitor("houses", "prices", uri)
    monitor.on_epochs(np.array([3, 7]), np.array([1.0, np.inf]), 0.1)
    monitor.on_chunk(report(first_step=60))
    monitor.on_note("Chain 2 diverges.")
    monitor.on_end(np.array([0.5, 0.25]))
    monitor.close()
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("prices")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("houses", "FINISHED")
    assert found.data.tags["mlflow.note.content"] == "- Step 100: Chain 2 diverges."
    history = client.get_metric_history(found.info.run_id, "step size/max")
    assert [(m.step, m.value) for m in history] == [(100, 0.4)]
