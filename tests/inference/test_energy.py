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
NUM_STEPS = 30
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


def rms(values: jax.Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("block_size", [None, 100_000])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "num_rows", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)]
)
def test_the_floor_of_the_energy_error_on_all_rows(
    num_rows: int, network: str, block_size: int | None
) -> None:
    batch, params = rows_of_a_line(num_rows)
    model = mirth.Model(NETWORKS[network], mirth.Normal())
    flat, unravel = ravel_pytree(params)
    kernel = MCLMC(0.01 * np.sqrt(flat.size / num_rows), np.inf)

    @jax.jit
    def run(stored: Any, flat: Any) -> Any:
        rows = AllRows(block_size).log_likelihood(model, stored, None, 0, 0)
        logdensity = LogDensity(model.log_prior, rows, unravel)
        plain = lambda x: logdensity(x)  # noqa: E731
        return energies(kernel, logdensity, flat), energies(kernel, plain, flat)

    ours, plain = map(rms, run(features_first(batch), flat))
    # Each of the terms is about 1.4 rows_per_term, and is rounded to this unit where it is summed
    # up, at both ends; the sums inside of it add as much again.
    unit = EPS * 2 ** np.floor(np.log2(1.4 * ROWS_PER_TERM))
    floor = 2 * unit * np.sqrt(2 * num_rows / ROWS_PER_TERM / 12)
    print(num_rows, network, block_size, ours, plain, floor)
    assert ours < 2 * floor
    assert ours**2 < 1e-4 * 1000 * num_rows / 10_000_000 / 10
    # As two numbers the log densities are rounded to this.
    assert plain > EPS * 2 ** np.floor(np.log2(1.4 * num_rows)) / np.sqrt(12)


@pytest.mark.parametrize("integrator", ["leapfrog", "velocity"])
@pytest.mark.parametrize("network", NETWORKS)
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
        rows = StreamedBatches(num_rows).log_likelihood(model, stack, None, 0, 0)
        logdensity = LogDensity(model.log_prior, rows, unravel)
        plain = lambda x: logdensity(x)  # noqa: E731
        return energies(kernel, logdensity, flat), energies(kernel, plain, flat)

    ours, plain = map(rms, run(batch._replace(num_rows=jnp.array(batch_size)), flat))
    print(network, integrator, ours, plain)
    scale = num_rows / batch_size
    # A row is a number of order one; a few roundings of it, at both ends.
    assert ours < 4 * EPS * scale * np.sqrt(2 * batch_size / 12)
    assert ours**2 < 1e-4 * 1000
    assert plain > EPS * 256 * scale / np.sqrt(12)
