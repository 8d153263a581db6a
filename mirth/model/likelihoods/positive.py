"""Likelihoods of positive numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

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
    softplus,
)
from mirth.model.likelihoods.normal import NormalFamily
from mirth.model.likelihoods.numerics import HALF_LOG_TWO_PI, deviance, on_host, stirling_remainder

_FAR = 20.0  # standard deviations


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogNormal(NormalFamily, SupportedLikelihood):
    r"""Normal likelihood of the logarithm: positive targets, relative errors.

    .. math:: \log y \sim \mathcal N(o_0, s(o_1)^2)

    with the outputs :math:`o` of the network and the link :math:`s` of :class:`Normal`. The mean
    :math:`\exp(o_0 + s^2/2)` is infinite in float32 where the exponent exceeds 88.

    Parameters
    ----------
    link : {"softplus", "exp"}, default="softplus"
        Link of the scale of the logarithm.
    min_scale : float, default=1e-3
        Smallest scale of the logarithm.

    Raises
    ------
    ValueError
        If ``link`` is unknown or ``min_scale`` is not positive.

    Examples
    --------
    >>> LogNormal().quantile(jnp.array([[2.0, 0.0]]), 0.5)
    Array([7.389...], dtype=float32)
    """

    scaling: ClassVar[Scaling] = "scale"
    has_normal_components: ClassVar[bool] = False
    support: ClassVar[tuple[float, float]] = (0.0, math.inf)
    takes: ClassVar[str] = "positive numbers"

    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        return SupportedLikelihood.log_prob(self, outputs, y)

    def log_prob_inside(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        log_y = jnp.log(y)
        return NormalFamily.log_prob(self, outputs, log_y) - log_y

    def log_mean_density(
        self, outputs: Outputs, y: Shaped[Array, "*batch data"], width: float
    ) -> Rows:
        location, scale = self.location(outputs), self.scale(outputs)
        y = jnp.asarray(y, outputs.dtype)
        possible, reaches_zero = y + width / 2 > 0, y - width / 2 <= 0
        # In logarithms a cell is from log(y) + log(1 - r) to log(y) + log(1 + r).
        inner = jnp.where(reaches_zero, width, y)
        share = width / (2 * inner)
        centre = (jnp.log(inner) + 0.5 * jnp.log1p(-(share**2)) - location) / scale
        # One that reaches zero is from minus infinity: what lies below is 1e-80 of its probability.
        end = jnp.where(possible & reaches_zero, y + width / 2, width)
        upper = (jnp.log(end) - location) / scale
        below = (upper - jnp.minimum(upper, 0) + _FAR) / 2
        half = jnp.where(reaches_zero, below, jnp.arctanh(share) / scale)
        z = jnp.where(reaches_zero, upper - below, centre)
        log_mean = self.standard_log_mean(z, half, outputs)
        return jnp.where(possible, log_mean + jnp.log(2 * half / width), -jnp.inf)

    def mean(self, outputs: Outputs) -> Rows:
        return jnp.exp(self.location(outputs) + self.scale(outputs) ** 2 / 2)

    def variance(self, outputs: Outputs) -> Rows:
        square = self.scale(outputs) ** 2
        return jnp.expm1(square) * jnp.exp(2 * self.location(outputs) + square)

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        return jnp.exp(super().sample(key, outputs))

    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        return super().cdf(outputs, jnp.log(jnp.maximum(y, 0)))

    def quantile(self, outputs: Outputs, level: Float[Array, "..."] | float) -> Rows:
        return jnp.exp(super().quantile(outputs, level))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gamma(SupportedLikelihood):
    r"""Gamma likelihood by its mean and its relative noise.

    .. math:: y \sim \mathrm{Gamma}(\text{shape } c^{-2}, \text{mean } e^{o_0}), \quad
              c = \log(1 + e^{o_1}) + \text{min\_scale}

    with the outputs :math:`o` of the network. The standard deviation is c times the mean. The
    logarithm of the mean is used between -30 and 30.

    Parameters
    ----------
    min_scale : float, default=1e-3
        Smallest relative noise c.

    Raises
    ------
    ValueError
        If ``min_scale`` is not positive.

    Examples
    --------
    >>> outputs = jnp.array([[1.0, 0.0]])
    >>> Gamma().mean(outputs), jnp.sqrt(Gamma().variance(outputs)) / Gamma().mean(outputs)
    (Array([2.718...], dtype=float32), Array([0.694...], dtype=float32))
    """

    scaling: ClassVar[Scaling] = "scale"
    support: ClassVar[tuple[float, float]] = (0.0, math.inf)
    takes: ClassVar[str] = "positive numbers"
    min_scale: float = 1e-3

    def __post_init__(self) -> None:
        check_real("min_scale", self.min_scale, low=0.0, low_open=True)

    @property
    def num_outputs(self) -> int:
        return 2

    @property
    def num_shared(self) -> int:
        return 0

    def shape(self, outputs: Outputs) -> Rows:
        """Shape parameter of each row."""
        return (softplus(outputs[..., 1]) + self.min_scale) ** -2

    def log_prob_inside(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        shape, log_y = self.shape(outputs), jnp.log(y)
        distance = deviance(log_y - clip_log_mean(outputs[..., 0]))
        lead = 0.5 * jnp.log(shape) - HALF_LOG_TWO_PI - stirling_remainder(shape)
        return lead - shape * distance - log_y

    def mean(self, outputs: Outputs) -> Rows:
        return jnp.exp(clip_log_mean(outputs[..., 0]))

    def variance(self, outputs: Outputs) -> Rows:
        return self.mean(outputs) ** 2 / self.shape(outputs)

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        shape = self.shape(outputs)
        return self.mean(outputs) * jax.random.gamma(key, shape, dtype=outputs.dtype) / shape

    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        shape = self.shape(outputs)
        scaled = shape * (jnp.maximum(y, 0) / self.mean(outputs))
        return on_host(scipy.special.gammainc, shape, scaled)
