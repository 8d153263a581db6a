"""Images and the networks of other libraries, from rows to predictions."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flat_arguments import in_groups
from flax import nnx
from jaxtyping import Array
from sklearn.datasets import load_digits

import mirth
from mirth.core.types import Batch
from mirth.inference import Placement
from mirth.inference.rows import features_first, rows_first

pytestmark = pytest.mark.usefixtures("unoptimised")

SHORT = mirth.MILE(
    n_warmup=30,
    n_samples=6,
    n_thinning=1,
    start=mirth.DeepEnsemble(learning_rate=0.01, max_epochs=10, batch_size=32),
)
NETWORK = mirth.networks.LeNet(
    num_outputs=3, channels=(3, 4), kernel_size=3, hidden_layer_sizes=(8,), mean=4.9, std=6.0
)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (data, 8, 8, 1) of the digits 0 to 2."""
    x, y = load_digits(n_class=3, return_X_y=True)
    return x.reshape(-1, 8, 8, 1), y


def infer(model: Any, x: Any, y: Any, **options: Any) -> mirth.Posterior:
    placement = Placement(tuple(jax.local_devices()[:2]), sequential=True)
    return mirth.infer(
        model,
        mirth.Dataset(x, y),
        SHORT,
        num_chains=2,
        **in_groups(options, placement=placement),
    )


@pytest.mark.slow
def test_digits_end_to_end(tmp_path: Any) -> None:
    x, y = digits()
    model = mirth.Model(NETWORK, mirth.Categorical(num_classes=3))
    posterior = infer(model, x[:160], y[:160], out=tmp_path / "run")
    predictive = mirth.make_predictive(model, posterior.draws, x[160:].astype(np.float32))
    probabilities = np.asarray(predictive.probabilities())
    assert probabilities.shape == (len(x) - 160, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    # Three digits are told apart easily; guessing is right in a third of 377 rows, +- 2.4 %.
    assert (probabilities.argmax(axis=1) == y[160:]).mean() > 0.6
    # Taken up again, the run is the same; other pixels are other data.
    again = infer(model, x[:160], y[:160], out=tmp_path / "run")
    np.testing.assert_array_equal(again.positions(), posterior.positions())
    with pytest.raises(Exception, match="data"):
        infer(model, x[1:161], y[1:161], out=tmp_path / "run")


def test_storage_keeps_tables_transposed_and_images_as_they_are() -> None:
    table = Batch(jnp.arange(6.0).reshape(3, 2), jnp.zeros(3))
    images = Batch(jnp.arange(24.0).reshape(3, 2, 2, 2), jnp.zeros(3))
    assert features_first(table)[0].shape == (2, 3)
    assert features_first(images)[0].shape == (3, 2, 2, 2)
    for batch in (table, images):
        np.testing.assert_array_equal(rows_first(features_first(batch)).x, batch.x)


def test_validation_images_of_another_size_are_refused() -> None:
    x, y = digits()
    model = mirth.Model(NETWORK, mirth.Categorical(num_classes=3))
    with pytest.raises(ValueError, match=r"rows of shape \(8, 7, 1\), but dataset has \(8, 8, 1\)"):
        infer(model, x[:60], y[:60], validation=mirth.Dataset(x[60:, :, :7], y[60:]))


class Linen(nn.Module):
    """Convolution, dropout, mean over pixels, dense."""

    @nn.compact
    def __call__(self, x: Array, deterministic: bool = False) -> Array:
        h = nn.relu(nn.Conv(4, (3, 3), strides=2)(x / 16))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=deterministic)(h.reshape(len(x), -1)))


class Nnx(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        h = nnx.relu(self.conv(x / 16))
        return self.dense(self.dropout(h.reshape(len(x), -1)))


class Equinox(eqx.Module):
    """The same, for one image."""

    conv: eqx.nn.Conv2d
    dropout: eqx.nn.Dropout
    dense: eqx.nn.Linear

    def __init__(self, key: Array) -> None:
        first, second = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 3, stride=2, padding=1, key=first)
        self.dropout = eqx.nn.Dropout(0.5)
        self.dense = eqx.nn.Linear(64, 3, key=second)

    def __call__(self, x: Array) -> Array:
        h = jax.nn.relu(self.conv(jnp.moveaxis(x, -1, 0) / 16))
        return self.dense(self.dropout(h.ravel()))


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(mirth.networks.FlaxLinenNetwork(Linen()), marks=pytest.mark.slow),
        mirth.networks.FlaxNnxNetwork(Nnx),
        pytest.param(mirth.networks.EquinoxNetwork(Equinox), marks=pytest.mark.slow),
    ],
    ids=["linen", "nnx", "equinox"],
)
def test_every_adapter_runs_from_images_to_probabilities(network: Any) -> None:
    x, y = digits()
    model = mirth.Model(network, mirth.Categorical(num_classes=3))
    posterior = infer(model, x[:100], y[:100])
    predictive = mirth.make_predictive(model, posterior.draws, x[100:].astype(np.float32))
    assert (np.asarray(predictive.probabilities()).argmax(axis=1) == y[100:]).mean() > 0.6
