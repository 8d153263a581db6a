"""The compiled kernel against the same network by XLA, and what happens where it cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from mirth.model import MLP, Categorical, Normal, cpu_kernel

HAS_COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler on this machine")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process that has not looked for the kernel yet, with an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("MIRTH_CPU_KERNEL", "CXX"):
        monkeypatch.delenv(name, raising=False)
    # Registering a target twice is an error in JAX, and the first registration stays anyway.
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda *args, **kwargs: None)
    cpu_kernel._load.cache_clear()
    yield tmp_path
    cpu_kernel._load.cache_clear()


def with_and_without(monkeypatch, network, likelihood, num_rows, num_features, dtype=np.float32):
    """Value and gradient by the kernel and by XLA."""
    rng = np.random.default_rng(num_rows)
    x = rng.normal(size=(num_rows, num_features)).astype(dtype)
    if likelihood.has_classes:
        y = rng.integers(0, likelihood.num_outputs, size=num_rows)
    else:
        y = rng.normal(size=num_rows).astype(dtype)
    weights = rng.uniform(0.5, 2, size=num_rows).astype(dtype)
    like = jax.eval_shape(network.init, jax.random.key(0), x)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(dtype) / 2, like)
    results = []
    for wish in ("required", "off"):
        monkeypatch.setenv("MIRTH_CPU_KERNEL", wish)
        f = jax.jit(
            jax.value_and_grad(
                lambda p: network.sum_log_likelihood(
                    likelihood, p, jnp.zeros(0, dtype), x, y, weights
                )[0]
            )
        )
        text = f.lower(params).as_text()
        assert ("mirth_mlp_backward" in text) == (wish == "required")
        results.append(f(params))
    return results


def assert_same(kernel, xla, rtol):
    np.testing.assert_allclose(kernel[0], xla[0], rtol=rtol)
    for ours, expected in zip(jax.tree.leaves(kernel[1]), jax.tree.leaves(xla[1]), strict=True):
        assert ours.dtype == expected.dtype
        scale = np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * scale)


SHAPES = [
    ((33, 2, 10), 96, 13),  # every remainder of the tiles
    ((16, 16), 1000, 5),  # whole tiles, several blocks, a last one that is not full
    ((7, 3), 1, 1),  # less than a vector of anything
    ((), 385, 3),  # no hidden layer; one row beyond a block
]


def products() -> list[Any]:
    """Every activation with the first shape, every shape with one; the others are slow."""
    return [
        pytest.param(
            activation, *shape, marks=[] if not i or activation == "relu" else [pytest.mark.slow]
        )
        for activation in cpu_kernel.ACTIVATIONS
        for i, shape in enumerate(SHAPES)
    ]


@needs_compiler
@pytest.mark.parametrize(("activation", "hidden", "num_rows", "num_features"), products())
def test_kernel_is_the_network(monkeypatch, activation, hidden, num_rows, num_features):
    network = MLP(hidden, num_outputs=2, activation=activation)
    pair = with_and_without(monkeypatch, network, Normal(), num_rows, num_features)
    assert_same(*pair, rtol=2e-5)


@needs_compiler
@pytest.mark.parametrize(
    "activation",
    [
        pytest.param(name, marks=[] if name in ("tanh", "softplus") else [pytest.mark.slow])
        for name in cpu_kernel.ACTIVATIONS
    ],
)
def test_kernel_in_double_precision(monkeypatch, activation):
    with jax.enable_x64(True):
        network = MLP((9, 5), num_outputs=3, activation=activation)
        pair = with_and_without(
            monkeypatch, network, Categorical(num_classes=3), 130, 4, np.float64
        )
        assert_same(*pair, rtol=1e-12)


def value_and_slope(activation, z):
    """Value and slope of the kernel's activation, by a network that is nothing else."""
    one, flat, widths = jnp.ones((1, 1)), jnp.array([0.0, 1.0, 0.0, 1.0]), (1, 1, 1)

    def at(z):
        kept, outputs = cpu_kernel.forward(flat, z.reshape(1, 1), widths, activation)
        gradient = cpu_kernel.backward(flat, kept, one, widths, activation)
        return outputs[0, 0], gradient[0]

    return [np.asarray(a) for a in jax.jit(lambda z: jax.lax.map(at, z))(jnp.asarray(z))]


def exact(activation, z):
    """The same in double precision, written so that nothing cancels."""
    z = z.astype(np.float64)
    s, one = expit(z), np.ones_like(z)
    w = np.sqrt(8 / np.pi) * (z + 0.044715 * z**3)
    slope_of_w = np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * z**2)
    negative = np.minimum(z, 0)
    return {
        "relu": (np.maximum(z, 0), z > 0),
        "leaky_relu": (np.where(z < 0, 0.01 * z, z), np.where(z < 0, 0.01, 1)),
        "identity": (z, one),
        "elu": (np.where(z < 0, np.expm1(negative), z), np.exp(negative)),
        "gelu": (z * expit(w), expit(w) + z * expit(w) * expit(-w) * slope_of_w),
        "silu": (z * s, s + z * s * expit(-z)),
        "softplus": (np.logaddexp(0, z), s),
        "tanh": (np.tanh(z), 1 / np.cosh(np.clip(z, -300, 300)) ** 2),
        "sigmoid": (s, s * expit(-z)),
    }[activation]


@needs_compiler
@pytest.mark.parametrize("activation", cpu_kernel.ACTIVATIONS)
def test_activations_are_exact_to_single_precision(monkeypatch, activation):
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "required")
    assert cpu_kernel.status(activation) == "compiled"
    z = np.concatenate([np.linspace(-100, 100, 1001), np.linspace(-4, 4, 1001)])
    small = 10.0 ** -np.arange(1, 30)
    z = np.concatenate([z, small, -small, [0.0, -0.0]]).astype(np.float32)
    value, slope = value_and_slope(activation, z)
    expected_value, expected_slope = exact(activation, z)
    # What is stated: 1.2e-7 of 1 + |z| for values, 2e-6 for slopes.
    assert np.max(np.abs(value - expected_value) / (1 + np.abs(z))) < 1.2e-7 + 2e-8
    assert np.max(np.abs(slope - expected_slope)) < 2e-6
    if activation == "tanh":  # near 0 it is z, to all digits
        np.testing.assert_allclose(value, expected_value, rtol=1e-6, atol=1e-37)


@needs_compiler
@pytest.mark.parametrize("activation", cpu_kernel.ACTIVATIONS)
def test_activations_at_the_limits_of_single_precision(monkeypatch, activation):
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "required")
    assert cpu_kernel.status(activation) == "compiled"
    size = np.array([87.5, 88.5, 103, 104, 1e4, 1e19, 1e20, 1e30, 3e38])
    z = np.concatenate([size, -size]).astype(np.float32)
    value, slope = value_and_slope(activation, z)
    above, below = slope[: len(size)], slope[len(size) :]
    limit = {"tanh": (0, 0), "sigmoid": (0, 0), "identity": (1, 1), "leaky_relu": (1, 0.01)}
    rising, falling = limit.get(activation, (1, 0))
    np.testing.assert_allclose(above, rising, atol=1e-7)
    np.testing.assert_allclose(below, falling, atol=1e-7)
    bounded = {"tanh": (1, -1), "sigmoid": (1, 0)}
    top, bottom = bounded.get(activation, (None, None))
    slanted = {"identity": 1, "leaky_relu": 0.01}.get(activation, 0)
    floor = {"elu": -1.0}.get(activation, 0.0)
    upper = np.float32(size) if top is None else top
    lower = floor - slanted * np.float32(size) if bottom is None else bottom
    np.testing.assert_allclose(value[: len(size)], upper, rtol=1e-6)
    np.testing.assert_allclose(value[len(size) :] / (1 + size), lower / (1 + size), atol=1e-7)
    assert np.isnan(value_and_slope(activation, np.float32([np.nan]))[0]).all()


@needs_compiler
def test_kernel_keeps_numbers_that_are_none(monkeypatch):
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "required")
    network = MLP((4, 4), num_outputs=2)
    x, y = jnp.ones((40, 3)), jnp.zeros(40)
    params = network.init(jax.random.key(0), x)
    f = jax.jit(lambda p, x: network.sum_log_likelihood(Normal(), p, jnp.zeros(0), x, y, None)[0])
    for layer in range(3):
        broken = jax.tree.map(jnp.asarray, params)
        broken[layer]["weight"] = broken[layer]["weight"].at[0, 0].set(jnp.nan)
        value, gradient = jax.value_and_grad(f)(broken, x)
        assert np.isnan(value)
        assert np.isnan(gradient[layer]["weight"]).any()
    assert np.isnan(jax.value_and_grad(f)(params, x.at[39, 2].set(jnp.nan))[0])


@needs_compiler
def test_chains_of_a_vectorised_program_each_have_their_own_pass(monkeypatch):
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "required")
    network = MLP((4,), num_outputs=2)
    x, y = jnp.linspace(-1, 1, 30).reshape(10, 3), jnp.linspace(0, 1, 10)
    keys = jax.random.split(jax.random.key(0), 3)
    f = jax.value_and_grad(
        lambda p: network.sum_log_likelihood(Normal(), p, jnp.zeros(0), x, y, None)[0]
    )
    many = jax.vmap(lambda key: network.init(key, x))(keys)
    together = jax.jit(jax.vmap(f))(many)
    for i in range(3):
        one = jax.jit(f)(jax.tree.map(lambda leaf, i=i: leaf[i], many))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5), together, one
        )


@pytest.mark.parametrize(
    ("activation", "widths", "dtype"),
    [
        ("cosine", (3, 4, 2), jnp.float32),
        ("relu", (3, cpu_kernel.MAX_WIDTH + 1, 2), jnp.float32),
        ("relu", (3, 4, 2), jnp.bfloat16),
        ("relu", (3, 4, 2), None),
    ],
)
def test_other_networks_are_left_to_xla(activation, widths, dtype):
    assert not cpu_kernel.is_fit(activation, widths, dtype)


@needs_compiler
def test_it_is_compiled_once(fresh, monkeypatch):
    assert cpu_kernel.status() == "compiled"
    libraries = list(fresh.rglob("*"))
    assert [path.suffix for path in libraries if path.is_file()] == [".so"]
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: calls.append(args))
    cpu_kernel._load.cache_clear()
    assert cpu_kernel.status() == "compiled"
    assert calls == []


def test_it_can_be_switched_off(fresh, monkeypatch):
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "off")
    assert cpu_kernel.status() == "not used: MIRTH_CPU_KERNEL=off"
    assert not cpu_kernel.is_fit("relu", (3, 4, 2), jnp.float32)
    assert list(fresh.iterdir()) == []


def test_an_unknown_wish_is_an_error(fresh, monkeypatch):
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "requird")
    with pytest.raises(ValueError, match=r"MIRTH_CPU_KERNEL='requird'.*required"):
        cpu_kernel.status()


def no_compiler(monkeypatch, folder):
    monkeypatch.setenv("PATH", str(folder))


def broken_compiler(monkeypatch, folder):
    script(folder / "c++", "#!/bin/sh\necho 'error: no space left' >&2\nexit 1\n")
    monkeypatch.setenv("CXX", str(folder / "c++"))


def empty_library(monkeypatch, folder):
    script(folder / "c++", '#!/bin/sh\nfor last; do :; done\necho nothing > "$last"\n')
    monkeypatch.setenv("CXX", str(folder / "c++"))


def no_folder(monkeypatch, folder):
    (folder / "mirth").write_text("a file where the cache folder should be")
    script(folder / "c++", "#!/bin/sh\nexit 0\n")
    monkeypatch.setenv("CXX", str(folder / "c++"))


def script(path: Path, text: str) -> None:
    path.write_text(text)
    os.chmod(path, 0o755)


@pytest.mark.skipif(os.name != "posix", reason="the compilers are shell scripts")
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_compiler, "no C\\+\\+ compiler was found"),
        (broken_compiler, "no space left"),
        (empty_library, "OSError: .*\\.so"),
        (no_folder, "Error: .*mirth"),
    ],
)
def test_without_the_kernel_all_goes_on_and_the_reason_is_said(fresh, monkeypatch, spoil, reason):
    spoil(monkeypatch, fresh)
    assert not cpu_kernel.is_fit("relu", (3, 4, 2), jnp.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIRTH_CPU_KERNEL", "required")
        with pytest.raises(cpu_kernel.KernelError, match=reason):
            cpu_kernel.status()
    assert cpu_kernel.status().startswith("not used: ")
