"""Networks of other libraries: parameters, frozen state, dropout, errors."""

from __future__ import annotations

import builtins
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mirth
from mirth.inference.store.identity import describe

pytestmark = pytest.mark.usefixtures("unoptimised")

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(3, 8, 8, 2)), jnp.float32)
MEAN, VAR = jnp.arange(4.0), jnp.arange(1.0, 5.0)


class LinenNet(nn.Module):
    """Dense, batch normalisation, dropout, dense."""

    switch: str = "train"

    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=not train, epsilon=1e-3)(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(2)(x)


class NnxNet(nnx.Module):
    """The same."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, epsilon=1e-3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 2, rngs=rngs)])

    def __call__(self, x: Any) -> Any:
        return self.layers[0](self.dropout(self.norm(self.first(x))))


class EquinoxNet(eqx.Module):
    """The same, for one row."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        self.first = eqx.nn.Linear(4, 4, key=key)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="ema", eps=1e-3)
        self.dropout = eqx.nn.Dropout(0.5)
        self.last = eqx.nn.Linear(4, 2, key=key)

    def __call__(self, x: Any, state: Any) -> Any:
        x, state = self.norm(self.first(x), state)
        return self.last(self.dropout(x)), state


def with_statistics(kind: str) -> Any:
    """Give a network whose batch normalisation has the statistics MEAN and VAR."""
    if kind == "linen":
        state = {"batch_stats": {"BatchNorm_0": {"mean": MEAN, "var": VAR}}}
        return mirth.networks.FlaxLinenNetwork(LinenNet(), state)
    if kind == "nnx":
        trained = NnxNet(nnx.Rngs(7))
        trained.norm.mean[...] = MEAN
        trained.norm.var[...] = VAR
        return mirth.networks.FlaxNnxNetwork(NnxNet, nnx.state(trained, nnx.BatchStat))
    make = eqx.nn.make_with_state(EquinoxNet)
    module, state = make(jax.random.key(7))
    index = module.norm
    state = state.set(index.ema_state_index, (MEAN, VAR))
    state = state.set(index.ema_first_time_index, jnp.array(False))
    return mirth.networks.EquinoxNetwork(make, state)


def by_hand(kind: str, params: Any, x: Any) -> Any:
    """Apply the network written out."""
    if kind == "linen":
        first, norm, last = (params[n] for n in ("Dense_0", "BatchNorm_0", "Dense_1"))
        pairs = [(p["kernel"], p["bias"]) for p in (first, last)]
        scale, shift = norm["scale"], norm["bias"]
    elif kind == "nnx":
        pairs = [(params[f"{n}/kernel"], params[f"{n}/bias"]) for n in ("first", "layers/0")]
        scale, shift = params["norm/scale"], params["norm/bias"]
    else:
        pairs = [(params[f"{n}/weight"].T, params[f"{n}/bias"]) for n in ("first", "last")]
        scale, shift = params["norm/weight"], params["norm/bias"]
    h = x @ pairs[0][0] + pairs[0][1]
    h = scale * (h - MEAN) / jnp.sqrt(VAR + 1e-3) + shift
    return h @ pairs[1][0] + pairs[1][1]


KINDS = ["equinox", "linen", "nnx"]


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_frozen_and_dropout_is_off(kind: str) -> None:
    network = with_statistics(kind)

    @jax.jit
    def both(keys: Any) -> Any:
        # In a trace from the start, as in a run.
        params = jax.vmap(lambda key: network.init(key, X))(keys)
        return params, jax.vmap(network.apply, (0, None))(params, X)

    params, outputs = both(jax.random.split(jax.random.key(0), 3))
    leaves = jax.tree.leaves(params)
    assert len(leaves) == 6 and all(leaf.dtype == jnp.float32 for leaf in leaves)
    assert outputs.shape == (3, 6, 2)
    for k in range(3):
        one = jax.tree.map(lambda leaf, k=k: leaf[k], params)
        np.testing.assert_allclose(outputs[k], by_hand(kind, one, X), rtol=1e-4, atol=1e-5)
        # Outside a trace, row by row, after other calls: the same.
        alone = jnp.concatenate([network.apply(one, X[i : i + 1]) for i in range(6)])
        np.testing.assert_allclose(outputs[k], alone, rtol=1e-4, atol=1e-5)
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_all_that_is_differentiated_and_stored(kind: str) -> None:
    network = with_statistics(kind)
    model = mirth.Model(network, mirth.Normal())
    params = jax.jit(model.init)(jax.random.key(0), X)
    gradient = jax.jit(jax.grad(model.log_density))(params, mirth.data.Batch(X, X[:, 0]))
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert hash(model) == hash(mirth.Model(network, mirth.Normal()))
    # A run directory tells networks with other statistics apart.
    assert "sha256" in str(describe(model))
    assert describe(model) == describe(mirth.Model(with_statistics(kind), mirth.Normal()))


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (
            mirth.networks.EquinoxNetwork(eqx.nn.make_with_state(EquinoxNet)),
            "state of a trained network",
        ),
        (mirth.networks.FlaxLinenNetwork(LinenNet()), r"collection\(s\) batch_stats"),
        (mirth.networks.FlaxNnxNetwork(NnxNet), r"variable\(s\) norm/mean, norm/var"),
    ],
)
def test_statistics_must_be_given(network: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        network.init(jax.random.key(0), X)


def test_other_values_are_another_network_to_a_run_directory() -> None:
    networks = [
        mirth.networks.FlaxLinenNetwork(LinenNet(), {"batch_stats": {"mean": np.full(2000, value)}})
        for value in (0.0, 1.0)
    ]
    assert describe(networks[0]) != describe(networks[1])


class Frozen(eqx.Module):
    """Has whole numbers, a random key and a function besides a weight."""

    weight: jax.Array
    order: jax.Array
    key: jax.Array
    act: Any

    def __init__(self, key: Any) -> None:
        self.weight = jax.random.normal(key, (4, 2))
        self.order = jax.random.permutation(key, 4)
        self.key = key
        self.act = lambda x: x  # a new object each time

    def __call__(self, x: Any) -> Any:
        return self.act(x[self.order] @ self.weight) + jax.random.normal(self.key, (2,))


def test_whole_numbers_and_functions_of_an_equinox_module_are_frozen() -> None:
    network, first = mirth.networks.EquinoxNetwork(Frozen), jax.random.key(0)
    params = jax.jit(network.init)(jax.random.key(5), X)
    assert list(params) == ["weight"]
    order = jax.random.permutation(first, 4)
    expected = X[:, order] @ params["weight"] + jax.random.normal(first, (2,))
    np.testing.assert_allclose(jax.jit(network.apply)(params, X), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.apply(params, X), expected, rtol=1e-5, atol=1e-6)


class Switch(nn.Module):
    """Dropout behind a switch with a name of its own, and one nobody can reach."""

    always: bool = False

    @nn.compact
    def __call__(self, x: Any, learn: bool = True) -> Any:
        x = nn.Dropout(0.5, deterministic=not (learn or self.always))(x)
        return nn.Dense(2)(x)


def test_a_switch_with_another_name_is_an_argument() -> None:
    network = mirth.networks.FlaxLinenNetwork(Switch(), arguments={"learn": False})
    model = mirth.Model(network, mirth.Normal())
    params = model.init(jax.random.key(0), X)
    dense = params["network"]["Dense_0"]
    expected = X @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(model.outputs(params, X), expected, rtol=1e-5, atol=1e-6)
    wrong = mirth.Model(mirth.networks.FlaxLinenNetwork(Switch()), mirth.Normal())
    with pytest.raises(ValueError, match=r"name the argument .* switches this off.*Dropout_0"):
        wrong.init(jax.random.key(0), X)


class WholeNumbers(nn.Module):
    """A parameter of a type that has no gradient."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        table = self.param("table", lambda key: jnp.arange(4))
        return nn.Dense(2)(x * table)


class ComplexNumbers(eqx.Module):
    """A complex parameter."""

    phase: jax.Array

    def __init__(self, key: Any) -> None:
        self.phase = jnp.ones((4, 2), complex)

    def __call__(self, x: Any) -> Any:
        return jnp.real(x @ self.phase)


class WholeNnx(nnx.Module):
    """The same in NNX."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.table = nnx.Param(jnp.ones((4, 2), jnp.int32))

    def __call__(self, x: Any) -> Any:
        return x @ self.table[...]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (mirth.networks.FlaxLinenNetwork(WholeNumbers()), r"\['table'\] .* is of type int32"),
        (mirth.networks.FlaxNnxNetwork(WholeNnx), r"\['table'\] .* is of type int32"),
        (mirth.networks.EquinoxNetwork(ComplexNumbers), r"\['phase'\] .* is of type complex64"),
        (
            mirth.networks.FunctionalNetwork(
                lambda key, x: {"a": [jnp.ones(2, bool)]}, lambda p, x: x
            ),
            r"\['a'\]\[0\] .* is of type bool",
        ),
        (mirth.networks.FunctionalNetwork(lambda key, x: {}, lambda p, x: x), "nothing to sample"),
    ],
)
def test_parameters_that_cannot_be_sampled_are_named(network: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        mirth.Model(network, mirth.Normal()).init(jax.random.key(0), X)


def test_a_module_in_place_of_its_maker_is_refused() -> None:
    with pytest.raises(TypeError, match=r"make is a module \(Linear\)"):
        mirth.networks.EquinoxNetwork(eqx.nn.Linear(4, 2, key=jax.random.key(0)))
    with pytest.raises(TypeError, match="make=3"):
        mirth.networks.EquinoxNetwork(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="make is of type Linear"):
        mirth.networks.FlaxNnxNetwork(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match="returned a int"):
        mirth.networks.FlaxNnxNetwork(lambda rngs: 3).init(jax.random.key(0), X)
    with pytest.raises(TypeError, match=r"must be a flax\.linen\.Module"):
        mirth.networks.FlaxLinenNetwork(LinenNet)


def test_all_three_take_images() -> None:
    def convolve(x: Any) -> Any:
        return jnp.mean(x, axis=(1, 2))

    class Nnx(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.conv = nnx.Conv(2, 3, (3, 3), rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return convolve(self.conv(x))

    def make(key: Any) -> Any:
        conv = eqx.nn.Conv2d(2, 3, 3, padding=1, key=key)
        pool = eqx.nn.Lambda(lambda x: jnp.mean(x, axis=(1, 2)))
        return eqx.nn.Sequential([eqx.nn.Lambda(lambda x: jnp.moveaxis(x, -1, 0)), conv, pool])

    linen = nn.Sequential([nn.Conv(3, (3, 3)), convolve])
    outputs = []
    for network, name in (
        (mirth.networks.FlaxLinenNetwork(linen), None),
        (mirth.networks.FlaxNnxNetwork(Nnx), "conv/kernel"),
        (mirth.networks.EquinoxNetwork(make), "layers/1/weight"),
    ):
        params = network.init(jax.random.key(0), IMAGES)
        ones = jax.tree.map(lambda leaf: 0.1 * jnp.ones_like(leaf), params)
        outputs.append(network.apply(ones, IMAGES))
        assert name is None or name in params
    assert outputs[0].shape == (3, 3)
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5)
    np.testing.assert_allclose(outputs[2], outputs[0], rtol=1e-5)


def test_without_flax_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "flax":
            raise ImportError("No module named 'flax'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    for build in (
        lambda: mirth.networks.FlaxLinenNetwork(None),
        lambda: mirth.networks.FlaxNnxNetwork(None),
    ):
        with pytest.raises(ImportError, match=r"pip install mirth\[flax\]"):
            build()
