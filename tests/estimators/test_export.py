"""Exported programs give what the estimators give, in a process that has JAX but no mirth."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import export as jax_export

import mirth
from mirth.data import Standardizer
from mirth.estimators import BNNClassifier, BNNRegressor

pytestmark = pytest.mark.usefixtures("unoptimised")

ROWS = 7
ALONE = """
import sys
for name in ("mirth", "sklearn", "equinox", "optax"):
    sys.modules[name] = None  # importing it is an error from now on
import jax, numpy as np
from jax import export
folder = sys.argv[1]
X = np.load(f"{folder}/X.npy")
results = {}
for kind in ("regressor", "classifier"):
    with open(f"{folder}/{kind}.stablehlo", "rb") as file:
        program = export.deserialize(bytearray(file.read()))
    assert set(program.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    results |= program.call(X)
    assert all(len(value) == 3 for value in program.call(X[:3]).values())
np.savez(f"{folder}/results.npz", **results)
"""


@pytest.fixture(scope="module")
def X(table: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return table[0][:ROWS].astype(np.float32)


@pytest.fixture(scope="module")
def small(regressor: BNNRegressor, classifier: BNNClassifier) -> tuple[BNNRegressor, BNNClassifier]:
    """One with draws in 16 bits, one as it was fitted."""
    return regressor.compress(4), classifier


def check(
    found: dict[str, np.ndarray], small: tuple[BNNRegressor, BNNClassifier], X: np.ndarray
) -> None:
    reg, clf = small
    mean, std = reg.predict(X, return_std=True)
    # The programs average in float32: some roundings of the target's scale.
    close = {"atol": 1e-5 * float(reg.y_scaler_.scale[0]), "rtol": 1e-6}
    np.testing.assert_allclose(found["mean"], mean, **close)
    np.testing.assert_allclose(found["std"], std, **close)
    np.testing.assert_allclose(found["quantiles"], reg.predict_quantiles(X, [0.1, 0.9]), **close)
    np.testing.assert_allclose(found["probabilities"], clf.predict_proba(X), atol=1e-6)


def test_stablehlo_runs_without_mirth(
    small: tuple[BNNRegressor, BNNClassifier], X: np.ndarray, tmp_path: Path
) -> None:
    small[0].export(tmp_path / "regressor.stablehlo", quantiles=[0.1, 0.9])
    small[1].export(tmp_path / "new" / "classifier.stablehlo")
    (tmp_path / "new" / "classifier.stablehlo").rename(tmp_path / "classifier.stablehlo")
    np.save(tmp_path / "X.npy", X)
    command = [sys.executable, "-c", ALONE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    check(dict(np.load(tmp_path / "results.npz")), small, X)


@pytest.mark.slow  # the converter takes 20 seconds to import
def test_onnx(small: tuple[BNNRegressor, BNNClassifier], X: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    small[0].export(tmp_path / "regressor.onnx", quantiles=[0.1, 0.9])
    small[1].export(tmp_path / "classifier.onnx")
    found: dict[str, np.ndarray] = {}
    for kind in ("regressor", "classifier"):
        session = runtime.InferenceSession(str(tmp_path / f"{kind}.onnx"))
        names = [output.name for output in session.get_outputs()]
        found |= dict(zip(names, session.run(None, {"x": X}), strict=True))
        assert len(session.run(None, {"x": X[:3]})[0]) == 3
    check(found, small, X)


def test_missing_converter(
    regressor: BNNRegressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"mirth\[onnx\]"):
        regressor.export(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_bad_input(regressor: BNNRegressor, classifier: BNNClassifier, tmp_path: Path) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        BNNRegressor().export(tmp_path / "a.stablehlo")
    with pytest.raises(ValueError, match=r"must end in \.stablehlo or \.onnx"):
        classifier.export(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"quantiles=\[1.5\]"):
        regressor.export(tmp_path / "a.stablehlo", quantiles=[1.5])
    (tmp_path / "b.stablehlo").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        regressor.export(tmp_path / "b.stablehlo")


def test_other_likelihoods(regressor: BNNRegressor, tmp_path: Path) -> None:
    """Several targets have a last axis; quantiles that need SciPy are refused by name."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, regressor.n_features_in_))

    def variant(likelihood: Any, num_targets: int) -> BNNRegressor:
        """The same estimator with another likelihood and random weights."""
        other = copy.copy(regressor)
        network = mirth.MLP((3,), num_outputs=likelihood.num_outputs)
        other.model_ = mirth.Model(network, likelihood)
        keys = jax.random.split(jax.random.key(0), (2, 3))
        draws = jax.vmap(jax.vmap(lambda key: other.model_.init(key, x)))(keys)
        other.posterior_ = dataclasses.replace(
            other.posterior_, model=other.model_, draws=jax.tree.map(np.asarray, draws)
        )
        other.y_scaler_ = Standardizer(
            np.arange(num_targets, dtype=float) * 0, np.ones(num_targets)
        )
        return other

    two = variant(mirth.likelihoods.Independent((mirth.Normal(), mirth.likelihoods.Laplace())), 2)
    two.export(tmp_path / "two.stablehlo", quantiles=(0.1, 0.9))
    program = jax_export.deserialize(bytearray((tmp_path / "two.stablehlo").read_bytes()))
    found = program.call(np.float32(x))
    dist = two.predict_dist(x)
    np.testing.assert_allclose(found["mean"], dist.mean(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["std"], dist.std(), rtol=1e-4)
    np.testing.assert_allclose(found["quantiles"], dist.quantile([0.1, 0.9]), rtol=1e-3, atol=1e-3)

    gamma = variant(mirth.likelihoods.Gamma(), 1)
    with pytest.raises(ValueError, match="need SciPy, .* give quantiles="):
        gamma.export(tmp_path / "gamma.stablehlo")
    gamma.export(tmp_path / "gamma.stablehlo", quantiles=())
    assert (tmp_path / "gamma.stablehlo").exists()
