r"""Normal priors whose scales are sampled with the weights.

All are of the form :math:`w_i = s_i(h)\, z_i` with :math:`z_i \sim \mathcal N(0, 1)`. A scale
:math:`s = s_0 e^h` that is half-Cauchy, :math:`s \sim C^+(0, s_0)`, is sampled as its logarithm:

.. math:: \log p(h) = \log \frac{2}{\pi} - \log(e^h + e^{-h}),

Jacobian included. This fits microcanonical dynamics, which have one step size for all coordinates:
the density is smooth, its gradient is never above 1 and its curvature never above that of the
standard Normal :math:`z`, and a standard deviation of :math:`\pi / 2` is of the order of those of
:math:`z`. By comparison, softplus would keep the heavy tail of the half-Cauchy distribution in the
sampled coordinate, and the inverse of the cdf turns a Normal tail into one that grows as
:math:`e^{h^2 / 2}`, so that the same step is a small change in the middle and a huge one outside.
A scale that is log-normal is Normal in that coordinate.
"""

from __future__ import annotations

import abc
import dataclasses
import math
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
from mirth.model.priors.independent import NormalPrior, fan_in, is_vector

_START = (0.01, 100.0)  # bounds of a first scale, relative: biases may all be zero
_START_SPREADS = 2.0  # the same where the scale has a Normal logarithm


class _ScaleMixture(Prior):
    """Common part: standard Normal numbers times scales that are sampled, too."""

    RANGES: ClassVar[Mapping[str, Range]] = {}

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def log_prob(self, params: Params) -> Float[Array, ""]:
        return NormalPrior().log_prob(params)

    def sample(self, key: Key, like: Params) -> Params:
        keys = jax.random.split(key)
        hyper = self._sample_hyper(keys[0], jax.eval_shape(self.init_hyper, like))
        return self.weights(NormalPrior().sample(keys[1], like), hyper)

    def hyper_log_prob(self, hyper: dict[str, Params]) -> Float[Array, ""]:
        return _log_half_cauchy(hyper["log_scale"])

    def weights(self, params: Params, hyper: dict[str, Params]) -> Params:
        return jax.tree.map(lambda z, s: z * jnp.exp(s), params, self._log_scales(params, hyper))

    def standardised(self, weights: Params, hyper: dict[str, Params]) -> Params:
        return jax.tree.map(lambda w, s: w * jnp.exp(-s), weights, self._log_scales(weights, hyper))

    @abc.abstractmethod
    def _log_scales(self, like: Params, hyper: dict[str, Params]) -> Params:
        """Logarithms of the scales of arrays like these: a scalar, or one for each weight."""

    def _sample_hyper(self, key: Key, like: dict[str, Params]) -> dict[str, Params]:
        """Draw hyper-parameters."""
        return draw_like(_draw_log_half_cauchy, key, like)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HierarchicalNormalPrior(_ScaleMixture):
    r"""Normal prior with a scale for each array of parameters, sampled with them.

    .. math:: w_{li} = \sigma_l z_{li}, \quad z_{li} \sim \mathcal N(0, 1), \quad
              \sigma_l \sim C^+(0, s), \quad s = \text{scale}

    The weights of a layer have a scale, and its biases have another. Sampled are :math:`z` and
    :math:`\log(\sigma_l / s)`, under the role ``log_scale``; how the latter fit microcanonical
    dynamics says :mod:`mirth.model.priors.scale_mixtures`.

    Parameters
    ----------
    scale : float, default=1.0
        Median s of the standard deviation of an array.

    Raises
    ------
    ValueError
        If ``scale`` is not positive.

    References
    ----------
    .. [1] Gelman, "Prior distributions for variance parameters in hierarchical models", Bayesian
       Analysis 1 (2006).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> prior = HierarchicalNormalPrior(scale=2.0)
    >>> w = {"w": jnp.array([3.0, -3.0])}
    >>> hyper = prior.init_hyper(w)
    >>> prior.standardised(w, hyper)["w"].tolist(), float(hyper["log_scale"]["w"])
    ([1.0, -1.0], 0.405...)
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"scale": POSITIVE}

    scale: float = 1.0

    def init_hyper(self, weights: Params) -> dict[str, Params]:
        return {"log_scale": _log_root_mean_squares(weights, self.scale)}

    def _log_scales(self, like: Params, hyper: dict[str, Params]) -> Params:
        return jax.tree.map(lambda h: h + math.log(self.scale), hyper["log_scale"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class HierarchicalFanInPrior(_ScaleMixture):
    r"""Normal prior that knows the fan-in and learns how large the weights of each layer are.

    .. math:: W_{l,ij} \sim \mathcal N(0, s_l^2 / n_{\text{in},l}), \quad
              \log s_l \sim \mathcal N(\log s, \tau^2), \quad b_{li} \sim \mathcal N(0, s_b^2)

    with :math:`s` = ``scale``, :math:`\tau` = ``spread`` and :math:`s_b` = ``bias_scale``. By the
    fan-in the scale of a layer's outputs does not depend on the number of columns or the width; by
    :math:`s_l` it follows the data: noisy tables make it small, smooth functions large. Sampled are
    standard Normal numbers in the place of the weights and biases, and :math:`\log(s_l / s)`, under
    the role ``log_scale``. Arrays with fewer than two axes are biases.

    Parameters
    ----------
    scale : float, default=2.0
        Median of a layer's scale: of the standard deviation of a weight times the square root of
        the fan-in.
    spread : float, default=0.7
        Standard deviation of its logarithm.
    bias_scale : float, default=1.0
        Standard deviation of a bias.
    output_axis : int, optional
        As in :class:`~mirth.priors.FanInNormalPrior`: axis of a weight array that counts its
        outputs; None tells it by the name.

    Raises
    ------
    TypeError
        If ``output_axis`` is no integer.
    ValueError
        If a scale or the spread is not positive; from ``check``, if an array has another name and
        ``output_axis`` is None, or has no such axis.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> prior = HierarchicalFanInPrior(scale=2.0)
    >>> w = {"weight": jnp.full((1, 100), 0.2), "bias": jnp.ones(1)}
    >>> hyper = prior.init_hyper(w)
    >>> prior.standardised(w, hyper)["weight"][0, :2].tolist(), float(hyper["log_scale"]["weight"])
    ([1.0, 1.0], 0.0)
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "scale": POSITIVE,
        "spread": POSITIVE,
        "bias_scale": POSITIVE,
    }

    scale: float = 2.0
    spread: float = 0.7
    bias_scale: float = 1.0
    output_axis: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_axis is not None:
            check_int("output_axis", self.output_axis)

    def check(self, weights: Params) -> None:
        self._log_medians(weights)

    def init_hyper(self, weights: Params) -> dict[str, Params]:
        most = _START_SPREADS * self.spread

        def first(leaf: Array, log_median: float) -> Array | None:
            if is_vector(leaf):
                return None
            size = 0.5 * jnp.log(jnp.mean(leaf**2)) - log_median
            return jnp.clip(size, -most, most)

        return {"log_scale": jax.tree.map(first, weights, self._log_medians(weights))}

    def hyper_log_prob(self, hyper: dict[str, Params]) -> Float[Array, ""]:
        h = ravel_pytree(hyper["log_scale"])[0]
        return jnp.sum(jax.scipy.stats.norm.logpdf(h, 0.0, self.spread))

    def _sample_hyper(self, key: Key, like: dict[str, Params]) -> dict[str, Params]:
        def draw(key: Key, shape: Any, dtype: Any) -> Array:
            return self.spread * jax.random.normal(key, shape, dtype)

        return draw_like(draw, key, like)

    def _log_scales(self, like: Params, hyper: dict[str, Params]) -> Params:
        return jax.tree.map(
            lambda log_median, h: log_median if h is None else log_median + h,
            self._log_medians(like),
            hyper["log_scale"],
        )

    def _log_medians(self, like: Params) -> Params:
        """Logarithm of the median standard deviation of each array's numbers."""

        def of_leaf(path: Any, leaf: Any) -> float:
            if is_vector(leaf):
                return math.log(self.bias_scale)
            inputs = fan_in(leaf_name(path), leaf, self.output_axis)
            return math.log(self.scale) - 0.5 * math.log(inputs)

        return jax.tree_util.tree_map_with_path(of_leaf, like)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HorseshoePrior(_ScaleMixture):
    r"""Horseshoe prior: most weights are shrunk to almost zero, a few hardly at all.

    .. math:: w_{li} = \tau_l \lambda_{li} z_{li}, \quad z_{li} \sim \mathcal N(0, 1), \quad
              \lambda_{li} \sim C^+(0, 1), \quad \tau_l \sim C^+(0, \tau_0)

    with :math:`\tau_0` = ``global_scale``, a global scale for each array of parameters and a local
    one for each of its numbers, so that there are twice as many coordinates. Sampled are
    :math:`z`, :math:`\log(\tau_l / \tau_0)` as ``log_scale`` and :math:`\log \lambda_{li}` as
    ``log_local``.

    Parameters
    ----------
    global_scale : float, default=1.0
        Median of the global scale of an array.

    Raises
    ------
    ValueError
        If ``global_scale`` is not positive.

    References
    ----------
    .. [1] Carvalho, Polson and Scott, "The horseshoe estimator for sparse signals", Biometrika 97
       (2010).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> like = {"w": jnp.zeros(10_000)}
    >>> draw = jax.jit(HorseshoePrior().sample)(jax.random.key(0), like)["w"]
    >>> large = abs(draw) > 10 * jnp.median(abs(draw))  # no Normal number is that large
    >>> float(large.mean()) > 0.05
    True
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"global_scale": POSITIVE}

    global_scale: float = 1.0

    def init_hyper(self, weights: Params) -> dict[str, Params]:
        return {
            "log_scale": _log_root_mean_squares(weights, self.global_scale),
            "log_local": jax.tree.map(jnp.zeros_like, weights),
        }

    def hyper_log_prob(self, hyper: dict[str, Params]) -> Float[Array, ""]:
        return super().hyper_log_prob(hyper) + _log_half_cauchy(hyper["log_local"])

    def _log_scales(self, like: Params, hyper: dict[str, Params]) -> Params:
        shift = math.log(self.global_scale)
        return jax.tree.map(
            lambda h, local: h + local + shift, hyper["log_scale"], hyper["log_local"]
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegularisedHorseshoePrior(HorseshoePrior):
    r"""Regularised horseshoe: weights that are not shrunk have a Student-t slab of known width.

    .. math:: w_{li} = \tilde s_{li} z_{li}, \quad
              \tilde s_{li}^{-2} = (\tau_l \lambda_{li})^{-2} + c_l^{-2}, \quad
              c_l^2 \sim \text{Inv-Gamma}(\nu / 2, \nu s^2 / 2)

    with :math:`\nu` = ``slab_df``, :math:`s` = ``slab_scale`` and the rest as in
    :class:`HorseshoePrior`. Sampled is also :math:`\log(c_l / s)`, as ``log_slab``.

    Parameters
    ----------
    global_scale : float, default=1.0
        Median of the global scale of an array.
    slab_scale : float, default=2.0
        Scale of the slab.
    slab_df : float, default=4.0
        Degrees of freedom of the slab.

    Raises
    ------
    ValueError
        If a number is not positive.

    References
    ----------
    .. [1] Piironen and Vehtari, "Sparsity information and regularization in the horseshoe and
       other shrinkage priors", Electronic Journal of Statistics 11 (2017), equations 2.8 to 2.10.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> like = {"w": jnp.zeros(10_000)}
    >>> tails = [
    ...     float(abs(jax.jit(prior.sample)(jax.random.key(0), like)["w"]).max())
    ...     for prior in (HorseshoePrior(), RegularisedHorseshoePrior())
    ... ]
    >>> tails[0] > 100 * tails[1]
    True
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "global_scale": POSITIVE,
        "slab_scale": POSITIVE,
        "slab_df": POSITIVE,
    }

    slab_scale: float = 2.0
    slab_df: float = 4.0

    def init_hyper(self, weights: Params) -> dict[str, Params]:
        slab = jax.tree.map(lambda leaf: jnp.zeros((), leaf.dtype), weights)
        return super().init_hyper(weights) | {"log_slab": slab}

    def hyper_log_prob(self, hyper: dict[str, Params]) -> Float[Array, ""]:
        # k = log(c / s), so exp(2 k) ~ Inv-Gamma(df / 2, df / 2) and its Jacobian is 2 exp(2 k).
        k, half = ravel_pytree(hyper["log_slab"])[0], self.slab_df / 2
        constant = k.size * (math.log(2) + half * math.log(half) - math.lgamma(half))
        slab = constant - jnp.sum(self.slab_df * k + half * jnp.exp(-2 * k))
        return super().hyper_log_prob(hyper) + slab

    def _log_scales(self, like: Params, hyper: dict[str, Params]) -> Params:
        shift = math.log(self.slab_scale)
        return jax.tree.map(
            lambda spike, k: -0.5 * jnp.logaddexp(-2 * spike, -2 * (k + shift)),
            super()._log_scales(like, hyper),
            hyper["log_slab"],
        )

    def _sample_hyper(self, key: Key, like: dict[str, Params]) -> dict[str, Params]:
        half = self.slab_df / 2

        def draw(key: Key, shape: Any, dtype: Any) -> Array:
            return 0.5 * (math.log(half) - jax.random.loggamma(key, half, shape, dtype))

        keys = jax.random.split(key)
        slab = draw_like(draw, keys[0], like["log_slab"])
        return super()._sample_hyper(keys[1], like) | {"log_slab": slab}


def _log_root_mean_squares(weights: Params, scale: float) -> Params:
    """Logarithm of the size of each array, in units of a scale: a first guess at its own scale."""

    def of_leaf(leaf: Array) -> Array:
        relative = jnp.sqrt(jnp.mean(leaf**2)) / scale
        return jnp.log(jnp.clip(relative, *_START))

    return jax.tree.map(of_leaf, weights)


def _log_half_cauchy(logs: Params) -> Float[Array, ""]:
    """Summed log density of logarithms of half-Cauchy numbers of scale 1."""
    h = ravel_pytree(logs)[0]
    return h.size * math.log(2 / math.pi) - jnp.sum(jnp.logaddexp(h, -h))


def _draw_log_half_cauchy(key: Key, shape: Any, dtype: Any) -> Array:
    return jnp.log(jnp.abs(jax.random.cauchy(key, shape, dtype)))
