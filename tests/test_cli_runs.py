"""Runs from a configuration: each command, a kill, a changed table, and what a status says."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import filelock
import jax
import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

import mirth.experiments
from mirth.cli import app
from mirth.cli import status as reader
from mirth.core.outcomes import RunInterrupted
from mirth.estimators import load
from mirth.experiments import fit_table
from mirth.experiments.config import parse_config
from mirth.inference import RunStatus
from mirth.inference.monitors.displays import LineMonitor
from tests.inference.test_run_status import directory

# Chains of so few steps may be worse than their start, and say so.
pytestmark = pytest.mark.filterwarnings("ignore:Of \\d chains:mirth.MirthWarning")

START = {"max_epochs": 10}
CONFIG = {
    "data": {"target": "price", "test_fraction": 0.3},
    "model": {"hidden_layer_sizes": [4]},
    "method": {"n_warmup": 100, "n_samples": 10, "n_thinning": 1, "start": START},
    "n_members": 2,
    "seed": 3,
    "checkpoint_seconds": 0.0,
}


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compile with few optimisations, and each program once: also for the killed process."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_disable_most_optimizations",
    )
    before = {name: jax.config.values[name] for name in names}
    cache = Path(before[names[0]] or tmp_path_factory.mktemp("xla"))
    for name, value in zip(names, (str(cache), 0.0, True), strict=True):
        jax.config.update(name, value)
    yield cache
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "houses.csv"
    rng = np.random.default_rng(0)
    area, rooms = rng.uniform(20, 200, 60).round(1), rng.integers(1, 7, 60)
    price = (2.5 * area + rng.normal(0, 10, 60)).round(2)
    lines = [f"{a},{r},{p}" for a, r, p in zip(area, rooms, price, strict=True)]
    path.write_text("\n".join(["area,rooms,price", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def config(table: Path) -> Path:
    path = table.with_name("config.yaml")
    record = CONFIG | {"data": CONFIG["data"] | {"path": str(table)}}  # type: ignore[operator]
    path.write_text(yaml.safe_dump(record))
    return path


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    result = invoke("run", config, "--out", folder)
    assert result.exit_code == 0, result.output
    assert "houses.csv: regression of 'price'" in result.output
    assert "mirth predict" in result.output
    return folder


def draws(folder: Path) -> np.ndarray:
    return load(folder / "model.mirth").posterior_.positions()


def test_run_writes_everything(finished: Path, config: Path) -> None:
    names = {"config.yaml", "environment.json", "chains", "log.txt", "model.mirth", "metrics.json",
             "manifest.json", "preprocess.skops", "report.html"}  # fmt: skip
    assert names <= {p.name for p in finished.iterdir()}
    made_with = json.loads((finished / "environment.json").read_text())
    assert {"jax", "devices", "commit", "data"} <= made_with.keys()
    resolved = yaml.safe_load((finished / "config.yaml").read_text())
    assert made_with["seed"] == resolved["seed"]
    assert resolved["method"]["start"]["patience"] == mirth.DeepEnsemble().patience
    assert resolved["method"]["n_warmup"] == 100
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["mirth"] == mirth.__version__ and len(environment["data"]["sha256"]) == 64
    log = (finished / "log.txt").read_text()
    assert "42 training and 18 test rows" in log and "LPPD" in log and "Finished." in log


def test_predict_uses_the_run(finished: Path, table: Path, tmp_path: Path) -> None:
    result = invoke("predict", finished, table, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 61


def test_run_is_fit_with_a_folder(finished: Path, table: Path, tmp_path: Path) -> None:
    method = mirth.MILE(n_warmup=100, n_samples=10, n_thinning=1, start=mirth.DeepEnsemble(**START))
    fit_table(
        table, "price", tmp_path / "fit", test_fraction=0.3, seed=3, n_members=2,
        method=method, hidden_layer_sizes=(4,),
    )  # fmt: skip
    np.testing.assert_array_equal(draws(tmp_path / "fit"), draws(finished))


def test_a_finished_run_says_so(finished: Path) -> None:
    before = (finished / "manifest.json").stat().st_mtime_ns
    result = invoke("resume", finished)
    assert result.exit_code == 0 and "is finished already" in result.output
    assert (finished / "manifest.json").stat().st_mtime_ns == before
    assert f"{finished}: finished" in invoke("status", finished).output
    assert json.loads(invoke("status", finished, "--json").output)["state"] == "finished"
    assert invoke("watch", finished).output.count("\n") == 1


def test_extend(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    result = invoke("extend", run, "--n-samples", 14)
    assert result.exit_code == 0, result.output
    longer = draws(run)
    assert longer.shape[1] == 14
    np.testing.assert_array_equal(longer[:, :10], draws(finished))
    metrics = [json.loads((f / "metrics.json").read_text()) for f in (run, finished)]
    assert metrics[0]["methods"]["MILE"]["lppd"] != metrics[1]["methods"]["MILE"]["lppd"]
    result = invoke("extend", run, "--n-samples", 14)
    assert result.exit_code == 2 and "n_samples=14 must be more than the 14" in result.stderr
    (run / "manifest.json").unlink()  # as if killed while the results were written
    assert invoke("status", run).output.startswith(f"{run}: killed, writing the results")
    result = invoke("extend", run, "--n-samples", 20)
    assert result.exit_code == 2 and f"first: mirth resume {run}" in result.stderr
    result = invoke("predict", run, "x.csv")
    assert result.exit_code == 2 and f"go on by: mirth resume {run}" in result.stderr


def test_a_killed_run_goes_on_to_the_same_draws(
    finished: Path, config: Path, tmp_path: Path, quick_compilation: Path
) -> None:
    run = tmp_path / "run"
    # Programs in a folder of its own: it may be killed while it writes one.
    programs = shutil.copytree(quick_compilation, tmp_path / "xla")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "4",
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    command = [sys.executable, "-m", "mirth.cli", "run", str(config), "--out", str(run)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((run / "chains").glob("checkpoints/*.npz")):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert invoke("status", run).output.startswith(f"{run}: killed")
    assert not (run / "manifest.json").exists()
    result = invoke("resume", run)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(draws(run), draws(finished))


def test_ctrl_c_says_how_to_go_on(
    finished: Path, config: Path, tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def stop(self: Any, report: Any) -> None:
        if report.phase == "sampling":
            os.kill(os.getpid(), signal.SIGINT)

    with host_patch.context() as patch:
        patch.setattr(LineMonitor, "on_chunk", stop)
        # n_samples is larger than a chunk, so that there is something left to do.
        result = invoke("run", config, "--out", run, "--set", "method.n_samples=3000")
    assert result.exit_code == 130
    assert result.stderr.endswith(f"Stopped; go on by: mirth resume {run}\n")
    assert "interrupted" in invoke("status", run).output
    assert "RunInterrupted" in (run / "log.txt").read_text()


@pytest.mark.parametrize(("reason", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_exit_codes(host_patch: pytest.MonkeyPatch, reason: str, code: int) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise RunInterrupted(reason, "run")

    host_patch.setattr(mirth.experiments, "resume_run", stop)
    assert invoke("resume", "run").exit_code == code


@pytest.mark.parametrize("target", ["price", pytest.param("rooms", marks=pytest.mark.slow)])
def test_a_deep_ensemble(config: Path, table: Path, tmp_path: Path, target: str) -> None:
    method = "method={name: deep_ensemble, max_epochs: 10}"
    task = "regression" if target == "price" else "classification"
    arguments = ["--set", method, "--set", f"data.target={target}", "--set", f"task={task}"]
    if target == "rooms":  # two classes, of which there are enough rows
        lines = table.read_text().splitlines()
        new = [f"{a},{int(r) > 3},{p}" for a, r, p in (line.split(",") for line in lines[1:])]
        (tmp_path / "classes.csv").write_text("\n".join([lines[0], *new]))
        arguments += ["--set", f"data.path={tmp_path / 'classes.csv'}"]
    run = tmp_path / "run"
    result = invoke("run", config, "--out", run, *arguments)
    assert result.exit_code == 0, result.output
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["methods"]) == ["linear model", "deep ensemble"]
    assert "The deep ensemble reaches an LPPD" in (run / "report.html").read_text()
    assert "MILE" not in (run / "log.txt").read_text()
    assert invoke("predict", run, table, "--out", tmp_path / "p.csv").exit_code == 0
    result = invoke("extend", run, "--n-samples", 20)
    assert result.exit_code == 2 and "no chains to go on with" in result.stderr


def test_a_changed_table_is_refused(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "manifest.json").unlink()
    environment = json.loads((run / "environment.json").read_text())
    copy = Path(shutil.copy(environment["data"]["path"], tmp_path))
    copy.write_text(copy.read_text() + "100,3,250\n")
    environment["data"]["path"] = str(copy)
    (run / "environment.json").write_text(json.dumps(environment))
    result = invoke("resume", run)
    assert result.exit_code == 2 and "has changed since the run" in result.stderr
    assert result.stderr.count("\n") == 1
    copy.unlink()
    assert "is gone" in invoke("resume", run).stderr


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        (["n_members=0"], ["error: n_members=0 must be at least 1."]),
        (["n_member=2", "seed=a"], ["did you mean 'n_members'", "error: seed='a' must be a whole"]),
        (["data.target=prise"], ["did you mean 'price'"]),
        (["data.drop=[aera]"], ["drop='aera' is not known; did you mean 'area'"]),
        (["data.drop=[price]"], ["drop=['price'] has the target 'price' in it"]),
        (["data.drop=[area, rooms]"], ["no column besides the target 'price' and those to drop"]),
        (["data.path=none.csv"], ["there is no file"]),
        (["model.likelihood=categorical"], ["model.likelihood (for a regression)='categorical'"]),
        (["data.test_fraction=0.01"], ["test rows=1 must be at least 2"]),
        (["draws_store=s4://bucket/x"], ["draws_store='s4://bucket/x' cannot be opened"]),
    ],
)
def test_bad_configurations_leave_nothing(
    config: Path, tmp_path: Path, settings: list[str], messages: list[str]
) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    result = invoke("run", config, "--out", tmp_path / "run", *options)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(messages)
    for message in messages:
        assert any(line.startswith("error: ") and message in line for line in lines), lines
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tracker_leaves_nothing(
    config: Path, tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    host_patch.setitem(sys.modules, "mlflow", None)  # as if it could not be found
    result = invoke("run", config, "--out", tmp_path / "run", "--set", "track=[mlflow]")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: track=['mlflow']: MLflowMonitor needs the package")
    assert "pip install 'mirth[mlflow]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_tracked_run(finished: Path, config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = invoke(
        "run", config, "--out", run, "--set", "track=[tensorboard]", "--set", "bias_check=true"
    )
    assert result.exit_code == 0, result.output
    bias = json.loads((run / "metrics.json").read_text())["bias"]
    assert bias["sentence"] in (run / "report.html").read_text()
    assert bias["sentence"] in (run / "log.txt").read_text()
    assert json.loads((finished / "metrics.json").read_text())["bias"] is None
    (events,) = (run / "tensorboard").iterdir()
    assert events.stat().st_size > 1000
    np.testing.assert_array_equal(draws(run), draws(finished))
    assert load(run / "model.mirth").monitors is None
    assert "is finished already" in invoke("resume", run).output


def test_a_run_with_weights(config: Path, tmp_path: Path) -> None:
    record = yaml.safe_load(config.read_text())
    record |= {"method": {"name": "deep_ensemble", "max_epochs": 10}, "weights": "stacking"}
    (tmp_path / "stacking.yaml").write_text(yaml.safe_dump(record))
    result = invoke("run", tmp_path / "stacking.yaml", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    model = load(tmp_path / "run" / "model.mirth")
    assert model.posterior_.chain_weights.shape == (2,)


def test_folders_that_are_in_use(finished: Path, config: Path, tmp_path: Path) -> None:
    assert "go on by: mirth resume" in invoke("run", config, "--out", finished).stderr
    for name in ("lock", "environment.json"):  # left by a process that was killed at once
        (tmp_path / name).touch()
    result = invoke("run", config, "--out", tmp_path, "--set", "data.target=prise")
    assert "did you mean 'price'" in result.stderr  # so the folder is good
    (tmp_path / "thesis.tex").touch()
    assert "is not empty" in invoke("run", config, "--out", tmp_path).stderr
    for command in ("resume", "status", "watch"):
        result = invoke(command, tmp_path)
        assert result.exit_code == 2
        assert ("has no run" if command == "resume" else "is no run directory") in result.stderr
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "manifest.json").unlink()
    with filelock.FileLock(run / "lock"):
        result = invoke("resume", run)
        assert result.exit_code == 2 and "another process works on" in result.stderr


def test_init(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.yaml"
    assert invoke("init", path).exit_code == 0
    assert yaml.safe_load(path.read_text())["method"]["name"] == "mile"
    path.write_text("mine")
    result = invoke("init", path)
    assert result.exit_code == 2 and "exists; give another name" in result.stderr
    assert path.read_text() == "mine"


def test_schema() -> None:
    found = json.loads(invoke("schema").output)
    assert found["properties"]["n_members"]["default"] == 10


STATUS = {
    "state": "running", "phase": "sampling", "step": 20, "num_steps": 100, "validation_lppd": 0.5,
    "steps_per_second": 10.0, "seconds_left": 8.0, "step_size": [0.1, None],
    "num_divergent": [3, 0], "energy_error": [0.2, None], "L": [1.0, 2.0],
    "effective_per_second": 2.5, "peak_bytes": 3 * 2**29, "notes": ["After 25 draws: chain 1 ..."],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (
            STATUS,
            "killed, sampling: step 20/100, 10 steps/s, 8 s left, validation LPPD 0.500, "
            "2.5 effective draws/s, 1.50 GiB of memory, 3 divergent",
        ),
        ({"state": "interrupted"}, "interrupted, go on by: mirth resume"),
        ({"state": "failed", "error": "OSError: full"}, "failed, OSError: full, go on"),
        (
            {"state": "running", "phase": "warm start", "epochs": [3, 5]},
            "killed, warm start: epoch 5",
        ),
        (None, "killed, starting"),
    ],
)
def test_status_of_a_process_that_is_gone(tmp_path: Path, kept: Any, expected: str) -> None:
    (tmp_path / "config.yaml").touch()
    if kept is not None:
        directory(tmp_path / "chains", kept)
    assert f"{tmp_path}: {expected}" in invoke("status", tmp_path).output
    with filelock.FileLock(tmp_path / "lock"):
        assert invoke("status", tmp_path).output.startswith(f"{tmp_path}: running")


def test_status_of_a_folder_of_infer(tmp_path: Path) -> None:
    directory(tmp_path, {"state": "finished"})
    assert invoke("status", tmp_path).output == f"{tmp_path}: finished\n"
    directory(tmp_path, {"state": "interrupted"})
    assert "goes on by the same call of infer" in invoke("status", tmp_path).output
    directory(tmp_path, "{")
    assert "status.json is damaged" in invoke("status", tmp_path).stderr


@pytest.mark.parametrize("is_terminal", [True, False])
def test_watch_until_the_end(tmp_path: Path, is_terminal: bool) -> None:
    """The run makes a step at every look, and is finished after three."""
    stream = io.StringIO()
    console = Console(force_terminal=is_terminal, record=True, width=200, file=stream)
    looks = 0
    lock = filelock.FileLock(tmp_path / "lock")
    lock.acquire()

    def write(status: Any) -> None:
        directory(tmp_path, status)

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        write(STATUS | {"step": 20 + looks})
        if looks == 3:
            write(STATUS | {"state": "finished"})
            lock.release()

    write(STATUS)
    assert reader.watch(tmp_path, console, sleep=sleep).state == "finished"
    text = console.export_text()
    assert looks == 3 and "running, sampling: step 22/100" in text
    assert text.rstrip().splitlines()[0 if is_terminal else -1]
    if is_terminal:
        assert "step size" in text and "0.2" in text
    else:
        assert len(text.splitlines()) == 4


def test_every_value_reaches_the_estimator(
    table: Path, tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}

    def record(path: Path, prepared: Any, estimator: Any, *_: Any, **more: Any) -> None:
        found.update(prepared=prepared, estimator=estimator, **more)

    host_patch.setattr(mirth.experiments.runs, "fit_into", record)
    method = {"n_warmup": 7, "start": {"patience": 3}}
    config = parse_config(
        {
            "data": {"path": str(table), "target": "price", "drop": ["rooms"], "test_fraction": 0.5,
                     "validation_fraction": 0.3},
            "task": "regression",
            "model": {"hidden_layer_sizes": [5, 4], "activation": "tanh",
                      "prior": {"name": "laplace", "scale": 0.5},
                      "likelihood": "homoscedastic", "normalize_y": False,
                      "resolution": 0.5, "robust_scaling": False},
            "method": method, "n_members": 3, "seed": 8, "checkpoint_seconds": 9.0,
            "max_time": "1h",
            "draws_store": "memory://draws",
            "track": ["tensorboard", "mlflow", "tensorboard"],
            "weights": "stacking",
        }
    )  # fmt: skip
    host_patch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))
    mirth.experiments.start_run(config, tmp_path / "run", verbose=2)
    parameters = found["estimator"].get_params(deep=False)
    events, server = parameters.pop("monitors")
    assert isinstance(events, mirth.monitors.TensorBoardMonitor)
    assert isinstance(server, mirth.monitors.MLflowMonitor)
    assert (events.folder, server.run_name) == (tmp_path / "run" / "tensorboard", "run")
    assert parameters == {
        "hidden_layer_sizes": (5, 4),
        "activation": "tanh",
        "likelihood": "homoscedastic",
        "prior": mirth.priors.LaplacePrior(scale=0.5),
        "method": mirth.MILE(n_warmup=7, start=mirth.DeepEnsemble(patience=3)),
        "n_members": 3,
        "validation_fraction": 0.3,
        "normalize_y": False,
        "resolution": 0.5,
        "robust_scaling": False,
        "random_state": 8,
        "verbose": 2,
        "run_directory": tmp_path / "run" / "chains",
        "checkpoint_seconds": 9.0,
        "max_time": "1h",
        "draws_store": "memory://draws",
        "weights": "stacking",
    }
    assert len(found["prepared"].case.y_test) == 30
    assert list(found["prepared"].kinds) == ["area"]
    assert found["config"] == config.model_dump(mode="json")
    nearby = config.model_copy(update={"draws_store": "draws.zarr"})  # as seen from here
    mirth.experiments.start_run(nearby, tmp_path / "other")
    assert found["estimator"].draws_store == str(Path("draws.zarr").absolute())


def test_warnings_and_errors_are_logged(
    config: Path, tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        warnings.warn("chain 3 is frozen", mirth.MirthWarning, stacklevel=1)
        raise OSError("the disk is full")

    host_patch.setattr(mirth.experiments.runs, "fit_into", fail)
    result = invoke("run", config, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == "warning: chain 3 is frozen\nerror: the disk is full\n"
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "MirthWarning: chain 3 is frozen\n" in log and "OSError: the disk is full\n" in log
    assert "Finished." not in log
    found = invoke("status", tmp_path / "run").output
    assert ": failed, starting, OSError: the disk is full, go on by: mirth resume" in found


def test_an_error_while_the_results_are_written(
    config: Path, finished: Path, tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    """The chains had finished, so the run looked killed."""
    run, states = tmp_path / "run", list[RunStatus]()

    def fail(*_: Any, **__: Any) -> None:
        states.append(mirth.read_status(run))
        raise OSError("the disk\nis full")

    with host_patch.context() as patch:
        patch.setattr(mirth.experiments.tables, "_write_results", fail)
        assert invoke("run", config, "--out", run).exit_code == 2
        found = invoke("status", run).output
        assert ": failed, writing the results" in found and "OSError: the disk is full, go" in found
        assert json.loads(invoke("status", run, "--json").output)["state"] == "failed"
        assert invoke("resume", run).exit_code == 2
        assert [state.state for state in states] == ["running"] * 2
        assert not any(state.error for state in states)  # the second try has begun anew
    with host_patch.context() as patch:
        patch.setattr(mirth.experiments.runs, "fit_into", stopped)
        assert invoke("resume", run).exit_code == 130
    assert ": killed, writing the results" in invoke("status", run).output
    assert invoke("resume", run).exit_code == 0
    assert invoke("status", run).output.startswith(f"{run}: finished")
    np.testing.assert_array_equal(draws(run), draws(finished))


def stopped(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt
