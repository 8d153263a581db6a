"""Whole runs with the least budget: the folders are complete, the numbers finite, bad input named.

Each fit compiles for some seconds, so the fixtures fit once for all tests of this file.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mirth
from mirth.core.folders import write_json
from mirth.data import read_table
from mirth.estimators import load
from mirth.experiments import demo, fit_table, predict_table, run_demo
from mirth.experiments.comparison import Comparison

METHODS = ["linear model", "deep ensemble", "MILE"]
TINY = mirth.MILE(n_warmup=100, n_samples=10, n_thinning=1, start=mirth.DeepEnsemble(max_epochs=10))
BUDGET = demo.Budget(hidden_layer_sizes=(4,), n_members=2, n_warmup=100, n_samples=10, n_thinning=1)
# Chains of so few steps may be worse than their start, and say so.
pytestmark = [
    pytest.mark.usefixtures("unoptimised"),
    pytest.mark.filterwarnings("ignore:Of \\d chains:mirth.MirthWarning"),
]


def houses(path: Path, *, seed: int = 0, rows: int = 60) -> Path:
    """A table with numbers, categories and missing values of both kinds."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "area": rng.uniform(20, 200, rows).round(1),
            "heating": rng.choice(["gas", "oil", "wood"], rows),
            "rooms": rng.integers(1, 7, rows).astype(float),
        }
    )
    frame["price"] = (2.5 * frame["area"] + 30 * (frame["heating"] == "gas")).round(2)
    frame["price"] += rng.normal(0, 10, rows).round(2)
    frame["sold"] = np.where(frame["price"] > frame["price"].median(), "no", "yes")
    frame.loc[3, "heating"] = None
    frame.loc[[5, 6], "rooms"] = None
    frame.to_csv(path, index=False)
    return path


class Run:
    """A fitted run: its folder, what was compared, what was shown, and the table."""

    def __init__(self, folder: Path, target: str, drop: str, **options: Any):
        table = houses(folder / "houses.csv")
        frame = pd.read_csv(table).drop(columns=drop).dropna(subset=[target])
        self.csv = folder / f"{target}.csv"
        frame.to_csv(self.csv, index=False)
        self.new = folder / "new.csv"
        frame.drop(columns=target).iloc[::-1].to_csv(self.new, index=False)
        self.folder, self.shown = folder / "run", list[Any]()
        self.comparison: Comparison = fit_table(
            self.csv,
            target,
            self.folder,
            n_members=2,
            method=TINY,
            hidden_layer_sizes=(4,),
            show=self.shown.append,
            **options,
        )

    def read(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text())


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("regression"), "price", "sold", test_fraction=0.3, seed=4)


@pytest.fixture(scope="module")
def classification(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("classification"), "sold", "price")


@pytest.fixture(scope="module")
def gap_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    folder, shown = tmp_path_factory.mktemp("demo"), list[Any]()
    with pytest.MonkeyPatch.context() as patch:
        cases = demo._cases()
        patch.setattr(demo, "BUDGET", BUDGET)
        patch.setattr(demo, "_cases", lambda: cases[2:])
        patch.chdir(folder)
        run_demo(show=shown.append)
    yield folder / "runs" / "demo", shown


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, float | int):
        yield value


def check_page(file: Path, num_pictures: int) -> str:
    """A page without anything from elsewhere."""
    page = file.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == num_pictures
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|https?://|@import|url\(""", page)
    return page


def check_record(record: dict[str, Any], scores: set[str]) -> None:
    assert list(record["methods"]) == METHODS
    for values in record["methods"].values():
        assert set(values) == scores | {"seconds"}
        assert all(math.isfinite(value) for value in numbers(values))
    assert len(record["health"]["verdicts"]) == len(record["health"]["lppd_chain"]) == 2
    assert record["tuning"]["L"] == record["health"]["L"]
    assert set(record["tuning"]["L_from"]) <= {"parameters", "function values", "spread"}
    assert all(ess > 0 for ess in record["tuning"]["ess_function"])


INTERVALS = {"coverage_90", "inside_90", "width_90", "quantile_calibration_error"}
REGRESSION = {"lppd", "rmse", "crps"} | INTERVALS
CLASSIFICATION = {"lppd", "accuracy", "brier", "ece"}


def test_demo_writes_everything(gap_demo: tuple[Path, list[Any]]) -> None:
    folder, shown = gap_demo
    pictures = {"bands", "coverage", "pit", "predictions", "uncertainty", "chains", "losses"}
    assert {p.name for p in folder.iterdir()} == {"metrics.json", "report.html"} | {
        f"gap_{name}.png" for name in pictures
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["environment"]["mirth"] == mirth.__version__
    assert metrics["budget"]["n_warmup"] == 100 and metrics["seed"] == 0
    record = metrics["examples"]["gap"]
    check_record(record, REGRESSION)
    assert (record["train_rows"], record["test_rows"]) == (200, 200)
    for width in record["gap"]["mean_width"].values():
        assert width["ratio"] == pytest.approx(width["inside"] / width["outside"])
    page = check_page(folder / "report.html", len(pictures))
    assert f"a factor of {record['gap']['mean_width']['MILE']['ratio']:.2f}" in page
    assert record["bias"]["sentence"] in page and "what half the step size changes" in page
    assert set(record["bias"]["changes"]) > {"mean / deviation", "LPPD, nats"}
    table, *texts = shown
    assert [row[0] for row in table.rows] == METHODS
    assert all(isinstance(text, str) for text in texts)
    assert record["bias"]["sentence"] in texts


def test_demo_replaces_only_a_demo_in_its_own_folder(
    gap_demo: tuple[Path, list[Any]], tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    host_patch.setattr(demo, "_cases", lambda: [])
    host_patch.chdir(tmp_path)
    for folder in ("runs/demo", "elsewhere"):
        shutil.copytree(gap_demo[0], folder)
    run_demo()
    assert json.loads(Path("runs/demo/metrics.json").read_text())["examples"] == {}
    with pytest.raises(FileExistsError, match="--overwrite"):
        run_demo("elsewhere")
    run_demo("elsewhere", overwrite=True)
    write_json("runs/demo/metrics.json", {"format": "mirth run", "schema_version": 1})
    with pytest.raises(FileExistsError, match="--overwrite"):
        run_demo()


@pytest.mark.slow
def test_whole_demo(tmp_path: Path, host_patch: pytest.MonkeyPatch) -> None:
    host_patch.setattr(demo, "BUDGET", BUDGET)
    run_demo(tmp_path / "demo")
    record = json.loads((tmp_path / "demo" / "metrics.json").read_text())["examples"]
    assert list(record) == ["diabetes", "breast_cancer", "gap"]
    check_record(record["diabetes"], REGRESSION)
    check_record(record["breast_cancer"], CLASSIFICATION)
    check_page(tmp_path / "demo" / "report.html", 6 + 4 + 7)


def test_an_ensemble_has_no_steps_to_check(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bias_check=True needs chains"):
        fit_table(
            houses(tmp_path / "houses.csv"), "price", tmp_path / "run", method="deep_ensemble",
            bias_check=True,
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_demo_rows_are_always_split_alike() -> None:
    first, second = demo._cases(), demo._cases()
    assert [(len(c.y_train), len(c.y_test)) for c in first] == [(221, 221), (285, 284), (200, 200)]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.x_test, b.x_test)
        np.testing.assert_array_equal(a.y_train, b.y_train)


def test_fit_writes_a_run(regression: Run) -> None:
    manifest, metrics = regression.read("manifest.json"), regression.read("metrics.json")
    assert manifest["task"] == "regression" and manifest["target"] == "price"
    assert manifest["columns"] == {"area": "number", "heating": "category", "rooms": "number"}
    assert manifest["classes"] is None and manifest["seed"] == 4
    assert manifest["estimator"]["n_members"] == 2
    assert manifest["scores"] == metrics["methods"]["MILE"]
    assert metrics["bias"] is None
    check_record(metrics, REGRESSION)
    assert (metrics["train_rows"], metrics["test_rows"]) == (42, 18)
    page = check_page(regression.folder / "report.html", 6)
    assert "fitted to the 42 training rows only" in page
    assert not list(regression.folder.rglob("*.pkl"))


@pytest.mark.slow
def test_counts_are_checked_by_their_randomised_places(regression: Run, tmp_path: Path) -> None:
    counts = Run(tmp_path, "rooms", "sold", likelihood="poisson", test_fraction=0.3, seed=4)
    assert counts.read("metrics.json")["methods"] == counts.comparison.record()["methods"]
    scores = counts.comparison.results["MILE"].scores
    lead, told = (
        f"Its 90% intervals hold {scores['inside_90']:.1%} of the test rows. Where single values",
        f"they cover {scores['coverage_90']:.1%}, ",
    )
    captions = ["is an end of the interval counts", "has a random place between"]
    page = (counts.folder / "report.html").read_text(encoding="utf-8")
    plain = (regression.folder / "report.html").read_text(encoding="utf-8")
    for text in (lead, told, *captions):
        assert text in page
        assert text not in plain
    # Of continuous targets there is one share, and the sentence is the short one.
    of_prices = regression.comparison.results["MILE"].scores
    assert of_prices["coverage_90"] == of_prices["inside_90"]
    assert f"hold {of_prices['coverage_90']:.1%} of the test rows, " in plain


def test_fit_shows_what_it_does(regression: Run) -> None:
    first, table, *texts = regression.shown
    assert first == "price.csv: regression of 'price', 42 training and 18 test rows, 3 columns."
    assert [row[0] for row in table.rows] == METHODS
    assert "42 training rows only" in texts[-1]


def test_saved_model_is_the_fitted_one(regression: Run) -> None:
    comparison = regression.comparison
    loaded: Any = load(regression.folder / "model.mirth")
    x = comparison.case.x_test
    for a, b in zip(
        comparison.estimator.predict(x, return_std=True),
        loaded.predict(x, return_std=True),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_predict_regression(regression: Run, tmp_path: Path) -> None:
    out = tmp_path / "new" / "predictions.csv"
    table = predict_table(regression.folder, regression.new, out, interval=0.5)
    found = pd.read_csv(out)
    assert list(found) == ["mean", "std", "lower", "upper", "epistemic_std", "aleatoric_std"]
    pd.testing.assert_frame_equal(found, table)
    assert len(found) == 60 and (found["lower"] < found["upper"]).all()
    np.testing.assert_allclose(
        found["std"] ** 2, found["epistemic_std"] ** 2 + found["aleatoric_std"] ** 2, rtol=1e-6
    )
    # the same rows in the other order, and a wider interval
    pd.read_csv(regression.new).iloc[::-1].to_csv(tmp_path / "turned.csv", index=False)
    turned = predict_table(regression.folder, tmp_path / "turned.csv", out, overwrite=True)
    np.testing.assert_allclose(turned["mean"][::-1], found["mean"], rtol=1e-5)
    assert (turned["upper"][::-1].to_numpy() > found["upper"]).all()


def test_predictions_are_those_of_the_scores(regression: Run, tmp_path: Path) -> None:
    case, forecast = regression.comparison.case, regression.comparison.results["MILE"].forecast
    table = predict_table(regression.folder, regression.csv, tmp_path / "p.csv")
    prices = pd.read_csv(regression.csv)["price"]
    for y, mean in zip(case.y_test, forecast.mean, strict=True):
        (row,) = np.flatnonzero(prices == y)
        assert table["mean"][row] == pytest.approx(mean, rel=1e-5)


def test_predict_classification(classification: Run, tmp_path: Path) -> None:
    table = predict_table(classification.folder, classification.new, tmp_path / "p.csv")
    assert list(table) == ["label", "p_no", "p_yes", "entropy", "epistemic"]
    np.testing.assert_allclose(table["p_no"] + table["p_yes"], 1)
    np.testing.assert_array_equal(table["label"], np.where(table["p_no"] >= 0.5, "no", "yes"))
    assert classification.read("manifest.json")["classes"] == ["no", "yes"]
    check_record(classification.read("metrics.json"), CLASSIFICATION)
    check_page(classification.folder / "report.html", 4)


def test_new_rows_may_have_surplus_columns_unseen_levels_and_gaps(
    regression: Run, tmp_path: Path
) -> None:
    rows = "surplus,rooms,heating,area\n1,,solar,100\n2,3,,50\n3,2,gas,\n"
    (tmp_path / "new.csv").write_text(rows)
    table = predict_table(regression.folder, tmp_path / "new.csv", tmp_path / "p.csv")
    assert np.isfinite(table.to_numpy()).all() and len(table) == 3


@pytest.mark.parametrize(
    "method", [pytest.param(TINY, marks=pytest.mark.slow), mirth.DeepEnsemble(max_epochs=10)]
)
@pytest.mark.parametrize("target", ["price", "sold"])
def test_without_test_rows_all_rows_are_fitted(tmp_path: Path, target: str, method: Any) -> None:
    table, shown = houses(tmp_path / "houses.csv"), list[Any]()
    run, drop = tmp_path / "run", ["rooms", "sold" if target == "price" else "price"]
    comparison = fit_table(
        table, target, run, method=method, n_members=2, hidden_layer_sizes=(4,), drop=drop,
        test_fraction=0, show=shown.append,
    )  # fmt: skip
    assert comparison.results == {} and all(isinstance(text, str) for text in shown)
    assert "60 training and no test rows, 2 columns." in shown[0]
    assert shown[-1] == "The model kept in this run was fitted to all 60 rows."
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["train_rows"], metrics["test_rows"], metrics["methods"]) == (60, 0, {})
    assert len(metrics["health"]["lppd_chain"]) == 2
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["scores"] is None and set(manifest["columns"]) == {"area", "heating"}
    page = check_page(run / "report.html", 0)
    assert "There are no test rows, so there are no scores" in page
    assert "health of the chains" in page and ("scaled target" in page) == (target == "price")
    # What was dropped need not be there.
    pd.read_csv(table)[["heating", "area"]].to_csv(tmp_path / "new.csv", index=False)
    assert len(predict_table(run, tmp_path / "new.csv", tmp_path / "p.csv")) == 60


def test_category_that_looks_like_a_number_stays_a_category(
    regression: Run, tmp_path: Path
) -> None:
    (tmp_path / "new.csv").write_text("area,heating,rooms\n100,1,2\n")
    assert len(predict_table(regression.folder, tmp_path / "new.csv", tmp_path / "p.csv")) == 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"target": "prise"}, ValueError, "did you mean 'price'"),
        ({"data": "hoses.csv"}, FileNotFoundError, "Did you mean 'houses.csv'"),
        ({"task": "regresion"}, ValueError, "did you mean 'regression'"),
        ({"target": "sold", "task": "regression"}, ValueError, "holds text such as"),
        ({"test_fraction": -0.1}, ValueError, "test_fraction"),
        ({"test_fraction": 1.0}, ValueError, "test_fraction"),
        ({"drop": ["pirce"]}, ValueError, "drop='pirce' is not known; did you mean 'price'"),
        ({"drop": "area"}, TypeError, r"drop='area' must be a list of columns, such as \['area'\]"),
        ({"drop": ["price"]}, ValueError, r"drop=\['price'\] has the target"),
        ({"test_fraction": 0.01}, ValueError, "test rows=1 must be at least 2"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"n_members": 0}, ValueError, "n_members=0"),
        ({"hidden_layer_sizes": (4, 0)}, ValueError, "hidden_layer_sizes=0"),
        ({"likelihood": "normall"}, ValueError, "did you mean 'normal'"),
        ({"target": "heating"}, ValueError, "missing in 1 of 60 rows: row 4"),
    ],
)
def test_bad_fits_leave_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    houses(tmp_path / "houses.csv")
    data = tmp_path / options.pop("data", "houses.csv")
    with pytest.raises(error, match=match):
        fit_table(data, options.pop("target", "price"), tmp_path / "run", method=TINY, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["houses.csv"]


def test_existing_run_is_refused_before_the_data_are_read(regression: Run, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="--overwrite"):
        fit_table(tmp_path / "none.csv", "price", regression.folder)


def test_bad_predictions(regression: Run, tmp_path: Path) -> None:
    run, new, out = regression.folder, regression.new, tmp_path / "p.csv"
    frame = read_table(new)
    frame.rename(columns={"area": "aera"}).drop(columns="rooms").to_csv(
        tmp_path / "columns.csv", index=False
    )
    with pytest.raises(ValueError, match=r"lacks 2 of 3 .*'area' \(did you mean 'aera'\?\), 'room"):
        predict_table(run, tmp_path / "columns.csv", out)
    frame.assign(area="large").to_csv(tmp_path / "kind.csv", index=False)
    with pytest.raises(ValueError, match="'area' held numbers"):
        predict_table(run, tmp_path / "kind.csv", out)
    with pytest.raises(FileNotFoundError, match=r"no folder .*Did you mean '.*run'"):
        predict_table(run.with_name("runn"), new, out)
    with pytest.raises(FileNotFoundError, match="no file"):
        predict_table(run, tmp_path / "none.csv", out)
    with pytest.raises(ValueError, match=r"interval=90\.0"):
        predict_table(run, new, out, interval=90)
    with pytest.raises(FileExistsError, match="is a folder"):
        predict_table(run, new, tmp_path)
    assert not out.exists()
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        predict_table(run, new, out)
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("damage", "error", "match"),
    [
        ("version", ValueError, "schema version 9"),
        ("demo", ValueError, "holds a mirth demo, but a mirth run is needed"),
        ("no manifest", FileNotFoundError, r"manifest\.json is missing"),
        ("no preprocessor", FileNotFoundError, r"preprocess\.skops is missing"),
        ("bad preprocessor", ValueError, r"preprocess\.skops is damaged"),
        ("no model", FileNotFoundError, "no file .*model"),
    ],
)
def test_damaged_run(
    regression: Run, tmp_path: Path, damage: str, error: type[Exception], match: str
) -> None:
    run = Path(shutil.copytree(regression.folder, tmp_path / "run"))
    manifest = regression.read("manifest.json")
    actions = {
        "version": lambda: write_json(run / "manifest.json", manifest | {"schema_version": 9}),
        "demo": lambda: write_json(run / "manifest.json", manifest | {"format": "mirth demo"}),
        "no manifest": lambda: (run / "manifest.json").unlink(),
        "no preprocessor": lambda: (run / "preprocess.skops").unlink(),
        "bad preprocessor": lambda: (run / "preprocess.skops").write_text("zip?"),
        "no model": (run / "model.mirth").unlink,
    }
    actions[damage]()
    with pytest.raises(error, match=match):
        predict_table(run, regression.new, tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()
