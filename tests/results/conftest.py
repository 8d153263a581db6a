"""Shared by the tests of results: small tables, short runs of infer on tables, images and trees."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.data import Standardizer
from mirth.inference import Placement

START = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=20, batch_size=16)
SHORT = mirth.MILE(n_warmup=100, n_samples=20, n_thinning=2, start=START)


def infer(model: mirth.Model, x: Any, y: Any, method: Any = SHORT, **options: Any) -> Any:
    placement = Placement(tuple(jax.local_devices()[:2]), sequential=True)
    data = mirth.Dataset(x, y)
    grouped = in_groups(options, placement=placement)
    return mirth.infer(model, data, method, num_chains=2, **grouped)


@pytest.fixture(scope="session")
def table() -> tuple[np.ndarray, np.ndarray]:
    """120 rows, two columns of different units, a target in units of its own."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(120, 2))
    y = 50 + 3 * (np.sin(z[:, 0]) + 0.5 * z[:, 1] + 0.1 * rng.normal(size=120))
    return z * [1.0, 1000.0] + [0.0, 5000.0], y


@pytest.fixture(scope="session")
def scalers(table: tuple[np.ndarray, np.ndarray]) -> tuple[Standardizer, Standardizer]:
    """Scalings of inputs and targets by the first 80 rows, which are fitted."""
    return Standardizer.fit(table[0][:80]), Standardizer.fit(table[1][:80])


@pytest.fixture(scope="session")
def scaled(table: Any, scalers: Any) -> tuple[np.ndarray, np.ndarray]:
    return scalers[0].transform(table[0]), scalers[1].transform(table[1])


@pytest.fixture(scope="session")
def labels(scaled: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Three classes that overlap."""
    noise = np.random.default_rng(1).normal(size=120)
    return np.digitize(scaled[1] + 0.5 * noise, [-0.4, 0.4])


@pytest.fixture(scope="session")
def numbers(scaled: tuple[np.ndarray, np.ndarray]) -> mirth.Posterior:
    """A regression by MILE."""
    model = mirth.Model(mirth.MLP((6,), num_outputs=2), mirth.Normal())
    return infer(model, scaled[0][:80], scaled[1][:80])


@pytest.fixture(scope="session")
def classes(scaled: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> mirth.Posterior:
    """A classification by MILE."""
    model = mirth.Model(mirth.MLP((6,), num_outputs=3), mirth.Categorical(num_classes=3))
    return infer(model, scaled[0][:80], labels[:80])


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(40, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="session")
def images(pixels: np.ndarray) -> mirth.Posterior:
    """Images, by a network of mirth."""
    network = mirth.networks.LeNet(
        num_outputs=2, channels=(2, 2), kernel_size=3, hidden_layer_sizes=(4,)
    )
    model = mirth.Model(network, mirth.Categorical(num_classes=2))
    return infer(model, pixels, (pixels.mean(axis=(1, 2, 3)) > 0).astype(int), START)


@pytest.fixture(scope="session")
def trees() -> tuple[mirth.Posterior, dict[str, np.ndarray], np.ndarray]:
    """Two inputs, one of them whole numbers that are looked up, by plain functions."""

    def init(key: Any, x: Any) -> Any:
        return {"w": jax.random.normal(key, (3, 2)), "table": jnp.zeros((4, 2))}

    def apply(params: Any, x: Any) -> Any:
        return x["real"] @ params["w"] + params["table"][x["kind"][:, 0]]

    rng = np.random.default_rng(3)
    x = {
        "real": rng.normal(size=(40, 3)).astype(np.float32),
        "kind": rng.integers(0, 4, size=(40, 1)).astype(np.int32),
    }
    y = x["real"][:, 0] + x["kind"][:, 0]
    model = mirth.Model(mirth.networks.FunctionalNetwork(init, apply), mirth.Normal())
    data = mirth.Dataset(x, y, integer_inputs=True)
    return mirth.infer(model, data, START, num_chains=2), x, y


@pytest.fixture(scope="session")
def equinox(scaled: tuple[np.ndarray, np.ndarray]) -> mirth.Posterior:
    network = mirth.networks.EquinoxNetwork(lambda key: eqx.nn.MLP(2, 2, 4, 1, key=key))
    model = mirth.Model(network, mirth.Normal())
    return infer(model, scaled[0][:80], scaled[1][:80], START)


def predictive(posterior: mirth.Posterior, x: Any, **options: Any) -> Any:
    return mirth.make_predictive(posterior.model, posterior.draws, x, **options)


def estimator_of(
    posterior: mirth.Posterior, scalers: tuple[Standardizer, Standardizer], **fitted: Any
) -> Any:
    """Give the draws to an estimator, as if it had fitted them."""
    is_classes = posterior.model.likelihood.has_classes
    estimator: Any = (mirth.BNNClassifier if is_classes else mirth.BNNRegressor)((6,))
    estimator.posterior_, estimator.model_ = posterior, posterior.model
    estimator.x_scaler_, estimator.seed_, estimator.n_features_in_ = scalers[0], 7, 2
    estimator._diagnostic_rows, estimator._diagnostics = np.zeros((3, 2), np.float32), None
    if is_classes:
        estimator.classes_ = np.arange(3)
    else:
        estimator.y_scaler_ = scalers[1]
    for name, value in fitted.items():
        setattr(estimator, name, value)
    return estimator
