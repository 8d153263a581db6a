"""Built-in networks for images."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mirth
from mirth.model.resnet import filter_response_norm

pytestmark = pytest.mark.usefixtures("unoptimised")

TINY = mirth.networks.LeNet(num_outputs=3, channels=(4, 6), kernel_size=3, hidden_layer_sizes=(12,))
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def images(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def like(network: Any, x: Any) -> Any:
    return jax.eval_shape(network.init, jax.random.key(0), x)


@pytest.mark.parametrize(
    ("network", "shape", "expected"),
    [
        (mirth.networks.LeNet(), (28, 28, 1), 61_706),
        (mirth.networks.ResNet7(sample_epsilon=True), (32, 32, 3), 428_272),
        (mirth.networks.ResNet7(), (32, 32, 3), 428_272 - 6),
        # Convolutions, bias of each; gamma, beta and tau of 17 units; gamma and beta of 3
        # shortcuts; the last layer.
        (mirth.networks.ResNet18(), (32, 32, 3), 11_159_232 + 4_800 + 3 * 3_904 + 2 * 896 + 5_130),
    ],
)
def test_numbers_of_parameters(network: Any, shape: tuple[int, ...], expected: int) -> None:
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params = like(network, x)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    assert jax.eval_shape(network.apply, params, x).shape == (2, 10)


def test_the_normalisation_is_the_formula() -> None:
    x, gamma, beta = RNG.normal(size=(2, 3, 5, 4)), RNG.normal(size=4), RNG.normal(size=4)
    for epsilon in (0.3, -0.3):
        expected = np.empty_like(x)
        for i in range(2):
            for c in range(4):
                square = sum(x[i, h, w, c] ** 2 for h in range(3) for w in range(5)) / 15
                expected[i, :, :, c] = gamma[c] * x[i, :, :, c] / math.sqrt(square + 0.3) + beta[c]
        ours = filter_response_norm(jnp.asarray(x), jnp.asarray(gamma), jnp.asarray(beta), epsilon)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_a_unit_is_a_convolution_normalised_and_cut_off() -> None:
    network = mirth.networks.ResNet7()
    layer = {
        "kernel": jnp.zeros((3, 3, 1, 1)).at[1, 1].set(2.0),
        "bias": jnp.ones(1),
        "gamma": jnp.full(1, 3.0),
        "beta": jnp.full(1, 0.5),
        "tau": jnp.full(1, 0.2),
    }
    x = images(1, 4, 4, 1)
    h = 2 * np.asarray(x) + 1
    expected = np.maximum(3 * h / np.sqrt((h**2).mean() + 1e-6) + 0.5, 0.2)
    np.testing.assert_allclose(network.unit(layer, x), expected, rtol=1e-5)


def linen_convolution(layer: Any, x: Any, padding: str = "SAME", stride: int = 1) -> Any:
    size, channels = layer["kernel"].shape[0], layer["kernel"].shape[-1]
    convolution = nn.Conv(channels, (size, size), strides=stride, padding=padding)
    return convolution.apply({"params": {"kernel": layer["kernel"], "bias": layer["bias"]}}, x)


def linen_unit(layer: Any, x: Any, stride: int = 1, *, is_cut: bool = True) -> Any:
    h = linen_convolution(layer, x, stride=stride)
    h = filter_response_norm(h, layer["gamma"], layer["beta"], 1e-6)
    return jnp.maximum(h, layer["tau"]) if is_cut else h


def lenet(p: Any, x: Any) -> Any:
    h = nn.avg_pool(nn.tanh(linen_convolution(p["conv_0"], x)), (2, 2), (2, 2))
    h = nn.avg_pool(nn.tanh(linen_convolution(p["conv_1"], h, "VALID")), (2, 2), (2, 2))
    h = h.reshape(len(x), -1)
    for name in ("dense_0", "dense_1"):
        h = nn.tanh(h @ p[name]["kernel"] + p[name]["bias"])
    return h @ p["dense_2"]["kernel"] + p["dense_2"]["bias"]


def resnet7(p: Any, x: Any) -> Any:
    h = linen_unit(p["conv_0"], x)
    for name in ("conv_1", "conv_2", "conv_3"):
        h = nn.max_pool(linen_unit(p[name], h), (2, 2), (2, 2))
    inner = linen_unit(p["block_conv_1"], linen_unit(p["block_conv_0"], h), is_cut=False)
    h = jnp.maximum(h + inner, p["block_conv_1"]["tau"])
    return h.mean((1, 2)) @ p["dense"]["kernel"] + p["dense"]["bias"]


def resnet18(p: Any, x: Any) -> Any:
    h = nn.max_pool(linen_unit(p["conv"], x), (3, 3), (2, 2), "SAME")
    for stage in range(4):
        for i in range(2):
            name, stride = f"stage_{stage}_{i}", 2 if stage > 0 and i == 0 else 1
            inner = linen_unit(p[f"{name}_conv_0"], h, stride)
            inner = linen_unit(p[f"{name}_conv_1"], inner, is_cut=False)
            if stride == 2:
                h = linen_unit(p[f"{name}_shortcut"], h, 2, is_cut=False)
            h = jnp.maximum(h + inner, p[f"{name}_conv_1"]["tau"])
    return h.mean((1, 2)) @ p["dense"]["kernel"] + p["dense"]["bias"]


@pytest.mark.parametrize(
    ("network", "by_linen", "size"),
    [
        (mirth.networks.LeNet(activation="tanh"), lenet, 28),
        pytest.param(mirth.networks.ResNet7(), resnet7, 17, marks=pytest.mark.slow),
        pytest.param(mirth.networks.ResNet18(), resnet18, 32, marks=pytest.mark.slow),
    ],
)
def test_networks_are_those_put_together_from_the_layers_of_flax(
    network: Any, by_linen: Any, size: int
) -> None:
    x = images(2, size, size, 1)
    params = jax.jit(network.init)(jax.random.key(0), x)
    # Biases, thresholds and so on start at 0 or 1; moved away, each must be in its place.
    leaves, tree = jax.tree.flatten(params)
    moved = [
        leaf + 0.1 * jnp.asarray(RNG.normal(size=leaf.shape)) * (leaf.ndim < 2) for leaf in leaves
    ]
    params = jax.tree.unflatten(tree, moved)
    expected = jax.jit(by_linen)(params, x)
    np.testing.assert_allclose(jax.jit(network.apply)(params, x), expected, rtol=1e-3, atol=1e-3)


CASES = {
    "lenet": (TINY, (8, 8, 1)),
    "resnet7": (mirth.networks.ResNet7(num_outputs=3, sample_epsilon=True), (16, 16, 2)),
    "resnet18": (mirth.networks.ResNet18(num_outputs=3), (17, 17, 1)),
}


def cases(always: str) -> pytest.MarkDecorator:
    """Give all networks, of which this one is not slow."""
    params = [
        pytest.param(*case, marks=[] if name == always else [pytest.mark.slow], id=name)
        for name, case in CASES.items()
    ]
    return pytest.mark.parametrize(("network", "shape"), params)


@cases("resnet7")
def test_gradients_are_finite_and_rows_do_not_meet(network: Any, shape: tuple[int, ...]) -> None:
    x, y = images(6, *shape), jnp.arange(6) % 3
    model = mirth.Model(network, mirth.Categorical(num_classes=3))
    params = jax.jit(model.init)(jax.random.key(1), x)
    density = jax.jit(jax.value_and_grad(model.log_density))
    value, gradient = density(params, mirth.data.Batch(x, y))
    assert np.isfinite(value)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)
    order = np.array([3, 1, 5, 0, 2, 4])
    apply = jax.jit(network.apply)
    outputs = apply(params["network"], x)
    # Outputs are of order 1: a few hundred roundings of float32.
    np.testing.assert_allclose(
        apply(params["network"], x[order]), outputs[order], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(apply(params["network"], x[:2]), outputs[:2], rtol=1e-4, atol=1e-4)
    assert 0.05 < float(outputs.std()) < 20


@cases("lenet")
def test_a_step_lowers_the_loss(network: Any, shape: tuple[int, ...]) -> None:
    x, y = images(12, *shape), jnp.arange(12) % 3
    batch = mirth.data.Batch(x + y[:, None, None, None], y)
    model = mirth.Model(network, mirth.Categorical(num_classes=3))
    params = jax.jit(model.init)(jax.random.key(1), x)
    loss = jax.jit(jax.value_and_grad(lambda p: -model.log_likelihood(p, batch) / 12))
    before, gradient = loss(params)
    # A step of length 0.001 along the gradient: the loss falls by about that times its norm.
    norm = jnp.linalg.norm(ravel_pytree(gradient)[0])
    after = loss(jax.tree.map(lambda p, g: p - 1e-3 * g / norm, params, gradient))[0]
    assert after < before - 0.25e-3 * norm


def test_pixels_are_normalised_inside() -> None:
    x = images(3, 8, 8, 2)
    mean, std = (0.5, -1.0), (2.0, 0.25)
    plain = mirth.networks.LeNet(channels=(2, 2), kernel_size=3)
    scaled = mirth.networks.LeNet(channels=(2, 2), kernel_size=3, mean=list(mean), std=std)  # type: ignore[arg-type]
    params = jax.jit(plain.init)(KEY, x)
    apply = jax.jit(scaled.apply)
    expected = jax.jit(plain.apply)(params, (x - jnp.array(mean)) / jnp.array(std))
    np.testing.assert_allclose(apply(params, x), expected, rtol=1e-5, atol=1e-6)
    whole = (10 * x).astype(jnp.int32)  # pixels as they come
    np.testing.assert_allclose(apply(params, whole), apply(params, whole.astype(float)), rtol=1e-6)
    assert hash(scaled) == hash(
        mirth.networks.LeNet(channels=(2, 2), kernel_size=3, mean=mean, std=std)
    )


def some_params(network: Any, x: Any) -> Any:
    """Parameters in the shapes of ``init``, without compiling its random numbers."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(network.init, KEY, x)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype) / 4, shapes)


def test_every_option_changes_the_outputs() -> None:
    x = images(3, 16, 16, 1)
    for base, options in (
        (
            mirth.networks.LeNet,
            [{}, {"activation": "relu"}, {"channels": (6, 8)}, {"kernel_size": 3}],
        ),
        (mirth.networks.LeNet, [{}, {"hidden_layer_sizes": (9,)}, {"mean": 1.0}, {"std": 2.0}]),
        (
            mirth.networks.ResNet7,
            [{}, {"epsilon": 0.5}, {"num_outputs": 4}, {"mean": 1.0}, {"std": 2.0}],
        ),
    ):
        networks = [base(**chosen) for chosen in options]
        outputs = [jax.jit(n.apply)(some_params(n, x), x) for n in networks]
        assert len({np.asarray(o).tobytes() for o in outputs}) == len(options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: mirth.networks.LeNet(num_outputs=0), ValueError, "num_outputs=0"),
        (lambda: mirth.networks.LeNet(activation="gelo"), ValueError, "did you mean 'gelu'"),
        (lambda: mirth.networks.LeNet(channels=(6,)), ValueError, "two numbers"),  # type: ignore[arg-type]
        (lambda: mirth.networks.LeNet(std=0.0), ValueError, "std=0.0 must be positive"),
        (lambda: mirth.networks.ResNet7(epsilon=0.0), ValueError, "epsilon=0.0"),
        (lambda: like(mirth.networks.LeNet(), images(2, 28, 28)), ValueError, r"x\[..., None\]"),
        (
            lambda: like(mirth.networks.LeNet(), images(2, 11, 28, 1)),
            ValueError,
            "at least 12 x 12",
        ),
        (
            lambda: like(mirth.networks.ResNet7(), images(2, 15, 15, 1)),
            ValueError,
            "at least 16 x 16",
        ),
        (
            lambda: like(mirth.networks.ResNet18(), images(2, 16, 16, 1)),
            ValueError,
            "at least 17 x 17",
        ),
        (
            lambda: like(mirth.networks.LeNet(mean=(0.1, 0.2)), images(2, 28, 28, 3)),
            ValueError,
            "mean has 2 numbers for images of 3 channels",
        ),
        (lambda: like(mirth.MLP(), images(2, 8, 8, 1)), ValueError, "flatten each row"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
