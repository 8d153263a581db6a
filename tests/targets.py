"""Targets with known moments, and a plain driver of tuned chains on them.

The driver does what ``mirth/inference/chains/chains.py`` does with the tuner, without ensembles,
devices and chunks: all chains in one vectorised program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.special import digamma, polygamma

from mirth.core.types import Batch
from mirth.evaluation.autocorrelation import effective_sample_size
from mirth.model import MLP, HierarchicalNormalPrior, Likelihood, Model, NormalPrior, PriorMap
from mirth.samplers import MCLMC, MILETuner, Phase


@dataclasses.dataclass(frozen=True)
class Target:
    """A density of flat positions and the exact moments of its coordinates."""

    logdensity: Callable[[Any], Any]
    mean: np.ndarray
    variance: np.ndarray

    @property
    def dimension(self) -> int:
        return len(self.mean)


def gaussian(scales: Any, mean: Any = 0.0) -> Target:
    """Independent Normal coordinates."""
    scales = np.asarray(scales, dtype=np.float64)
    mean = np.broadcast_to(np.asarray(mean, dtype=np.float64), scales.shape)
    # Kept in NumPy, so that the density has the precision of its argument.
    return Target(
        lambda x: -0.5 * jnp.sum(((x - mean.astype(x.dtype)) / scales.astype(x.dtype)) ** 2),
        mean,
        scales**2,
    )


def log_gamma(shape: float, dimension: int) -> Target:
    """Logarithms of independent Gamma(shape) numbers: a heavy left tail, a steep right one."""
    return Target(
        lambda x: jnp.sum(shape * x - jnp.exp(x)),
        np.full(dimension, digamma(shape)),
        np.full(dimension, polygamma(1, shape)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownNoise(Likelihood):
    """Normal likelihood with a given noise, so that the posterior of a linear model is Normal."""

    has_classes = False
    noise: float

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def num_shared(self) -> int:
        return 0

    def log_prob(self, outputs, y):
        return jax.scipy.stats.norm.logpdf(y, outputs[..., 0], self.noise)

    def mean(self, outputs):
        return outputs[..., 0]

    def variance(self, outputs):
        return jnp.full(outputs.shape[:-1], self.noise**2)

    def sample(self, key, outputs):
        return outputs[..., 0] + self.noise * jax.random.normal(key, outputs.shape[:-1])


def _regression_rows(num_rows: int, num_features: int, noise: float) -> tuple[Any, Any, Batch]:
    """Design matrix, targets, and both as a batch; features are correlated."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(num_rows, num_features)) @ rng.normal(size=(num_features, num_features))
    design = np.column_stack([np.ones(num_rows), x])
    y = design @ rng.normal(size=num_features + 1) + noise * rng.normal(size=num_rows)
    return design, y, Batch(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))


def linear_regression(num_rows: int = 60, num_features: int = 4) -> Target:
    """Posterior of a Bayesian linear regression with correlated features, through mirth.Model."""
    noise, prior_scale = 0.7, 1.5
    design, y, batch = _regression_rows(num_rows, num_features, noise)
    model = Model(MLP((), num_outputs=1), KnownNoise(noise=noise), NormalPrior(scale=prior_scale))
    _, unravel = ravel_pytree(model.init(jax.random.key(0), batch.x))
    # Which coordinate is which weight, whatever the order of the leaves.
    (layer,) = unravel(jnp.arange(num_features + 1.0))["network"]
    order = np.concatenate([layer["bias"], layer["weight"][0]]).astype(int)

    precision = design.T @ design / noise**2 + np.eye(num_features + 1) / prior_scale**2
    covariance = np.linalg.inv(precision)
    mean, variance = np.zeros(num_features + 1), np.zeros(num_features + 1)
    mean[order] = covariance @ design.T @ y / noise**2
    variance[order] = np.diag(covariance)
    return Target(lambda flat: model.log_density(unravel(flat), batch), mean, variance)


_HIERARCHICAL = HierarchicalNormalPrior(scale=1.5), NormalPrior(scale=1.5)


def hierarchical_model(num_rows: int = 8, num_features: int = 4) -> tuple[Model, Batch, np.ndarray]:
    """Few rows and a scale of the weights that is sampled with them; also the design matrix."""
    noise, (weights, bias) = 2.0, _HIERARCHICAL
    design, _, batch = _regression_rows(num_rows, num_features, noise)
    prior = PriorMap({"*.weight": weights, "*.bias": bias})
    return Model(MLP((), num_outputs=1), KnownNoise(noise=noise), prior), batch, design


def hierarchical_regression(
    num_rows: int = 8, num_features: int = 4
) -> tuple[Target, int, np.ndarray]:
    """Posterior of :func:`hierarchical_model`.

    Given the scale the rest is Normal, so the moments are sums over a grid of its logarithm. Also
    gives the place of that logarithm among the coordinates, and its quartiles.
    """
    model, batch, design = hierarchical_model(num_rows, num_features)
    noise, y, (weights, bias) = 2.0, np.asarray(batch.y, float), _HIERARCHICAL
    _, unravel = ravel_pytree(model.init(jax.random.key(0), batch.x))
    places = unravel(jnp.arange(num_features + 2.0))
    (scale,), (layer,) = places["hyper"]["log_scale"], places["network"]
    order = np.concatenate([scale["weight"][None], layer["bias"], layer["weight"][0]]).astype(int)

    h = np.linspace(-20, 20, 4001)
    # In units of the noise; the bias is sampled as it is, so its own prior has another precision.
    standard = np.repeat(design[None] / noise, len(h), axis=0)
    standard[:, :, 1:] *= (weights.scale * np.exp(h))[:, None, None]
    own = np.diag([1 / bias.scale**2] + [1.0] * num_features)
    precision = np.swapaxes(standard, 1, 2) @ standard + own
    covariance = np.linalg.inv(precision)
    projected = np.einsum("grf,r->gf", standard, y / noise)
    mean = np.einsum("gij,gj->gi", covariance, projected)
    log_weight = 0.5 * (np.sum(mean * projected, axis=1) - np.linalg.slogdet(precision)[1])
    log_weight -= np.logaddexp(h, -h)  # density of the logarithm of a half-Cauchy number
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()

    first = np.concatenate([h[:, None], mean], axis=1)
    second = first**2
    second[:, 1:] += np.diagonal(covariance, axis1=1, axis2=2)
    moments = np.zeros((2, num_features + 2))
    moments[:, order] = weight @ first, weight @ second
    variance = moments[1] - moments[0] ** 2
    target = Target(lambda flat: model.log_density(unravel(flat), batch), moments[0], variance)
    return target, order[0], np.interp([0.25, 0.5, 0.75], np.cumsum(weight), h)


class Run(NamedTuple):
    """Kept draws of all chains, and what the tuner found for each."""

    draws: np.ndarray  # (chains, draws, dimension)
    step_size: np.ndarray
    L: np.ndarray
    energy_variance: np.ndarray  # per dimension, while sampling


def sample_tuned(
    target: Target,
    tuner: MILETuner,
    *,
    num_draws: int,
    thin: int = 1,
    num_chains: int = 8,
    seed: int = 0,
    integrator: str = "mclachlan",
) -> Run:
    """Tune chains from a common start at the mean plus one sd, and sample with fixed settings."""
    start = jnp.asarray(target.mean + np.sqrt(target.variance), jnp.float32)
    keys = jax.random.split(jax.random.key(seed), num_chains)
    guess = MCLMC(1e-2, 1.0, integrator=integrator)
    phases = tuner.phases()
    capacity = max([num_draws, *(-(-p.num_steps // p.thin) for p in phases if p.thin)])

    @jax.jit
    @jax.vmap
    def init(key):
        kernel = guess.init(start, target.logdensity, key)
        return kernel, tuner.init(guess, start)

    def one_chain(kernel, state, key, first, count, thin, tunes, measures_spread):
        def step(i, carry):
            kernel, state, energy = carry
            step_key = jax.random.fold_in(key, i)
            kernel, info = state.sampler.step(step_key, kernel, target.logdensity)
            state = jax.lax.cond(
                tunes,
                lambda state: tuner.update(state, i, kernel, info, measures_spread),
                lambda state: state,
                state,
            )
            return kernel, state, energy + info.energy_change**2

        def draw(n, carry):
            inner, kept = carry
            begin = first + n * thin
            inner = jax.lax.fori_loop(begin, begin + thin, step, inner)
            return inner, kept.at[n % capacity].set(inner[0].position)

        kept = jnp.zeros((capacity, target.dimension))
        inner, kept = jax.lax.fori_loop(0, count, draw, ((kernel, state, jnp.zeros(())), kept))
        return *inner, kept

    advance = jax.jit(jax.vmap(one_chain, in_axes=(0, 0, 0, *[None] * 5)))
    kernel, state = init(keys)
    first = 0

    def run(phase: Phase) -> tuple[np.ndarray, np.ndarray]:
        nonlocal kernel, state, first
        thin = max(1, phase.thin)
        count = phase.num_steps // thin
        kernel, state, energy, kept = advance(
            kernel, state, keys, first, count, thin, phase.thin == 0, phase.measures_spread
        )
        first += phase.num_steps
        energy = np.asarray(energy) / (count * thin * target.dimension)
        return np.asarray(kept)[:, :count], energy

    for phase in phases:
        kept, _ = run(phase)
        if phase.thin:
            state = tuner.end_trajectory(state, kept, phase.thin)
        else:
            state = jax.vmap(lambda state, phase=phase: tuner.end_phase(state, phase))(state)
    draws, energy = run(Phase("sampling", num_draws * thin, thin, False))
    sampler = state.sampler
    return Run(draws, np.asarray(sampler.step_size), np.asarray(sampler.L), energy)


def moment_errors(target: Target, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Errors of means (in sd) and variances (relative), and their standard errors by the ESS."""
    draws = draws.astype(np.float64)
    standard = (draws - target.mean) / np.sqrt(target.variance)
    squares = standard**2
    return {
        "mean": standard.mean(axis=(0, 1)),
        "mean_se": standard.std(axis=(0, 1)) / np.sqrt(effective_sample_size(standard)),
        "variance": squares.mean(axis=(0, 1)) - 1,
        "variance_se": squares.std(axis=(0, 1)) / np.sqrt(effective_sample_size(squares)),
    }
