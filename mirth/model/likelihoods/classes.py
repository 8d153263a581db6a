"""Likelihoods of class indices."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mirth.core.types import Key
from mirth.core.validation import check_int, check_real
from mirth.model.likelihoods.base import Likelihood, Outputs, Rows, normal_log_prior, softplus

_LEAST_GAP = 1e-3  # between thresholds, so that every class keeps a probability
ClassValues = Float[Array, "*batch data classes"]


class ClassLikelihood(Likelihood):
    """Likelihood of the indices 0, ..., ``num_classes`` - 1."""

    has_classes: ClassVar[bool] = True
    num_classes: int

    @abc.abstractmethod
    def log_probabilities(self, outputs: Outputs) -> ClassValues:
        """Log probability of each class."""

    def check_targets(self, y: np.ndarray) -> None:
        super().check_targets(y)
        wrong = (y < 0) | (y >= self.num_classes) | (y != np.floor(y))
        if y.dtype.kind not in "iu" or wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"y must hold class indices, integers from 0 to {self.num_classes - 1}; it is of "
                f"type {y.dtype} and has {y[row]} in row {row}. Encode the labels first."
            )

    def probabilities(self, outputs: Outputs) -> ClassValues:
        """Probability of each class."""
        return jnp.exp(self.log_probabilities(outputs))

    def log_prob(self, outputs: Outputs, y: Int[Array, "*batch data"]) -> Rows:
        y = jnp.broadcast_to(y, outputs.shape[:-1])
        return jnp.take_along_axis(self.log_probabilities(outputs), y[..., None], axis=-1)[..., 0]

    def mean(self, outputs: Outputs) -> ClassValues:
        return self.probabilities(outputs)

    def variance(self, outputs: Outputs) -> ClassValues:
        probabilities = self.probabilities(outputs)
        return probabilities * (1 - probabilities)

    def sample(self, key: Key, outputs: Outputs) -> Int[Array, "*batch data"]:
        return jax.random.categorical(key, self.log_probabilities(outputs), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Categorical(ClassLikelihood):
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

    num_classes: int

    def __post_init__(self) -> None:
        check_int("num_classes", self.num_classes, minimum=2)

    @property
    def num_outputs(self) -> int:
        return self.num_classes

    @property
    def num_shared(self) -> int:
        return 0

    def log_probabilities(self, outputs: Outputs) -> ClassValues:
        return jax.nn.log_softmax(outputs, axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bernoulli(ClassLikelihood):
    r"""Bernoulli likelihood of two classes: half the outputs of a categorical one.

    .. math:: p(y = 1) = \frac{1}{1 + e^{-o_0}}

    with the output :math:`o_0` of the network. The prior of a difference of two logits is wider
    than that of one, so a :class:`Categorical` with two classes is not quite the same model.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> Bernoulli().probabilities(jnp.array([[0.0]]))
    Array([[0.5, 0.5]], dtype=float32)
    """

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Two."""
        return 2

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def num_shared(self) -> int:
        return 0

    def log_probabilities(self, outputs: Outputs) -> ClassValues:
        return jax.nn.log_sigmoid(jnp.concatenate([-outputs, outputs], axis=-1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordinal(ClassLikelihood):
    r"""Ordinal likelihood: classes in an order, with learnt thresholds between them.

    .. math:: P(y \le k) = \frac{1}{1 + e^{-(c_k - o_0)}}, \quad c_0 = \rho_0, \quad
              c_k = c_{k-1} + \log(1 + e^{\rho_k}) + 10^{-3}

    with the output :math:`o_0` of the network and the sampled scalars :math:`\rho` (shared by all
    rows), one fewer than there are classes. Each has the prior N(start, ``threshold_prior``^2);
    at the start all classes have the same probability where the output is 0.

    Parameters
    ----------
    num_classes : int
        Number of classes, at least 2; ``y`` holds 0, ..., ``num_classes`` - 1, in their order.
    threshold_prior : float, default=3.0
        Standard deviation of the prior of the raw thresholds :math:`\rho`.

    Raises
    ------
    ValueError
        If there are fewer than two classes or ``threshold_prior`` is not positive.

    References
    ----------
    .. [1] McCullagh, "Regression models for ordinal data", J. R. Stat. Soc. B 42 (1980).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> likelihood = Ordinal(num_classes=3)
    >>> outputs = jnp.concatenate([jnp.zeros(1), likelihood.init_shared()])[None]
    >>> likelihood.probabilities(outputs).round(3)
    Array([[0.333, 0.333, 0.333]], dtype=float32)
    """

    num_classes: int
    threshold_prior: float = 3.0

    def __post_init__(self) -> None:
        check_int("num_classes", self.num_classes, minimum=2)
        check_real("threshold_prior", self.threshold_prior, low=0.0, low_open=True)

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def num_shared(self) -> int:
        return self.num_classes - 1

    def init_shared(self) -> Float[Array, " shared"]:
        shares = np.arange(1, self.num_classes) / self.num_classes
        thresholds = np.log(shares / (1 - shares))
        raw_gaps = np.log(np.expm1(np.diff(thresholds) - _LEAST_GAP))
        return jnp.asarray(np.concatenate([thresholds[:1], raw_gaps]), float)

    def shared_log_prior(self, shared: Float[Array, " shared"]) -> Float[Array, ""]:
        return normal_log_prior(shared, self.init_shared(), self.threshold_prior)

    def log_probabilities(self, outputs: Outputs) -> ClassValues:
        latent, raw = outputs[..., :1], outputs[..., 1:]
        gaps = softplus(raw[..., 1:]) + _LEAST_GAP
        thresholds = jnp.cumsum(jnp.concatenate([raw[..., :1], gaps], axis=-1), axis=-1)
        below = jax.nn.log_sigmoid(thresholds - latent)  # log P(y <= k)
        above = jax.nn.log_sigmoid(latent - thresholds)  # log P(y > k)
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b))
        inner = below[..., 1:] + above[..., :-1] + jnp.log(-jnp.expm1(-gaps))
        return jnp.concatenate([below[..., :1], inner, above[..., -1:]], axis=-1)
