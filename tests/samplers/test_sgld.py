"""SGLD against its exact stationary moments on Gaussians, and against blackjax."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from noisy_gaussian import K_SIGMA, advance, assert_variance, noisy_gaussian, start, variance_of
from targets import log_gamma

from mirth.evaluation.autocorrelation import effective_sample_size
from mirth.samplers import SGLD

EPS = float(np.finfo(np.float32).eps)
SCALES = np.array([0.5, 1.0, 2.0])
COPIES = 200
TARGET = log_gamma(1.0, 10)
START = jnp.linspace(-1.0, 1.0, 10)


def stationary_variance(step_size, temperature=1.0, noise_sd=0.0):
    """x' = (1 - a) x + noise with a = step / s^2: its variance over 1 - (1 - a)^2, all exact."""
    a = step_size / SCALES**2
    return (2 * step_size * temperature + (step_size * noise_sd) ** 2) / (a * (2 - a))


@functools.cache
def run(step_size, temperature=1.0, noise_sd=0.0):
    bind = noisy_gaussian(SCALES, noise_sd, COPIES)
    sampler = SGLD(step_size, temperature)
    state = start(sampler, bind, (COPIES, len(SCALES)))
    draws, diverged = advance(bind, sampler, state, 250, 40, jax.random.key(2))[1]
    assert not diverged.any()
    return draws[25:]  # five times the longest autocorrelation time below


@pytest.mark.parametrize(("step_size", "temperature"), [(0.02, 1.0), (0.2, 0.25)])
def test_variance_on_a_gaussian_is_the_exact_one_of_the_discrete_chain(step_size, temperature):
    draws = run(step_size, temperature)
    assert_variance(draws, stationary_variance(step_size, temperature), largest_se=0.02)


def test_the_formula_of_the_docstring_is_the_exact_one_and_its_bias_is_seen():
    noise_sd, step_size = 3.0, 0.2
    docstring = SCALES**2 * (1 + step_size * noise_sd**2 / 2) / (1 - step_size / (2 * SCALES**2))
    np.testing.assert_allclose(docstring, stationary_variance(step_size, 1.0, noise_sd), rtol=1e-12)
    # At this step size the narrowest coordinate is 67 % too wide: the test above can fail.
    found, error = variance_of(run(step_size))
    assert found[0] - SCALES[0] ** 2 > 10 * error[0]


def test_gradient_noise_inflates_the_variance_as_the_theory_says():
    noise_sd = 5.0
    draws = run(0.05, noise_sd=noise_sd)
    exact = stationary_variance(0.05, noise_sd=noise_sd)
    assert np.all(exact > 1.5 * stationary_variance(0.05))
    assert_variance(draws, exact, largest_se=0.02)


def rmsprop(decay, step_size, scales=SCALES):
    bind = noisy_gaussian(scales, 0.0, COPIES)
    sampler = SGLD(step_size, preconditioner="rmsprop", decay=decay)
    # From a draw of the target: at its mode the first gradient would be zero.
    position = scales * jax.random.normal(jax.random.key(3), (COPIES, len(scales)))
    state = sampler.init(position, bind(jax.random.key(0)), jax.random.key(0))
    draws = advance(bind, sampler, state, 500, 20, jax.random.key(2))[1][0]
    return draws[250:]  # five times the memory below


def test_the_bias_of_rmsprop_falls_with_its_memory_and_grows_when_the_step_size_falls():
    ratio, error = {}, {}
    for decay, step_size in [(0.9, 0.01), (0.9, 0.1), (0.999, 0.1)]:
        found, se = variance_of(rmsprop(decay, step_size))
        # With G at its mean, s, the chain is plain SGLD with a known variance.
        exact = SCALES**2 / (1 - step_size / (2 * SCALES))
        ratio[decay, step_size], error[decay, step_size] = found / exact, se / exact
    # In the limit of small steps the stationary density is p / G, here of variance 2 s^2.
    assert np.all((ratio[0.9, 0.01] > 1.5) & (ratio[0.9, 0.01] < 2))
    difference = ratio[0.9, 0.01] - ratio[0.9, 0.1]
    assert np.all(difference > K_SIGMA * np.hypot(error[0.9, 0.01], error[0.9, 0.1]))
    # The bias is of the order of the autocorrelation time, at most 20 steps, over 1000 steps.
    allowed = 0.02 + K_SIGMA * error[0.999, 0.1]
    assert np.all(np.abs(ratio[0.999, 0.1] - 1) < allowed)
    assert allowed.max() < 0.08


def test_rmsprop_mixes_better_on_a_badly_scaled_gaussian():
    scales = np.array([0.01, 1.0, 1.0])  # three, as above: nothing is compiled anew
    bind = noisy_gaussian(scales, 0.0, COPIES)
    plain = SGLD(0.5 * scales[0] ** 2)
    position = scales * jax.random.normal(jax.random.key(3), (COPIES, 3))
    state = start(plain, bind, (COPIES, 3))._replace(position=position)
    slow = advance(bind, plain, state, 250, 20, jax.random.key(2))[1][0]
    # With G = s the factor step / s is that of the plain chain in the narrowest coordinate: 0.5.
    fast = rmsprop(0.999, 0.5 * scales[0], scales)
    sizes = [effective_sample_size(np.asarray(x).swapaxes(0, 1))[1] for x in (slow, fast)]
    assert sizes[1] > 10 * sizes[0]


@pytest.mark.parametrize("preconditioner", [None, "rmsprop"])
def test_at_temperature_zero_a_step_is_gradient_ascent(preconditioner):
    sampler = SGLD(0.1, 0.0, preconditioner, decay=0.9, damping=1e-3)
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    second_moment = jax.grad(TARGET.logdensity)(START) ** 2
    for i in range(3):
        gradient = jax.grad(TARGET.logdensity)(state.position)
        second_moment = 0.9 * second_moment + 0.1 * gradient**2
        metric = 1.0 if preconditioner is None else 1 / (1e-3 + jnp.sqrt(second_moment))
        expected = state.position + 0.1 * metric * gradient
        state, _ = sampler.step(jax.random.key(i), state, TARGET.logdensity)
        np.testing.assert_allclose(state.position, expected, rtol=20 * EPS)


def test_rmsprop_scales_the_noise_by_the_root_of_the_metric():
    flat = lambda x: jnp.sum(jnp.array([2.0, 8.0]) * x)  # noqa: E731
    sampler = SGLD(0.1, preconditioner="rmsprop", damping=1e-9)
    state = sampler.init(jnp.zeros(2), flat, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 10_000)
    new, _ = jax.jit(jax.vmap(lambda key, state: sampler.step(key, state, flat), (0, None)))(
        keys, state
    )
    # V is the square of the constant gradient: the drift is 1 everywhere, the variance 2 step G.
    error = 1 / np.sqrt(len(keys))
    np.testing.assert_allclose(new.position.mean(axis=0), 0.1, atol=K_SIGMA * error)
    exact = 2 * 0.1 / np.array([2.0, 8.0])
    np.testing.assert_allclose(new.position.var(axis=0), exact, rtol=K_SIGMA * error * np.sqrt(2))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_a_step_equals_the_one_of_blackjax_given_equal_noise(temperature, x64, monkeypatch):
    blackjax = pytest.importorskip("blackjax")
    key, step_size = jax.random.key(7), 0.05
    noise = jax.random.normal(key, (10,), dtype=float)
    monkeypatch.setattr("mirth.samplers.sgld.tree_normal", lambda *_: [noise])
    monkeypatch.setattr("blackjax.sgmcmc.diffusions.generate_gaussian_noise", lambda *_: noise)
    position = jnp.linspace(-1.0, 1.0, 10)
    sampler = SGLD(step_size, temperature)
    state = sampler.init(position, TARGET.logdensity, key)
    ours, _ = sampler.step(key, state, TARGET.logdensity)
    peer = blackjax.sgld(lambda x, _: jax.grad(TARGET.logdensity)(x))
    theirs = peer.step(key, position, None, step_size, temperature)
    np.testing.assert_allclose(ours.position, theirs, rtol=1e-14)


def test_the_gradient_is_that_of_the_density_of_the_step():
    sampler = SGLD(0.1, temperature=0.0)
    state = sampler.init(jnp.zeros(3), lambda x: jnp.sum(100 * x), jax.random.key(0))
    new, info = sampler.step(jax.random.key(1), state, lambda x: jnp.sum(x) + 7)
    np.testing.assert_allclose(new.position, 0.1, rtol=4 * EPS)
    assert info.logdensity == 7
    assert info.energy_change == 0
    assert info.step_size == np.float32(0.1)


def test_the_preconditioner_changes_the_step():
    positions = []
    for preconditioner in (None, "rmsprop"):
        sampler = SGLD(0.1, preconditioner=preconditioner)
        state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
        state, _ = sampler.step(jax.random.key(1), state, TARGET.logdensity)
        positions.append(state.position)
    assert np.abs(positions[0] - positions[1]).max() > 1e-4


def test_a_move_that_overflows_stays_where_it_started():
    cliff = lambda x: jnp.sum(1e30 * x)  # noqa: E731
    sampler = SGLD(1e10)
    state = sampler.init(jnp.zeros(2), cliff, jax.random.key(0))
    state = state._replace(position=jnp.full(2, 1.0))
    new, info = sampler.step(jax.random.key(1), state, cliff)
    assert info.is_divergent
    np.testing.assert_array_equal(new.position, 1.0)
    np.testing.assert_array_equal(new.origin, 1.0)
    np.testing.assert_allclose(info.logdensity, 2e30, rtol=4 * EPS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("step_size", 0.0), ("step_size", -0.1), ("step_size", float("nan"))]
    + [("temperature", -1.0), ("decay", 1.0), ("decay", -0.1), ("damping", 0.0)],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        SGLD(**({"step_size": 0.1} | {name: value}))


def test_an_unknown_preconditioner_is_refused():
    with pytest.raises(ValueError, match="preconditioner='rmsprob' .* did you mean 'rmsprop'"):
        SGLD(0.1, preconditioner="rmsprob")
