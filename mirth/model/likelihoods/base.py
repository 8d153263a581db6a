"""What a likelihood is to the rest of the library."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from mirth.core.config import Configurable
from mirth.core.roots import find_root, smallest_integer
from mirth.core.types import Key

Outputs = Float[Array, "*batch data outputs"]
Rows = Float[Array, "*batch data"]
Scaling = Literal["location-scale", "scale", "none"]

_MAX_LOG_MEAN = 30.0  # a mean between 1e-13 and 1e13: products of it stay finite in float32


class Likelihood(Configurable, abc.ABC):
    """Distribution of a target given the outputs of the network and the shared scalars."""

    has_classes: ClassVar[bool] = False
    """Whether targets are class indices."""

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """Number of outputs that the network must have."""

    @property
    @abc.abstractmethod
    def num_shared(self) -> int:
        """Number of sampled scalars appended to the outputs of every row."""

    def init_shared(self) -> Float[Array, " shared"]:
        """First values of the shared scalars, for targets in units of the network."""
        return jnp.zeros(self.num_shared)

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        """Log prior density of the shared scalars; they are no weights and have their own."""
        return jnp.zeros((), shared.dtype)

    def check_targets(self, y: np.ndarray) -> None:
        """Refuse targets that the likelihood has no probability for, with a ValueError."""
        if y.ndim != 1:
            raise ValueError(
                f"y has shape {y.shape}, but {type(self).__name__} takes one target per row: pass "
                "an array of shape (N,); for several targets there are Independent and "
                "MultivariateNormal."
            )

    @abc.abstractmethod
    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data ..."]) -> Rows:
        """Log probability (density) of each row."""

    @abc.abstractmethod
    def mean(self, outputs: Outputs) -> Shaped[Array, "*batch data ..."]:
        """Mean of each row's predictive distribution."""

    @abc.abstractmethod
    def variance(self, outputs: Outputs) -> Shaped[Array, "*batch data ..."]:
        """Variance of each row's predictive distribution."""

    @abc.abstractmethod
    def sample(self, key: Key, outputs: Outputs) -> Shaped[Array, "*batch data ..."]:
        """Draw one value for each row."""


class NumericLikelihood(Likelihood):
    """Likelihood of a number, or of several."""

    scaling: ClassVar[Scaling] = "location-scale"
    """Change of the target that leads to the same family: y -> (y - shift) / scale, only
    y -> y / scale, or none."""
    has_counts: ClassVar[bool] = False
    """Whether only whole numbers are possible."""
    has_normal_components: ClassVar[bool] = False
    """Whether it is a Normal with the methods ``location`` and ``scale``."""
    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """Ends of the possible values."""
    takes: ClassVar[str] = "real numbers"
    """What the targets are, for messages."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one row's target: a number has no axes."""
        return ()

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        """Change that each target allows."""
        return (self.scaling,)

    def marginals(self, outputs: Outputs) -> list[tuple[NumericLikelihood, Outputs]]:
        """Likelihood of each target alone, and the outputs that it reads."""
        return [(self, outputs)]

    def is_possible(self, y: Any) -> Any:
        """Tell which values have a probability, elementwise."""
        return (y > self.support[0]) & (y < self.support[1])

    def check_targets(self, y: np.ndarray) -> None:
        super().check_targets(y)
        possible = self.is_possible(y)
        if not possible.all():
            row = int(np.argmin(possible))
            raise ValueError(
                f"y has {y[row]:g} in row {row}, but {type(self).__name__} takes {self.takes} "
                f"({int((~possible).sum())} of {len(y)} rows are wrong). Check the column, or "
                "choose another likelihood."
            )

    @abc.abstractmethod
    def cdf(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        """Probability of a value at most ``y``, per row."""

    def point_mass(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        """Probability of ``y`` itself, per row: of counts that of the count, else 0.

        A likelihood that gives single values a probability of their own and others a density, such
        as one of censored targets, overrides this, and :attr:`has_atoms` is then true.
        """
        if self.has_counts:
            return jnp.exp(self.log_prob(outputs, y))
        return jnp.zeros(jnp.broadcast_shapes(outputs.shape[:-1], y.shape), outputs.dtype)

    @property
    def lattice(self) -> tuple[float, float] | None:
        """One possible value and the step to the next, where they are evenly spaced."""
        return (0.0, 1.0) if self.has_counts else None

    @property
    def lattices(self) -> list[tuple[float, float] | None]:
        """Lattice of each target."""
        return [self.lattice]

    @property
    def has_atoms(self) -> bool:
        """Whether single values may have a probability of their own."""
        return self.has_counts or type(self).point_mass is not NumericLikelihood.point_mass

    def bracket(self, outputs: Outputs, level: Float[Array, "..."] | float) -> tuple[Rows, Rows]:
        r"""Two values with the quantile of each row between them.

        Cantelli's inequality: no distribution of mean m and standard deviation s has its quantile
        of level p outside :math:`[m - s\sqrt{(1-p)/p},\ m + s\sqrt{p/(1-p)}]`.
        """
        mean, std = self.mean(outputs), jnp.sqrt(self.variance(outputs))
        level = jnp.asarray(level, outputs.dtype)
        low = jnp.clip(mean - std * jnp.sqrt((1 - level) / level), *self.support)
        return low, jnp.clip(mean + std * jnp.sqrt(level / (1 - level)), *self.support)

    def quantile(self, outputs: Outputs, level: Float[Array, "..."] | float) -> Rows:
        """Value below which a share ``level`` (0 to 1) of each row's distribution lies.

        Of counts, and of rounded values, it is the smallest one with at least this probability up
        to it.
        """
        ends = self.bracket(outputs, level)
        return self.invert(lambda y: self.cdf(outputs, y), level, *ends)

    def invert(
        self,
        cdf: Callable[[Array], Array],
        level: Float[Array, "..."] | float,
        low: Array,
        high: Array,
    ) -> Array:
        """Solve cdf(y) = ``level``, or find the smallest value with cdf(y) >= ``level``."""
        low, high = jnp.broadcast_arrays(low, high)
        if self.lattice:
            first, step = self.lattice
            ends = (low - first) / step, (high - first) / step
            reached = smallest_integer(lambda k: cdf(first + step * k) >= level, *ends)
            return first + step * reached
        # Next to the end of the support small numbers differ as much as large ones.
        near_zero = 1e-3 if self.support[0] else 0.0
        return find_root(lambda y: cdf(y) - level, low, high, near_zero=near_zero)


class SupportedLikelihood(NumericLikelihood):
    """Likelihood of numbers that not all real numbers are: zero probability elsewhere."""

    inside: ClassVar[float] = 1.0
    """A possible value, so that nothing is computed from impossible ones."""

    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        y = jnp.asarray(y, outputs.dtype)
        possible = self.is_possible(y)
        values = self.log_prob_inside(outputs, jnp.where(possible, y, self.inside))
        return jnp.where(possible, values, -jnp.inf)

    @abc.abstractmethod
    def log_prob_inside(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        """Log probability (density) of possible values."""


def softplus(x: Array) -> Array:
    """log(1 + e^x) to an absolute error of 1e-7: a scale has ``min_scale`` added to it.

    The exact form (``log1p``) takes half as long again as the whole Normal log likelihood.
    """
    return jnp.maximum(x, 0) + jnp.log(1 + jnp.exp(-jnp.abs(x)))


def clip_log_mean(raw: Array) -> Array:
    """Logarithm of a mean, bounded so that the mean is finite."""
    return jnp.clip(raw, -_MAX_LOG_MEAN, _MAX_LOG_MEAN)


def normal_log_prior(
    shared: Float[Array, " shared"], centre: Array | float, scale: float
) -> Float[Array, ""]:
    """Log density of independent Normal scalars."""
    return jnp.sum(jax.scipy.stats.norm.logpdf(shared, centre, scale))
