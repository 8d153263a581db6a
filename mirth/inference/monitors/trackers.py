"""Monitors that send the progress to TensorBoard or MLflow; both libraries are optional."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import queue
import socket
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mirth.core.outcomes import MirthWarning
from mirth.inference.monitors.monitor import ChainsReport, Monitor

_SECONDS_TO_CLOSE = 10.0
_MOST_METRICS = 1000  # of one request to MLflow
_LONGEST_TAG = 5000  # of MLflow, in characters


class _Sink(Protocol):
    """Where numbers go; all calls come from one thread."""

    def numbers(self, seconds: float, step: int, numbers: Mapping[str, float]) -> None: ...
    def text(self, seconds: float, step: int, sentence: str) -> None: ...
    def succeed(self) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class _Worker:
    """A thread that writes, so that chains never wait for a server or a disk."""

    def __init__(self, open_sink: Callable[[], _Sink]):
        self.error: Exception | None = None
        self._calls: queue.SimpleQueue[Callable[[_Sink], None] | None] = queue.SimpleQueue()
        # A daemon, because a server that never answers must not keep the process alive.
        self._thread = threading.Thread(target=self._work, args=(open_sink,), daemon=True)
        self._thread.start()

    def put(self, call: Callable[[_Sink], None]) -> None:
        """Have something written soon."""
        self._calls.put(call)

    def _work(self, open_sink: Callable[[], _Sink]) -> None:
        try:
            with contextlib.closing(open_sink()) as sink:
                while (call := self._calls.get()) is not None:
                    call(sink)
                    if self._calls.empty():  # what has piled up goes out together
                        sink.flush()
                sink.flush()
        except Exception as error:
            self.error = error

    def finish(self) -> Exception | None:
        """Wait until all is written; give what went wrong."""
        self._calls.put(None)
        self._thread.join(_SECONDS_TO_CLOSE)
        if self._thread.is_alive():
            return TimeoutError(f"no answer within {_SECONDS_TO_CLOSE:.0f} s")
        return self.error


class _Tracker(Monitor):
    """Turns what a monitor hears into numbers by name; its errors end the tracking, not the run."""

    _worker: _Worker | None = None
    _is_silent = False
    _step = 0

    def _open(self) -> _Sink:
        raise NotImplementedError

    def on_start(self, sentence: str) -> None:
        """Send it as text."""
        self.on_note(sentence)

    def on_note(self, sentence: str) -> None:
        """Send it as text."""
        now, step = time.time(), self._step
        self._send(lambda sink: sink.text(now, step, sentence))

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Send epochs and validation losses over the number of the last epoch."""
        numbers = _spread("warm start/epochs", epochs)
        numbers |= _spread("warm start/validation loss", losses)
        self._send_numbers(int(np.max(epochs)), numbers)

    def on_chunk(self, report: ChainsReport) -> None:
        """Send the state of the chains over the number of the step."""
        self._step = report.first_step + report.step
        numbers = {
            "validation LPPD": report.lppd,
            "speed/steps per second": report.steps_per_second,
            "speed/effective draws per second": report.effective_per_second,
            "effective draws": report.num_effective,
            "divergent steps": float(np.sum(report.num_divergent)),
        }
        for name, values in {
            "step size": report.step_size,
            "L": report.L,
            "energy error": report.energy_error,
        }.items():
            numbers |= _spread(name, values)
        self._send_numbers(self._step, numbers)

    def on_end(self, lppd_chain: np.ndarray) -> None:
        """Send the LPPD of the chains over their numbers."""
        for chain, lppd in enumerate(np.asarray(lppd_chain).tolist()):
            self._send_numbers(chain, {"final LPPD by chain": lppd})
        self._send(lambda sink: sink.succeed())

    def close(self) -> None:
        """Wait until everything is written, ten seconds at most; another run may follow."""
        worker, is_silent = self._worker, self._is_silent
        self._worker, self._is_silent, self._step = None, False, 0
        error = None if worker is None else worker.finish()
        if error is not None and not is_silent:
            self._warn(error)

    def _send_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        now = time.time()
        # What is not finite is not known yet, or is told by a note.
        known = {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
        self._send(lambda sink: sink.numbers(now, step, known))

    def _send(self, call: Callable[[_Sink], None]) -> None:
        if self._is_silent:
            return
        if self._worker is None:
            self._worker = _Worker(self._open)
        if self._worker.error is None:
            self._worker.put(call)
        else:
            self._is_silent = True
            self._warn(self._worker.error)

    def _warn(self, error: Exception) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        warnings.warn(
            f"{type(self).__name__} is told no more of this run, which goes on. {text}",
            MirthWarning,
            stacklevel=4,
        )


class TensorBoardMonitor(_Tracker):
    """Write the progress of a run as TensorBoard events.

    Over the steps of all phases: validation LPPD, steps and effective draws per second, divergent
    steps of all chains since the last report, and median, least and largest step size, L and energy
    error of the chains. Over the epochs: those of the members and their validation losses. Over
    the number of the chain: its final LPPD. Notes are texts. A number that is not finite is left
    out. If a file cannot be written, a :class:`MirthWarning` says so, and the run goes on.

    Look at it by ``tensorboard --logdir FOLDER``. A run that is taken up again goes on in the same
    curves; give every other run a folder of its own.

    Parameters
    ----------
    folder : str or path
        Where the events go; made when there is something to write.

    Raises
    ------
    ImportError
        If the package tensorboardX is missing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> monitor = TensorBoardMonitor(folder)
    >>> monitor.on_epochs(np.array([3, 5]), np.array([1.0, 0.9]), 0.1)
    >>> monitor.close()
    >>> len(list(pathlib.Path(folder).glob("events.out.tfevents.*")))
    1
    """

    def __init__(self, folder: str | Path):
        _need("tensorboardX", "TensorBoardMonitor", "tensorboard")
        self.folder = Path(folder)

    def _open(self) -> _Sink:
        return _EventFile(self.folder)


class _EventFile:
    """One file of TensorBoard events.

    It is written here and now: ``SummaryWriter`` has a thread behind a short queue, and once the
    disk is full that thread is gone and the queue blocks for ever.
    """

    def __init__(self, folder: Path):
        from tensorboardX import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter(str(folder / name))
        self._write(time.time(), file_version="brain.Event:2")

    def _write(self, seconds: float, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=seconds, **fields).SerializeToString())

    def numbers(self, seconds: float, step: int, numbers: Mapping[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._write(seconds, step=step, summary=Summary(value=values))

    def text(self, seconds: float, step: int, sentence: str) -> None:
        from tensorboardX.summary import text

        self._write(seconds, step=step, summary=text("notes", sentence))

    def succeed(self) -> None:
        pass

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()


class MLflowMonitor(_Tracker):
    """Log the progress of a run to MLflow.

    The numbers are those of :class:`TensorBoardMonitor`; notes are the description of the MLflow
    run. A run without an error is finished there, any other failed. If the server does not answer,
    a :class:`MirthWarning` says so, and the run goes on.

    Parameters
    ----------
    run_name : str, optional
        Name of the MLflow run; None lets MLflow invent one.
    experiment : str, optional
        Name of the experiment, made if there is none; None means that of the environment variable
        ``MLFLOW_EXPERIMENT_NAME``, or ``Default``.
    tracking_uri : str, optional
        The server, such as ``"http://localhost:5000"``; None means MLflow's own setting
        (``MLFLOW_TRACKING_URI``). A database on this machine needs the whole package mlflow.

    Raises
    ------
    ImportError
        If the package mlflow or mlflow-skinny is missing.

    Examples
    --------
    >>> monitor = MLflowMonitor("houses", tracking_uri="http://localhost:5000")  # doctest: +SKIP
    >>> mirth.infer(model, data, monitors=[monitor])  # doctest: +SKIP
    """

    def __init__(
        self,
        run_name: str | None = None,
        experiment: str | None = None,
        tracking_uri: str | None = None,
    ):
        _need("mlflow", "MLflowMonitor", "mlflow")
        self.run_name, self.experiment, self.tracking_uri = run_name, experiment, tracking_uri

    def _open(self) -> _Sink:
        return _MLflowRun(self.run_name, self.experiment, self.tracking_uri)


class _MLflowRun:
    """One run of MLflow, by its client: the fluent interface would be a global state."""

    def __init__(self, name: str | None, experiment: str | None, uri: str | None):
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        wanted = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        found = self._client.get_experiment_by_name(wanted)
        number = self._client.create_experiment(wanted) if found is None else found.experiment_id
        self._id = self._client.create_run(number, run_name=name).info.run_id
        self._metrics: list[Any] = []
        self._notes: list[str] = []
        self._status = "FAILED"

    def numbers(self, seconds: float, step: int, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = round(1000 * seconds)
        self._metrics += [Metric(name, value, now, step) for name, value in numbers.items()]

    def text(self, seconds: float, step: int, sentence: str) -> None:
        self._notes.append(f"- Step {step}: {sentence}")
        text = "\n".join(self._notes)[-_LONGEST_TAG:]
        self._client.set_tag(self._id, "mlflow.note.content", text)

    def succeed(self) -> None:
        self._status = "FINISHED"

    def flush(self) -> None:
        metrics, self._metrics = self._metrics, []
        for first in range(0, len(metrics), _MOST_METRICS):
            batch = metrics[first : first + _MOST_METRICS]
            self._client.log_batch(self._id, metrics=batch)

    def close(self) -> None:
        self._client.set_terminated(self._id, self._status)


TRACKERS: Mapping[str, Callable[[Path], Monitor]] = {
    "tensorboard": lambda folder: TensorBoardMonitor(folder / "tensorboard"),
    "mlflow": lambda folder: MLflowMonitor(folder.absolute().name),
}
"""How to track a run that has a folder, by name."""


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    """Give median, least and largest of the finite values."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return {}
    found = {"median": np.median(finite), "min": finite.min(), "max": finite.max()}
    return {f"{name}/{part}": float(value) for part, value in found.items()}


def _need(module: str, user: str, extra: str) -> None:
    """Import an optional library, or say how to get it."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        package = {"mlflow": "mlflow-skinny"}.get(module, module)
        raise ImportError(
            f"{user} needs the package {package}: pip install 'mirth[{extra}]'."
        ) from error
