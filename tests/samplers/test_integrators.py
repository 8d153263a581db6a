from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc import integrators as peer
from targets import gaussian, log_gamma

from mirth.samplers.integrators import SCHEMES, gradients_per_step, integrate, update_velocity

PEERS = {
    "mclachlan": peer.isokinetic_mclachlan,
    "leapfrog": peer.isokinetic_velocity_verlet,
}
EPS = float(np.finfo(np.float32).eps)


def unit(rng: np.random.Generator, dimension: int) -> np.ndarray:
    vector = rng.normal(size=dimension)
    return vector / np.linalg.norm(vector)


def start(target, seed: int = 0):
    """A typical position, a unit momentum, and the density there."""
    rng = np.random.default_rng(seed)
    position = jnp.asarray(
        target.mean + np.sqrt(target.variance) * rng.normal(size=target.dimension), dtype=float
    )
    momentum = jnp.asarray(unit(rng, target.dimension), dtype=float)
    logdensity, gradient = jax.value_and_grad(target.logdensity)(position)
    return position, momentum, logdensity, gradient


def test_a_scheme_is_palindromic_and_moves_for_one_step_of_time():
    for coefficients in SCHEMES.values():
        assert coefficients == coefficients[::-1]
        np.testing.assert_allclose(sum(coefficients[::2]), 1, rtol=1e-15)
        np.testing.assert_allclose(sum(coefficients[1::2]), 1, rtol=1e-15)
    assert {s: gradients_per_step(s) for s in SCHEMES} == {"mclachlan": 2, "leapfrog": 1}


@pytest.mark.parametrize("is_scaled", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_step_equals_the_one_of_blackjax(scheme, is_scaled, x64):
    target = log_gamma(1.5, 12)
    position, momentum, logdensity, gradient = start(target)
    scale = jnp.linspace(0.5, 2.0, 12) if is_scaled else jnp.ones(())
    # blackjax takes the square: its inverse mass matrix is a variance, our scale an sd.
    step = PEERS[scheme](target.logdensity, scale**2 if is_scaled else 1.0)
    state = peer.IntegratorState(position, momentum, logdensity, gradient)
    theirs, their_change = step(state, 0.7)
    ours = integrate(scheme, target.logdensity, position, momentum, gradient, 0.7, scale)
    assert ours.evaluated.terms is None
    ours = ours._replace(evaluated=ours.evaluated.logdensity)
    for mine, other in zip(ours, [*theirs, their_change], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_step_equals_the_one_of_blackjax_in_single_precision(scheme):
    target = log_gamma(1.5, 12)
    position, momentum, logdensity, gradient = start(target)
    theirs, _ = PEERS[scheme](target.logdensity)(
        peer.IntegratorState(position, momentum, logdensity, gradient), 0.7
    )
    ours = integrate(
        scheme, target.logdensity, position, momentum, gradient, jnp.array(0.7), jnp.ones(())
    )
    ours = ours._replace(evaluated=ours.evaluated.logdensity)
    for mine, other in zip(ours[:4], theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=20 * EPS, atol=20 * EPS)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_runs_back_after_a_flip_of_the_momentum(scheme, x64):
    target = log_gamma(2.0, 8)
    first, momentum, _, gradient = start(target)
    first_momentum, position, total = momentum, first, 0.0
    step = jax.jit(lambda x, u, g: integrate(scheme, target.logdensity, x, u, g, 0.5, jnp.ones(())))
    for direction in (1, -1):
        for _ in range(10):
            position, momentum, _, gradient, change = step(position, momentum, gradient)
            total += change
        if direction == 1:
            assert np.linalg.norm(position - first) > 1
            momentum = -momentum
    np.testing.assert_allclose(position, first, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(momentum, -first_momentum, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(total, 0, atol=1e-10)  # what kinetic energy came, went


@pytest.mark.parametrize("scheme", SCHEMES)
def test_energy_error_of_a_step_is_of_third_order(scheme, x64):
    target = log_gamma(1.0, 20)
    step_sizes = 0.4 * 0.5 ** np.arange(5)
    rng = np.random.default_rng(0)
    positions = np.log(rng.gamma(1.0, size=(300, 20)))
    momenta = rng.normal(size=(300, 20))
    momenta /= np.linalg.norm(momenta, axis=1, keepdims=True)

    @jax.jit
    @jax.vmap
    def energy_error(position, momentum, step_size):
        logdensity, gradient = jax.value_and_grad(target.logdensity)(position)
        _, _, new, _, change = integrate(
            scheme, target.logdensity, position, momentum, gradient, step_size, jnp.ones(())
        )
        return change - new.logdensity + logdensity

    errors = [energy_error(positions, momenta, np.full(300, s)) for s in step_sizes]
    size = np.sqrt(np.mean(np.square(errors), axis=1))
    assert size[-1] > 1e-13  # rounding would flatten the slope
    slope = np.polyfit(np.log(step_sizes), np.log(size), 1)[0]
    assert abs(slope - 3) < 0.2


def exact_update(momentum, gradient, interval):
    """The velocity update and its kinetic change in float64, by another formula than ours.

    The angle theta to the gradient obeys tan(theta' / 2) = tan(theta / 2) exp(-delta), and the
    kinetic energy changes by (d - 1) log(cosh delta + cos(theta) sinh delta).
    """
    dimension, norm = len(momentum), np.linalg.norm(gradient)
    if norm == 0:
        return momentum, 0.0
    e = gradient / norm
    p, across = momentum @ e, momentum - (momentum @ e) * e
    delta = interval * norm / (dimension - 1)
    if np.linalg.norm(across) == 0:  # along the gradient or against it, it stays there
        return momentum, (dimension - 1) * p * delta
    half = np.linalg.norm(across) / (1 + p) * np.exp(-delta)
    turned = (1 - half**2) * e + 2 * half * across / np.linalg.norm(across)
    if delta < 1:
        log_ratio = np.log1p(2 * np.sinh(delta / 2) ** 2 + p * np.sinh(delta))
    else:
        log_ratio = delta + np.log(0.5 * (1 + p + (1 - p) * np.exp(-2 * delta)))
    return turned / (1 + half**2), (dimension - 1) * log_ratio


@pytest.mark.parametrize("delta", [0.0, 1e-8, 1e-4, 0.1, 0.999, 1.001, 5.0, 50.0, 200.0])
@pytest.mark.parametrize("projection", [-1.0, -0.9, 0.0, 0.5, 1.0])
def test_velocity_update_at_its_extremes(delta, projection):
    dimension = 5
    gradient = np.zeros(dimension)
    gradient[1] = delta * (dimension - 1)
    momentum = np.zeros(dimension)
    momentum[1], momentum[3] = projection, np.sqrt(1 - projection**2)
    expected, expected_change = exact_update(momentum, gradient, 1.0)
    turned, change = jax.jit(update_velocity)(
        jnp.asarray(momentum, jnp.float32), jnp.asarray(gradient, jnp.float32), jnp.array(1.0)
    )
    np.testing.assert_allclose(turned, expected, atol=10 * EPS)
    np.testing.assert_allclose(np.linalg.norm(turned), 1, rtol=4 * EPS)
    # An error of eps in the projection is one of eps (d - 1) delta in the change.
    bound = 4 * EPS * (dimension - 1) * min(delta, 1.0) + 4 * EPS * abs(expected_change)
    np.testing.assert_allclose(change, expected_change, rtol=0, atol=max(bound, 1e-30))


def test_velocity_update_with_a_projection_that_rounds_below_minus_one():
    # The kinetic change was NaN here, and the step reverted: log of a number below zero.
    momentum = jnp.array([-1 - 2 * EPS, 0.0, 0.0])
    turned, change = update_velocity(momentum, jnp.array([60.0, 0.0, 0.0]), jnp.array(1.0))
    np.testing.assert_allclose(turned, [-1, 0, 0])
    np.testing.assert_allclose(change, -60, rtol=4 * EPS)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20, 1e15])
def test_velocity_update_with_a_gradient_of_any_size(size):
    momentum = jnp.array([0.6, 0.8, 0.0])
    turned, change = update_velocity(momentum, size * jnp.array([0.0, 0.0, 1.0]), jnp.array(1.0))
    expected, expected_change = exact_update(
        np.array([0.6, 0.8, 0.0]), np.array([0.0, 0.0, size]), 1.0
    )
    np.testing.assert_allclose(turned, expected, atol=4 * EPS)
    np.testing.assert_allclose(change, expected_change, rtol=4 * EPS, atol=1e-30)


def test_kinetic_change_is_symmetric_under_time_reversal():
    rng = np.random.default_rng(3)
    momentum, gradient = jnp.asarray(unit(rng, 30)), jnp.asarray(rng.normal(size=30))
    turned, change = update_velocity(momentum, gradient, jnp.array(2.0))
    back, change_back = update_velocity(-turned, gradient, jnp.array(2.0))
    np.testing.assert_allclose(back, -momentum, atol=10 * EPS)
    np.testing.assert_allclose(change, -change_back, rtol=1e-5, atol=40 * EPS)


def test_scale_is_a_change_of_coordinates(x64):
    scales = np.linspace(0.1, 3.0, 6)
    stretched, round_ = gaussian(scales), gaussian(np.ones(6))
    position, momentum, _, gradient = start(stretched)
    ours = integrate(
        "mclachlan", stretched.logdensity, position, momentum, gradient, 0.4, jnp.asarray(scales)
    )
    there = integrate(
        "mclachlan",
        round_.logdensity,
        position / scales,
        momentum,
        jax.grad(round_.logdensity)(position / scales),
        0.4,
        jnp.ones(()),
    )
    np.testing.assert_allclose(ours[0], there[0] * scales, rtol=1e-12)
    np.testing.assert_allclose(ours[1], there[1], rtol=1e-12)
    np.testing.assert_allclose(ours[4], there[4], rtol=1e-10)
