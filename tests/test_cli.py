"""The command line: options reach the functions, errors are one line, bugs are not hidden.

Whole runs are in tests/experiments; here the functions behind the commands are replaced.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mirth.experiments
from mirth.cli import app
from mirth.core.outcomes import MirthWarning, Outcome, SamplingError
from mirth.inference import MILE
from mirth.report import Column, Table


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Calls of the functions behind the commands."""
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for name in ("run_demo", "fit_table", "predict_table"):

        def record(*args: Any, name: str = name, **options: Any) -> list[int]:
            found.append((name, args, options))
            if "show" in options:
                options["show"]("A sentence with [brackets].")
                options["show"](Table("scores", [Column("method")], [["linear"]]))
            return [1, 2, 3]

        monkeypatch.setattr(mirth.experiments, name, record)
    return found


def test_demo(calls: list[Any]) -> None:
    result = invoke("demo", "--seed", "3")
    assert result.exit_code == 0
    ((name, args, options),) = calls
    assert (name, args) == ("run_demo", (Path("runs/demo"),))
    assert options["seed"] == 3 and options["overwrite"] is False and options["verbose"] == 1
    assert "A sentence with [brackets]." in result.output and "linear" in result.output
    assert "runs/demo/report.html" in result.output


def test_fit(calls: list[Any]) -> None:
    result = invoke(
        "fit", "a.csv", "--target", "y", "--out", "run", "--task", "regression", "--overwrite",
        "--test-fraction", "0.3", "--seed", "2", "--n-members", "4", "--n-warmup", "50",
        "--n-samples", "6", "--hidden", "8, 4", "--likelihood", "homoscedastic",
        "--drop", "id", "--drop", "zip", "--bias-check", "--resolution", "0.5",
        "--weights", "stacking", "--no-robust-scaling",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    ((_, args, options),) = calls
    assert args == (Path("a.csv"), "y", Path("run"))
    options.pop("show")
    assert options == {
        "task": "regression",
        "drop": ["id", "zip"],
        "test_fraction": 0.3,
        "seed": 2,
        "n_members": 4,
        "method": MILE(n_warmup=50, n_samples=6),
        "hidden_layer_sizes": (8, 4),
        "likelihood": "homoscedastic",
        "resolution": 0.5,
        "overwrite": True,
        "bias_check": True,
        "weights": "stacking",
        "robust_scaling": False,
        "verbose": 1,
    }


def test_fit_has_the_defaults_of_the_library(calls: list[Any]) -> None:
    assert invoke("fit", "a.csv", "--target", "y", "--out", "run").exit_code == 0
    ((_, _, options),) = calls
    assert options["method"] == MILE()
    estimator = mirth.BNNRegressor()
    assert options["hidden_layer_sizes"] == estimator.hidden_layer_sizes
    assert options["n_members"] == estimator.n_members
    assert "likelihood" not in options and options["drop"] == ()
    assert "resolution" not in options
    assert options["bias_check"] is False and options["robust_scaling"] is True


def test_fit_without_a_step(calls: list[Any]) -> None:
    run = ("fit", "a.csv", "--target", "y", "--out", "run", "--resolution")
    for text, value in (("none", None), ("auto", "auto")):
        assert invoke(*run, text).exit_code == 0
        assert calls.pop()[2]["resolution"] == value


def test_predict(calls: list[Any]) -> None:
    result = invoke("predict", "run", "b.csv", "--out", "p.csv", "--interval", "0.5", "--overwrite")
    assert "3 rows written to p.csv" in result.output
    assert calls == [
        ("predict_table", (Path("run"), Path("b.csv"), Path("p.csv")),
         {"interval": 0.5, "overwrite": True})
    ]  # fmt: skip


def test_version() -> None:
    assert f"mirth {importlib.metadata.version('mirth')} (JAX " in invoke("version").output


@pytest.mark.parametrize(
    "error",
    [
        ValueError("two\n  lines"),
        TypeError("two lines"),
        FileNotFoundError("two lines"),
        FileExistsError("two lines"),
        PermissionError("two lines"),
    ],
)
def test_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(mirth.experiments, "run_demo", fail)
    result = invoke("demo")
    assert (result.exit_code, result.stderr) == (2, "error: two lines\n")


def test_failed_sampling_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise SamplingError(Outcome.NON_FINITE_TARGET, "Scale the rows.")

    monkeypatch.setattr(mirth.experiments, "run_demo", fail)
    assert invoke("demo").stderr.endswith("every chain. Scale the rows.\n")


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(mirth.experiments, "run_demo", fail)
    assert isinstance(invoke("demo").exception, KeyError)


def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: Any, **__: Any) -> None:
        warnings.warn("chain 3\nis frozen", MirthWarning, stacklevel=1)

    monkeypatch.setattr(mirth.experiments, "run_demo", warn)
    result = invoke("demo")
    assert (result.exit_code, result.stderr) == (0, "warning: chain 3 is frozen\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "none.csv", "--target", "y", "--out", "run"), "there is no file none.csv"),
        (("fit", "a.csv", "--target", "z", "--out", "run"), "target='z' is not known"),
        (("fit", "a.csv", "--target", "y", "--out", "full"), "--overwrite"),
        (("fit", "a.csv", "--target", "y", "--out", "run", "--hidden", "8,x"), "--hidden '8,x'"),
        (
            ("fit", "a.csv", "--target", "y", "--out", "run", "--resolution", "x"),
            "--resolution 'x'",
        ),
        (
            (
                "fit",
                "a.csv",
                "--target",
                "y",
                "--out",
                "run",
                "--task",
                "classification",
                "--test-fraction",
                "0",
                "--resolution",
                "1",
            ),
            "resolution=1.0 is for a target that is a number",
        ),
        (("fit", "a.csv", "--target", "y", "--out", "run", "--n-warmup", "-1"), "n_warmup=-1"),
        (("predict", "none", "a.csv", "--out", "p.csv"), "there is no folder none"),
        (("predict", "full", "a.csv", "--out", "p.csv"), "manifest.json is missing"),
        (("predict", "full", "a.csv", "--out", "a.csv"), "--overwrite"),
        (("demo", "--out", "full"), "--overwrite"),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("x,y\n1,2\n3,4\n5,7\n")
    Path("full").mkdir()
    Path("full/file").touch()
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"a.csv", "full"}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from mirth.cli import main; sys.argv = ['mirth', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('sklearn' 'pandas', 'matplotlib', 'zarr', 'skops', 'pydantic', 'yaml')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "demo" in done.stdout and "predict" in done.stdout
