"""Likelihoods of several targets at once."""

from __future__ import annotations

import abc
import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from mirth.core.types import Key
from mirth.core.validation import check_int, check_name, check_real
from mirth.model.likelihoods.base import (
    Likelihood,
    NumericLikelihood,
    Outputs,
    Rows,
    Scaling,
    normal_log_prior,
)
from mirth.model.likelihoods.normal import Normal
from mirth.model.likelihoods.numerics import HALF_LOG_TWO_PI

_MAX_RAW_CORRELATION = 100.0  # a correlation of two targets up to 0.99995
PerTarget = Float[Array, "*batch data targets"]


class SeveralTargets(Likelihood):
    """What likelihoods of several targets share; the last axis of ``y`` counts the targets."""

    num_targets: int

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one row's target."""
        return (self.num_targets,)

    @property
    @abc.abstractmethod
    def scalings(self) -> tuple[Scaling, ...]:
        """Change that each target allows."""

    @abc.abstractmethod
    def marginals(self, outputs: Outputs) -> list[tuple[NumericLikelihood, Outputs]]:
        """Likelihood of each target alone, and the outputs that it reads."""

    @property
    def lattices(self) -> list[tuple[float, float] | None]:
        """One possible value and the step of each target, where they are evenly spaced."""
        return [likelihood.lattice for likelihood in self._kinds]

    @property
    def has_atoms(self) -> bool:
        """Whether single values of a target may have a probability of their own."""
        return any(likelihood.has_atoms for likelihood in self._kinds)

    @property
    def _kinds(self) -> list[NumericLikelihood]:
        """Likelihood of each target alone, without outputs."""
        like = jnp.zeros((1, self.num_outputs + self.num_shared))
        return [likelihood for likelihood, _ in self.marginals(like)]

    def check_targets(self, y: np.ndarray) -> None:
        if y.ndim != 2 or y.shape[1] != self.num_targets:
            raise ValueError(
                f"y has shape {y.shape}, but {type(self).__name__} takes {self.num_targets} "
                f"targets per row: pass an array of shape (N, {self.num_targets})."
            )
        for k, likelihood in enumerate(self._kinds):
            try:
                likelihood.check_targets(y[:, k])
            except ValueError as error:
                raise ValueError(f"Target {k}: {error}") from None

    def mean(self, outputs: Outputs) -> PerTarget:
        return jnp.stack([one.mean(part) for one, part in self.marginals(outputs)], axis=-1)

    def variance(self, outputs: Outputs) -> PerTarget:
        return jnp.stack([one.variance(part) for one, part in self.marginals(outputs)], axis=-1)


@dataclasses.dataclass(frozen=True)
class Independent(SeveralTargets):
    r"""Several targets, independent given the parameters; each has a likelihood of its own.

    .. math:: p(y_1, \dots, y_T) = \prod_t p_t(y_t)

    The network has the outputs of all likelihoods, one after the other, and all hidden layers in
    common; after them come the shared scalars of all likelihoods. The predictive distribution is
    a mixture, in which the targets are dependent through the parameters.

    Parameters
    ----------
    likelihoods : tuple of Likelihood
        One for each target; each of one number, not of a class.

    Raises
    ------
    TypeError
        If one is no likelihood of one number.
    ValueError
        If there are none.

    Examples
    --------
    >>> from mirth.model import Poisson
    >>> likelihood = Independent((Normal(), Poisson()))
    >>> likelihood.num_outputs
    3
    >>> likelihood.mean(jnp.array([[5.0, 0.0, 0.0]]))
    Array([[5., 1.]], dtype=float32)
    """

    likelihoods: tuple[NumericLikelihood, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.likelihoods, tuple | list):
            raise TypeError(
                f"likelihoods={self.likelihoods!r} must be a tuple with one likelihood for each "
                "target, such as (Normal(), Poisson())."
            )
        object.__setattr__(self, "likelihoods", tuple(self.likelihoods))
        if not self.likelihoods:
            raise ValueError("likelihoods=() must have one likelihood for each target.")
        for likelihood in self.likelihoods:
            if not isinstance(likelihood, NumericLikelihood):
                raise TypeError(
                    f"likelihoods has {likelihood!r}, but each must be a likelihood of one number, "
                    "such as mirth.Normal()."
                )

    @property
    def num_targets(self) -> int:  # type: ignore[override]
        """Number of targets per row."""
        return len(self.likelihoods)

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        return tuple(likelihood.scalings[0] for likelihood in self.likelihoods)

    @property
    def num_outputs(self) -> int:
        return sum(likelihood.num_outputs for likelihood in self.likelihoods)

    @property
    def num_shared(self) -> int:
        return sum(likelihood.num_shared for likelihood in self.likelihoods)

    def init_shared(self) -> Float[Array, " shared"]:
        return jnp.concatenate([likelihood.init_shared() for likelihood in self.likelihoods])

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        ends = itertools.accumulate(likelihood.num_shared for likelihood in self.likelihoods)
        log_priors = [
            likelihood.shared_log_prior(shared[end - likelihood.num_shared : end])
            for likelihood, end in zip(self.likelihoods, ends, strict=True)
        ]
        return jnp.sum(jnp.stack(log_priors))

    def marginals(self, outputs: Outputs) -> list[tuple[NumericLikelihood, Outputs]]:
        found: list[tuple[NumericLikelihood, Outputs]] = []
        start, shared = 0, self.num_outputs
        for likelihood in self.likelihoods:
            end, shared_end = start + likelihood.num_outputs, shared + likelihood.num_shared
            parts = [outputs[..., start:end], outputs[..., shared:shared_end]]
            found.append((likelihood, jnp.concatenate(parts, axis=-1)))
            start, shared = end, shared_end
        return found

    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data targets"]) -> Rows:
        marginals = enumerate(self.marginals(outputs))
        return sum(one.log_prob(part, y[..., k]) for k, (one, part) in marginals)  # type: ignore[return-value]

    def sample(self, key: Key, outputs: Outputs) -> PerTarget:
        keys = jax.random.split(key, self.num_targets)
        marginals = zip(keys, self.marginals(outputs), strict=True)
        return jnp.stack([one.sample(own, part) for own, (one, part) in marginals], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultivariateNormal(SeveralTargets):
    r"""Normal likelihood of several targets with learnt correlations of the noise.

    .. math:: y \sim \mathcal N(\mu, \mathrm{diag}(s)\, L L^\top\, \mathrm{diag}(s)), \quad
              L_{ij} = \frac{w_{ij}}{\sqrt{1 + \sum_{k<i} w_{ik}^2}}, \quad w_{ii} = 1

    The network gives the T locations :math:`\mu`, then the T raw scales, with the link of
    :class:`Normal`; the weights :math:`w_{ij}, j < i` are sampled scalars, shared by all rows,
    with the prior N(0, ``correlation_prior``^2) and used between -100 and 100. So the correlation
    matrix :math:`L L^\top` is valid whatever they are; at the start it is the unit matrix.

    Parameters
    ----------
    num_targets : int
        Number of targets T, at least 2.
    link : {"softplus", "exp"}, default="softplus"
        Link of the scales.
    min_scale : float, default=1e-3
        Smallest scale, in units of the (scaled) targets.
    correlation_prior : float, default=1.0
        Standard deviation of the prior of the weights.

    Raises
    ------
    ValueError
        If there are fewer than two targets, ``link`` is unknown, or ``min_scale`` or
        ``correlation_prior`` is not positive.

    Examples
    --------
    >>> likelihood = MultivariateNormal(num_targets=2)
    >>> likelihood.num_outputs, likelihood.num_shared
    (4, 1)
    >>> likelihood.correlation(jnp.array([[0.0, 0.0, 0.0, 0.0, 1.0]])).round(3)
    Array([[[1.   , 0.707],
            [0.707, 1.   ]]], dtype=float32)
    """

    num_targets: int
    link: str = "softplus"
    min_scale: float = 1e-3
    correlation_prior: float = 1.0

    def __post_init__(self) -> None:
        check_int("num_targets", self.num_targets, minimum=2)
        check_name("link", self.link, ("softplus", "exp"))
        check_real("min_scale", self.min_scale, low=0.0, low_open=True)
        check_real("correlation_prior", self.correlation_prior, low=0.0, low_open=True)

    @property
    def scalings(self) -> tuple[Scaling, ...]:
        return (Normal.scaling,) * self.num_targets

    @property
    def num_outputs(self) -> int:
        return 2 * self.num_targets

    @property
    def num_shared(self) -> int:
        return math.comb(self.num_targets, 2)

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        return normal_log_prior(shared, 0.0, self.correlation_prior)

    def marginals(self, outputs: Outputs) -> list[tuple[NumericLikelihood, Outputs]]:
        one = Normal(link=self.link, min_scale=self.min_scale)
        columns = np.arange(2 * self.num_targets).reshape(2, -1)
        return [(one, outputs[..., own]) for own in columns.T]

    def correlation(self, outputs: Outputs) -> Float[Array, "*batch data targets targets"]:
        """Correlation matrix of the noise of each row; all rows of a draw have the same."""
        rows = [
            jnp.stack([*(w / norm for w in weights), 1 / norm], axis=-1)
            for weights, norm in self._rows(outputs)
        ]
        zeros = [[(0, 0)] * (row.ndim - 1) for row in rows]
        padded = [
            jnp.pad(row, [*zero, (0, self.num_targets - row.shape[-1])])
            for row, zero in zip(rows, zeros, strict=True)
        ]
        root = jnp.stack(padded, axis=-2)
        return jnp.einsum("...ij,...kj->...ik", root, root, precision="highest")

    def _rows(self, outputs: Outputs) -> list[tuple[list[Rows], Rows]]:
        """Weights of each row of L, and their norm with the 1 on the diagonal."""
        raw = jnp.clip(
            outputs[..., self.num_outputs :], -_MAX_RAW_CORRELATION, _MAX_RAW_CORRELATION
        )
        rows, start = [], 0
        for i in range(self.num_targets):
            weights = [raw[..., start + j] for j in range(i)]
            square = sum((w**2 for w in weights), jnp.ones(outputs.shape[:-1], outputs.dtype))
            rows.append((weights, jnp.sqrt(square)))
            start += i
        return rows

    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data targets"]) -> Rows:
        residuals: list[Rows] = []  # L^-1 z, by forward substitution
        total = jnp.zeros(outputs.shape[:-1], outputs.dtype)
        pairs = zip(self.marginals(outputs), self._rows(outputs), strict=True)
        for k, ((one, part), (weights, norm)) in enumerate(pairs):
            scale = one.scale(part)  # type: ignore[attr-defined]
            residual = norm * (y[..., k] - part[..., 0]) / scale
            for weight, before in zip(weights, residuals, strict=True):
                residual = residual - weight * before
            residuals.append(residual)
            total = total - 0.5 * residual**2 - jnp.log(scale) + jnp.log(norm) - HALF_LOG_TWO_PI
        return total

    def sample(self, key: Key, outputs: Outputs) -> PerTarget:
        shape = (*outputs.shape[:-1], self.num_targets)
        noise = jax.random.normal(key, shape, outputs.dtype)
        values = []
        pairs = zip(self.marginals(outputs), self._rows(outputs), strict=True)
        for k, ((one, part), (weights, norm)) in enumerate(pairs):
            mixed = noise[..., k]
            for j, weight in enumerate(weights):
                mixed = mixed + weight * noise[..., j]
            values.append(part[..., 0] + one.scale(part) * mixed / norm)  # type: ignore[attr-defined]
        return jnp.stack(values, axis=-1)
