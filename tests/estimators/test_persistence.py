"""Saved estimators predict identically, and say what is wrong with a damaged file.

The fits are made by hand: what is saved does not depend on how good the draws are.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import joblib
import ml_dtypes
import numpy as np
import pandas as pd
import pytest

import mirth
from mirth.core.outcomes import ChainVerdict
from mirth.data import Standardizer
from mirth.estimators import BNNClassifier, BNNRegressor, load
from mirth.estimators._archive import CLASS_NAMES
from mirth.estimators.persistence import CLASSES
from mirth.inference import Posterior, TuningReport, WarmStartReport
from mirth.results.codec import decode, encode

pytestmark = pytest.mark.usefixtures("unoptimised")

K, T, ROWS = 2, 20, 30
X = np.random.default_rng(1).normal(3.0, 2.0, (ROWS, 2))


def made_up(estimator: Any, likelihood: mirth.Normal | Any, *, tuned: bool = True) -> Any:
    """Give an estimator the attributes of a fit."""
    rng = np.random.default_rng(0)
    network = mirth.MLP((4,), num_outputs=likelihood.num_outputs, activation="tanh")
    model = mirth.Model(network, likelihood, mirth.priors.NormalPrior(scale=0.7))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jax.numpy.zeros((1, 2))))
    draws = jax.tree.map(lambda s: rng.normal(size=(K, T, *s.shape)).astype(np.float32), shapes)
    numbers = rng.normal(size=(6, K))
    curve = np.float32([[2.0, 1.0, 1.5, np.nan], [3.0, 2.0, 2.5, 2.75]])
    losses = (np.array([3, 4]), np.array([1, 2]), numbers[0])
    report = WarmStartReport(*losses, 1.5, curve, curve + 1, 2)
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
    path = tmp_path_factory.mktemp("saved") / "model.mirth"
    regressor().save(path)
    return path


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(saved, tmp_path / "model.mirth"))


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the manifest of a model."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    members["manifest.json"] = json.dumps(change(manifest) or manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_regressor_predicts_identically(saved: Path) -> None:
    original, loaded = regressor(), load(saved)
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
    original, loaded = regressor(), load(saved)
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
    ensemble = load(saved).as_deep_ensemble()
    expected = regressor().as_deep_ensemble().predict(X)
    np.testing.assert_array_equal(ensemble.predict(X), expected)
    ensemble.save(tmp_path / "ensemble")
    again = load(tmp_path / "ensemble")
    assert again.posterior_.tuning is None
    np.testing.assert_array_equal(again.predict(X), expected)


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(["no", "ja, é"], None), (["a", "bcd"], object), ([0, 7], None), ([0.5, 1.5], None),
     ([False, True], None)],
)  # fmt: skip
def test_classifier_keeps_labels_of_any_type(tmp_path: Path, classes: Any, dtype: Any) -> None:
    original = classifier(classes, dtype)
    original.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.classes_.dtype == original.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), original.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), original.predict_proba(X))


def test_feature_names_are_kept(tmp_path: Path) -> None:
    original = regressor()
    original.feature_names_in_ = np.array(["a", "b"], dtype=object)
    original.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(pd.DataFrame({"a": [1.0], "c": [2.0]}))


def test_one_archive_that_numpy_reads_without_pickle(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        assert archive["posterior/draws/network/0/weight"].shape == (K, T, 4, 2)
        assert archive["posterior/sample_stats/logdensity"].shape == (K, T)
        assert archive["posterior/start/network/0/weight"].shape == (K, 4, 2)
        manifest = json.loads(archive["manifest.json"])
        assert all(
            archive[name].dtype.kind in "biuf" for name in set(archive.files) - {"manifest.json"}
        )
    assert (manifest["format"], manifest["class"]) == ("mirth model", "BNNRegressor")


def test_random_state_object_is_left_out(tmp_path: Path) -> None:
    original = regressor().set_params(random_state=np.random.RandomState(0))
    original.save(tmp_path / "model")
    assert load(tmp_path / "model").random_state is None


def test_run_directory_is_left_out(tmp_path: Path) -> None:
    original = regressor().set_params(
        run_directory=tmp_path / "run", checkpoint_seconds=7.0, draws_store="memory://draws"
    )
    original.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert (loaded.run_directory, loaded.checkpoint_seconds) == (None, 7.0)
    assert loaded.draws_store is None
    assert original.run_directory == tmp_path / "run"


@pytest.mark.parametrize("dump", ["pickle", "joblib"])
def test_pickled_estimators_predict_identically(tmp_path: Path, dump: str) -> None:
    for original in (regressor(), classifier(["no", "yes"])):
        if dump == "pickle":
            again = pickle.loads(pickle.dumps(original))
        else:
            joblib.dump(original, tmp_path / "model.joblib")
            again = joblib.load(tmp_path / "model.joblib")
        np.testing.assert_array_equal(again.predict(X), original.predict(X))
        assert str(again.diagnostics_) == str(original.diagnostics_)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_sixteen_bit_draws_come_back(tmp_path: Path, dtype: Any) -> None:
    original = regressor()
    draws = jax.tree.map(lambda leaf: leaf.astype(dtype), original.posterior_.draws)
    original.posterior_.__dict__["draws"] = draws
    original.save(tmp_path / "model")
    found = load(tmp_path / "model").posterior_.draws
    for one, other in zip(jax.tree.leaves(draws), jax.tree.leaves(found), strict=True):
        assert other.dtype == dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", [mirth.SMILE(batch_size=9), mirth.SGMCMC(schedule="cosine")])
def test_any_method_of_mirth_comes_back(tmp_path: Path, method: Any) -> None:
    regressor().set_params(method=method).save(tmp_path / "model")
    assert load(tmp_path / "model").method == method


def test_every_class_that_is_written_can_be_read() -> None:
    assert tuple(CLASSES) == CLASS_NAMES


def test_values_of_the_codec() -> None:
    value = {"a": (1, [None, 2.5]), "b": ChainVerdict.FROZEN, "c": np.float32(1), "d": True}
    assert decode(encode(value, "x", {}), {}) == value


class Own(mirth.Normal):
    pass


def own(**parts: Any) -> BNNRegressor:
    estimator = regressor()
    model = estimator.posterior_.model
    estimator.posterior_.__dict__["model"] = mirth.Model(
        **{"network": model.network, "likelihood": model.likelihood, "prior": model.prior} | parts
    )
    return estimator


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: regressor().set_params(likelihood=Own()), "likelihood holds .*Own.*pickle"),
        (lambda: own(likelihood=Own()), "posterior/model/likelihood holds .*Own.*pickle"),
        (
            lambda: own(network=mirth.networks.FunctionalNetwork(lambda k, x: x, lambda p, x: x)),
            "posterior/model/network/init holds <function",
        ),
        (lambda: type("Mine", (BNNRegressor,), {})(), "the estimator is a Mine; only BNNReg"),
        (
            lambda: classifier(np.array(["2024-01-01", "2024-01-02"], "datetime64[D]")),
            "classes has labels of type datetime64",
        ),
    ],
)
def test_what_cannot_be_saved(tmp_path: Path, make: Callable[[], Any], match: str) -> None:
    estimator = make()
    estimator.posterior_ = getattr(estimator, "posterior_", None)
    with pytest.raises(TypeError, match=match):
        estimator.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_estimator_that_is_not_fitted(tmp_path: Path) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        BNNRegressor().save(tmp_path / "model")


def test_an_older_model_is_replaced_and_nothing_else(copied: Path) -> None:
    regressor().set_params(n_members=77).save(copied)
    assert load(copied).n_members == 77
    table = copied.with_name("table.csv")
    table.write_text("a,b")
    with pytest.raises(FileExistsError, match="no model that mirth has saved"):
        regressor().save(table)
    np.savez(copied.with_name("arrays.npz"), a=np.ones(3))
    with pytest.raises(FileExistsError, match="no model that mirth has saved"):
        regressor().save(copied.with_name("arrays.npz"))
    assert table.read_text() == "a,b"


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        regressor().save(tmp_path)
    with pytest.raises(IsADirectoryError, match=r"model\.mirth"):
        load(tmp_path)
    regressor().save(tmp_path / "new" / "folder" / "model")
    assert isinstance(load(tmp_path / "new" / "folder" / "model"), BNNRegressor)
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        regressor().save(tmp_path / "file" / "model")


def test_full_disk_keeps_the_old_file(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = copied.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        regressor().set_params(n_members=77).save(copied)
    assert copied.read_bytes() == before
    assert list(copied.parent.iterdir()) == [copied]


def test_missing_file(copied: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*modle.*Did you mean .*model\.mirth"):
        load(copied.with_name("modle.mirth"))


def test_damaged_members_are_noticed(copied: Path) -> None:
    """One flipped bit in any member is noticed, and so is a file that is cut."""
    whole = copied.read_bytes()
    with zipfile.ZipFile(copied) as archive:
        members = archive.infolist()
    for member in members:
        content = bytearray(whole)
        at = member.header_offset + 30 + len(member.filename) + member.file_size // 2
        content[at] ^= 1
        copied.write_bytes(bytes(content))
        with pytest.raises(ValueError, match=r"model\.mirth is damaged"):
            load(copied)
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        copied.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged.*no model that mirth has saved, or was cut"):
            load(copied)


@pytest.mark.parametrize("kind", ["text", "npy", "npz", "pickle"])
def test_something_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model"
    with open(path, "wb") as file:
        writers: dict[str, Callable[[], Any]] = {
            "text": lambda: file.write(b"a,b\n1,2\n"),
            "npy": lambda: np.save(file, np.ones(3)),
            "npz": lambda: np.savez(file, a=np.ones(3)),
            "pickle": lambda: pickle.dump({"a": 1}, file),
        }
        writers[kind]()
    with pytest.raises(ValueError, match="no model that mirth has saved"):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update({"class": "os.system"}),
        lambda m: m.update(parameters={"unknown": 1}),
        lambda m: m.update(fitted=None),
        lambda m: m["fitted"].update(verdicts_=[{"enum": "ChainVerdict", "member": "HAPPY"}]),
        lambda m: m["fitted"]["posterior_"].update(object="os.system"),
        lambda m: m["fitted"]["x_scaler_"]["fields"].update(mean={"array": "?", "dtype": "<f8"}),
    ],
)
def test_damaged_manifest_is_named(copied: Path, change: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json in .* is damaged"):
        load(rewritten(copied, change))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.update(schema_version=99, mirth_version="7.1"), "99, .*install mirth 7.1"),
        (lambda m: m.update(format="mirth run"), "holds a mirth run, but a mirth model is needed"),
        (lambda m: ["no", "marker"], "not the JSON that mirth has written"),
    ],
)
def test_other_kinds_and_versions(copied: Path, change: Callable[[Any], Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(rewritten(copied, change))
