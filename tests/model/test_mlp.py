from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.flatten_util import ravel_pytree

from mirth.model import ACTIVATIONS, MLP, Categorical, HomoscedasticNormal, Normal

pytestmark = pytest.mark.usefixtures("unoptimised")

BY_HAND = {
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z * scipy.special.expit(z),
    "softplus": lambda z: np.logaddexp(0, z),
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "identity": lambda z: z,
}


def some_params(network, x):
    """Parameters like those of ``init``, without compiling its random numbers."""
    rng = np.random.default_rng(3)
    like = jax.eval_shape(network.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype) / 2, like)


def problem(network, likelihood, num_rows=9, num_features=3):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(num_rows, num_features)), dtype=float)
    params = some_params(network, x)
    shared = jnp.asarray(rng.normal(size=likelihood.num_shared), dtype=float)
    if likelihood.has_classes:
        y = jnp.asarray(rng.integers(0, likelihood.num_outputs, size=num_rows))
    else:
        y = jnp.asarray(rng.normal(size=num_rows), dtype=float)
    weights = jnp.asarray(rng.uniform(0.5, 2, size=num_rows), dtype=float)
    return params, shared, x, y, weights


def plain(network, likelihood, params, shared, x, y, weights):
    """The summed log likelihood without the custom derivative rule."""
    outputs = network.apply(params, x)
    tiled = jnp.broadcast_to(shared, (len(x), shared.size))
    log_prob = likelihood.log_prob(jnp.concatenate([outputs, tiled], axis=1), y)
    return jnp.sum(log_prob if weights is None else weights * log_prob)


def fast(network, *args):
    """The summed log likelihood with it."""
    return network.sum_log_likelihood(*args)[0]


def both(network, likelihood, wrap=lambda f: f):
    """Value and gradient with the custom rule, and by differentiating the plain formula."""
    return jax.jit(
        lambda *args: [
            wrap(jax.value_and_grad(functools.partial(f, likelihood), argnums=(0, 1)))(*args)
            for f in (functools.partial(fast, network), functools.partial(plain, network))
        ]
    )


def assert_equal(ours, expected, rtol=1e-5):
    np.testing.assert_allclose(ours[0], expected[0], rtol=rtol)
    # Errors of a gradient are relative to its size, not to each small entry.
    ours, expected = (ravel_pytree(result[1])[0] for result in (ours, expected))
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_every_activation_has_a_formula_by_hand():
    assert set(BY_HAND) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_apply_is_the_forward_pass(activation):
    network = MLP((4, 5), num_outputs=3, activation=activation)
    x = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
    params = some_params(network, x)
    assert [layer["weight"].shape for layer in params] == [(4, 2), (5, 4), (3, 5)]
    h = x.astype(np.float64)
    for i, layer in enumerate(params):
        h = BY_HAND[activation](h) if i else h
        h = h @ np.asarray(layer["weight"], np.float64).T + np.asarray(layer["bias"], np.float64)
    np.testing.assert_allclose(network.apply(params, x), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    # All of them, with the kernel and without it, in test_cpu_kernel.py.
    "activation",
    [
        pytest.param(name, marks=[] if name in ("relu", "silu") else [pytest.mark.slow])
        for name in ACTIVATIONS
    ],
)
def test_derivative_rule_is_the_derivative(activation):
    network = MLP((5,), num_outputs=2, activation=activation)
    assert_equal(*both(network, Normal())(*problem(network, Normal())))


@pytest.mark.parametrize(
    ("hidden", "likelihood", "is_weighted"),
    [
        ((4, 4, 4), HomoscedasticNormal(link="exp"), True),
        ((4, 4), Categorical(num_classes=3), False),
        pytest.param((), HomoscedasticNormal(), True, marks=pytest.mark.slow),
        pytest.param((5,), HomoscedasticNormal(), False, marks=pytest.mark.slow),
        pytest.param((5,), Categorical(num_classes=3), True, marks=pytest.mark.slow),
    ],
)
def test_derivative_rule_with_shared_scalars_and_weights(hidden, likelihood, is_weighted):
    network = MLP(hidden, num_outputs=likelihood.num_outputs, activation="tanh")
    *args, weights = problem(network, likelihood)
    assert_equal(*both(network, likelihood)(*args, weights if is_weighted else None))


def test_derivative_rule_under_vmap():
    network, likelihood = MLP((5,), num_outputs=1, activation="silu"), HomoscedasticNormal()
    params, shared, *data = problem(network, likelihood)
    scales = jnp.array([0.5, 1.0, 2.0])
    many = jax.tree.map(lambda leaf: scales.reshape(3, *[1] * leaf.ndim) * leaf, (params, shared))
    over_params = both(network, likelihood, lambda f: jax.vmap(f, (0, 0, None, None, None)))
    assert_equal(*over_params(*many, *data))
    # Over rows of the data as well: a chain per mini-batch.
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf[:4], leaf[4:8]]), data)
    over_rows = both(network, likelihood, lambda f: jax.vmap(f, (None, None, 0, 0, 0)))
    assert_equal(*over_rows(params, shared, *stacked))


def test_derivative_rule_scales_with_what_follows():
    network = MLP((4,), num_outputs=2)
    params, *rest = problem(network, Normal())

    def follow(f):
        return jax.value_and_grad(lambda p: jnp.sin(f(p) / 20) + jnp.sum(p[0]["bias"]))

    ours = follow(lambda p: fast(network, Normal(), p, *rest))
    expected = follow(lambda p: plain(network, Normal(), p, *rest))
    assert_equal(*jax.jit(lambda p: (ours(p), expected(p)))(params))


def test_derivative_rule_is_the_limit_of_differences():
    with jax.enable_x64(True):
        network, likelihood = MLP((4, 3), num_outputs=1, activation="gelu"), HomoscedasticNormal()
        params, *rest = problem(network, likelihood)
        flat, unravel = ravel_pytree((params, rest[0]))
        assert flat.dtype == jnp.float64

        @jax.jit
        @jax.vmap
        def value(flat):
            params, shared = unravel(flat)
            return fast(network, likelihood, params, shared, *rest[1:])

        gradient = jax.jit(jax.grad(lambda flat: value(flat[None])[0]))(flat)
        assert gradient.dtype == jnp.float64
        step = 1e-5
        steps = step * jnp.eye(flat.size)
        ahead, behind = (value(flat + sign * steps) for sign in (1, -1))
        np.testing.assert_allclose(gradient, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


def test_single_precision_parameters_keep_their_type_in_a_double_precision_session():
    network = MLP((4,), num_outputs=2)
    args = problem(network, Normal())
    with jax.enable_x64(True):
        # The bias's gradient became float64 here, which JAX refuses.
        gradient = jax.jit(jax.grad(lambda p: fast(network, Normal(), p, *args[1:])))(args[0])
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))


def test_a_row_of_weight_zero_counts_nothing():
    network = MLP((4,), num_outputs=2)
    params, shared, x, y, weights = problem(network, Normal())
    f = both(network, Normal())
    masked = f(params, shared, x, y, weights.at[5:].set(0.0))[0]
    # Padded with copies of a kept row, so that the rows removed have other values, too.
    cut = f(params, shared, x.at[5:].set(x[0]), y.at[5:].set(y[0]), weights.at[5:].set(0.0))[1]
    assert_equal(masked, cut)


def sizes_at_start(network, num_seeds, x):
    """Second moment of the pre-activations of each hidden layer, mean over seeds."""

    @jax.jit
    @jax.vmap
    def sizes(key):
        pre_activations = network._forward(network.init(key, x), x.T)[:-1]
        return jnp.stack([jnp.mean(jnp.square(z)) for z in pre_activations])

    keys = jnp.stack([jax.random.key(seed) for seed in range(num_seeds)])
    return np.mean(sizes(keys), axis=0)


@pytest.mark.parametrize(
    "activation",
    [
        pytest.param(name, marks=[] if name in ("silu", "tanh", "identity") else [pytest.mark.slow])
        for name in ACTIVATIONS
    ],
)
def test_initialisation_keeps_the_size_of_the_pre_activations(activation):
    network = MLP((64,) * 6, num_outputs=64, activation=activation)
    x = np.random.default_rng(2).normal(size=(200, 64)).astype(np.float32)
    sizes = sizes_at_start(network, 3, x)
    # No activation lets the signal die out or explode; the first layer is the reference.
    assert np.all(sizes < 10 * sizes[0]) and np.all(sizes > sizes[0] / 10), sizes


def test_rectifiers_keep_the_second_moment_exactly():
    network = MLP((64,) * 4, num_outputs=64, activation="relu")
    x = np.random.default_rng(2).normal(size=(100, 64)).astype(np.float32)
    sizes = sizes_at_start(network, 20, x)
    # One layer varies by sqrt(5 / 64) of its size from seed to seed, the last by twice that.
    np.testing.assert_allclose(sizes / sizes[0], 1, atol=4 * 2 * np.sqrt(5 / 64 / 20))


def test_initialisation_depends_on_the_key_and_differs_over_layers():
    network = MLP((64, 64), num_outputs=64)
    x = np.zeros((1, 64), np.float32)
    init = jax.jit(network.init)
    one, same, other = (init(jax.random.key(seed), x) for seed in (0, 0, 1))
    np.testing.assert_array_equal(ravel_pytree(one)[0], ravel_pytree(same)[0])
    weights = [layer["weight"] for layer in (*one, *other)]
    for i, a in enumerate(weights):
        for b in weights[:i]:
            assert not np.allclose(a / jnp.linalg.norm(a), b / jnp.linalg.norm(b), atol=1e-3)


def test_every_parameter_changes_the_network():
    x = np.ones((2, 3), np.float32)
    default = MLP((4,), num_outputs=2)
    shapes = [
        jax.tree.map(jnp.shape, jax.eval_shape(network.init, jax.random.key(0), x))
        for network in (default, MLP((5,), num_outputs=2), MLP((4,), num_outputs=3))
    ]
    assert shapes[0] != shapes[1] != shapes[2] != shapes[0]
    params = some_params(default, x)
    other = MLP((4,), num_outputs=2, activation="leaky_relu")
    assert not np.allclose(default.apply(params, x), other.apply(params, x), atol=1e-4)


def test_networks_are_equal_by_value():
    assert MLP([4, 4]) == MLP((4, 4)) and hash(MLP([4, 4])) == hash(MLP((4, 4)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hidden_layer_sizes": (16, 0)}, ValueError, "^hidden_layer_sizes=0 must be at least 1"),
        ({"hidden_layer_sizes": (16.5,)}, TypeError, "^hidden_layer_sizes=16.5 must be an integer"),
        ({"num_outputs": 0}, ValueError, "^num_outputs=0 must be at least 1"),
        ({"activation": "rleu"}, ValueError, "^activation='rleu' .* did you mean 'relu'"),
    ],
)
def test_wrong_values_are_named(options, error, message):
    with pytest.raises(error, match=message):
        MLP(**options)


def test_a_single_width_is_no_tuple():
    with pytest.raises(TypeError, match=r"hidden_layer_sizes=16 must be a tuple"):
        MLP(16)
