"""Priors under which all weights are independent, with a density of the weights themselves."""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from mirth.core.trees import leaf_name
from mirth.core.types import Key, Params
from mirth.core.validation import POSITIVE, Range, check_int, check_ranges
from mirth.model.priors.base import Prior, draw_like

_OUTPUT_AXES = {"weight": 0, "kernel": -1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _IdenticalPrior(Prior):
    """One density, of mean or location zero, and one scale for every weight and bias."""

    RANGES: ClassVar[Mapping[str, Range]] = {"scale": POSITIVE}

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def log_prob(self, params: Params) -> Float[Array, ""]:
        # One vector instead of a sum per leaf: its gradient is one vector, too.
        flat = ravel_pytree(params)[0]
        return self._log_prob_at_scale_one(flat / self.scale) - flat.size * math.log(self.scale)

    def sample(self, key: Key, like: Params) -> Params:
        return draw_like(lambda *where: self.scale * self._draw_at_scale_one(*where), key, like)

    @abc.abstractmethod
    def _log_prob_at_scale_one(self, flat: Float[Array, " weights"]) -> Float[Array, ""]:
        """Summed log density of numbers of scale 1."""

    @abc.abstractmethod
    def _draw_at_scale_one(self, key: Key, shape: Any, dtype: Any) -> Array:
        """Draw numbers of scale 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalPrior(_IdenticalPrior):
    r"""Independent Normal prior with mean zero and one scale for every parameter.

    .. math:: \log p(\theta) = \sum_i \log \mathcal N(\theta_i; 0, \sigma^2),
              \quad \sigma = \text{scale}

    Parameters
    ----------
    scale : float, default=1.0
        Standard deviation of every weight and bias; 1 in both papers.

    Raises
    ------
    ValueError
        If ``scale`` is not positive.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(NormalPrior(scale=1.0).log_prob({"w": jnp.zeros(2)}))
    -1.837877...
    """

    def _log_prob_at_scale_one(self, flat: Float[Array, " weights"]) -> Float[Array, ""]:
        return -0.5 * jnp.vdot(flat, flat) - flat.size * 0.5 * math.log(2 * math.pi)

    def _draw_at_scale_one(self, key: Key, shape: Any, dtype: Any) -> Array:
        return jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaplacePrior(_IdenticalPrior):
    r"""Independent Laplace prior: many small weights, some larger ones.

    .. math:: p(\theta_i) = \frac{1}{2 b} e^{-|\theta_i| / b}, \quad b = \text{scale}

    Parameters
    ----------
    scale : float, default=1.0
        Mean absolute value b of every weight and bias; the standard deviation is
        :math:`\sqrt 2\, b`.

    Raises
    ------
    ValueError
        If ``scale`` is not positive.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(LaplacePrior(scale=2.0).log_prob({"w": jnp.ones(1)}))
    -1.886294...
    """

    def _log_prob_at_scale_one(self, flat: Float[Array, " weights"]) -> Float[Array, ""]:
        return jnp.sum(jax.scipy.stats.laplace.logpdf(flat))

    def _draw_at_scale_one(self, key: Key, shape: Any, dtype: Any) -> Array:
        return jax.random.laplace(key, shape, dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentTPrior(_IdenticalPrior):
    r"""Independent Student-t prior: tails that fall as a power.

    .. math:: p(\theta_i) \propto \left(1 + \frac{\theta_i^2}{\nu \sigma^2}\right)^{-(\nu + 1)/2},
              \quad \nu = \text{df}, \ \sigma = \text{scale}

    Parameters
    ----------
    scale : float, default=1.0
        Scale of every weight and bias; the standard deviation is
        :math:`\sigma \sqrt{\nu / (\nu - 2)}` for more than two degrees of freedom.
    df : float, default=4.0
        Degrees of freedom; fewer make heavier tails.

    Raises
    ------
    ValueError
        If ``scale`` or ``df`` is not positive.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(StudentTPrior(df=4.0).log_prob({"w": jnp.zeros(1)}))
    -0.980829...
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"scale": POSITIVE, "df": POSITIVE}

    df: float = 4.0

    def _log_prob_at_scale_one(self, flat: Float[Array, " weights"]) -> Float[Array, ""]:
        return jnp.sum(jax.scipy.stats.t.logpdf(flat, self.df))

    def _draw_at_scale_one(self, key: Key, shape: Any, dtype: Any) -> Array:
        return jax.random.t(key, self.df, shape, dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CauchyPrior(_IdenticalPrior):
    r"""Independent Cauchy prior: Student-t with one degree of freedom, without a variance.

    .. math:: p(\theta_i) = \frac{1}{\pi \gamma (1 + \theta_i^2 / \gamma^2)},
              \quad \gamma = \text{scale}

    Parameters
    ----------
    scale : float, default=1.0
        Median absolute value of every weight and bias.

    Raises
    ------
    ValueError
        If ``scale`` is not positive.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(CauchyPrior().log_prob({"w": jnp.zeros(1)}))
    -1.144729...
    """

    def _log_prob_at_scale_one(self, flat: Float[Array, " weights"]) -> Float[Array, ""]:
        return jnp.sum(jax.scipy.stats.cauchy.logpdf(flat))

    def _draw_at_scale_one(self, key: Key, shape: Any, dtype: Any) -> Array:
        return jax.random.cauchy(key, shape, dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FanInNormalPrior(Prior):
    r"""Normal prior whose variance falls with the fan-in, so that width does not change a layer.

    .. math:: W_{ij} \sim \mathcal N(0, s^2 / n_\text{in}), \quad b_i \sim \mathcal N(0, s_b^2),
              \quad s = \text{scale}, \ s_b = \text{bias\_scale}

    Arrays with fewer than two axes (biases, and scales of normalisations) have no fan-in. That of
    the others is their size by that of their axis of outputs.

    Parameters
    ----------
    scale : float, default=1.0
        Standard deviation of a weight times the square root of the fan-in;
        :math:`\sqrt 2` keeps the second moment of activations through rectifiers.
    bias_scale : float, default=1.0
        Standard deviation of a bias.
    output_axis : int, optional
        Axis of a weight array that counts its outputs. None tells it by the name: 0 for ``weight``
        (the built-in MLP, Equinox), -1 for ``kernel`` (Flax, the built-in networks for images).

    Raises
    ------
    TypeError
        If ``output_axis`` is no integer.
    ValueError
        If a scale is not positive; from ``check``, if an array has another name and
        ``output_axis`` is None, or has no such axis.

    References
    ----------
    .. [1] Neal, "Bayesian Learning for Neural Networks" (1996), section 2.1.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> like = {"weight": jnp.zeros((200, 100)), "bias": jnp.zeros(200)}
    >>> draw = jax.jit(FanInNormalPrior(scale=2.0).sample)(jax.random.key(0), like)
    >>> round(float(draw["weight"].std()), 2)
    0.2
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"scale": POSITIVE, "bias_scale": POSITIVE}

    scale: float = 1.0
    bias_scale: float = 1.0
    output_axis: int | None = None

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        if self.output_axis is not None:
            check_int("output_axis", self.output_axis)

    def log_prob(self, params: Params) -> Float[Array, ""]:
        standard = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf / self._scale_of(leaf_name(path), leaf), params
        )
        constant = sum(
            leaf.size * math.log(self._scale_of(leaf_name(path), leaf))
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        )
        return NormalPrior().log_prob(standard) - constant

    def sample(self, key: Key, like: Params) -> Params:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf * self._scale_of(leaf_name(path), leaf),
            NormalPrior().sample(key, like),
        )

    def check(self, weights: Params) -> None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
            self._scale_of(leaf_name(path), leaf)

    def _scale_of(self, name: str, leaf: Any) -> float:
        """Standard deviation of the numbers of an array."""
        if is_vector(leaf):
            return self.bias_scale
        return self.scale / math.sqrt(fan_in(name, leaf, self.output_axis))


def is_vector(leaf: Any) -> bool:
    """Whether an array is a bias or the scale of a normalisation, which have no fan-in."""
    return len(leaf.shape) < 2


def fan_in(name: str, leaf: Any, output_axis: int | None) -> float:
    """Count the inputs of a unit: the size of an array by that of its axis of outputs."""
    axis = _OUTPUT_AXES.get(re.split(r"[./]", name)[-1]) if output_axis is None else output_axis
    if axis is None or not -len(leaf.shape) <= axis < len(leaf.shape):
        raise ValueError(
            f"output_axis={output_axis!r} does not tell the fan-in of the parameter "
            f"{name!r} of shape {leaf.shape}; give the axis that counts its outputs, or give "
            "the parameter a prior of its own by mirth.priors.PriorMap."
        )
    return math.prod(leaf.shape) / leaf.shape[axis]
