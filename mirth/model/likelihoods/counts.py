"""Likelihoods of counts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import scipy.special
from jaxtyping import Array, Float, Shaped

from mirth.core.types import Key
from mirth.core.validation import check_real
from mirth.model.likelihoods.base import (
    Outputs,
    Rows,
    Scaling,
    SupportedLikelihood,
    clip_log_mean,
    normal_log_prior,
)
from mirth.model.likelihoods.numerics import HALF_LOG_TWO_PI, deviance, on_host, stirling_remainder

_LOG_DISPERSION = -1.0  # first value and prior mean: a dispersion of 0.37
_MAX_LOG_DISPERSION = 10.0
_MAX_SAMPLED_MEAN = 1e9  # counts are drawn as int32


class Counts(SupportedLikelihood):
    """Whole numbers from 0 on, with the logarithm of the mean in output 0."""

    scaling: ClassVar[Scaling] = "none"
    has_counts: ClassVar[bool] = True
    support: ClassVar[tuple[float, float]] = (0.0, math.inf)
    takes: ClassVar[str] = "whole numbers from 0 on"

    @property
    def num_outputs(self) -> int:
        return 1

    def is_possible(self, y: Any) -> Any:
        return (y >= 0) & (y < math.inf) & (y == y // 1)

    def mean(self, outputs: Outputs) -> Rows:
        return jnp.exp(clip_log_mean(outputs[..., 0]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Poisson(Counts):
    r"""Poisson likelihood of counts.

    .. math:: y \sim \mathrm{Poisson}(e^{o_0})

    with the output :math:`o_0` of the network, used between -30 and 30. The variance is the mean.

    Examples
    --------
    >>> Poisson().quantile(jnp.array([[1.0]]), jnp.array([0.05, 0.5, 0.95]))
    Array([0., 3., 6.], dtype=float32)
    """

    @property
    def num_shared(self) -> int:
        return 0

    def log_prob_inside(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        log_mean, positive = clip_log_mean(outputs[..., 0]), jnp.maximum(y, 1)
        log_y = jnp.log(positive)
        lead = -0.5 * log_y - HALF_LOG_TWO_PI - stirling_remainder(positive)
        values = lead - positive * deviance(log_mean - log_y)
        return jnp.where(y > 0, values, -jnp.exp(log_mean))

    def variance(self, outputs: Outputs) -> Rows:
        return self.mean(outputs)

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        mean = jnp.minimum(self.mean(outputs), _MAX_SAMPLED_MEAN)
        return jax.random.poisson(key, mean).astype(outputs.dtype)

    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        values = on_host(scipy.special.pdtr, jnp.maximum(jnp.floor(y), 0), self.mean(outputs))
        return jnp.where(y < 0, 0, jnp.where(y == math.inf, 1, values))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativeBinomial(Counts):
    r"""Negative binomial likelihood: counts that vary more than a Poisson's.

    .. math:: y \sim \mathrm{NB}(\text{mean } \mu, \text{variance } \mu + \alpha \mu^2), \quad
              \mu = e^{o_0}, \quad \alpha = e^\rho, \quad \rho \sim \mathcal N(-1, \tau^2)

    with the output :math:`o_0` of the network (used between -30 and 30), the sampled scalar
    :math:`\rho` (shared by all rows, used between -10 and 10) and :math:`\tau` =
    ``dispersion_prior``. A dispersion :math:`\alpha` of 0 would be the Poisson.

    Parameters
    ----------
    dispersion_prior : float, default=2.0
        Standard deviation of the prior of the log dispersion.

    Raises
    ------
    ValueError
        If ``dispersion_prior`` is not positive.

    Examples
    --------
    >>> outputs = jnp.array([[1.0, 0.0]])
    >>> NegativeBinomial().mean(outputs), NegativeBinomial().variance(outputs)
    (Array([2.718...], dtype=float32), Array([10.107...], dtype=float32))
    """

    dispersion_prior: float = 2.0

    def __post_init__(self) -> None:
        check_real("dispersion_prior", self.dispersion_prior, low=0.0, low_open=True)

    @property
    def num_shared(self) -> int:
        return 1

    def init_shared(self) -> Float[Array, " shared"]:
        return jnp.full(1, _LOG_DISPERSION)

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        return normal_log_prior(shared, _LOG_DISPERSION, self.dispersion_prior)

    def _log_size(self, outputs: Outputs) -> Rows:
        """Logarithm of 1 / dispersion."""
        return -jnp.clip(outputs[..., 1], -_MAX_LOG_DISPERSION, _MAX_LOG_DISPERSION)

    def log_prob_inside(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        log_mean, log_size = clip_log_mean(outputs[..., 0]), self._log_size(outputs)
        size, positive = jnp.exp(log_size), jnp.maximum(y, 1)
        total, log_y = size + positive, jnp.log(positive)
        # Loader (2000): a binomial probability of `size` among `size + y`.
        log_share = jnp.log(total / (size + jnp.exp(log_mean)))
        distance = size * deviance(log_share) + positive * deviance(log_share + log_mean - log_y)
        remainders = (
            stirling_remainder(total) - stirling_remainder(size) - stirling_remainder(positive)
        )
        lead = 0.5 * (log_size - jnp.log(total) - log_y) - HALF_LOG_TWO_PI
        at_zero = size * jax.nn.log_sigmoid(log_size - log_mean)
        return jnp.where(y > 0, lead + remainders - distance, at_zero)

    def variance(self, outputs: Outputs) -> Rows:
        mean = self.mean(outputs)
        return mean + mean**2 * jnp.exp(-self._log_size(outputs))

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        mean_key, count_key = jax.random.split(key)
        size = jnp.exp(self._log_size(outputs))
        mean = self.mean(outputs) * jax.random.gamma(mean_key, size, dtype=outputs.dtype) / size
        counts = jax.random.poisson(count_key, jnp.minimum(mean, _MAX_SAMPLED_MEAN))
        return counts.astype(outputs.dtype)

    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        size = jnp.exp(self._log_size(outputs))
        share = size / (size + self.mean(outputs))
        values = on_host(scipy.special.betainc, size, jnp.maximum(jnp.floor(y), 0) + 1, share)
        return jnp.where(y < 0, 0, jnp.where(y == math.inf, 1, values))
