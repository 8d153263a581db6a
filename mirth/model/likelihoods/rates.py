"""Likelihood of rates: numbers between 0 and 1."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import scipy.special
from jaxtyping import Array, Float, Shaped

from mirth.core.types import Key
from mirth.core.validation import check_name, check_real
from mirth.model.likelihoods.base import (
    Outputs,
    Rows,
    Scaling,
    SupportedLikelihood,
    normal_log_prior,
    softplus,
)
from mirth.model.likelihoods.numerics import HALF_LOG_TWO_PI, deviance, on_host, stirling_remainder

_MAX_LOGIT = 20.0  # a mean at least 2e-9 away from 0 and 1
_RAW_SCALE_PRIOR = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beta(SupportedLikelihood):
    r"""Beta likelihood of rates, by the mean and the precision.

    .. math:: y \sim \mathrm{Beta}(m \varphi, (1 - m) \varphi), \quad
              m = \frac{1}{1 + e^{-o_0}}, \quad
              \varphi^{-1/2} = \log(1 + e^{o_1}) + \text{min\_scale}

    with the outputs :math:`o`. The variance is :math:`m (1 - m) / (1 + \varphi)`. The logit
    :math:`o_0` is used between -20 and 20.

    Parameters
    ----------
    precision : {"row", "shared"}, default="row"
        Whether :math:`o_1` is an output of the network, or one sampled scalar for all rows, with
        a prior N(0, 3^2).
    min_scale : float, default=1e-3
        Smallest value of :math:`\varphi^{-1/2}`.

    Raises
    ------
    ValueError
        If ``precision`` is unknown or ``min_scale`` is not positive.

    References
    ----------
    .. [1] Ferrari, Cribari-Neto, "Beta regression for modelling rates and proportions", J. Appl.
       Stat. 31 (2004).

    Examples
    --------
    >>> Beta(precision="shared").num_outputs, Beta(precision="shared").num_shared
    (1, 1)
    >>> Beta().mean(jnp.array([[0.0, -1.0]]))
    Array([0.5], dtype=float32)
    """

    scaling: ClassVar[Scaling] = "none"
    support: ClassVar[tuple[float, float]] = (0.0, 1.0)
    inside: ClassVar[float] = 0.5
    takes: ClassVar[str] = "numbers between 0 and 1, both excluded"
    precision: str = "row"
    min_scale: float = 1e-3

    def __post_init__(self) -> None:
        check_name("precision", self.precision, ("row", "shared"))
        check_real("min_scale", self.min_scale, low=0.0, low_open=True)

    @property
    def num_outputs(self) -> int:
        return 2 - self.num_shared

    @property
    def num_shared(self) -> int:
        return int(self.precision == "shared")

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        return normal_log_prior(shared, 0.0, _RAW_SCALE_PRIOR)

    def _parameters(self, outputs: Outputs) -> tuple[Rows, Rows, Rows]:
        """Mean, its complement, and precision."""
        logit = jnp.clip(outputs[..., 0], -_MAX_LOGIT, _MAX_LOGIT)
        precision = (softplus(outputs[..., 1]) + self.min_scale) ** -2
        return jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit), precision

    def log_prob_inside(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        mean, rest, precision = self._parameters(outputs)
        a, b = mean * precision, rest * precision
        log_y, log_rest = jnp.log(y), jnp.log1p(-y)
        distance = a * deviance(log_y - jnp.log(mean)) + b * deviance(log_rest - jnp.log(rest))
        remainders = stirling_remainder(precision) - stirling_remainder(a) - stirling_remainder(b)
        lead = 0.5 * (jnp.log(mean) + jnp.log(rest) + jnp.log(precision)) - HALF_LOG_TWO_PI
        return lead + remainders - distance - log_y - log_rest

    def mean(self, outputs: Outputs) -> Rows:
        return self._parameters(outputs)[0]

    def variance(self, outputs: Outputs) -> Rows:
        mean, rest, precision = self._parameters(outputs)
        return mean * rest / (1 + precision)

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        mean, rest, precision = self._parameters(outputs)
        values = jax.random.beta(key, mean * precision, rest * precision, dtype=outputs.dtype)
        # Rounded to 0 or 1 it would be no rate.
        limits = jnp.finfo(outputs.dtype)
        return jnp.clip(values, limits.tiny, 1 - limits.epsneg)

    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        mean, rest, precision = self._parameters(outputs)
        return on_host(scipy.special.betainc, mean * precision, rest * precision, jnp.clip(y, 0, 1))
