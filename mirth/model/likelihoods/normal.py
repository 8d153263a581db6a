"""Normal likelihoods, and what all families with a location and a scale share."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Shaped

from mirth.core.types import Key
from mirth.core.validation import check_name, check_real
from mirth.model.likelihoods.base import (
    NumericLikelihood,
    Outputs,
    Rows,
    normal_log_prior,
    softplus,
)
from mirth.model.likelihoods.cells import normal_log_mean
from mirth.model.likelihoods.numerics import HALF_LOG_TWO_PI

_EXP_CLIP = 1e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocationScale(NumericLikelihood):
    """Location in output 0, raw scale in output 1, and a standard distribution.

    Methods of the standard distribution see z = (y - location) / scale and the outputs, which may
    hold its further parameters.
    """

    link: str = "softplus"
    min_scale: float = 1e-3

    def __post_init__(self) -> None:
        check_name("link", self.link, ("softplus", "exp"))
        check_real("min_scale", self.min_scale, low=0.0, low_open=True)

    @property
    def num_outputs(self) -> int:
        return 2

    @property
    def num_shared(self) -> int:
        return 0

    def location(self, outputs: Outputs) -> Rows:
        """Location of each row."""
        return outputs[..., 0]

    def scale(self, outputs: Outputs) -> Rows:
        """Scale of each row: ``link(outputs[..., 1])``."""
        raw = outputs[..., 1]
        if self.link == "softplus":
            return softplus(raw) + self.min_scale
        return jnp.exp(jnp.clip(raw, math.log(self.min_scale), math.log(_EXP_CLIP)))

    @abc.abstractmethod
    def standard_log_prob(self, z: Rows, outputs: Outputs) -> Rows:
        """Log density of the standard distribution."""

    @abc.abstractmethod
    def standard_moments(self, outputs: Outputs) -> tuple[Array | float, Array | float]:
        """Mean and variance of the standard distribution."""

    @abc.abstractmethod
    def standard_sample(self, key: Key, outputs: Outputs) -> Rows:
        """Draw from the standard distribution, once per row."""

    @abc.abstractmethod
    def standard_cdf(self, z: Rows, outputs: Outputs) -> Rows:
        """Distribution function of the standard distribution."""

    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        scale = self.scale(outputs)
        standard = (y - self.location(outputs)) / scale
        return self.standard_log_prob(standard, outputs) - jnp.log(scale)

    def mean(self, outputs: Outputs) -> Rows:
        return self.location(outputs) + self.scale(outputs) * self.standard_moments(outputs)[0]

    def variance(self, outputs: Outputs) -> Rows:
        return self.scale(outputs) ** 2 * self.standard_moments(outputs)[1]

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        noise = self.standard_sample(key, outputs)
        return self.location(outputs) + self.scale(outputs) * noise

    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        return self.standard_cdf((y - self.location(outputs)) / self.scale(outputs), outputs)


class ClosedQuantile(LocationScale):
    """Location and scale with a standard quantile in closed form."""

    @abc.abstractmethod
    def standard_quantile(self, level: Float[Array, "..."]) -> Float[Array, "..."]:
        """Quantile of the standard distribution."""

    def quantile(self, outputs: Outputs, level: Float[Array, "..."] | float) -> Rows:
        standard = self.standard_quantile(jnp.asarray(level))
        return self.location(outputs) + self.scale(outputs) * standard

    def bracket(self, outputs: Outputs, level: Float[Array, "..."] | float) -> tuple[Rows, Rows]:
        quantile = self.quantile(outputs, level)
        return quantile, quantile


class WithCells(LocationScale):
    """Location and scale with a probability of a cell, so that a target may be rounded."""

    @abc.abstractmethod
    def standard_log_mean(self, z: Rows, half: Rows, outputs: Outputs) -> Rows:
        """Log of the mean standard density between z - ``half`` and z + ``half``."""

    def log_mean_density(
        self, outputs: Outputs, y: Shaped[Array, "*batch data"], width: float
    ) -> Rows:
        """Log of the mean density over the cell of some width around each ``y``."""
        scale = self.scale(outputs)
        z = (y - self.location(outputs)) / scale
        return self.standard_log_mean(z, 0.5 * width / scale, outputs) - jnp.log(scale)


class NormalFamily(ClosedQuantile, WithCells):
    """The standard Normal, whoever provides location and scale."""

    has_normal_components: ClassVar[bool] = True

    def standard_log_prob(self, z: Rows, outputs: Outputs) -> Rows:
        return -0.5 * z**2 - HALF_LOG_TWO_PI

    def standard_moments(self, outputs: Outputs) -> tuple[float, float]:
        return 0.0, 1.0

    def standard_sample(self, key: Key, outputs: Outputs) -> Rows:
        return jax.random.normal(key, outputs.shape[:-1], outputs.dtype)

    def standard_cdf(self, z: Rows, outputs: Outputs) -> Rows:
        return ndtr(z)

    def standard_quantile(self, level: Float[Array, "..."]) -> Float[Array, "..."]:
        return ndtri(level)

    def standard_log_mean(self, z: Rows, half: Rows, outputs: Outputs) -> Rows:
        return normal_log_mean(*jnp.broadcast_arrays(z, half))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normal(NormalFamily):
    r"""Normal likelihood whose noise differs from row to row.

    .. math:: y \sim \mathcal N(o_0, s(o_1)^2)

    with the outputs :math:`o` of the network and the link :math:`s` of the noise scale:
    ``softplus``: :math:`s(o) = \log(1 + e^o)` + ``min_scale``; ``exp``:
    :math:`s(o) = e^o`, clipped to [``min_scale``, 1e6]. Softplus is the default: it
    grows linearly, so one large output cannot explain a row away with an enormous noise. The two
    are compared in ``docs/performance.md``; the difference is small.

    Parameters
    ----------
    link : {"softplus", "exp"}, default="softplus"
        Link of the noise scale.
    min_scale : float, default=1e-3
        Smallest noise scale, in units of the (scaled) target. It bounds the log density from
        above; without it a network that interpolates drives the density to infinity.

    Raises
    ------
    ValueError
        If ``link`` is unknown or ``min_scale`` is not positive.

    References
    ----------
    .. [1] Sommer et al., "Microcanonical Langevin Ensembles", arXiv 2502.06335 (``exp``).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> outputs = jnp.array([[0.0, 0.0], [1.0, 2.0]])
    >>> Normal().log_prob(outputs, jnp.array([0.0, 1.0])).shape
    (2,)
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class HomoscedasticNormal(NormalFamily):
    r"""Normal likelihood with one learnt noise scale, sampled together with the weights.

    .. math:: y \sim \mathcal N(o_0, s(\rho)^2), \quad \rho \sim \mathcal N(0, \tau^2)

    with the output :math:`o_0` of the network, the sampled scalar :math:`\rho` (shared by all
    rows), the link :math:`s` of :class:`Normal` and :math:`\tau` = ``raw_scale_prior``.

    Parameters
    ----------
    link : {"softplus", "exp"}, default="softplus"
        Link of the noise scale.
    min_scale : float, default=1e-3
        Smallest noise scale, in units of the (scaled) target.
    raw_scale_prior : float, default=3.0
        Standard deviation of the prior of the raw scale. The prior of the weights does not apply
        to it: with a narrow one the noise could not become small.

    Raises
    ------
    ValueError
        If ``link`` is unknown, or ``min_scale`` or ``raw_scale_prior`` is not positive.

    References
    ----------
    .. [1] Sommer et al., arXiv 2602.06500: mean regression with a sampled noise scale.

    Examples
    --------
    >>> HomoscedasticNormal().num_outputs, HomoscedasticNormal().num_shared
    (1, 1)
    """

    raw_scale_prior: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("raw_scale_prior", self.raw_scale_prior, low=0.0, low_open=True)

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def num_shared(self) -> int:
        return 1

    def init_shared(self) -> Float[Array, " shared"]:
        return jnp.full(1, math.log(math.expm1(1.0)) if self.link == "softplus" else 0.0)

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        return normal_log_prior(shared, 0.0, self.raw_scale_prior)
