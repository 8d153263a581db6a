"""One wild cell: it is named and clipped, and the fit is as good as without it."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.estimators._targets import fit_scaling
from mirth.estimators.resolution import Grid

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
Y = np.sin(X[:, 0]) + 0.5 * X[:, 1] + 0.05 * RNG.normal(size=200)
NEW = RNG.normal(size=(200, 3))
TRUE = np.sin(NEW[:, 0]) + 0.5 * NEW[:, 1]
METHOD = mirth.MILE(n_warmup=200, n_samples=25)
OPTIONS: dict[str, Any] = {"method": METHOD, "n_members": 2, "random_state": 0}


def fit(X: np.ndarray, y: np.ndarray, **options: Any) -> tuple[mirth.BNNRegressor, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = mirth.BNNRegressor((16, 16), **OPTIONS, **options).fit(X, y)
    said = [w for w in caught if "wild" in str(w.message)]
    assert all(w.filename == __file__ and w.category is mirth.MirthWarning for w in said)
    return model, [str(w.message) for w in said]


@pytest.fixture(scope="module")
def clean() -> mirth.BNNRegressor:
    model, said = fit(X, Y)
    assert not said
    return model


def with_cell(place: Any, value: float) -> np.ndarray:
    changed = X.copy()
    changed[place] = value
    return changed


def test_a_wild_input(clean: mirth.BNNRegressor) -> None:
    model, (said,) = fit(with_cell((17, 1), 1e6), Y)
    assert said.startswith("A wild value is clipped: 1e+06 in row 17 of column 1 of X (clipped to ")
    assert "robust_scaling=False" in said
    assert model.score(NEW, TRUE) > clean.score(NEW, TRUE) - 0.05
    spoilt, said_nothing = fit(with_cell((17, 1), 1e6), Y, robust_scaling=False)
    assert not said_nothing and spoilt.score(NEW, TRUE) < clean.score(NEW, TRUE) - 0.05


@pytest.mark.parametrize("value", [1e6, pytest.param(-1e6, marks=pytest.mark.slow)])
def test_a_wild_target(clean: mirth.BNNRegressor, value: float) -> None:
    y = Y.copy()
    y[3] = value
    model, (said,) = fit(X, y)
    assert f"{value:.6g} in row 3 of y (clipped to" in said
    assert model.score(NEW, TRUE) > clean.score(NEW, TRUE) - 0.05
    with pytest.warns(mirth.MirthWarning, match="in row 3 of y .*The fit had nothing so far out"):
        model.compress(5, X=X, y=y)
    spoilt, _ = fit(X, y, robust_scaling=False)
    assert spoilt.score(NEW, TRUE) < 0.5


def test_columns_are_named_as_they_are_called() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(with_cell((5, 2), -1e9), columns=["age", "height", "income"])
    with pytest.warns(mirth.MirthWarning, match="-1e\\+09 in row 5 of column 'income' of X"):
        mirth.BNNClassifier((4,), **OPTIONS).fit(frame, Y > 0)


def test_new_rows_are_clipped(clean: mirth.BNNRegressor) -> None:
    far = NEW[:4].copy()
    far[2, 0] = 1e12
    with pytest.warns(mirth.MirthWarning, match=r"1e\+12 in row 2 .*The fit had nothing so far"):
        found = clean.predict(far)
    np.testing.assert_array_equal(np.delete(found, 2), np.delete(clean.predict(NEW[:4]), 2))
    assert np.isfinite(found).all() and abs(found[2]) < 5 * np.abs(Y).max()


def test_kept_and_exported_models_clip_alike(clean: mirth.BNNRegressor, tmp_path: Path) -> None:
    far = np.float32(NEW[:4])
    far[2, 0] = 1e12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mirth.MirthWarning)
        expected = clean.predict(far)
        clean.save(tmp_path / "a.mirth")
        np.testing.assert_array_equal(mirth.load(tmp_path / "a.mirth").predict(far), expected)
    clean.export(tmp_path / "a.stablehlo", quantiles=())
    program = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    np.testing.assert_allclose(program.call(far)["mean"], expected, rtol=1e-4, atol=1e-4)


def test_a_model_saved_before_there_were_bounds_clips_nothing(
    clean: mirth.BNNRegressor, tmp_path: Path
) -> None:
    clean.save(tmp_path / "new.mirth")
    with (
        zipfile.ZipFile(tmp_path / "new.mirth") as new,
        zipfile.ZipFile(tmp_path / "old.mirth", "w") as old,
    ):
        for part in new.infolist():
            content = new.read(part)
            if part.filename == "manifest.json":
                record = json.loads(content)
                del record["parameters"]["robust_scaling"]
                for scaler in ("x_scaler_", "y_scaler_"):
                    for bound in ("low", "high"):
                        del record["fitted"][scaler]["fields"][bound]
                content = json.dumps(record).encode()
            old.writestr(part, content)
    loaded = mirth.load(tmp_path / "old.mirth")
    assert isinstance(loaded, mirth.BNNRegressor) and loaded.x_scaler_.low is None
    np.testing.assert_array_equal(loaded.predict(NEW[:4]), clean.predict(NEW[:4]))
    loaded.predict(1e6 * NEW[:4])  # a warning would be an error


def test_a_rounded_target_stays_on_its_grid() -> None:
    y = np.round(2 * Y)
    y[7] = 1e6
    model, (said,) = fit(X, y)
    assert "1e+06 in row 7 of y" in said and model.resolution_ == 1.0
    assert model.y_scaler_.high[0] == round(model.y_scaler_.high[0])


def test_the_warning_names_the_value_of_the_grid() -> None:
    y = np.append(np.tile([0.0, 1.0, 2.0, 3.0], 10), 1e6)
    with pytest.warns(mirth.MirthWarning, match=r"1e\+06 in row 40 of y \(clipped to 4\)"):
        scaler = fit_scaling(mirth.Normal(), y, None, grids=[Grid(1.0, 0.0)])
    assert scaler.high == [4.0]
    with pytest.warns(mirth.MirthWarning, match=r"\(clipped to 4\.2"):
        fit_scaling(mirth.Normal(), y, None)


def test_a_rounded_positive_target_may_be_0() -> None:
    y = np.round(np.exp(1 + 0.8 * X[:, 0] + 0.3 * RNG.normal(size=200)))
    assert 0 < (y == 0).sum() < 20
    model, said = fit(X, y, likelihood="log_normal")
    assert not said and model.resolution_ == 1.0 and model.y_scaler_.low is None
    y[3] = 1e6
    model, (said_one,) = fit(X, y, likelihood="log_normal")
    assert said_one.startswith("A wild value is clipped: 1e+06 in row 3 of y ")
    assert not model.y_scaler_.is_beyond(y[y == 0]).any()


def test_a_positive_target_may_be_wild_in_its_logarithm() -> None:
    y = np.exp(1 + 0.5 * X[:, 0] + 0.1 * RNG.normal(size=200))
    y[5] = 1e-30
    _, (said,) = fit(X, y, likelihood="log_normal")
    assert said.startswith("A wild value is clipped: 1e-30 in row 5 of y (clipped to 0.")


def test_many_are_counted_and_columns_out_of_range_refused() -> None:
    many = with_cell((slice(0, 4), 0), 1e6)
    many[:3, 1] = -1e7
    _, (said,) = fit(many, Y)
    assert said.startswith("7 wild values are clipped: ") and ", and 2 more. " in said
    with pytest.raises(ValueError, match=r"^column 1 of X has .* divide the column"):
        fit(X * [1, 1e300, 1], Y)


@pytest.mark.parametrize("kind", [mirth.BNNRegressor, mirth.BNNClassifier])
def test_the_option_is_a_truth_value(kind: Any) -> None:
    with pytest.raises(TypeError, match="^robust_scaling='yes'"):
        kind(**OPTIONS, robust_scaling="yes").fit(X, Y > 0)
