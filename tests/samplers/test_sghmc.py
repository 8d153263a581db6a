"""SGHMC against its exact stationary moments on Gaussians, and against blackjax."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from noisy_gaussian import K_SIGMA, advance, assert_variance, noisy_gaussian, start, variance_of
from targets import log_gamma

from mirth.evaluation.autocorrelation import effective_sample_size
from mirth.samplers import SGHMC, SGLD

EPS = float(np.finfo(np.float32).eps)
SCALES = np.array([0.5, 1.0, 2.0])
COPIES = 200
TARGET = log_gamma(1.0, 10)
START = jnp.linspace(-1.0, 1.0, 10)


def stationary_variance(step_size, friction, noise=None, scales=SCALES):
    """Exact variance of the position, from the fixed point of the three second moments.

    ``noise`` is all noise in the momentum, of the friction and of the gradients.
    """
    noise = 2 * friction if noise is None else noise
    variances = []
    for s in np.ravel(scales):
        # (x, u) -> A (x, u) + (0, noise), so the covariance is A cov A^T + diag(0, noise).
        kept = 1 - friction - step_size**2 / s**2
        A = np.array([[1.0, step_size], [-step_size / s**2, kept]])
        covariance = np.linalg.solve(np.eye(4) - np.kron(A, A), [0.0, 0.0, 0.0, 1.0])
        variances.append(covariance[0])
    return noise * np.reshape(variances, np.shape(scales))


@functools.cache
def run(sampler_args, noise_sd=0.0):
    bind = noisy_gaussian(SCALES, noise_sd, COPIES)
    sampler = SGHMC(*sampler_args)
    state = start(sampler, bind, (COPIES, len(SCALES)))
    draws, diverged = advance(bind, sampler, state, 250, 20, jax.random.key(2))[1]
    assert not diverged.any()
    return draws[50:]


@pytest.mark.parametrize(
    ("step_size", "friction"),
    [
        (0.6, 0.1),
        (0.3, 1.0),
        pytest.param(0.1, 0.1, marks=pytest.mark.slow),
        pytest.param(0.6, 0.5, marks=pytest.mark.slow),
    ],
)
def test_variance_on_a_gaussian_is_the_exact_one_of_the_discrete_chain(step_size, friction):
    exact = stationary_variance(step_size, friction)
    docstring = SCALES**2 / (1 - step_size**2 / (2 * SCALES**2 * (2 - friction)))
    np.testing.assert_allclose(docstring, exact, rtol=1e-10)
    assert_variance(run((step_size, friction)), exact, largest_se=0.03)


def test_with_friction_one_it_is_sgld_with_the_squared_step_size(monkeypatch):
    noise = jax.random.normal(jax.random.key(3), (10,))
    for name in ("sghmc", "sgld"):
        monkeypatch.setattr(f"mirth.samplers.{name}.tree_normal", lambda *args: [noise] * args[2])
    sampler, langevin = SGHMC(0.2, 1.0), SGLD(0.04)
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    one, _ = sampler.step(jax.random.key(1), state, TARGET.logdensity)
    two, _ = sampler.step(jax.random.key(1), one, TARGET.logdensity)
    start = langevin.init(one.position, TARGET.logdensity, jax.random.key(0))
    theirs, _ = langevin.step(jax.random.key(1), start, TARGET.logdensity)
    np.testing.assert_allclose(two.position, theirs.position, rtol=20 * EPS, atol=20 * EPS)


def test_the_bias_of_a_large_step_is_seen():
    found, error = variance_of(run((0.6, 0.1)))
    assert found[0] - SCALES[0] ** 2 > 10 * error[0]


def test_temperature_scales_the_variance():
    exact = 0.25 * stationary_variance(0.6, 0.5)
    assert_variance(run((0.6, 0.5, 0.25)), exact, largest_se=0.03)


def test_gradient_noise_inflates_the_variance_unless_it_is_taken_off():
    step_size, friction, noise_sd = 0.2, 0.1, 2.0
    extra = (step_size * noise_sd) ** 2
    inflated = stationary_variance(step_size, friction, 2 * friction + extra)
    docstring = (1 + extra / (2 * friction)) * stationary_variance(step_size, friction)
    np.testing.assert_allclose(docstring, inflated, rtol=1e-10)
    assert_variance(run((step_size, friction), noise_sd), inflated, largest_se=0.03)
    known = (step_size, friction, 1.0, noise_sd**2)
    exact = stationary_variance(step_size, friction)
    assert_variance(run(known, noise_sd), exact, largest_se=0.03)


def test_more_gradient_noise_than_friction_leaves_the_gradient_noise_alone():
    # No number says so at construction when the step size arrives later, from a schedule.
    sampler = SGHMC(jnp.asarray(0.5), 0.1, noise_variance=4.0)
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    one, info = sampler.step(jax.random.key(1), state, TARGET.logdensity)
    two, _ = sampler.step(jax.random.key(2), state, TARGET.logdensity)
    assert not info.is_divergent
    np.testing.assert_array_equal(one.momentum, two.momentum)


def variance_with_mass(square, noise_sd, step_size=0.3, friction=0.2):
    """Exact variance of the scale-adapted chain, given V; plain SGHMC in units of the mass."""
    root = np.sqrt(square)
    noise = 2 * friction - step_size**2 * root + step_size**2 * noise_sd**2 / root
    return stationary_variance(step_size, friction, noise, SCALES * np.sqrt(root)) / root


@functools.cache
def adapted(noise_sd, num_steps=2000):
    bind = noisy_gaussian(SCALES, noise_sd, COPIES)
    sampler = SGHMC(0.3, 0.2, adaptive=True)
    position = SCALES * jax.random.normal(jax.random.key(3), (COPIES, len(SCALES)))
    state = sampler.init(position, bind(jax.random.key(0)), jax.random.key(0))
    state, _ = advance(bind, sampler, state, 1, num_steps, jax.random.key(1))
    return bind, sampler, state


def test_adaptation_learns_the_mean_square_of_the_gradient_and_then_stays_frozen():
    noise_sd = 3.0
    bind, sampler, state = adapted(noise_sd)
    square = np.asarray(state.moments.square, dtype=np.float64)
    found, error = square.mean(axis=0), square.std(axis=0) / np.sqrt(COPIES)
    exact = noise_sd**2 + variance_with_mass(found, noise_sd) / SCALES**4
    # The average over all 2000 steps remembers the start, with its variance s^2, for some 50.
    assert np.all(np.abs(found - exact) < K_SIGMA * error + 50 / 2000 / SCALES**2)
    assert error.max() < 0.01 * exact.min()
    still, _ = advance(bind, sampler, state, 1, 10, jax.random.key(4))
    assert not np.allclose(still.moments.square, square)
    frozen, _ = advance(bind, sampler.frozen(), state, 1, 10, jax.random.key(4))
    jax.tree.map(np.testing.assert_array_equal, frozen.moments, state.moments)
    assert not np.allclose(frozen.position, state.position)


def test_one_update_of_the_moments_is_the_one_of_the_paper():
    sampler = SGHMC(0.1, adaptive=True)
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    gradients = [jax.grad(TARGET.logdensity)(START)]
    for i in range(3):
        state, _ = sampler.step(jax.random.key(i), state, TARGET.logdensity)
        gradients.append(jax.grad(TARGET.logdensity)(state.position))
    tau = mean = square = np.ones(10)
    for g in gradients:
        rate = 1 / (tau + 1)
        tau, mean, square = (
            1 + tau - tau * mean**2 / square,
            (1 - rate) * mean + rate * g,
            (1 - rate) * square + rate * g**2,
        )
    for found, expected in zip(state.moments, (tau, mean, square), strict=True):
        np.testing.assert_allclose(found, expected, rtol=100 * EPS, atol=10 * EPS)


@pytest.mark.parametrize("noise_sd", [pytest.param(0.0, marks=pytest.mark.slow), 3.0])
def test_frozen_adaptation_has_the_exact_variance_of_its_mass(noise_sd):
    bind, sampler, state = adapted(noise_sd)
    _, (draws, diverged) = advance(bind, sampler.frozen(), state, 250, 20, jax.random.key(2))
    assert not diverged.any()
    # Every copy has a mass of its own.
    square = np.asarray(state.moments.square, dtype=np.float64)
    exact = variance_with_mass(square, noise_sd)
    assert_variance(draws[50:] / np.sqrt(exact), np.ones(3), largest_se=0.03)
    # The signal counted as noise makes the chain too cold by the factor of the docstring.
    root = np.sqrt(square)
    factor = 1 - 0.3**2 * (square - noise_sd**2) / root / (2 * 0.2)
    bias = 1 / (1 - 0.3**2 / (2 * SCALES**2 * root * (2 - 0.2)))
    np.testing.assert_allclose(exact, SCALES**2 * factor * bias, rtol=1e-9)


@pytest.mark.slow
def test_adaptation_mixes_better_on_a_badly_scaled_gaussian():
    scales = np.array([0.01, 1.0, 1.0])  # the shapes of above: nothing is compiled anew
    bind = noisy_gaussian(scales, 0.0, COPIES)
    position = scales * jax.random.normal(jax.random.key(3), (COPIES, 3))
    sizes = []
    # Equal in units of the narrowest coordinate, step / s; with M = 1 / s, step / s^(1/2).
    for sampler in (SGHMC(0.5 * 0.01, 0.2), SGHMC(0.5 * 0.1, 0.2, adaptive=True)):
        state = sampler.init(position, bind(jax.random.key(0)), jax.random.key(0))
        state, _ = advance(bind, sampler, state, 1, 5000, jax.random.key(1))
        draws = advance(bind, sampler.frozen(), state, 250, 20, jax.random.key(2))[1][0]
        sizes.append(effective_sample_size(np.asarray(draws).swapaxes(0, 1))[1])
    assert sizes[1] > 10 * sizes[0]


@pytest.mark.parametrize("adaptive", [False, True])
def test_at_temperature_zero_a_step_is_gradient_ascent_with_momentum(adaptive):
    sampler = SGHMC(0.1, 0.3, 0.0, adaptive=adaptive)
    state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
    np.testing.assert_array_equal(state.momentum, 0)
    position, momentum = START, jnp.zeros(10)
    for i in range(3):
        rate = 0.1 * state.moments.square**-0.25 if adaptive else 0.1
        position = position + rate * momentum
        momentum = 0.7 * momentum + rate * jax.grad(TARGET.logdensity)(position)
        state, _ = sampler.step(jax.random.key(i), state, TARGET.logdensity)
        np.testing.assert_allclose(state.position, position, rtol=40 * EPS)
        np.testing.assert_allclose(state.momentum, momentum, rtol=40 * EPS, atol=4 * EPS)


def test_the_momentum_is_drawn_from_its_normal_density():
    for temperature in (1.0, 0.25):
        sampler = SGHMC(0.1, temperature=temperature)
        flat = lambda x: jnp.sum(x)  # noqa: E731
        state = sampler.init(jnp.zeros(20_000), flat, jax.random.key(0))
        again = sampler.resample_momentum(jax.random.key(1), state)
        assert abs(np.corrcoef(state.momentum, again.momentum)[0, 1]) < K_SIGMA / np.sqrt(20_000)
        for momentum in (state.momentum, again.momentum):
            assert abs(momentum.mean()) < K_SIGMA * np.sqrt(temperature / 20_000)
            np.testing.assert_allclose(momentum.var(), temperature, rtol=K_SIGMA * 0.01)
        np.testing.assert_array_equal(again.position, state.position)


def test_a_step_equals_the_one_of_blackjax_given_equal_noise(x64, monkeypatch):
    # Theirs takes the gradient before the position moves; [1] and ours take it after.
    diffusions = pytest.importorskip("blackjax.sgmcmc.diffusions")
    key, h, friction, variance = jax.random.key(7), 0.05, 0.1, 3.0
    noise = jax.random.normal(key, (10,), dtype=float)
    monkeypatch.setattr("mirth.samplers.sghmc.tree_normal", lambda key, like, num: [noise] * num)
    monkeypatch.setattr("blackjax.sgmcmc.diffusions.generate_gaussian_noise", lambda *_: noise)
    position, momentum = jnp.linspace(-1.0, 1.0, 10), jnp.linspace(2.0, 1.0, 10)
    sampler = SGHMC(h, friction, noise_variance=variance)
    state = sampler.init(position, TARGET.logdensity, key)._replace(momentum=momentum)
    ours, _ = sampler.step(key, state, TARGET.logdensity)
    gradient = jax.grad(TARGET.logdensity)(position + h * momentum)
    peer = diffusions.sghmc(alpha=friction / h, beta=variance)
    theirs = peer(key, position, momentum, gradient, h)
    np.testing.assert_allclose(ours.position, theirs[0], rtol=1e-14)
    np.testing.assert_allclose(ours.momentum, theirs[1], rtol=1e-13)


def test_the_gradient_is_that_of_the_density_of_the_step():
    sampler = SGHMC(0.1, 1.0, temperature=0.0)
    state = sampler.init(jnp.zeros(3), lambda x: jnp.sum(100 * x), jax.random.key(0))
    new, info = sampler.step(jax.random.key(1), state, lambda x: jnp.sum(x) + 7)
    np.testing.assert_allclose(new.momentum, 0.1, rtol=4 * EPS)
    assert info.logdensity == 7
    assert info.energy_change == 0
    assert info.step_size == np.float32(0.1)


def test_the_adaptation_changes_the_step():
    momenta = []
    for adaptive in (False, True):
        sampler = SGHMC(0.1, 0.1, adaptive=adaptive)
        state = sampler.init(START, TARGET.logdensity, jax.random.key(0))
        momenta.append(sampler.step(jax.random.key(1), state, TARGET.logdensity)[0].momentum)
    assert np.abs(momenta[0] - momenta[1]).max() > 1e-3


def test_a_parameter_without_any_gradient_stays_finite():
    half_flat = lambda x: -0.5 * x[0] ** 2  # noqa: E731
    sampler = SGHMC(0.1, adaptive=True)
    state = sampler.init(jnp.ones(2), half_flat, jax.random.key(0))
    state, (_, diverged) = advance(
        Partial(lambda key: half_flat), sampler, state, 1, 500, jax.random.key(1)
    )
    assert not diverged.any()
    assert np.isfinite(ravel_pytree(state)[0]).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("step_size", 0.0), ("step_size", -0.1), ("friction", 0.0), ("friction", 1.5)]
    + [("temperature", -1.0), ("noise_variance", -1.0)],
)
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        SGHMC(**({"step_size": 0.1} | {name: value}))


def test_a_negative_variance_of_the_noise_is_refused():
    SGHMC(0.1, 0.05, noise_variance=9.9)
    with pytest.raises(ValueError, match=r"noise_variance=10.1 .*at most .* 0.1. Use a smaller"):
        SGHMC(0.1, 0.05, noise_variance=10.1)


def test_a_noise_variance_beside_the_estimated_one_is_refused():
    with pytest.raises(ValueError, match="noise_variance=0.5 has no meaning with adaptive=True"):
        SGHMC(0.1, noise_variance=0.5, adaptive=True)
