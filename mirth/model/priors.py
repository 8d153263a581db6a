"""Priors over a tree of parameters."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from mirth.core.config import Configurable
from mirth.core.types import Key, Params
from mirth.core.validation import POSITIVE, Range, check_ranges


class Prior(Configurable, abc.ABC):
    """What a prior is to the rest of the library."""

    @abc.abstractmethod
    def log_prob(self, params: Params) -> Float[Array, ""]:
        """Log density of all parameters together."""

    @abc.abstractmethod
    def sample(self, key: Key, like: Params) -> Params:
        """Draw parameters with the shapes and types of ``like``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalPrior(Prior):
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

    RANGES: ClassVar[Mapping[str, Range]] = {"scale": POSITIVE}

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def log_prob(self, params: Params) -> Float[Array, ""]:
        # One vector instead of a sum per leaf: its gradient is one vector, too.
        flat = ravel_pytree(params)[0]
        constant = flat.size * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))
        return -0.5 * jnp.vdot(flat, flat) / self.scale**2 - constant

    def sample(self, key: Key, like: Params) -> Params:
        leaves, treedef = jax.tree.flatten(like)
        draws = [
            self.scale * jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype)
            for i, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(treedef, draws)
