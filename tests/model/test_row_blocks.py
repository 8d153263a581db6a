"""Sums over blocks of rows: the same numbers in less memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from mirth.core.types import Batch
from mirth.model import (
    MLP,
    Categorical,
    FunctionalNetwork,
    HomoscedasticNormal,
    LeNet,
    Model,
    Normal,
    activation_bytes,
    in_row_blocks,
)
from mirth.model.row_blocks import equal_blocks

ROWS = 1000
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(ROWS, 3)), jnp.float32)
Y = jnp.asarray(RNG.normal(size=ROWS), jnp.float32)


def built(network: Any, likelihood: Any) -> tuple[Model, Any]:
    model = Model(network, likelihood)
    rng = np.random.default_rng(3)
    like = jax.eval_shape(model.init, jax.random.key(0), X)
    return model, jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype) / 2, like)


def summed(model: Model, params: Any, batch: Batch, size: int | None) -> Any:
    return in_row_blocks(model.split_log_likelihood, params, batch, size)[0]


def plain(activation: str, num_outputs: int) -> FunctionalNetwork:
    network = MLP((5,), num_outputs, activation)
    return FunctionalNetwork(network.init, network.apply)


def value_and_gradient(model: Model, params: Any, batch: Batch, size: int | None) -> Any:
    return jax.jit(jax.value_and_grad(lambda p, b: summed(model, p, b, size)))(params, batch)


def assert_same(one: Any, two: Any) -> None:
    # A sum of n terms in float32 is wrong by at most n roundings of 6e-8 of the sum of their sizes;
    # the roundings of a few hundred random terms nearly cancel, and 1e-5 is far above sqrt(n).
    np.testing.assert_allclose(one[0], two[0], rtol=1e-5)
    one, two = ravel_pytree(one[1])[0], ravel_pytree(two[1])[0]
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=2e-5 * np.abs(two).max())


@pytest.mark.parametrize(
    ("size", "is_weighted"),
    [
        pytest.param(size, is_weighted, marks=marks)
        for size in (1, 7, 100, 333, 999)
        for is_weighted in (False, True)
        for marks in [[] if (size, is_weighted) in ((7, True), (333, False)) else pytest.mark.slow]
    ],
)
def test_blocks_give_the_value_and_the_gradient_of_all_rows(
    size: int, is_weighted: bool, unoptimised: None
) -> None:
    model, params = built(MLP((5,), 2, "tanh"), Normal())
    weights = jnp.asarray(RNG.uniform(0, 2, ROWS), jnp.float32) if is_weighted else None
    batch = Batch(X, Y, weights)
    whole = value_and_gradient(model, params, batch, None)
    assert_same(value_and_gradient(model, params, batch, size), whole)
    without_gradient = summed(model, params, batch, size)
    np.testing.assert_allclose(without_gradient, whole[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "likelihood", "y"),
    [
        (MLP((5,), 2, "relu"), Normal(), Y),  # the compiled kernel, where it can be had
        pytest.param(MLP((5,), 1, "gelu"), HomoscedasticNormal(), Y, marks=pytest.mark.slow),
        pytest.param(plain("tanh", 2), Normal(), Y, marks=pytest.mark.slow),
        (plain("relu", 3), Categorical(num_classes=3), jnp.arange(ROWS) % 3),
    ],
)
def test_any_network_and_likelihood(
    network: Any, likelihood: Any, y: Any, unoptimised: None
) -> None:
    model, params = built(network, likelihood)
    batch = Batch(X, y)
    whole = value_and_gradient(model, params, batch, None)
    assert_same(value_and_gradient(model, params, batch, 300), whole)


def test_members_as_one_vectorised_program() -> None:
    model, params = built(plain("tanh", 2), Normal())
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    one, two = (
        jax.jit(jax.vmap(jax.grad(lambda p, s=size: summed(model, p, Batch(X, Y), s))))(members)
        for size in (300, None)
    )
    assert_same((0.0, one), (0.0, two))


def test_rows_that_fit_into_one_block_are_taken_as_they_are() -> None:
    model, params = built(MLP((5,), 2, "tanh"), Normal())

    def program(size: int | None) -> str:
        sums = lambda p: summed(model, p, Batch(X, Y), size)  # noqa: E731
        return str(jax.make_jaxpr(sums)(params))

    assert program(ROWS) == program(ROWS + 1) == program(None)
    assert program(ROWS - 1) != program(None)


def test_the_network_is_traced_for_one_block_only() -> None:
    shapes = []

    def apply(params: Any, x: Any) -> Any:
        shapes.append(x.shape)
        return x @ params

    model, params = built(FunctionalNetwork(lambda key, x: jnp.ones((3, 2)), apply), Normal())
    shapes.clear()
    value_and_gradient(model, params, Batch(X, Y), 300)
    assert set(shapes) == {equal_blocks(ROWS, 300)[1:] + (3,)} == {(256, 3)}


def test_a_row_that_is_not_finite_is_not_lost() -> None:
    model, params = built(MLP((5,), 2, "tanh"), Normal())
    for row in (0, 500, ROWS - 1):
        value, _ = value_and_gradient(model, params, Batch(X, Y.at[row].set(jnp.nan)), 300)
        assert np.isnan(value)


def test_blocks_cover_all_rows_once_and_are_no_larger_than_asked_for() -> None:
    for size in range(1, 130):
        for num_rows in {size + 1, 2 * size, 2 * size + 1, 1000} - {1, size}:
            num_blocks, rows = equal_blocks(num_rows, size)
            assert rows <= size
            assert num_blocks * rows >= num_rows > (num_blocks - 1) * rows


def temporary_bytes(model: Model, params: Any, num_rows: int, size: int | None) -> int:
    # Stored as chains have them, features first.
    x, y = jnp.ones((9, num_rows)), jnp.ones(num_rows)
    program = jax.jit(lambda p, x, y: jax.grad(lambda q: summed(model, q, Batch(x.T, y), size))(p))
    return program.lower(params, x, y).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    ("activation", "kernel"),
    [("relu", "auto"), pytest.param("silu", "auto", marks=pytest.mark.slow), ("tanh", "off")],
)
def test_memory_does_not_grow_with_the_rows(
    monkeypatch: pytest.MonkeyPatch, activation: str, kernel: str
) -> None:
    monkeypatch.setenv("MIRTH_CPU_KERNEL", kernel)
    network = MLP((16, 16, 16), 2, activation)
    model = Model(network, Normal())
    params = model.init(jax.random.key(0), jnp.ones((1, 9)))
    whole, large = (temporary_bytes(model, params, n, None) for n in (10_000, 40_000))
    assert large > 3.5 * whole
    # The numbers of rows are multiples of the block, so that both have the same blocks.
    few, many = (temporary_bytes(model, params, n, 2000) for n in (10_000, 40_000))
    # But for the sum of each block, with a copy: 20 in place of 5.
    assert few <= many <= few + 2 * 4 * 15 and many < whole / 4


@pytest.mark.parametrize(
    ("way", "hidden"),
    [
        ("built in", (64, 64)),
        ("two functions", (16, 16, 16)),
        pytest.param("built in", (16, 16, 16), marks=pytest.mark.slow),
        pytest.param("two functions", (64, 64), marks=pytest.mark.slow),
    ],
)
def test_the_estimate_of_activations_is_what_the_compiler_says(hidden: Any, way: str) -> None:
    network: Any = MLP(hidden, 2)
    if way == "two functions":
        network = FunctionalNetwork(network.init, network.apply)
    model, num_rows = Model(network, Normal()), 20_000
    batch = Batch(jnp.ones((num_rows, 9)), jnp.ones(num_rows))
    params = model.init(jax.random.key(0), batch.x)
    estimate = num_rows * activation_bytes(model, params, batch)
    actual = temporary_bytes(model, params, num_rows, None)
    assert actual / 1.5 < estimate < 1.5 * actual


def test_the_estimate_of_activations_sees_into_inner_programs() -> None:
    def apply(params: Any, x: Any) -> Any:
        return jax.jit(lambda w, x: x @ w)(params, x)

    model, params = built(FunctionalNetwork(lambda key, x: jnp.ones((3, 2)), apply), Normal())
    assert activation_bytes(model, params, Batch(X, Y)) == 4 * (3 + 2)


def test_images_go_through_in_blocks() -> None:
    network = LeNet(num_outputs=3, channels=(3, 4), kernel_size=3, hidden_layer_sizes=(8,))
    model = Model(network, Categorical(num_classes=3))
    x = jnp.asarray(RNG.normal(size=(50, 8, 8, 1)), jnp.float32)
    batch = Batch(x, jnp.arange(50) % 3, jnp.linspace(0, 1, 50))
    params = model.init(jax.random.key(0), x)
    whole = value_and_gradient(model, params, batch, None)
    for size in (7, 32):
        assert_same(value_and_gradient(model, params, batch, size), whole)
    # Pixels and both sides of two convolutions (8 x 8 and 4 x 4) and of two dense layers.
    expected = (64 + 64 * 3) + (16 * 3 + 4 * 4) + (4 + 8) + (8 + 3)
    assert activation_bytes(model, params, batch) == 4 * expected
