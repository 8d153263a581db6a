"""A posterior that is known exactly, for runs through ``mirth.infer``: linear, Normal, correlated.

With y = X w + Normal noise of known size and a Normal prior the posterior of w is Normal. Draws are
compared with it along its principal axes, the widest first, each with its Monte-Carlo error.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import mirth
from mirth.evaluation.autocorrelation import effective_sample_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownNoise(mirth.likelihoods.Likelihood):
    """Normal likelihood with a given noise."""

    has_classes = False
    noise: float = 1.0

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def num_shared(self) -> int:
        return 0

    def log_prob(self, outputs: Any, y: Any) -> Any:
        return jax.scipy.stats.norm.logpdf(y, outputs[..., 0], self.noise)

    def mean(self, outputs: Any) -> Any:
        return outputs[..., 0]

    def variance(self, outputs: Any) -> Any:
        return jnp.full(outputs.shape[:-1], self.noise**2)

    def sample(self, key: Any, outputs: Any) -> Any:
        return outputs[..., 0] + self.noise * jax.random.normal(key, outputs.shape[:-1])


class Judgement(NamedTuple):
    """Draws against the exact posterior, along its principal axes, the widest first.

    Parameters
    ----------
    mean : array of shape (params,)
        Error of the mean, in exact standard deviations.
    mean_error : array of shape (params,)
        Its standard error, by the effective sample size.
    variance : array of shape (params,)
        Variance of the draws around the exact mean, over the exact variance.
    variance_error : array of shape (params,)
        Its standard error.
    """

    mean: np.ndarray
    mean_error: np.ndarray
    variance: np.ndarray
    variance_error: np.ndarray


class ExactPosterior:
    """Linear regression with correlated features, and its posterior.

    Parameters
    ----------
    num_rows, num_features : int
        Size of the data.
    condition : float
        Ratio of the widest deviation of the features along their principal axes to the narrowest.
    seed : int
        Of the data.
    """

    def __init__(
        self,
        num_rows: int = 1000,
        num_features: int = 10,
        condition: float = 10.0,
        seed: int = 0,
    ):
        rng = np.random.default_rng(seed)
        rotation = np.linalg.qr(rng.normal(size=(num_features, num_features)))[0]
        spread = np.geomspace(1.0, 1 / condition, num_features)
        x = (rng.normal(size=(num_rows, num_features)) * spread @ rotation).astype(np.float32)
        design = np.column_stack([np.ones(num_rows), x]).astype(float)
        likelihood, prior = KnownNoise(noise=1.0), mirth.priors.NormalPrior(scale=1.5)
        y = design @ rng.normal(size=num_features + 1) + rng.normal(size=num_rows)
        self.data = mirth.Dataset(x, y.astype(np.float32))
        network = mirth.networks.MLP((), num_outputs=1)
        self.model = mirth.Model(network, likelihood, prior)
        precision = design.T @ design / likelihood.noise**2
        precision += np.eye(num_features + 1) / prior.scale**2
        # The flat order of the parameters, whatever it is: each holds its column of the design.
        one = self.model.init(jax.random.key(0), jnp.asarray(x[:1]))
        flat, self.unravel = ravel_pytree(one)
        (layer,) = self.unravel(jnp.arange(flat.size, dtype=float))["network"]
        places = np.concatenate([layer["bias"], layer["weight"][0]]).astype(int)
        covariance = np.linalg.inv(precision)
        self.mean, self.covariance = np.empty(flat.size), np.empty((flat.size, flat.size))
        self.mean[places] = covariance @ (design.T @ y.astype(np.float32)) / likelihood.noise**2
        self.covariance[np.ix_(places, places)] = covariance

    def draws(self, num: int, seed: int = 0) -> Any:
        """Draw parameters exactly, with a leading axis."""
        rng = np.random.default_rng(seed)
        flat = rng.multivariate_normal(self.mean, self.covariance, num, method="cholesky")
        return jax.vmap(self.unravel)(jnp.asarray(flat, jnp.float32))

    def standardised(self, positions: np.ndarray) -> np.ndarray:
        """Give positions (..., params) along the principal axes, in exact standard deviations."""
        width, axes = np.linalg.eigh(self.covariance)
        return ((positions - self.mean) @ axes / np.sqrt(width))[..., ::-1]

    def judge(self, positions: np.ndarray) -> Judgement:
        """Compare draws of shape (chains, draws, params)."""
        z = self.standardised(np.asarray(positions, float))

        def error(values: np.ndarray) -> np.ndarray:
            return values.std(axis=(0, 1)) / np.sqrt(effective_sample_size(values))

        return Judgement(z.mean(axis=(0, 1)), error(z), (z**2).mean(axis=(0, 1)), error(z**2))
