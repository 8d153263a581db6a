"""Likelihoods of real numbers with other tails than the Normal's, and of one quantile."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

from mirth.core.roots import find_root
from mirth.core.types import Key
from mirth.core.validation import check_real
from mirth.model.likelihoods.base import Outputs, Rows, normal_log_prior
from mirth.model.likelihoods.cells import laplace_log_mean, smooth_log_mean
from mirth.model.likelihoods.normal import ClosedQuantile, WithCells
from mirth.model.likelihoods.numerics import log_gamma_ratio, log_one_plus, student_t_cdf

_LEAST_DEGREES = 2.0  # the variance is finite above
_RAW_DEGREES = 2.0  # first value and prior mean: 9.4 degrees of freedom
_MAX_RAW_DEGREES = 10.0
_NODES = 8  # of a cell, whose width is four scales at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentT(WithCells):
    r"""Student's t with learnt degrees of freedom: a Normal with room for outliers.

    .. math:: \frac{y - o_0}{s(o_1)} \sim t_\nu, \quad \nu = 2 + e^\rho, \quad
              \rho \sim \mathcal N(2, \tau^2)

    with the outputs :math:`o` of the network, the link :math:`s` of :class:`Normal`, the sampled
    scalar :math:`\rho` (shared by all rows, used between -10 and 10) and
    :math:`\tau` = ``degrees_prior``. Above 2 degrees of freedom the variance is finite; a prior of
    1 puts 95% of them between 3 and 54.

    Parameters
    ----------
    link : {"softplus", "exp"}, default="softplus"
        Link of the scale.
    min_scale : float, default=1e-3
        Smallest scale, in units of the (scaled) target.
    degrees_prior : float, default=1.0
        Standard deviation of the prior of :math:`\rho`.

    Raises
    ------
    ValueError
        If ``link`` is unknown, or ``min_scale`` or ``degrees_prior`` is not positive.

    References
    ----------
    .. [1] Lange, Little, Taylor, "Robust statistical modeling using the t distribution", J. Am.
       Stat. Assoc. 84 (1989).

    Examples
    --------
    >>> likelihood = StudentT()
    >>> likelihood.num_outputs, likelihood.num_shared
    (2, 1)
    >>> likelihood.degrees(jnp.array([[0.0, 0.0, 2.0]]))
    Array([9.389...], dtype=float32)
    """

    degrees_prior: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("degrees_prior", self.degrees_prior, low=0.0, low_open=True)

    @property
    def num_shared(self) -> int:
        return 1

    def init_shared(self) -> Float[Array, " shared"]:
        return jnp.full(1, _RAW_DEGREES)

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        return normal_log_prior(shared, _RAW_DEGREES, self.degrees_prior)

    def degrees(self, outputs: Outputs) -> Rows:
        """Degrees of freedom."""
        raw = jnp.clip(outputs[..., 2], -_MAX_RAW_DEGREES, _MAX_RAW_DEGREES)
        return _LEAST_DEGREES + jnp.exp(raw)

    def standard_log_prob(self, z: Rows, outputs: Outputs) -> Rows:
        degrees = self.degrees(outputs)
        tail = log_one_plus(z**2 / degrees)
        return log_gamma_ratio(degrees / 2) - 0.5 * (
            jnp.log(degrees * math.pi) + (degrees + 1) * tail
        )

    def standard_moments(self, outputs: Outputs) -> tuple[float, Rows]:
        degrees = self.degrees(outputs)
        return 0.0, degrees / (degrees - _LEAST_DEGREES)

    def standard_sample(self, key: Key, outputs: Outputs) -> Rows:
        return jax.random.t(key, self.degrees(outputs), outputs.shape[:-1], outputs.dtype)

    def standard_cdf(self, z: Rows, outputs: Outputs) -> Rows:
        return student_t_cdf(z, self.degrees(outputs))

    def bracket(self, outputs: Outputs, level: Float[Array, "..."] | float) -> tuple[Rows, Rows]:
        r"""Two values with the quantile of each row between them.

        It lies between those of 2 degrees of freedom, :math:`(2p - 1) / \sqrt{2 p (1 - p)}`, and of
        the Normal.
        """
        location, scale = self.location(outputs), self.scale(outputs)
        low, high = _standard_bracket(jnp.asarray(level, outputs.dtype))
        return location + scale * low, location + scale * high

    def quantile(self, outputs: Outputs, level: Float[Array, "..."] | float) -> Rows:
        # By the lower tail, which has all its digits; the upper one is 1 - P.
        level = jnp.asarray(level, outputs.dtype)
        tail = jnp.minimum(level, 1 - level)
        ends = jnp.broadcast_arrays(*_standard_bracket(tail), outputs[..., 0])[:2]
        standard = find_root(lambda z: self.standard_cdf(z, outputs) - tail, *ends)
        return self.location(outputs) + jnp.sign(level - 0.5) * -standard * self.scale(outputs)

    def standard_log_mean(self, z: Rows, half: Rows, outputs: Outputs) -> Rows:
        return smooth_log_mean(lambda at: self.standard_log_prob(at, outputs), z, half, _NODES)


def _standard_bracket(level: Float[Array, "..."]) -> tuple[Array, Array]:
    """Quantiles of the Normal and of Student's t with 2 degrees of freedom, in order."""
    heavy = (2 * level - 1) / jnp.sqrt(2 * level * (1 - level))
    light = ndtri(level)
    return jnp.minimum(heavy, light), jnp.maximum(heavy, light)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Laplace(ClosedQuantile, WithCells):
    r"""Laplace likelihood: absolute instead of squared distances.

    .. math:: p(y) = \frac{1}{2 s} \exp\Big(-\frac{|y - o_0|}{s}\Big), \quad s = s(o_1)

    with the outputs :math:`o` of the network and the link :math:`s` of :class:`Normal`; the
    variance is :math:`2 s^2`.

    Parameters
    ----------
    link : {"softplus", "exp"}, default="softplus"
        Link of the scale.
    min_scale : float, default=1e-3
        Smallest scale, in units of the (scaled) target.

    Raises
    ------
    ValueError
        If ``link`` is unknown or ``min_scale`` is not positive.

    Examples
    --------
    >>> Laplace(link="exp").log_prob(jnp.zeros((1, 2)), jnp.array([1.0]))
    Array([-1.6931...], dtype=float32)
    """

    def standard_log_prob(self, z: Rows, outputs: Outputs) -> Rows:
        return -jnp.abs(z) - math.log(2)

    def standard_moments(self, outputs: Outputs) -> tuple[float, float]:
        return 0.0, 2.0

    def standard_sample(self, key: Key, outputs: Outputs) -> Rows:
        return jax.random.laplace(key, outputs.shape[:-1], outputs.dtype)

    def standard_cdf(self, z: Rows, outputs: Outputs) -> Rows:
        tail = 0.5 * jnp.exp(-jnp.abs(z))
        return jnp.where(z < 0, tail, 1 - tail)

    def standard_quantile(self, level: Float[Array, "..."]) -> Float[Array, "..."]:
        tail = jnp.minimum(level, 1 - level)
        return jnp.sign(level - 0.5) * -jnp.log(2 * tail)

    def standard_log_mean(self, z: Rows, half: Rows, outputs: Outputs) -> Rows:
        return laplace_log_mean(z, half)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsymmetricLaplace(ClosedQuantile):
    r"""Quantile regression: the location is the quantile of one level.

    .. math:: p(y) = \frac{\tau (1 - \tau)}{s} \exp\Big(-\rho_\tau\Big(\frac{y - o_0}{s}\Big)\Big),
              \quad \rho_\tau(z) = z (\tau - 1\{z < 0\}), \quad s = s(o_1)

    with :math:`\tau` = ``level``, the outputs :math:`o` of the network and the link :math:`s` of
    :class:`Normal`. The exponent is the pinball loss, so the location goes to the quantile of that
    level, whatever the true distribution is; the distribution as a whole is a working model.

    Parameters
    ----------
    link : {"softplus", "exp"}, default="softplus"
        Link of the scale.
    min_scale : float, default=1e-3
        Smallest scale, in units of the (scaled) target.
    level : float, default=0.5
        Level of the quantile, in (0, 1).

    Raises
    ------
    ValueError
        If ``link`` is unknown, ``min_scale`` is not positive or ``level`` is not in (0, 1).

    References
    ----------
    .. [1] Yu, Moyeed, "Bayesian quantile regression", Statistics & Probability Letters 54 (2001).

    Examples
    --------
    >>> outputs = jnp.array([[3.0, 0.0]])
    >>> AsymmetricLaplace(level=0.9).quantile(outputs, 0.9)
    Array([3.], dtype=float32)
    """

    level: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("level", self.level, low=0.0, high=1.0, low_open=True, high_open=True)

    def standard_log_prob(self, z: Rows, outputs: Outputs) -> Rows:
        pinball = z * jnp.where(z < 0, self.level - 1, self.level)
        return math.log(self.level * (1 - self.level)) - pinball

    def standard_moments(self, outputs: Outputs) -> tuple[float, float]:
        product = self.level * (1 - self.level)
        return (1 - 2 * self.level) / product, (1 - 2 * product) / product**2

    def standard_sample(self, key: Key, outputs: Outputs) -> Rows:
        # The difference of two exponential numbers with the rates level and 1 - level.
        shape = (*outputs.shape[:-1], 2)
        right, left = jnp.moveaxis(jax.random.exponential(key, shape, outputs.dtype), -1, 0)
        return right / self.level - left / (1 - self.level)

    def standard_cdf(self, z: Rows, outputs: Outputs) -> Rows:
        left = self.level * jnp.exp((1 - self.level) * jnp.minimum(z, 0))
        return jnp.where(z < 0, left, 1 - (1 - self.level) * jnp.exp(-self.level * z))

    def standard_quantile(self, level: Float[Array, "..."]) -> Float[Array, "..."]:
        left = jnp.log(jnp.minimum(level / self.level, 1)) / (1 - self.level)
        right = -jnp.log(jnp.minimum((1 - level) / (1 - self.level), 1)) / self.level
        return left + right
