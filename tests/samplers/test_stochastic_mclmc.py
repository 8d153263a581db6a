"""The stochastic microcanonical step: without noise it is MCLMC, with noise theory holds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.samplers import (
    MCLMC,
    STOCHASTIC_SCHEMES,
    StochasticMCLMC,
    init_noise_scale,
    preconditioner,
    update_noise_scale,
)

DIMENSION = 10
SD = jnp.logspace(-1, 1, DIMENSION)  # condition number 1e4 of the covariance


def gaussian(x: jax.Array) -> jax.Array:
    return -0.5 * jnp.sum((x / SD) ** 2)


def noisy(key: jax.Array, scale: Any) -> Any:
    """A batch: the gradient has noise of this standard deviation, the full sum is unchanged."""
    noise = scale * jax.random.normal(key, (DIMENSION,))
    return lambda x: gaussian(x) + jnp.sum(noise * x)


compiled_step = jax.jit(lambda sampler, key, state: sampler.step(key, state, gaussian))


@pytest.mark.parametrize("L", [3.0, pytest.param(float("inf"), marks=pytest.mark.slow)])
def test_without_noise_the_step_is_that_of_mclmc(L: float) -> None:
    x = jnp.linspace(-1.0, 1.0, DIMENSION)
    ours, theirs = StochasticMCLMC(0.3, L, integrator="velocity"), MCLMC(0.3, L)
    one = ours.init(x, gaussian, jax.random.key(0))
    two = theirs.init(x, gaussian, jax.random.key(0))
    for i in range(5):
        one, info = compiled_step(ours, jax.random.key(i), one)
        two, other = compiled_step(theirs, jax.random.key(i), two)
        for a, b in zip(one[:2], two[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(info.energy_change, other.energy_change, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scheme", STOCHASTIC_SCHEMES)
def test_gradients_of_a_step(scheme: str) -> None:
    sampler = StochasticMCLMC(0.3, integrator=scheme)
    state = sampler.init(jnp.ones(DIMENSION), gaussian, jax.random.key(0))
    count = 0

    @jax.custom_vjp
    def counted(x: jax.Array) -> jax.Array:
        return gaussian(x)

    def forward(x: jax.Array) -> Any:
        nonlocal count
        count += 1
        return gaussian(x), x

    counted.defvjp(forward, lambda x, g: (g * jax.grad(gaussian)(x),))
    jax.make_jaxpr(lambda s: sampler.step(jax.random.key(0), s, counted))(state)
    assert count == STOCHASTIC_SCHEMES[scheme]


@pytest.mark.parametrize(
    # That of velocity is the one of MCLMC: above.
    "scheme",
    ["leapfrog", *(pytest.param(x, marks=pytest.mark.slow) for x in ("mclachlan", "velocity"))],
)
def test_the_energy_error_is_of_third_order(scheme: str) -> None:
    steps = np.array([0.02, 0.04, 0.08])

    @jax.jit
    def changes(step_size: jax.Array, keys: jax.Array) -> jax.Array:
        sampler = StochasticMCLMC(step_size, integrator=scheme)

        def one(key: jax.Array) -> jax.Array:
            x = SD * jax.random.normal(key, (DIMENSION,))
            state = sampler.init(x, gaussian, key)
            return sampler.step(key, state, gaussian)[1].energy_change

        return jax.vmap(one)(keys)

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 200)
        errors = [np.sqrt(np.mean(np.square(changes(step, keys)))) for step in steps]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - 3) < 0.2


@pytest.mark.parametrize(
    # One that takes the probe apart from the step, and one that has it anyway.
    "scheme",
    [
        pytest.param(name, marks=[] if name == "leapfrog" else [pytest.mark.slow])
        for name in STOCHASTIC_SCHEMES
    ],
)
def test_probes_change_nothing(scheme: str) -> None:
    sampler = StochasticMCLMC(0.1, integrator=scheme)

    @jax.jit
    def step(key: jax.Array, state: Any, is_probe: jax.Array) -> Any:
        return sampler.step(key, state, noisy(key, 5.0), is_probe)

    state = other = sampler.init(jnp.ones(DIMENSION), gaussian, jax.random.key(0))
    for i in range(10):
        state, info = step(jax.random.key(i), state, True)
        other, silent = step(jax.random.key(i), other, False)
    np.testing.assert_array_equal(state.position, other.position)
    assert float(info.energy_change) != 0
    assert (float(silent.energy_change) == 0) == (scheme in ("leapfrog", "mclachlan"))


def second_moments(noise: Any, scale: Any, step_size: float, num_steps: int) -> np.ndarray:
    """E[x^2] over 64 chains of the leapfrog scheme, in units of the target's variance."""
    found = moments_of_chains(
        # Of one type, so that all share a program.
        StochasticMCLMC(step_size, scale=jnp.full(DIMENSION, scale, jnp.float32)),
        jnp.full(DIMENSION, noise, jnp.float32),
        num_steps,
    )
    return np.asarray(found)


@jax.jit
def moments_of_chains(sampler: StochasticMCLMC, noise: Any, num_steps: Any) -> Any:
    def chain(key: jax.Array) -> jax.Array:
        x = SD * jax.random.normal(key, (DIMENSION,))
        state = sampler.init(x, gaussian, key)

        def one(i: jax.Array, carry: Any) -> Any:
            state, total = carry
            batch = noisy(jax.random.fold_in(jax.random.fold_in(key, 1), i), noise)
            state, _ = sampler.step(jax.random.fold_in(key, i), state, batch, False)
            return state, total + (state.position / SD) ** 2

        return jax.lax.fori_loop(0, num_steps, one, (state, jnp.zeros(DIMENSION)))[1] / num_steps

    return jax.vmap(chain)(jax.random.split(jax.random.key(0), 64))


def bias(moments: np.ndarray) -> tuple[float, float]:
    """Mean over parameters of (E[x^2] - 1)^2 / 2, and what Monte Carlo alone would give."""
    error = moments.mean(axis=0) - 1
    floor = moments.var(axis=0) / len(moments)
    return float(np.mean(error**2) / 2), float(np.mean(floor) / 2)


@pytest.mark.parametrize("size", [pytest.param(1.0, marks=pytest.mark.slow), 30.0])
def test_isotropic_noise_leaves_the_target_alone(size: float) -> None:
    """Of any size: the bias falls to the Monte-Carlo floor."""
    found, floor = bias(second_moments(size, 1.0, 0.02, 6_000))
    # A mean of ten squares, each about the floor times chi squared with one degree of freedom.
    assert found < 4 * floor + 1e-3


def test_anisotropic_noise_biases_and_its_scale_repairs_that() -> None:
    noise = 30 / SD  # largest where the target is narrow
    sigma = noise / jnp.sqrt(jnp.mean(noise**2))
    steps = 6_000
    plain, _ = bias(second_moments(noise, 1.0, 0.02, steps))
    repaired, floor = bias(second_moments(noise, 1 / sigma, 0.02, steps))
    assert plain > 10 * repaired
    assert repaired < 4 * floor + 2e-3


def test_the_noise_scale_finds_the_noise() -> None:
    noise = jnp.logspace(-1, 1, DIMENSION)
    state = init_noise_scale(jnp.zeros(DIMENSION))
    keys = jax.random.split(jax.random.key(0), 4000)
    drift = 100.0  # the mean of the gradient does not matter

    def one(state: Any, key: jax.Array) -> Any:
        gradient = drift + noise * jax.random.normal(key, (DIMENSION,))
        return update_noise_scale(state, gradient, memory=2000.0), None

    state, _ = jax.lax.scan(one, state, keys)
    sigma = noise / jnp.sqrt(jnp.mean(noise**2))
    # A window of 2000 has about as many effective numbers: 1 / sqrt(2 * 2000) = 1.6 %.
    np.testing.assert_allclose(preconditioner(state), 1 / sigma, rtol=4 * 0.016)
    early = update_noise_scale(init_noise_scale(jnp.zeros(DIMENSION)), noise)
    np.testing.assert_array_equal(preconditioner(early), 1.0)
    clipped = preconditioner(state._replace(variance=state.variance.at[0].set(0.0)), span=20.0)
    assert float(clipped[0]) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"step_size": 0.0}, "step_size=0.0 must be positive"),
        ({"step_size": 0.1, "L": -1.0}, "L=-1.0 must be positive"),
        ({"step_size": 0.1, "integrator": "leap"}, "Did you mean 'leapfrog'|leapfrog"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        StochasticMCLMC(**options)


def test_one_dimension_is_too_few() -> None:
    with pytest.raises(ValueError, match="need at least 2"):
        StochasticMCLMC(0.1).init(jnp.ones(1), gaussian, jax.random.key(0))
