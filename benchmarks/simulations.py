"""Simulation-based calibration of ``mirth.infer``: prior draws, data made of them, ranks.

Parameters are drawn from the prior and targets given these; then the posterior is sampled. If all
is right, the true value of any quantity has a uniform rank among independent posterior draws of it
(Talts et al., arXiv 1804.06788), whatever the quantity is, also one that depends on the data, such
as their log likelihood (Modrak et al., arXiv 2211.02383).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from exact_posterior import KnownNoise

import mirth
from mirth.core.types import Batch
from mirth.evaluation.autocorrelation import effective_sample_size


class Case(NamedTuple):
    """What is simulated and looked at.

    Parameters
    ----------
    model : Model
        Network, likelihood and prior.
    x : array of shape (data, features)
        Inputs of all simulations.
    names : tuple of str
        What the quantities belong to; those of one name have independent ranks.
    quantities : callable
        From parameters and rows to the quantities, an array of shape (len(names),).
    """

    model: mirth.Model
    x: np.ndarray
    names: tuple[str, ...]
    quantities: Callable[[Any, Batch], jax.Array]


def linear(prior_scale: float = 1.0, num_rows: int = 20, num_features: int = 6) -> Case:
    """Linear regression with known noise: the posterior is Normal.

    The quantities are the parameters along the axes of the exact posterior, where they are
    independent, so their ranks count as those of so many simulations.
    """
    noise = 0.7
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(num_features, num_features)) / np.sqrt(num_features)
    x = (rng.normal(size=(num_rows, num_features)) @ mixed).astype(np.float32)
    network, prior = mirth.networks.MLP((), num_outputs=1), mirth.priors.NormalPrior
    model = mirth.Model(network, KnownNoise(noise=noise), prior(scale=prior_scale))
    design = np.column_stack([np.ones(num_rows), x]).astype(float)
    precision = design.T @ design / noise**2 + np.eye(num_features + 1) / prior_scale**2
    half = np.linalg.cholesky(precision)
    to_mean = np.linalg.solve(precision, design.T / noise**2)

    def quantities(params: Any, rows: Batch) -> jax.Array:
        (layer,) = params["network"]
        flat = jnp.concatenate([layer["bias"], layer["weight"][0]])
        axes = (flat - to_mean @ rows.y) @ half
        return jnp.append(axes, model.log_likelihood(params, rows))

    names = ("parameters",) * (num_features + 1) + ("log likelihood",)
    return Case(model, x, names, quantities)


def network(prior_scale: float = 1.0, num_rows: int = 30) -> Case:
    """Four hidden units and a sampled noise; what is looked at knows no order of the units."""
    likelihood = mirth.likelihoods.HomoscedasticNormal(raw_scale_prior=0.5)
    prior = mirth.priors.NormalPrior(scale=prior_scale)
    model = mirth.Model(mirth.MLP((4,), num_outputs=1, activation="tanh"), likelihood, prior)
    x = np.linspace(-2, 2, num_rows, dtype=np.float32)[:, None]
    points = np.array([[-3.0], [0.3], [1.5]], np.float32)

    def quantities(params: Any, rows: Batch) -> jax.Array:
        values = model.outputs(params, points)[:, 0]
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params["network"]))
        log_likelihood = model.log_likelihood(params, rows)
        return jnp.append(values, jnp.stack([params["shared"][0], log_likelihood, squares]))

    names = ("f(-3)", "f(0.3)", "f(1.5)", "noise", "log likelihood", "sum of squares")
    return Case(model, x, names, quantities)


CASES: dict[str, Callable[..., Case]] = {"linear": linear, "network": network}
"""Cases by name; each takes the width of the prior."""

BUDGETS = {"linear": (2000, 150, 20), "network": (3000, 300, 20)}
"""Warm-up, draws per chain and thinning that give 31 independent draws of nearly every run."""


def methods(n_warmup: int, n_samples: int, n_thinning: int) -> dict[str, Any]:
    """Give the methods, with their defaults but for budget and batch size; and finer ones."""
    budget = {"n_warmup": n_warmup, "n_samples": n_samples, "n_thinning": n_thinning}
    budget["start"] = mirth.DeepEnsemble(max_epochs=100)
    batches = budget | {"batch_size": 10}
    tuner = mirth.samplers.MILETuner(energy_variance_end=0.001)
    return {
        "mile": mirth.MILE(**budget),
        "mile, fine": mirth.MILE(**budget, tuner=tuner),
        "psmile": mirth.SMILE(**batches),
        "psmile, fine": mirth.SMILE(**batches, max_turn=0.05, energy_variance_end=2e-4),
    }


class Found(NamedTuple):
    """What came of all simulations, axes (simulations, quantities).

    Parameters
    ----------
    truth, mean, deviation : array
        True value, and mean and standard deviation of all draws.
    picked : array of shape (simulations, draws, quantities)
        Draws that are evenly spread over all chains.
    effective : array
        Effective sample size of all draws.
    """

    truth: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    picked: np.ndarray
    effective: np.ndarray

    def narrowed(self, factor: float) -> Found:
        """Scale the draws around their mean, a fault that the ranks must show."""
        mean = self.mean[:, None]
        picked = mean + factor * (self.picked - mean)
        return self._replace(deviation=factor * self.deviation, picked=picked)

    def ranks(self) -> np.ndarray:
        """Give the number of picked draws below the truth, from 0 to all."""
        return np.sum(self.picked < self.truth[:, None], axis=1)

    def shift_and_width(self) -> np.ndarray:
        """Give the mean error in posterior deviations, and the deviation over the right one.

        The second is exact for Normal posteriors: there the error over the right deviation has
        mean square 1. Shape (2, quantities).
        """
        z = (self.truth - self.mean) / self.deviation
        return np.stack([z.mean(axis=0), 1 / np.sqrt(np.mean(z**2, axis=0))])


def run_simulations(
    case: Case,
    method: Any,
    num_simulations: int,
    *,
    inferred: mirth.Model | None = None,
    num_picked: int = 31,
    num_chains: int = 4,
) -> Found:
    """Draw, simulate, infer.

    Parameters
    ----------
    case : Case
        What is simulated.
    method : method object
        As :func:`mirth.infer` takes it.
    num_simulations : int
        How often; all have the same shapes, so they share their programs.
    inferred : Model, optional
        Model of the inference; another one than that of the case is a fault to be found.
    num_picked : int, default=31
        Draws that are picked from those of all chains.
    num_chains : int, default=4
        Chains of a run.
    """
    model, x = case.model, jnp.asarray(case.x)
    of_all = jax.jit(jax.vmap(jax.vmap(case.quantities, (0, None)), (0, None)))
    draw = jax.jit(lambda key: _draw(model, x, key))
    found = []
    for number in range(num_simulations):
        params, y = draw(jax.random.key(number))
        rows = Batch(x, y)
        with warnings.catch_warnings():
            # A chain that is worse than its start is no fault here: all draws count.
            warnings.simplefilter("ignore", mirth.MirthWarning)
            posterior = mirth.infer(
                inferred or model,
                mirth.Dataset(case.x, np.asarray(y)),
                method,
                num_chains=num_chains,
                seed=number,
            )
        values = np.asarray(of_all(posterior.draws, rows), float)
        one = jax.tree.map(lambda leaf: leaf[None, None], params)
        truth = np.asarray(of_all(one, rows), float)[0, 0]
        found.append(summarise(truth, values, num_picked))
    return Found(*map(np.stack, zip(*found, strict=True)))


def _draw(model: mirth.Model, x: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
    """Draw parameters from the prior, and targets given these."""
    of_weights, of_shared, of_rows = jax.random.split(key, 3)
    shapes = jax.eval_shape(model.init_weights, key, x)
    params = {"network": model.prior.sample(of_weights, shapes["network"])}
    if model.likelihood.num_shared:
        noise = jax.random.normal(of_shared, shapes["shared"].shape)
        params["shared"] = model.likelihood.raw_scale_prior * noise
    return params, model.likelihood.sample(of_rows, model.outputs(params, x))


def summarise(truth: np.ndarray, values: np.ndarray, num_picked: int) -> Found:
    """Look at one simulation.

    Parameters
    ----------
    truth : array of shape (quantities,)
        True values.
    values : array of shape (chains, draws, quantities)
        Draws.
    num_picked : int
        Draws to pick, evenly spread.
    """
    flat = values.reshape(-1, values.shape[-1])
    places = ((np.arange(num_picked) + 0.5) * len(flat) / num_picked).astype(int)
    effective = effective_sample_size(values)
    return Found(truth, flat.mean(axis=0), flat.std(axis=0), flat[places], effective)


def histogram(ranks: np.ndarray, num_picked: int, num_bins: int = 8) -> np.ndarray:
    """Count ranks, all of one array together, in bins of equally many ranks."""
    if (num_picked + 1) % num_bins:
        raise ValueError(f"{num_bins} bins do not divide the {num_picked + 1} ranks.")
    width = (num_picked + 1) // num_bins
    return np.bincount(np.ravel(ranks) // width, minlength=num_bins)


def p_values(names: tuple[str, ...], found: Found) -> Mapping[str, float]:
    """Give the p-value of a chi-square test of uniform ranks for each name."""
    ranks, num_picked = found.ranks(), found.picked.shape[1]
    values = {}
    for name in dict.fromkeys(names):
        of_name = [i for i, other in enumerate(names) if other == name]
        counts = histogram(ranks[:, of_name], num_picked)
        values[name] = float(scipy.stats.chisquare(counts).pvalue)
    return values
