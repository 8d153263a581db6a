from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.flatten_util import ravel_pytree

from mirth.model import ACTIVATIONS, MLP, Categorical, HomoscedasticNormal, Normal

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


def problem(network, likelihood, num_rows=9, num_features=3):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(num_rows, num_features)), dtype=float)
    params = network.init(jax.random.key(0), x)
    shared = jnp.asarray(rng.normal(size=likelihood.num_shared), dtype=float)
    if likelihood.is_discrete:
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


def both(network, likelihood):
    """Value and gradient with the custom rule, and by differentiating the plain formula."""
    return [
        jax.value_and_grad(lambda *args, f=f: f(likelihood, *args), argnums=(0, 1))
        for f in (network.sum_log_likelihood, lambda *args: plain(network, *args))
    ]


def assert_equal(ours, expected, rtol=1e-5):
    ours, expected = ravel_pytree(ours)[0], ravel_pytree(expected)[0]
    # Errors of a gradient are relative to its size, not to each small entry.
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * np.abs(expected[1:]).max())


def test_every_activation_has_a_formula_by_hand():
    assert set(BY_HAND) == set(ACTIVATIONS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_apply_is_the_forward_pass(activation):
    network = MLP((4, 5), num_outputs=3, activation=activation)
    x = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
    params = network.init(jax.random.key(0), x)
    assert [layer["weight"].shape for layer in params] == [(4, 2), (5, 4), (3, 5)]
    h = x.astype(np.float64)
    for i, layer in enumerate(params):
        h = BY_HAND[activation](h) if i else h
        h = h @ np.asarray(layer["weight"], np.float64).T + np.asarray(layer["bias"], np.float64)
    np.testing.assert_allclose(network.apply(params, x), h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivative_rule_is_the_derivative(activation):
    network = MLP((5, 4), num_outputs=2, activation=activation)
    args = problem(network, Normal())
    for ours, expected in zip(*(f(*args) for f in both(network, Normal())), strict=True):
        assert_equal(ours, expected)


@pytest.mark.parametrize("hidden", [(), (5,), (4, 4, 4)])
@pytest.mark.parametrize(
    "likelihood",
    [HomoscedasticNormal(), HomoscedasticNormal(link="exp"), Categorical(num_classes=3)],
)
@pytest.mark.parametrize("is_weighted", [True, False])
def test_derivative_rule_with_shared_scalars_and_weights(hidden, likelihood, is_weighted):
    network = MLP(hidden, num_outputs=likelihood.num_outputs, activation="tanh")
    *args, weights = problem(network, likelihood)
    ours, expected = (
        jax.jit(f)(*args, weights if is_weighted else None) for f in both(network, likelihood)
    )
    assert_equal(ours, expected)


def test_derivative_rule_under_vmap():
    network, likelihood = MLP((5,), num_outputs=1, activation="silu"), HomoscedasticNormal()
    params, shared, *data = problem(network, likelihood)
    scales = jnp.array([0.5, 1.0, 2.0])
    many = jax.tree.map(lambda leaf: scales.reshape(3, *[1] * leaf.ndim) * leaf, (params, shared))
    ours, expected = (
        jax.jit(jax.vmap(lambda p, s, f=f: f(p, s, *data)))(*many)
        for f in both(network, likelihood)
    )
    assert_equal(ours, expected)
    # Over rows of the data as well: a chain per mini-batch.
    x, y, weights = data
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf[:4], leaf[4:8]]), (x, y, weights))
    ours, expected = (
        jax.vmap(lambda *batch, f=f: f(params, shared, *batch))(*stacked)
        for f in both(network, likelihood)
    )
    assert_equal(ours, expected)


def test_derivative_rule_scales_with_what_follows():
    network = MLP((4,), num_outputs=2)
    params, *rest = problem(network, Normal())
    ours, expected = (
        jax.grad(lambda p, f=f: jnp.sin(3 * f(p) / 50) + jnp.sum(p[0]["bias"]))(params)
        for f in (
            lambda p: network.sum_log_likelihood(Normal(), p, *rest),
            lambda p: plain(network, Normal(), p, *rest),
        )
    )
    assert_equal(ours, expected)


def test_derivative_rule_is_the_limit_of_differences():
    with jax.enable_x64(True):
        network, likelihood = MLP((4, 3), num_outputs=1, activation="gelu"), HomoscedasticNormal()
        params, *rest = problem(network, likelihood)
        flat, unravel = ravel_pytree((params, rest[0]))
        assert flat.dtype == jnp.float64

        def value(flat):
            params, shared = unravel(flat)
            return network.sum_log_likelihood(likelihood, params, shared, *rest[1:])

        gradient = jax.grad(value)(flat)
        assert gradient.dtype == jnp.float64
        step = 1e-5
        steps = step * jnp.eye(flat.size)
        ahead, behind = (jax.vmap(value)(flat + sign * steps) for sign in (1, -1))
        np.testing.assert_allclose(gradient, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


def test_single_precision_parameters_keep_their_type_in_a_double_precision_session():
    network = MLP((4,), num_outputs=2)
    args = problem(network, Normal())
    with jax.enable_x64(True):
        # The bias's gradient became float64 here, which JAX refuses.
        gradient = jax.grad(lambda p: network.sum_log_likelihood(Normal(), p, *args[1:]))(args[0])
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))


def test_a_row_of_weight_zero_counts_nothing():
    network = MLP((4,), num_outputs=2)
    params, shared, x, y, weights = problem(network, Normal())
    f = both(network, Normal())[0]
    masked = f(params, shared, x, y, weights.at[5:].set(0.0))
    assert_equal(f(params, shared, x[:5], y[:5], weights[:5]), masked)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_initialisation_keeps_the_size_of_the_pre_activations(activation):
    network = MLP((64,) * 6, num_outputs=1, activation=activation)
    x = np.random.default_rng(2).normal(size=(200, 64)).astype(np.float32)
    seeds = [network.init(jax.random.key(seed), x) for seed in range(4)]
    sizes = np.mean(
        [[jnp.mean(z**2) for z in network._forward(params, x.T)[:-1]] for params in seeds], axis=0
    )
    # No activation lets the signal die out or explode; the first layer is the reference.
    assert np.all(sizes < 10 * sizes[0]) and np.all(sizes > sizes[0] / 10), sizes


def test_rectifiers_keep_the_second_moment_exactly():
    network = MLP((256,) * 4, num_outputs=1, activation="relu")
    x = np.random.default_rng(2).normal(size=(100, 256)).astype(np.float32)
    params = network.init(jax.random.key(0), x)
    sizes = np.array([jnp.mean(z**2) for z in network._forward(params, x.T)[:-1]])
    np.testing.assert_allclose(sizes / sizes[0], 1, atol=0.3)


def test_initialisation_depends_on_the_key_and_differs_over_layers():
    network = MLP((3, 3), num_outputs=3)
    x = np.zeros((1, 3), np.float32)
    one, same, other = (network.init(jax.random.key(seed), x) for seed in (0, 0, 1))
    np.testing.assert_array_equal(ravel_pytree(one)[0], ravel_pytree(same)[0])
    weights = [layer["weight"] for layer in (*one, *other)]
    for i, a in enumerate(weights):
        for b in weights[:i]:
            assert not np.allclose(a / jnp.linalg.norm(a), b / jnp.linalg.norm(b), atol=1e-3)


def test_every_parameter_changes_the_network():
    x = np.ones((2, 3), np.float32)

    def result(**options):
        network = MLP(**({"hidden_layer_sizes": (4,)} | options))
        return np.asarray(network.apply(network.init(jax.random.key(0), x), x)).tolist()

    changes = [{}, {"hidden_layer_sizes": (5,)}, {"num_outputs": 1}, {"activation": "leaky_relu"}]
    results = [result(**options) for options in changes]
    assert all(a != b for i, a in enumerate(results) for b in results[:i])


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
