"""Targets that are recorded to a step: ratings, rounded measurements."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from mirth.core.types import Key
from mirth.core.validation import check_real
from mirth.model.likelihoods.base import NumericLikelihood, Outputs, Rows, Scaling

_SAME = 0.01  # values closer than this share of a step are equal: float32 is finer
_REACH = 5  # steps to either side of the mean whose cells are looked at
_PARTS = 3  # of a cell
LEAST_SCALE = 0.25
ROUNDABLE = "Normal, HomoscedasticNormal, StudentT, Laplace or LogNormal"


@runtime_checkable
class Roundable(Protocol):
    """A likelihood with a probability of cells and a smallest scale."""

    min_scale: float

    def log_mean_density(
        self, outputs: Outputs, y: Shaped[Array, "*batch data"], width: float
    ) -> Rows:
        """Log of the mean density over the cell of some width around each ``y``."""


@dataclasses.dataclass(frozen=True)
class Rounded(NumericLikelihood):
    r"""Likelihood of a target that is recorded to a step.

    .. math:: p(y) = \frac{F(y + w/2) - F(y - w/2)}{w}

    with the distribution function F of ``likelihood`` and w = ``resolution``: the latent value lies
    within half a step of the recorded one. A density would reward a narrow noise without bound
    where rows repeat; a probability cannot exceed 1. It is divided by w, so that scores of
    different resolutions and of none compare; for a small w it is the density.

    All else is that of the recorded value, which lies on the lattice ``origin`` + k w: quantiles
    and samples are such values, the distribution function has steps there, mean and variance are
    those of the recorded value (that of a noise much wider than w is :math:`w^2/12` larger than
    that of the latent value). :attr:`latent` has those of the latent one.

    The scale of the noise is at least ``least_scale`` w, in units of the logarithm for a
    LogNormal: with a quarter of a step, a Normal in the middle of a cell leaves 2 % to each side,
    so being wrong by one value is never out of the question. Moments, and the cells of a StudentT,
    are computed by rules that need it.

    Parameters
    ----------
    likelihood : likelihood object
        Distribution of the latent value: Normal, HomoscedasticNormal, StudentT, Laplace or
        LogNormal.
    resolution : float
        Step w, in units of the (scaled) target.
    origin : float, default=0.0
        A value that can be recorded, in the same units.
    least_scale : float, default=0.25
        Smallest scale of the noise in steps, at least 0.25.

    Raises
    ------
    TypeError
        If the likelihood is none of those.
    ValueError
        If ``resolution`` is not positive, ``least_scale`` is less than 0.25, or ``origin`` is not
        finite.

    References
    ----------
    .. [1] Heitjan, "Inference from grouped continuous data: a review", Stat. Sci. 4 (1989).

    Examples
    --------
    >>> from mirth.model import Normal
    >>> ratings = Rounded(Normal(), resolution=1.0)
    >>> outputs = jnp.array([[3.2, 0.0]])
    >>> ratings.quantile(outputs, 0.5), ratings.latent.quantile(outputs, 0.5)
    (Array([3.], dtype=float32), Array([3.2], dtype=float32))
    """

    has_counts: ClassVar[bool] = False

    likelihood: NumericLikelihood
    resolution: float = dataclasses.field(kw_only=True)
    origin: float = dataclasses.field(default=0.0, kw_only=True)
    least_scale: float = dataclasses.field(default=LEAST_SCALE, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.likelihood, Roundable):
            raise TypeError(
                f"likelihood={self.likelihood!r} cannot be rounded: it must be a {ROUNDABLE}."
            )
        check_real("resolution", self.resolution, low=0.0, low_open=True)
        check_real("origin", self.origin)
        check_real("least_scale", self.least_scale, low=LEAST_SCALE)

    @property
    def latent(self) -> NumericLikelihood:
        """Likelihood of the latent value, with the smallest scale that the step asks for."""
        least = max(self.likelihood.min_scale, self.least_scale * self.resolution)  # type: ignore[attr-defined]
        return dataclasses.replace(self.likelihood, min_scale=least)  # type: ignore[type-var]

    @property
    def num_outputs(self) -> int:
        return self.likelihood.num_outputs

    @property
    def num_shared(self) -> int:
        return self.likelihood.num_shared

    def init_shared(self) -> Float[Array, " shared"]:
        return self.likelihood.init_shared()

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        return self.likelihood.shared_log_prior(shared)

    @property
    def scaling(self) -> Scaling:  # type: ignore[override]
        return self.likelihood.scaling

    @property
    def takes(self) -> str:  # type: ignore[override]
        return self.likelihood.takes

    @property
    def support(self) -> tuple[float, float]:  # type: ignore[override]
        """Ends of the possible values: a cell may reach over an end of the latent ones."""
        low, high = self.likelihood.support
        return low - self.resolution / 2, high + self.resolution / 2

    @property
    def lattice(self) -> tuple[float, float]:
        return self.origin, self.resolution

    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        return self._log_mean(outputs, y, self.resolution)

    def _log_mean(self, outputs: Outputs, y: Shaped[Array, "..."], width: float) -> Rows:
        return self.latent.log_mean_density(outputs, y, width)  # type: ignore[attr-defined]

    def point_mass(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        steps = self._steps(jnp.asarray(y, outputs.dtype))
        nearest = jnp.round(steps)
        mass = self.resolution * jnp.exp(self.log_prob(outputs, self._value(nearest)))
        return jnp.where(jnp.abs(steps - nearest) < _SAME, mass, 0.0)

    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        below = jnp.floor(self._steps(jnp.asarray(y, outputs.dtype)) + _SAME)
        return self.latent.cdf(outputs, self._value(below + 0.5))

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        return self._value(jnp.round(self._steps(self.latent.sample(key, outputs))))

    def mean(self, outputs: Outputs) -> Rows:
        return self._moments(outputs)[0]

    def variance(self, outputs: Outputs) -> Rows:
        return self._moments(outputs)[1]

    def bracket(self, outputs: Outputs, level: Float[Array, "..."] | float) -> tuple[Rows, Rows]:
        low, high = self.latent.bracket(outputs, level)
        return low - self.resolution, high + self.resolution

    def _steps(self, y: Rows) -> Rows:
        return (y - self.origin) / self.resolution

    def _value(self, steps: Rows) -> Rows:
        return self.origin + self.resolution * steps

    def _moments(self, outputs: Outputs) -> tuple[Rows, Rows]:
        r"""Mean and variance of the recorded value.

        A value that is rounded to w/3 has the moments of the latent one, but for w^2/108 of the
        variance (Sheppard). Rounding further to w changes them by sums over the cells
        :math:`k + j/3` with the probabilities :math:`p_{kj}`, of which few matter:

        .. math:: -\frac w3 \sum_{k,j} j p_{kj}, \qquad
                  -w^2 \sum_{k,j} \left(\frac{2 k j}3 + \frac{j^2}9\right) p_{kj}

        for the mean and the second moment about a recorded value. Noise wider than a step needs no
        sums: the mean is that of the latent value, the variance w^2/12 larger.
        """
        w, part = self.resolution, self.resolution / _PARTS
        mean, variance = self.latent.mean(outputs), self.latent.variance(outputs)
        centre = self._value(jnp.round(self._steps(mean)))

        def add(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            index, first, second = state
            before = jnp.floor(index / _PARTS)
            cell, within = before - _REACH, index - _PARTS * before - _PARTS // 2
            at = centre + w * (cell + within / _PARTS)
            mass = part * jnp.exp(self._log_mean(outputs, at, part))
            square = 2 * cell * within / _PARTS + (within / _PARTS) ** 2
            return index + 1, first - part * within * mass, second - w**2 * square * mass

        count, zero = _PARTS * (2 * _REACH + 1), jnp.zeros_like(mean)
        # Not counted, and without whole numbers: such a loop can be written as ONNX.
        _, first, second = jax.lax.while_loop(
            lambda state: state[0] < count, add, (jnp.zeros((), mean.dtype), zero, zero)
        )
        is_narrow = variance < w**2
        shift = jnp.where(is_narrow, first, 0.0)
        # The second moment about the centre, less the square of the mean about it.
        offset = mean - centre
        narrow = variance + second + part**2 / 12 - shift * (2 * offset + shift)
        return mean + shift, jnp.where(is_narrow, jnp.maximum(narrow, 0.0), variance + w**2 / 12)
