"""Programs of posteriors: what they give is what the predictive distribution says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import export as jax_export

import mirth
from mirth.data import Standardizer
from mirth.results import compress, export

from .conftest import START, estimator_of, infer, predictive

pytestmark = pytest.mark.usefixtures("unoptimised")

# The programs average in float32; quantiles are roots to some roundings.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def called(path: Path, x: Any) -> dict[str, np.ndarray]:
    program = jax_export.deserialize(bytearray(path.read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    return {name: np.asarray(values) for name, values in program.call(x).items()}


def assert_any_number_of_rows(path: Path, x: Any) -> None:
    few, found = called(path, jax.tree.map(lambda leaf: leaf[:3], x)), called(path, x)
    for name, values in few.items():
        np.testing.assert_allclose(values, found[name][:3], rtol=1e-5, atol=1e-6)


def test_scaled_table(numbers: mirth.Posterior, scaled: Any, tmp_path: Path) -> None:
    path, dist = tmp_path / "new" / "model.stablehlo", predictive(numbers, scaled[0])
    export(numbers, path, 2)
    found = called(path, scaled[0])
    np.testing.assert_allclose(found["mean"], dist.mean(), **CLOSE)
    np.testing.assert_allclose(found["std"], dist.std(), **CLOSE)
    np.testing.assert_allclose(found["quantiles"], dist.quantile([0.05, 0.5, 0.95]), **CLOSE)
    assert_any_number_of_rows(path, scaled[0])
    content = path.read_bytes()
    export(numbers, path, scaled[0].astype(np.float64))  # rows say the same as their number
    np.testing.assert_array_equal(called(path, scaled[0])["mean"], found["mean"])
    export(numbers, path, 2, quantiles=(0.1,))
    assert called(path, scaled[0])["quantiles"].shape == (120, 1) and path.read_bytes() != content
    export(numbers, path, 2, quantiles=())
    assert set(called(path, scaled[0])) == {"mean", "std"}


@pytest.fixture(scope="module")
def heavy_tails(scaled: Any) -> mirth.Posterior:
    model = mirth.Model(mirth.MLP((2,), num_outputs=2), mirth.likelihoods.StudentT())
    return infer(model, scaled[0][:80], scaled[1][:80], START)


def test_quantiles_of_a_likelihood_without_closed_ones(
    heavy_tails: mirth.Posterior, scaled: Any, tmp_path: Path
) -> None:
    export(heavy_tails, tmp_path / "a.stablehlo", 2, quantiles=(0.01, 0.6))
    found = called(tmp_path / "a.stablehlo", scaled[0])
    expected = predictive(heavy_tails, scaled[0]).quantile([0.01, 0.6])
    np.testing.assert_allclose(found["quantiles"], expected, **CLOSE)


def test_units_of_inputs_and_targets(
    numbers: mirth.Posterior, table: Any, scaled: Any, scalers: Any, tmp_path: Path
) -> None:
    """The program of an estimator with these draws gives the same bits."""
    units = {"shift": scalers[1].mean[0], "scale": scalers[1].scale[0]}
    export(numbers, tmp_path / "a.stablehlo", 2, x_scaler=scalers[0], **units)
    x = table[0].astype(np.float32)
    found = called(tmp_path / "a.stablehlo", x)
    dist = predictive(numbers, scaled[0], **units)
    np.testing.assert_allclose(found["mean"], dist.mean(), rtol=1e-4)
    np.testing.assert_allclose(found["std"], dist.std(), rtol=1e-3)
    export(numbers, tmp_path / "b.stablehlo", 2, **units)
    other = called(tmp_path / "b.stablehlo", scaled[0])
    np.testing.assert_allclose(other["mean"], found["mean"], rtol=1e-4)
    estimator_of(numbers, scalers).export(tmp_path / "c.stablehlo")
    for name, values in called(tmp_path / "c.stablehlo", x).items():
        np.testing.assert_array_equal(values, found[name])


def test_classes(
    classes: mirth.Posterior, table: Any, scaled: Any, scalers: Any, tmp_path: Path
) -> None:
    export(classes, tmp_path / "a.stablehlo", 2, x_scaler=scalers[0])
    found = called(tmp_path / "a.stablehlo", table[0].astype(np.float32))
    dist = predictive(classes, scaled[0])
    np.testing.assert_allclose(found["probabilities"], dist.probabilities(), atol=1e-4)
    estimator_of(classes, scalers).export(tmp_path / "b.stablehlo")
    other = called(tmp_path / "b.stablehlo", table[0].astype(np.float32))
    np.testing.assert_array_equal(other["probabilities"], found["probabilities"])


def test_images(images: mirth.Posterior, pixels: np.ndarray, tmp_path: Path) -> None:
    export(images, tmp_path / "a.stablehlo", pixels)
    found = called(tmp_path / "a.stablehlo", pixels)["probabilities"]
    np.testing.assert_allclose(found, predictive(images, pixels).probabilities(), atol=1e-5)
    assert_any_number_of_rows(tmp_path / "a.stablehlo", pixels)
    # The last axis of an image are its channels.
    scaler = Standardizer(np.array([2.0]), np.array([3.0]))
    small, _ = compress(images, 1, x=pixels, dtype="bfloat16")
    export(small, tmp_path / "b.stablehlo", pixels[:1], x_scaler=scaler)
    found = called(tmp_path / "b.stablehlo", 3 * pixels + 2)["probabilities"]
    np.testing.assert_allclose(found, predictive(small, pixels).probabilities(), atol=1e-4)


@pytest.mark.slow
def test_several_inputs_and_other_libraries(
    trees: Any, equinox: mirth.Posterior, scaled: Any, tmp_path: Path
) -> None:
    for k, (posterior, x) in enumerate([trees[:2], (equinox, scaled[0])]):
        export(posterior, tmp_path / f"{k}.stablehlo", x)
        found = called(tmp_path / f"{k}.stablehlo", x)
        np.testing.assert_allclose(found["mean"], predictive(posterior, x).mean(), **CLOSE)
    assert_any_number_of_rows(tmp_path / "0.stablehlo", trees[1])


def test_a_network_that_counts_its_rows(scaled: Any, tmp_path: Path) -> None:
    def apply(params: Any, x: Any) -> Any:
        return x @ params["w"] * (1.0 if int(x.shape[0]) > 0 else 2.0)

    network = mirth.networks.FunctionalNetwork(
        lambda key, x: {"w": jax.random.normal(key, (x.shape[1], 2))}, apply
    )
    posterior = infer(mirth.Model(network, mirth.Normal()), scaled[0], scaled[1], START)
    with pytest.raises(ValueError, match="cannot be traced with a free number of rows.*JAX says"):
        export(posterior, tmp_path / "a.stablehlo", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # the converter takes 20 seconds to import
def test_onnx(
    numbers: mirth.Posterior,
    heavy_tails: mirth.Posterior,
    images: mirth.Posterior,
    scaled: Any,
    pixels: Any,
    tmp_path: Path,
) -> None:
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    for posterior, x in ((numbers, scaled[0]), (heavy_tails, scaled[0]), (images, pixels)):
        export(posterior, tmp_path / "a.onnx", x)
        session = runtime.InferenceSession(str(tmp_path / "a.onnx"))
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, {"x": x}), strict=True))
        dist = predictive(posterior, x)
        if posterior is not images:
            np.testing.assert_allclose(found["mean"], dist.mean(), **CLOSE)
            quantiles = dist.quantile([0.05, 0.5, 0.95])
            np.testing.assert_allclose(found["quantiles"], quantiles, **CLOSE)
        else:
            np.testing.assert_allclose(found["probabilities"], dist.probabilities(), atol=1e-5)


def test_bad_input(
    numbers: Any, classes: Any, trees: Any, equinox: Any, scaled: Any, scalers: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.stablehlo"
    cases: list[tuple[type, Any, tuple, dict[str, Any], str]] = [
        (TypeError, estimator_of(numbers, scalers), (path, 2), {}, "is a BNNRegressor; call"),
        (ValueError, numbers, (tmp_path / "a.pt", 2), {}, r"must end in \.stablehlo or \.onnx"),
        (IsADirectoryError, numbers, (tmp_path / "b.stablehlo", 2), {}, "is a folder"),
        (ValueError, numbers, (path, 3), {}, "does not fit the network"),
        (ValueError, equinox, (path, 3), {}, "does not fit the network"),
        (ValueError, numbers, (path, 0), {}, "x=0 must be at least 1"),
        (TypeError, numbers, (path, "two"), {}, "x='two' must be an integer"),
        (ValueError, numbers, (path, np.zeros(2)), {}, r"x has shape \(2,\)"),
        (ValueError, numbers, (path, np.array([["a", "b"]])), {}, "x has the type <U1"),
        (TypeError, numbers, (path, 2), {"x_scaler": 3.0}, "must be a mirth.data.Standardizer"),
        (ValueError, numbers, (path, 2), {"x_scaler": scalers[1]}, r"x_scaler is of 1 column\(s\)"),
        (ValueError, trees[0], (path, trees[1]), {"x_scaler": scalers[0]}, "x_scaler is for one"),
        (ValueError, numbers, (path, 2), {"scale": 0.0}, r"scale=0\.0 must be"),
        (ValueError, numbers, (path, 2), {"shift": [1.0, 2.0]}, "shift has shape"),
        (ValueError, classes, (path, 2), {"quantiles": (0.5,)}, "quantiles is for numbers"),
        (ValueError, classes, (path, 2), {"shift": 1.0}, "shift is for numbers"),
        (ValueError, classes, (path, 2), {"scale": 2.0}, "scale is for numbers"),
        (ValueError, trees[0], (tmp_path / "a.onnx", trees[1]), {}, "kind: int32, real: float32"),
    ]  # fmt: skip
    (tmp_path / "b.stablehlo").mkdir()
    for kind, posterior, arguments, options, text in cases:
        with pytest.raises(kind, match=text):
            export(posterior, *arguments, **options)
    assert [file.name for file in tmp_path.iterdir()] == ["b.stablehlo"]


def test_missing_converter(numbers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"mirth\[onnx\]"):
        export(numbers, tmp_path / "model.onnx", 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # that an estimator refuses them always runs
def test_quantiles_that_need_scipy(numbers: Any, scaled: Any, tmp_path: Path) -> None:
    model = mirth.Model(mirth.MLP((2,), num_outputs=2), mirth.likelihoods.Gamma())
    posterior = infer(model, scaled[0], np.exp(scaled[1]), START)
    with pytest.raises(ValueError, match=r"need SciPy, .* give quantiles=\(\)"):
        export(posterior, tmp_path / "a.stablehlo", 2)
    export(posterior, tmp_path / "a.stablehlo", 2, quantiles=(), scale=2.0)
    found = called(tmp_path / "a.stablehlo", scaled[0])
    dist = predictive(posterior, scaled[0], scale=2.0)
    np.testing.assert_allclose(found["mean"], dist.mean(), **CLOSE)
    np.testing.assert_allclose(found["std"], dist.std(), **CLOSE)
