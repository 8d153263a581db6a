"""Kernels and real likelihoods by the joint distribution test of Geweke (JASA 99, 2004).

Parameters and targets are drawn from the joint distribution of the model. Then a kernel moves the
parameters given the targets, and targets are drawn given the parameters, in turns. Both leave the
joint distribution alone, so in the end the parameters must still have their prior. Each replicate
is independent of the others, so standard errors need no effective sample size; a fault of the
prior, the likelihood, the scale of a batch or the kernel adds up over the turns.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from targets import KnownNoise

import mirth
from mirth.core.types import Batch
from mirth.inference.chains.log_density import LogDensity
from mirth.inference.chains.sources import AllRows, ResidentBatches
from mirth.inference.rows import features_first
from mirth.samplers import MCLMC, StochasticMCLMC

K_SIGMA = 4.0
NUM_ROWS, STEPS_PER_TURN = 12, 12
NUM_REPLICATES, NUM_TURNS = 2048, 20
X = np.random.default_rng(0).normal(size=(NUM_ROWS, 3)).astype(np.float32)
MODELS = {
    "linear": (mirth.networks.MLP((), num_outputs=1), KnownNoise(noise=2.0), 3),
    "network": (
        mirth.networks.MLP((2,), num_outputs=1, activation="tanh"),
        mirth.likelihoods.HomoscedasticNormal(raw_scale_prior=0.5),
        1,
    ),
}
KERNELS: dict[str, tuple[Any, Any]] = {
    "all rows": (MCLMC(0.1, 1.0), AllRows(None)),
    "batches": (StochasticMCLMC(0.1, 1.0), ResidentBatches(NUM_ROWS, 4)),
    "batches, short steps": (StochasticMCLMC(0.025, 1.0), ResidentBatches(NUM_ROWS, 4)),
}
kernels = pytest.mark.parametrize("kernel", ["all rows", "batches"])


class Sizes(NamedTuple):
    """What a fault changes: powers of the prior and of the likelihood in the kernel's density."""

    prior: float = 1.0
    likelihood: float = 1.0


RIGHT = Sizes()


def of_prior(model: mirth.Model, x: jax.Array, key: jax.Array) -> Any:
    """Draw parameters from the prior."""
    like = jax.eval_shape(model.init_weights, key, x)
    params = {"network": model.prior.sample(jax.random.fold_in(key, 0), like["network"])}
    if model.likelihood.num_shared:
        noise = jax.random.normal(jax.random.fold_in(key, 1), like["shared"].shape)
        params["shared"] = model.likelihood.raw_scale_prior * noise
    return params


@functools.partial(
    jax.jit,
    static_argnums=(0, 1),
    compiler_options={"xla_backend_optimization_level": 1},
)
def run(model_name: str, kernel_name: str, sizes: Sizes, num_turns: Any, keys: jax.Array) -> Any:
    """Give the parameters of all replicates before and after, and the misfit of the last rows.

    The misfit is the mean of the squared standardised residuals of the targets that the kernel has
    seen last, given the last parameters.
    """
    network, likelihood, num_features = MODELS[model_name]
    model = mirth.Model(network, likelihood, mirth.priors.NormalPrior(scale=1.0))
    kernel, source = KERNELS[kernel_name]
    x = jnp.asarray(X[:, :num_features])
    unravel = ravel_pytree(of_prior(model, x, jax.random.key(0)))[1]

    def turn(number: jax.Array, carry: Any, key: jax.Array) -> Any:
        position, momentum, _ = carry
        of_rows, of_steps, of_batches = jax.random.split(jax.random.fold_in(key, number), 3)
        y = likelihood.sample(of_rows, model.outputs(unravel(position), x))
        stored = features_first(Batch(x, y))

        def density(step: Any) -> LogDensity:
            rows = source.log_likelihood(model, stored, of_batches, step, 0)

            def powered(params: Any) -> Any:
                return jax.tree.map(lambda value: sizes.likelihood * value, rows(params))

            return LogDensity(lambda p: sizes.prior * model.log_prior(p), powered, unravel)

        # The gradient that the state holds is of other targets: only the momentum is taken over.
        state = kernel.init(position, density(0), of_steps)._replace(momentum=momentum)

        def step(i: jax.Array, state: Any) -> Any:
            return kernel.step(jax.random.fold_in(of_steps, i), state, density(i))[0]

        state = jax.lax.fori_loop(0, STEPS_PER_TURN, step, state)
        outputs = model.outputs(unravel(state.position), x)
        squares = (y - likelihood.mean(outputs)) ** 2 / likelihood.variance(outputs)
        return state.position, state.momentum, jnp.mean(squares)

    def replicate(key: jax.Array) -> Any:
        first = ravel_pytree(of_prior(model, x, key))[0]
        momentum = jax.random.normal(jax.random.fold_in(key, 2), first.shape)
        carry = first, momentum / jnp.linalg.norm(momentum), jnp.zeros(())
        later = jax.random.fold_in(key, 3)
        carry = jax.lax.fori_loop(0, num_turns, lambda n, c: turn(n, c, later), carry)
        return first, carry[0], carry[2]

    return jax.vmap(replicate)(keys)


def deviations(
    model_name: str,
    kernel_name: str,
    sizes: Sizes = RIGHT,
    num_replicates: int = NUM_REPLICATES,
    num_turns: int = NUM_TURNS,
) -> np.ndarray:
    """Give errors of means, squares, products and the misfit, in standard errors."""
    keys = jax.random.split(jax.random.key(0), num_replicates)
    first, last, misfit = map(np.asarray, run(model_name, kernel_name, sizes, num_turns, keys))
    scale = np.ones(first.shape[1])
    if MODELS[model_name][1].num_shared:
        scale[-1] = 0.5  # the noise, last in the flat order
    # Without this a kernel that hardly moves would pass.
    moved = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, last.T, strict=True)]
    assert np.max(np.abs(moved)) < 0.5, moved
    z = last.astype(float) / scale
    pairs = np.triu_indices(z.shape[1])
    is_square = pairs[0] == pairs[1]
    # Of Normal numbers: 1 is the variance of z and of a product, 2 that of a square.
    products = (z[:, pairs[0]] * z[:, pairs[1]] - is_square) / np.sqrt(1.0 + is_square)
    residual = (misfit.astype(float) - 1) / np.sqrt(2 / NUM_ROWS)
    of_all = np.column_stack([z, products, residual])
    return np.sqrt(num_replicates) * of_all.mean(axis=0)


@kernels
def test_the_joint_distribution_stays(kernel: str) -> None:
    found = deviations("linear", kernel)
    assert np.abs(found).max() < K_SIGMA, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "kernel"),
    [
        ("linear", "all rows"),
        ("linear", "batches"),
        ("network", "all rows"),
        ("network", "batches, short steps"),
    ],
)
def test_the_joint_distribution_stays_long(model: str, kernel: str) -> None:
    found = deviations(model, kernel, num_replicates=4096, num_turns=80)
    assert np.abs(found).max() < K_SIGMA, found


@pytest.mark.slow
def test_long_steps_on_batches_bias_a_sampled_noise() -> None:
    """By 0.12 deviations of its prior, without preconditioning; four times shorter steps do not."""
    found = deviations("network", "batches", num_replicates=4096, num_turns=40)
    assert found[7] > K_SIGMA  # the noise has the last of eight means


@kernels
@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(prior=1.3),  # the deviation of the prior is 12 % too small
        Sizes(likelihood=1 / 3),  # the rows of a batch do not stand for all rows
    ],
)
def test_a_fault_is_found(kernel: str, sizes: Sizes) -> None:
    found = deviations("linear", kernel, sizes)
    assert np.abs(found).max() > 1.5 * K_SIGMA, found
