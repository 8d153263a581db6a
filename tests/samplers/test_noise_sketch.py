"""The sketch of correlated noise: what it learns, and that whitened noise leaves a target alone."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.samplers import (
    STOCHASTIC_SCHEMES,
    LowRank,
    MILETuner,
    NoiseSketch,
    NoisyEnergy,
    ReleasedGuard,
    ReleasedNoisyEnergy,
    StochasticMCLMC,
    apply_low_rank,
    init_noise_sketch,
    merge_block,
    update_noise_sketch,
    whitened_level,
    whitening,
)
from mirth.samplers.noise_sketch import block_length
from tests.cases import slow_but

DIMENSION, RANK = 30, 3
STRENGTHS = np.array([40.0, 15.0, 6.0])
AXES = np.linalg.qr(np.random.default_rng(0).normal(size=(DIMENSION, DIMENSION)))[0][:RANK]
COVARIANCE = np.eye(DIMENSION) + AXES.T * STRENGTHS @ AXES
MEMORY = 4000.0


@jax.jit
def learnt(sketch: NoiseSketch, noise: jax.Array) -> NoiseSketch:
    """Show all rows of noise, in blocks."""

    def block(sketch: NoiseSketch, rows: jax.Array) -> Any:
        sketch = jax.lax.scan(lambda s, x: (update_noise_sketch(s, x), None), sketch, rows)[0]
        return merge_block(sketch, MEMORY), None

    rank = len(sketch.variances)
    return jax.lax.scan(block, sketch, noise.reshape(-1, block_length(rank), noise.shape[-1]))[0]


def noise_of(covariance: np.ndarray, num_blocks: int, seed: int = 1) -> jax.Array:
    rows = num_blocks * block_length(RANK)
    z = np.random.default_rng(seed).normal(size=(rows, len(covariance)))
    return jnp.asarray(z @ np.linalg.cholesky(covariance).T, jnp.float32)


@pytest.fixture(scope="module")
def known() -> NoiseSketch:
    return learnt(init_noise_sketch(jnp.zeros(DIMENSION), RANK), noise_of(COVARIANCE, 200))


def as_matrix(matrix: LowRank) -> np.ndarray:
    apply = jax.vmap(lambda v: apply_low_rank(matrix, v))
    return np.asarray(apply(jnp.eye(matrix.directions.shape[-1])), float)


def test_it_finds_the_directions_and_their_strength(known: NoiseSketch) -> None:
    directions = np.asarray(known.directions, float)
    np.testing.assert_allclose(directions @ directions.T, np.eye(RANK), atol=1e-5)
    # The angle to a direction of variance v among d of variance 1 with n samples is
    # sqrt(d v / n) / (v - 1): 0.06 for the weakest. Its cosine is off by half of its square.
    overlap = np.abs(np.sum(directions * AXES, axis=1))
    angles = np.sqrt(DIMENSION * (1 + STRENGTHS) / MEMORY) / STRENGTHS
    assert (1 - overlap < 4 * angles**2).all(), overlap
    # A variance from n samples has the relative error sqrt(2 / n).
    np.testing.assert_allclose(known.variances, 1 + STRENGTHS, rtol=4 * np.sqrt(2 / MEMORY))
    assert float(known.rest) == pytest.approx(DIMENSION - RANK, rel=0.05)


def test_whitened_noise_is_the_same_in_all_directions(known: NoiseSketch) -> None:
    matrix = as_matrix(whitening(known))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    whitened = matrix @ COVARIANCE @ matrix
    values = np.linalg.eigvalsh(whitened)
    # The variances of the directions are known to 4 * 2.2 %; a direction that is off by an angle
    # leaves the square of it, times its strength, in another: 0.02.
    assert values.min() > 0.85 and values.max() < 1.15, values
    level = float(whitened_level(known, whitening(known)))
    assert level == pytest.approx(np.sqrt(np.trace(whitened) / DIMENSION), rel=0.03)


def test_variances_are_those_of_gradients_that_have_not_chosen_the_directions() -> None:
    """In white noise no direction is strong, though the strongest of few gradients look so."""
    num = 2 * block_length(RANK)
    noise = noise_of(np.eye(DIMENSION), 2)
    sketch = learnt(init_noise_sketch(jnp.zeros(DIMENSION), RANK), noise)
    naive = np.linalg.eigvalsh(np.asarray(noise.T @ noise) / num)[-RANK:]
    assert naive.min() > 2  # (1 + sqrt(30 / 64))^2 = 2.8 at the edge
    # Of 32 gradients: 1 with the error sqrt(2 / 32) = 0.25.
    assert np.asarray(sketch.variances).max() < 2
    assert whitening(sketch).factors.min() > 2**-0.5 - 1


def test_nothing_is_whitened_before_it_is_known() -> None:
    sketch = init_noise_sketch(jnp.zeros(DIMENSION), RANK)
    vector = jnp.linspace(-1, 1, DIMENSION)
    noise = noise_of(COVARIANCE, 2)
    for seen, is_whitened in ((0, False), (32, False), (64, True)):
        now = learnt(sketch, noise[:seen]) if seen else sketch
        found = apply_low_rank(whitening(now), vector)
        assert (np.asarray(found) != np.asarray(vector)).any() == is_whitened
    assert apply_low_rank(None, vector) is vector


def test_a_block_that_says_nothing_changes_nothing(known: NoiseSketch) -> None:
    """Of steps that all diverged, or of gradients that overflow in the products."""
    empty = merge_block(known, MEMORY)
    broken = merge_block(update_noise_sketch(known, jnp.full(DIMENSION, 1e30)), MEMORY)
    for after in (empty, broken):
        jax.tree.map(np.testing.assert_array_equal, after, known)


def test_parameters_without_noise_do_no_harm() -> None:
    """Dead units: their gradient is zero, and fewer directions have noise than were asked for."""
    noise = noise_of(COVARIANCE, 5).at[:, 2:].set(0.0)
    sketch = learnt(init_noise_sketch(jnp.zeros(DIMENSION), RANK), noise)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(sketch))
    assert np.isfinite(as_matrix(whitening(sketch))).all()


def test_a_tree_is_multiplied_as_its_vector_is(known: NoiseSketch) -> None:
    matrix = whitening(known)
    vector = jnp.linspace(-1, 2, DIMENSION)

    def split(rows: jax.Array) -> Any:
        lead = rows.shape[:-1]
        return {"a": rows[..., :12].reshape(*lead, 3, 4), "b": rows[..., 12:]}

    tree = apply_low_rank(LowRank(split(matrix.directions), matrix.factors), split(vector))
    for name, part in split(apply_low_rank(matrix, vector)).items():
        np.testing.assert_allclose(tree[name], part, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheme", slow_but(["leapfrog", "velocity"], STOCHASTIC_SCHEMES))
def test_a_whitened_step_is_a_plain_one_in_other_coordinates(
    known: NoiseSketch, scheme: str
) -> None:
    matrix, scale = whitening(known), jnp.linspace(0.5, 2.0, DIMENSION)
    width = jnp.linspace(1.0, 3.0, DIMENSION)

    def density(x: jax.Array) -> jax.Array:
        return -0.5 * jnp.sum((x / width) ** 2) - 0.1 * jnp.sum(x**4)

    def outside(z: jax.Array) -> jax.Array:
        return scale * apply_low_rank(matrix, z)

    def one(sampler: Any, at: Any, state: Any, key: jax.Array) -> Any:
        state, info = sampler.step(key, state, at)
        return state, info.energy_change

    @jax.jit
    def steps(z: jax.Array) -> Any:
        found = []
        for sampler, at, start in (
            (StochasticMCLMC(0.3, 2.0, scale, scheme, matrix), density, outside(z)),
            (StochasticMCLMC(0.3, 2.0, 1.0, scheme), lambda z: density(outside(z)), z),
        ):
            state = sampler.init(start, at, jax.random.key(0))
            keys = jax.random.split(jax.random.key(1), 4)
            step = functools.partial(one, sampler, at)
            state, energy_changes = jax.lax.scan(step, state, keys)
            found.append((state.position, state.momentum, energy_changes))
        return found

    (position, momentum, energy), (z, plain, other) = steps(jnp.linspace(-1.0, 1.0, DIMENSION))
    # Four steps; each rounds sums of thirty numbers of order one a few times.
    np.testing.assert_allclose(position, outside(z), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(momentum, plain, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(energy, other, rtol=1e-3, atol=1e-4)


SD = jnp.logspace(-0.5, 0.5, 6)
MIXED = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
NOISE = (MIXED * np.geomspace(4.0, 160.0, 6)) @ MIXED.T


@jax.jit
def second_moments(sampler: StochasticMCLMC) -> jax.Array:
    """E[x^2] of 64 chains with white noise of the gradient, in units of the target's variance."""

    def chain(key: jax.Array) -> jax.Array:
        def density(x: jax.Array) -> jax.Array:
            return -0.5 * jnp.sum((x / SD) ** 2)

        def one(i: jax.Array, carry: Any) -> Any:
            state, total = carry
            own = jax.random.fold_in(key, i)
            slope = jnp.asarray(NOISE, jnp.float32) @ jax.random.normal(own, (6,))
            batch = lambda x: density(x) + jnp.sum(slope * x)  # noqa: E731
            state, _ = sampler.step(own, state, batch, False)
            return state, total + (state.position / SD) ** 2

        state = sampler.init(SD * jax.random.normal(key, (6,)), density, key)
        num = 20_000
        return jax.lax.fori_loop(0, num, one, (state, jnp.zeros(6)))[1] / num

    return jax.vmap(chain)(jax.random.split(jax.random.key(0), 64))


def test_whitened_noise_leaves_the_target_alone_and_scaled_noise_does_not() -> None:
    """White, correlated noise and the kernel alone: what a diagonal scale leaves is a bias."""
    covariance = NOISE @ NOISE.T
    scale = 1 / np.sqrt(np.diag(covariance) / np.mean(np.diag(covariance)))
    rows = np.random.default_rng(2).normal(size=(32 * 200, 6)) @ NOISE.T * scale
    sketch = learnt(init_noise_sketch(jnp.zeros(6), 5), jnp.asarray(rows, jnp.float32))
    # The longest step that SMILE takes: whitened noise turns its momentum by 0.15.
    step = 0.15 * np.sqrt(6) / float(whitened_level(sketch, whitening(sketch)))
    identity = whitening(init_noise_sketch(jnp.zeros(6), 5))  # of the same program

    def errors(matrix: LowRank) -> tuple[np.ndarray, np.ndarray]:
        moments = np.asarray(second_moments(StochasticMCLMC(step, scale=scale, whitening=matrix)))
        return np.abs(moments.mean(axis=0) - 1), moments.std(axis=0) / np.sqrt(len(moments))

    error, se = errors(identity)
    assert (error - 4 * se).max() > 0.15, (error, se)
    error, se = errors(whitening(sketch))
    assert (error < 4 * se).all() and se[:4].max() < 0.1 and se[:3].max() < 0.03, (error, se)


@pytest.mark.parametrize("rank", [0, DIMENSION, -1])
def test_a_rank_that_cannot_be(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank={rank} must be between 1 and 29"):
        init_noise_sketch(jnp.zeros(DIMENSION), rank)


def test_adaptations_that_do_not_whiten_refuse_a_rank() -> None:
    kernel, tuner = StochasticMCLMC(1e-3, integrator="stale"), MILETuner(num_steps=100)
    with pytest.raises(ValueError, match="rank=2 needs preconditioned=True"):
        NoisyEnergy(kernel, 100, tuner, "fixed", None, False, 100.0, 1, rank=2)
    with pytest.raises(ValueError, match="leave out rank=2"):
        ReleasedNoisyEnergy(kernel, 100, tuner, "fixed", ReleasedGuard(), True, 100.0, 1, rank=2)
