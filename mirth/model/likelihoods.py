"""Likelihoods: each owns its link, written once, and is elementwise over leading axes.

A likelihood sees *outputs* of shape (..., data, outputs). The first ``num_outputs`` of them come
from the network, the last ``num_shared`` are sampled scalars that are the same for every row (a
learnt noise level). So a likelihood with a global parameter needs no other code than one whose
parameters differ from row to row.

==================== ============================ ==========================
name                 outputs from the network     shared scalars
==================== ============================ ==========================
``normal``           location, raw scale          -
``homoscedastic``    location                     raw scale
``categorical``      one logit per class          -
==================== ============================ ==========================
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Int, Shaped

from mirth.core.config import Configurable
from mirth.core.types import Key
from mirth.core.validation import check_int, check_name, check_real

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
_EXP_CLIP = 1e6

Outputs = Float[Array, "*batch data outputs"]
Rows = Float[Array, "*batch data"]


def _softplus(x: Array) -> Array:
    """log(1 + e^x) to an absolute error of 1e-7: a scale has ``min_scale`` added to it.

    The exact form (``log1p``) takes half as long again as the whole Normal log likelihood.
    """
    return jnp.maximum(x, 0) + jnp.log(1 + jnp.exp(-jnp.abs(x)))


class Likelihood(Configurable, abc.ABC):
    """What a likelihood is to the rest of the library."""

    is_discrete: ClassVar[bool]

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """Number of outputs that the network must have."""

    @property
    @abc.abstractmethod
    def num_shared(self) -> int:
        """Number of sampled scalars appended to the outputs of every row."""

    def init_shared(self) -> Float[Array, " shared"]:
        """First values of the shared scalars, for targets with mean 0 and variance 1."""
        return jnp.zeros(self.num_shared)

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        """Log prior density of the shared scalars; they are no weights and have their own."""
        return jnp.zeros((), shared.dtype)

    def check_targets(self, y: np.ndarray) -> None:
        """Refuse targets that the likelihood has no probability for, with a ValueError."""
        if y.ndim != 1:
            raise ValueError(
                f"y has shape {y.shape}, but {type(self).__name__} takes one target per row: pass "
                "an array of shape (N,)."
            )

    @abc.abstractmethod
    def log_prob(self, outputs: Outputs, y: Shaped[Array, "*batch data"]) -> Rows:
        """Log probability (density) of each row."""

    @abc.abstractmethod
    def mean(self, outputs: Outputs) -> Shaped[Array, "*batch data ..."]:
        """Mean of each row's predictive distribution."""

    @abc.abstractmethod
    def variance(self, outputs: Outputs) -> Shaped[Array, "*batch data ..."]:
        """Variance of each row's predictive distribution."""

    @abc.abstractmethod
    def sample(self, key: Key, outputs: Outputs) -> Shaped[Array, "*batch data"]:
        """Draw one value for each row."""


class _NormalFamily(Likelihood):
    """Location in output 0, raw scale in output 1, whoever provides them."""

    is_discrete: ClassVar[bool] = False
    link: str
    min_scale: float

    def __post_init__(self) -> None:
        check_name("link", self.link, ("softplus", "exp"))
        check_real("min_scale", self.min_scale, low=0.0, low_open=True)

    def location(self, outputs: Outputs) -> Rows:
        """Location of each row."""
        return outputs[..., 0]

    def scale(self, outputs: Outputs) -> Rows:
        """Standard deviation of each row: ``link(outputs[..., 1])``."""
        raw = outputs[..., 1]
        if self.link == "softplus":
            return _softplus(raw) + self.min_scale
        return jnp.exp(jnp.clip(raw, math.log(self.min_scale), math.log(_EXP_CLIP)))

    def log_prob(self, outputs: Outputs, y: Float[Array, "*batch data"]) -> Rows:
        scale = self.scale(outputs)
        standard = (y - self.location(outputs)) / scale
        return -0.5 * standard**2 - jnp.log(scale) - _HALF_LOG_TWO_PI

    def mean(self, outputs: Outputs) -> Rows:
        return self.location(outputs)

    def variance(self, outputs: Outputs) -> Rows:
        return self.scale(outputs) ** 2

    def sample(self, key: Key, outputs: Outputs) -> Rows:
        noise = jax.random.normal(key, outputs.shape[:-1], outputs.dtype)
        return self.location(outputs) + self.scale(outputs) * noise

    def cdf(self, outputs: Outputs, y: Float[Array, "*batch data"]) -> Rows:
        """Probability of a value at most ``y``, per row."""
        return ndtr((y - self.location(outputs)) / self.scale(outputs))

    def quantile(self, outputs: Outputs, level: Float[Array, "..."] | float) -> Rows:
        """Value below which a share ``level`` (0 to 1) of each row's distribution lies."""
        return self.location(outputs) + self.scale(outputs) * ndtri(jnp.asarray(level))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normal(_NormalFamily):
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

    link: str = "softplus"
    min_scale: float = 1e-3

    @property
    def num_outputs(self) -> int:
        return 2

    @property
    def num_shared(self) -> int:
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HomoscedasticNormal(_NormalFamily):
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

    link: str = "softplus"
    min_scale: float = 1e-3
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
        return jnp.sum(jax.scipy.stats.norm.logpdf(shared, scale=self.raw_scale_prior))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Categorical(Likelihood):
    r"""Categorical likelihood of class indices.

    .. math:: p(y = c) = \mathrm{softmax}(o)_c

    Parameters
    ----------
    num_classes : int
        Number of classes, at least 2; ``y`` holds 0, ..., ``num_classes`` - 1.

    Raises
    ------
    ValueError
        If there are fewer than two classes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> likelihood = Categorical(num_classes=3)
    >>> likelihood.probabilities(jnp.zeros((1, 3))).round(3)
    Array([[0.333, 0.333, 0.333]], dtype=float32)
    """

    is_discrete: ClassVar[bool] = True
    num_classes: int

    def __post_init__(self) -> None:
        check_int("num_classes", self.num_classes, minimum=2)

    @property
    def num_outputs(self) -> int:
        return self.num_classes

    @property
    def num_shared(self) -> int:
        return 0

    def check_targets(self, y: np.ndarray) -> None:
        super().check_targets(y)
        wrong = (y < 0) | (y >= self.num_classes) | (y != np.floor(y))
        if y.dtype.kind not in "iu" or wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"y must hold class indices, integers from 0 to {self.num_classes - 1}; it is of "
                f"type {y.dtype} and has {y[row]} in row {row}. Encode the labels first."
            )

    def probabilities(self, outputs: Outputs) -> Float[Array, "*batch data classes"]:
        """Probability of each class."""
        return jax.nn.softmax(outputs, axis=-1)

    def log_prob(self, outputs: Outputs, y: Int[Array, "*batch data"]) -> Rows:
        log_probabilities = jax.nn.log_softmax(outputs, axis=-1)
        y = jnp.broadcast_to(y, outputs.shape[:-1])
        return jnp.take_along_axis(log_probabilities, y[..., None], axis=-1)[..., 0]

    def mean(self, outputs: Outputs) -> Float[Array, "*batch data classes"]:
        return self.probabilities(outputs)

    def variance(self, outputs: Outputs) -> Float[Array, "*batch data classes"]:
        probabilities = self.probabilities(outputs)
        return probabilities * (1 - probabilities)

    def sample(self, key: Key, outputs: Outputs) -> Int[Array, "*batch data"]:
        return jax.random.categorical(key, outputs, axis=-1)
