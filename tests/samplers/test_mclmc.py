from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc import integrators as peer
from jax.flatten_util import ravel_pytree
from targets import log_gamma

from mirth.core.trees import tree_norm
from mirth.samplers import MCLMC, SCHEMES
from mirth.samplers.mclmc import refresh_momentum

EPS = float(np.finfo(np.float32).eps)
PEERS = {
    "mclachlan": peer.isokinetic_mclachlan,
    "leapfrog": peer.isokinetic_velocity_verlet,
}
TARGET = log_gamma(1.0, 10)
START = jnp.zeros(10)


@functools.cache
def compiled_step(logdensity):
    return jax.jit(lambda sampler, key, state: sampler.step(key, state, logdensity))


def step_of(sampler, logdensity=TARGET.logdensity):
    """The sampler's step; samplers that differ in numbers only share what is compiled."""
    return functools.partial(compiled_step(logdensity), sampler)


@pytest.mark.parametrize("L", [0.5, 10.0, np.inf])
def test_refreshment_equals_the_one_of_blackjax(L):
    key = jax.random.key(3)
    momentum = jnp.asarray([0.6, 0.0, -0.8, 0.0])
    theirs = peer.partially_refresh_momentum(momentum, key, 0.3, L)
    ours = refresh_momentum(momentum, jax.random.normal(key, (4,)), jnp.array(0.3), jnp.array(L))
    np.testing.assert_allclose(ours, theirs, rtol=20 * EPS, atol=4 * EPS)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_whole_step_equals_the_one_of_blackjax_given_equal_noise(scheme, x64, monkeypatch):
    # Two refreshments of half a step each, before and after the integrator's step.
    key = jax.random.key(7)
    noise = [jax.random.normal(k, (10,), dtype=float) for k in jax.random.split(key)]
    monkeypatch.setattr("mirth.samplers.mclmc.tree_normal", lambda key, like, num: noise[:num])
    scale = jnp.linspace(0.5, 2.0, 10)
    sampler = MCLMC(0.6, 1.3, scale, integrator=scheme)
    state = sampler.init(jnp.zeros(10), TARGET.logdensity, key)
    ours, info = sampler.step(key, state, TARGET.logdensity)
    step = peer.with_isokinetic_maruyama(PEERS[scheme](TARGET.logdensity, scale**2))
    theirs, kinetic_change = step(peer.IntegratorState(*state[:4]), 0.6, 1.3, key)
    for mine, other in zip(ours[:4], theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-13)
    expected = kinetic_change - theirs.logdensity + state.logdensity
    np.testing.assert_allclose(info.energy_change, expected, rtol=1e-10)


def test_refreshment_forgets_over_the_distance_L():
    # The cosine between u and its refreshment falls as exp(-t / L) in high dimension.
    dimension, interval = 20_000, jnp.array(0.7)
    momentum = jnp.zeros(dimension).at[0].set(1.0)
    noise = jax.random.normal(jax.random.key(0), (dimension,))
    refreshed = refresh_momentum(momentum, noise, interval, jnp.array(2.0))
    np.testing.assert_allclose(refreshed[0], np.exp(-0.35), atol=4 / np.sqrt(dimension))


def test_state_and_info_describe_the_new_position():
    sampler = MCLMC(0.5, 3.0)
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    new, info = step_of(sampler)(jax.random.key(1), state)
    value, gradient = jax.value_and_grad(TARGET.logdensity)(new.position)
    np.testing.assert_allclose(new.logdensity, value, rtol=10 * EPS)
    np.testing.assert_allclose(new.gradient, gradient, rtol=10 * EPS, atol=10 * EPS)
    assert info.logdensity == new.logdensity
    assert info.step_size == 0.5
    np.testing.assert_allclose(np.linalg.norm(new.position - state.position), 0.5, rtol=0.1)


def test_the_integrator_changes_the_step():
    state = MCLMC(0.5, 3.0).init(START, TARGET.logdensity, jax.random.key(0))
    one, two = (
        step_of(MCLMC(0.5, 3.0, integrator=scheme))(jax.random.key(1), state)[0].position
        for scheme in SCHEMES
    )
    assert np.abs(one - two).max() > 1e-5


def test_the_two_refreshments_use_different_noise_and_every_leaf_its_own():
    tree = {"a": jnp.zeros(3), "b": jnp.zeros(3)}
    sampler = MCLMC(0.5, 1e-2)  # everything is forgotten at once: the momentum is the noise
    flat_density = lambda t: -0.5 * (jnp.sum(t["a"] ** 2) + jnp.sum(t["b"] ** 2))  # noqa: E731
    state = sampler.init(tree, flat_density, jax.random.key(0))
    new, _ = sampler.step(jax.random.key(1), state, flat_density)
    assert not np.allclose(new.momentum["a"], new.momentum["b"], atol=0.05)
    # Without a force the position moved along the first noise, and the momentum is the second.
    moved = jax.tree.map(lambda a, b: a - b, new.position, state.position)
    cosine = ravel_pytree(moved)[0] @ ravel_pytree(new.momentum)[0] / tree_norm(moved)
    assert abs(cosine) < 0.95


def test_without_refreshment_a_step_is_deterministic():
    sampler = MCLMC(0.5, jnp.inf, integrator="leapfrog")
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    one, _ = step_of(sampler)(jax.random.key(1), state)
    two, _ = step_of(sampler)(jax.random.key(2), state)
    np.testing.assert_array_equal(one.position, two.position)


def test_energy_change_is_small_for_a_small_step():
    sampler = MCLMC(1e-2, 5.0)
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    _, info = step_of(sampler)(jax.random.key(1), state)
    # The third order leaves rounding of the log density, -10 here, and nothing else.
    assert abs(info.energy_change) < 4 * EPS * 10


def test_one_dimension_is_refused():
    with pytest.raises(ValueError, match=r"position has 1 dimension; .* at least 2"):
        MCLMC(0.1, 1.0).init(jnp.zeros(1), lambda x: -jnp.sum(x**2), jax.random.key(0))


def test_an_unknown_integrator_is_refused():
    with pytest.raises(ValueError, match=r"integrator='leapfrg' .* did you mean 'leapfrog'"):
        MCLMC(0.1, 1.0, integrator="leapfrg")


@pytest.mark.parametrize(
    ("name", "value"), [("step_size", 0.0), ("step_size", -0.1), ("L", 0), ("L", float("nan"))]
)
def test_numbers_that_are_not_positive_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}=.*must be positive"):
        MCLMC(**({"step_size": 0.1, "L": 1.0} | {name: value}))
