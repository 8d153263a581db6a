"""Saved estimators predict identically, and say what is wrong with a damaged folder.

The fits are made by hand: what is saved does not depend on how good the draws are.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import mirth
from mirth.core.outcomes import ChainVerdict
from mirth.data import Standardizer
from mirth.estimators import BNNClassifier, BNNRegressor, load_estimator, save_estimator
from mirth.inference import Posterior, TuningReport, WarmStartReport

K, T, ROWS = 2, 20, 30
X = np.random.default_rng(1).normal(3.0, 2.0, (ROWS, 2))


def made_up(estimator: Any, likelihood: mirth.Normal | Any, *, tuned: bool = True) -> Any:
    """Give an estimator the attributes of a fit."""
    rng = np.random.default_rng(0)
    network = mirth.MLP((4,), num_outputs=likelihood.num_outputs, activation="tanh")
    model = mirth.Model(network, likelihood, mirth.NormalPrior(scale=0.7))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jax.numpy.zeros((1, 2))))
    draws = jax.tree.map(lambda s: rng.normal(size=(K, T, *s.shape)).astype(np.float32), shapes)
    numbers = rng.normal(size=(6, K))
    report = WarmStartReport(np.array([3, 4]), np.array([1, 2]), numbers[0], 1.5)
    estimator.posterior_ = Posterior(
        model=model,
        draws=draws,
        sample_stats={
            "logdensity": rng.normal(size=(K, T)).astype(np.float32),
            "diverging": np.zeros((K, T), np.int32),
        },
        start=jax.tree.map(lambda leaf: leaf[:, 0] + np.float32(1), draws),
        warm_start=report,
        tuning=TuningReport(*np.abs(numbers[1:5]), 100, 2.5) if tuned else None,
        lppd_start=numbers[5],
        lppd_chain=numbers[5] + 0.5,
        lppd_se=np.full(K, 0.1),
        num_sampling_steps=T,
        num_gradients=7,
        seconds={"warm_start": 1.5, "sampling": 0.25},
        members=np.arange(1, K + 1),
        notes=("Left out from now on: 0.",),
    )
    estimator.model_, estimator.seed_, estimator.n_features_in_ = model, 5, 2
    estimator.x_scaler_ = Standardizer.fit(X)
    estimator._diagnostic_rows, estimator._diagnostics = estimator.x_scaler_.transform(X), None
    estimator.verdicts_ = [ChainVerdict.MOVED, ChainVerdict.WORSE_THAN_START]
    return estimator


def regressor(**options: Any) -> BNNRegressor:
    method = mirth.MILE(n_warmup=7, start=mirth.DeepEnsemble(patience=3))
    estimator = BNNRegressor([4], activation="tanh", method=method, random_state=3)
    estimator.y_scaler_ = Standardizer(np.array([1 / 3]), np.array([70.0]))
    return made_up(estimator, mirth.Normal(), **options)


def classifier(classes: Any, dtype: Any = None) -> BNNClassifier:
    estimator = made_up(
        BNNClassifier((4,), activation="tanh", likelihood=mirth.Categorical(num_classes=2)),
        mirth.Categorical(num_classes=2),
    )
    estimator.classes_ = np.array(classes, dtype=dtype)
    return estimator


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_estimator(regressor(), folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_regressor_predicts_identically(saved: Path) -> None:
    original, loaded = regressor(), load_estimator(saved)
    assert isinstance(loaded, BNNRegressor)
    for a, b in zip(
        original.predict(X, return_std=True), loaded.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(original.predict_interval(X), loaded.predict_interval(X))
    np.testing.assert_array_equal(
        original.sample_predictive(X, 5, random_state=0),
        loaded.sample_predictive(X, 5, random_state=0),
    )


def test_everything_else_comes_back(saved: Path) -> None:
    original, loaded = regressor(), load_estimator(saved)
    assert repr(loaded.get_params()) == repr(original.get_params())
    assert loaded.model_ == original.model_ and loaded.model_ is loaded.posterior_.model
    assert loaded.verdicts_ == original.verdicts_
    a, b = (
        jax.tree.flatten(e.posterior_.__dict__ | {"model": 0, "warm_start": 0, "tuning": 0})
        for e in (original, loaded)
    )
    assert a[1] == b[1]
    for one, other in zip(a[0], b[0], strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype
    for name in ("warm_start", "tuning"):
        assert str(vars(getattr(original.posterior_, name))) == str(
            vars(getattr(loaded.posterior_, name))
        )
    assert str(loaded.diagnostics_) == str(original.diagnostics_)


def test_deep_ensemble_of_a_loaded_estimator(saved: Path, tmp_path: Path) -> None:
    ensemble = load_estimator(saved).as_deep_ensemble()
    expected = regressor().as_deep_ensemble().predict(X)
    np.testing.assert_array_equal(ensemble.predict(X), expected)
    save_estimator(ensemble, tmp_path / "ensemble")
    again = load_estimator(tmp_path / "ensemble")
    assert again.posterior_.tuning is None
    np.testing.assert_array_equal(again.predict(X), expected)


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(["no", "ja, é"], None), (["a", "bcd"], object), ([0, 7], None), ([0.5, 1.5], None),
     ([False, True], None)],
)  # fmt: skip
def test_classifier_keeps_labels_of_any_type(tmp_path: Path, classes: Any, dtype: Any) -> None:
    original = classifier(classes, dtype)
    save_estimator(original, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert loaded.classes_.dtype == original.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), original.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), original.predict_proba(X))


def test_feature_names_are_kept(tmp_path: Path) -> None:
    original = regressor()
    original.feature_names_in_ = np.array(["a", "b"], dtype=object)
    save_estimator(original, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(pd.DataFrame({"a": [1.0], "c": [2.0]}))


def test_arrays_are_named_by_their_path_without_pickle(saved: Path) -> None:
    import zarr

    group = zarr.open_group(saved / "draws.zarr", mode="r")
    weight = group["posterior/draws/network/0/weight"]
    assert weight.shape == (K, T, 4, 2)
    assert group["posterior/sample_stats/logdensity"].shape == (K, T)
    assert group["posterior/start/network/0/weight"].shape == (K, 4, 2)
    assert {p.suffix for p in saved.rglob("*")} <= {"", ".json", ".zarr"}


def test_random_state_object_is_left_out(tmp_path: Path) -> None:
    original = regressor().set_params(random_state=np.random.RandomState(0))
    save_estimator(original, tmp_path / "model")
    assert load_estimator(tmp_path / "model").random_state is None


def test_run_directory_is_left_out(tmp_path: Path) -> None:
    original = regressor().set_params(
        run_directory=tmp_path / "run", checkpoint_seconds=7.0, draws_store="memory://draws"
    )
    save_estimator(original, tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert (loaded.run_directory, loaded.checkpoint_seconds) == (None, 7.0)
    assert loaded.draws_store is None
    assert original.run_directory == tmp_path / "run"


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    from sklearn.exceptions import NotFittedError

    class Own(mirth.Normal):
        pass

    with pytest.raises(NotFittedError):
        save_estimator(BNNRegressor(), tmp_path / "model")
    with pytest.raises(TypeError, match="estimator is a dict"):
        save_estimator({}, tmp_path / "model")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="likelihood holds .*Own.* cannot be saved"):
        save_estimator(regressor().set_params(likelihood=Own()), tmp_path / "model")
    dates = np.array(["2024-01-01", "2024-01-02"], "datetime64[D]")
    with pytest.raises(TypeError, match="classes_ has labels of type date"):
        save_estimator(classifier(dates), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder(copied: Path) -> None:
    with pytest.raises(FileExistsError, match="overwrite=True"):
        save_estimator(regressor(), copied)
    save_estimator(regressor().set_params(n_members=77), copied, overwrite=True)
    assert load_estimator(copied).n_members == 77


def test_missing_draws(copied: Path) -> None:
    shutil.rmtree(copied / "draws.zarr")
    with pytest.raises(FileNotFoundError, match=r"draws\.zarr is missing"):
        load_estimator(copied)


@pytest.mark.parametrize("damage", ["chunk gone", "chunk changed", "array gone", "metadata"])
def test_damaged_draws_are_named(copied: Path, damage: str) -> None:
    array = copied / "draws.zarr" / "posterior" / "draws" / "network" / "0" / "bias"
    (chunk,) = [p for p in array.rglob("*") if p.is_file() and p.name != "zarr.json"]
    if damage == "chunk gone":
        chunk.unlink()
    elif damage == "chunk changed":
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2] ^= 255
        chunk.write_bytes(content)
    elif damage == "array gone":
        shutil.rmtree(array)
    else:
        (array / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match="network/0/bias is missing or damaged"):
        load_estimator(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [("class", "os.system"), ("parameters", {"unknown": 1}), ("attributes", None),
     ("verdicts", ["HAPPY"]), ("arrays", {})],
)  # fmt: skip
def test_damaged_manifest_is_named(copied: Path, key: str, value: Any) -> None:
    file = copied / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        load_estimator(copied)


def test_other_version(copied: Path) -> None:
    file = copied / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))
    with pytest.raises(ValueError, match="schema version 99"):
        load_estimator(copied)
