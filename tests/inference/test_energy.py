"""Energy errors are known to their small difference, however large the log density is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mirth
from mirth.core.types import Batch
from mirth.inference.chains.log_density import LogDensity
from mirth.inference.chains.sources import AllRows, StreamedBatches
from mirth.inference.rows import features_first
from mirth.model.terms import ROWS_PER_TERM
from mirth.samplers import MCLMC, StochasticMCLMC

EPS = float(np.finfo(np.float32).eps)
NUM_STEPS = 16
ALLOWED = 1e-4 * 1000  # variance of the energy error: 1e-4 per dimension, of 1000
NETWORKS = {
    "MLP": mirth.MLP((), num_outputs=2),
    "functions": mirth.networks.FunctionalNetwork(
        mirth.MLP((), num_outputs=2).init, mirth.MLP((), num_outputs=2).apply
    ),
}


def rows_of_a_line(num_rows: int) -> tuple[Batch, Any]:
    """Rows with a Normal noise of sd 1, and the weights of that line."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_rows, 2)).astype(np.float32)
    y = (x @ np.float32([0.05, -0.1]) + rng.normal(size=num_rows)).astype(np.float32)
    weight = jnp.array([[0.05, -0.1], [0.0, 0.0]])
    bias = jnp.array([0.0, np.log(np.e - 1)])  # the scale is softplus of the second output
    return Batch(jnp.asarray(x), jnp.asarray(y)), {"network": ({"weight": weight, "bias": bias},)}


def energies(kernel: Any, logdensity_fn: Any, start: Any) -> jax.Array:
    """Energy errors of steps of a chain that are so short that they are rounding and nothing else.

    That of a step is (step / sd)^3 of a number of order one, here 1e-6.
    """

    def step(state: Any, key: Any) -> Any:
        state, info = kernel.step(key, state, logdensity_fn)
        return state, info.energy_change

    keys = jax.random.split(jax.random.key(0), NUM_STEPS)
    state = kernel.init(start, logdensity_fn, keys[0])
    return jax.lax.scan(step, state, keys)[1]


def both(kernel: Any, logdensity_fn: Any, start: Any) -> tuple[jax.Array, jax.Array]:
    """Energy errors with the terms of a log density, and with its values alone."""
    plain = lambda x: logdensity_fn(x)  # noqa: E731
    return energies(kernel, logdensity_fn, start), energies(kernel, plain, start)


def rms(values: jax.Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize(
    ("network", "block_size"), [("MLP", None), ("MLP", 100_000), ("functions", None)]
)
@pytest.mark.parametrize("num_rows", [500_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_the_floor_of_the_energy_error_on_all_rows(
    num_rows: int, network: str, block_size: int | None
) -> None:
    batch, params = rows_of_a_line(num_rows)
    model = mirth.Model(NETWORKS[network], mirth.Normal())
    flat, unravel = ravel_pytree(params)
    kernel = MCLMC(0.01 * np.sqrt(flat.size / num_rows), np.inf)

    @jax.jit
    def run(stored: Any, flat: Any) -> Any:
        rows = AllRows(block_size).log_likelihood(model, stored, jax.random.key(0), 0, 0)
        return both(kernel, LogDensity(model.log_prior, rows, unravel), flat)

    ours, plain = map(rms, run(features_first(batch), flat))
    # Each of the terms is about 1.4 rows_per_term, and is rounded to this unit where it is summed
    # up, at both ends; the sums inside of it add as much again.
    unit = EPS * 2 ** np.floor(np.log2(1.4 * ROWS_PER_TERM))
    floor = 2 * unit * np.sqrt(2 * num_rows / ROWS_PER_TERM / 12)
    assert ours < 2 * floor
    assert ours**2 < 0.1 * ALLOWED * num_rows / 10_000_000
    # As two numbers the log densities are rounded to this.
    assert plain > EPS * 2 ** np.floor(np.log2(1.4 * num_rows)) / np.sqrt(12)


@pytest.mark.parametrize(
    ("network", "integrator"), [("MLP", "leapfrog"), ("functions", "velocity")]
)
def test_the_floor_of_the_energy_error_on_a_batch_of_ten_million_rows(
    network: str, integrator: str
) -> None:
    num_rows, batch_size = 10_000_000, 256
    batch, params = rows_of_a_line(batch_size)
    model = mirth.Model(NETWORKS[network], mirth.Normal())
    flat, unravel = ravel_pytree(params)
    # Shorter than on all rows: the optimum of a batch is sqrt(num_rows / batch_size) = 200 sd away.
    kernel = StochasticMCLMC(0.001 * np.sqrt(flat.size / num_rows), integrator=integrator)

    @jax.jit
    def run(batch: Any, flat: Any) -> Any:
        stack = jax.tree.map(lambda leaf: leaf[None], batch)
        source = StreamedBatches(num_rows)
        rows = source.log_likelihood(model, stack, jax.random.key(0), 0, 0)
        return both(kernel, LogDensity(model.log_prior, rows, unravel), flat)

    ours, plain = map(rms, run(batch._replace(num_rows=jnp.array(batch_size)), flat))
    scale = num_rows / batch_size
    # Ten operations lead to the number of a row, of order one, at both ends.
    assert ours < 2 * EPS * scale * np.sqrt(2 * batch_size * 10 / 12)
    assert ours**2 < ALLOWED
    assert plain > EPS * 256 * scale / np.sqrt(12)


def test_the_energy_error_is_that_of_double_precision() -> None:
    """Of a step that is long enough for one: two standard deviations."""
    num_rows = 200_000
    batch, params = rows_of_a_line(num_rows)
    model = mirth.Model(NETWORKS["functions"], mirth.Normal())
    momentum = np.random.default_rng(1).normal(size=6)
    momentum /= np.linalg.norm(momentum)

    def energy(dtype: Any) -> float:
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(dtype), params))
        stored = features_first(jax.tree.map(lambda leaf: leaf.astype(dtype), batch))
        kernel = MCLMC(2 * np.sqrt(flat.size / num_rows), np.inf, integrator="leapfrog")

        @jax.jit
        def one(flat: Any, stored: Any, momentum: Any) -> Any:
            rows = AllRows(None).log_likelihood(model, stored, jax.random.key(0), 0, 0)
            logdensity = LogDensity(model.log_prior, rows, unravel)
            state = kernel.init(flat, logdensity, jax.random.key(0))._replace(momentum=momentum)
            return kernel.step(jax.random.key(0), state, logdensity)[1].energy_change

        return float(one(flat, stored, jnp.asarray(momentum, dtype)))

    single = energy(jnp.float32)
    with jax.enable_x64(True):
        double = energy(jnp.float64)
    assert abs(double) > 0.05
    # 49 terms, rounded as above.
    assert abs(single - double) < 4 * EPS * 4096 * np.sqrt(2 * 49 / 12)


def test_a_plain_function_has_no_terms() -> None:
    """The state has no more leaves than its four fields, and the difference is that of the sums."""
    density = lambda x: -0.5 * jnp.sum(x**2)  # noqa: E731
    state = MCLMC(0.5, 3.0).init(jnp.ones(4), density, jax.random.key(0))
    assert state.terms is None and len(jax.tree.leaves(state)) == 4
    after, info = MCLMC(0.5, 3.0).step(jax.random.key(1), state, density)
    assert after.terms is None and np.isfinite(info.energy_change)


def test_terms_of_groups_and_blocks_sum_up_to_the_value() -> None:
    batch, params = rows_of_a_line(1000)
    weighted = batch._replace(weights=jnp.linspace(0.0, 2.0, 1000))
    for network in NETWORKS.values():
        model = mirth.Model(network, mirth.Normal())
        exact = np.float64(weighted.weights) * np.float64(model.log_prob(params, batch))
        for size in (1, 7, 100, 1000, 5000):
            total, terms = model.split_log_likelihood(params, weighted, rows_per_term=size)
            groups = [exact[i : i + size].sum() for i in range(0, 1000, size)]
            np.testing.assert_allclose(terms, groups, rtol=1e-4, atol=1e-4)
            assert float(total) == pytest.approx(exact.sum(), rel=1e-5)
