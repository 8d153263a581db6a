"""What a network is: two pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Float, PyTree, Shaped

from mirth.core.types import Key, Params


@runtime_checkable
class Network(Protocol):
    """A network as ``init`` and ``apply``; any hashable object with these two will do."""

    def init(self, key: Key, x: PyTree[Array]) -> Params:
        """Draw first parameters for inputs like ``x``."""
        ...

    def apply(self, params: Params, x: PyTree[Array]) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        ...


@runtime_checkable
class SumsLogLikelihood(Protocol):
    """A network that knows a faster way to the summed log likelihood of rows."""

    def sum_log_likelihood(
        self,
        likelihood: Any,
        params: Params,
        shared: Float[Array, " shared"],
        x: Float[Array, "data ..."],
        y: Shaped[Array, "data ..."],
        weights: Float[Array, " data"] | None,
        rows_per_term: int,
    ) -> tuple[Float[Array, ""], Float[Array, " terms"]]:
        """Sum over rows of the weighted log likelihood, and over groups of rows; see Model."""
        ...


@dataclasses.dataclass(frozen=True)
class FunctionalNetwork:
    """A network made of two plain functions.

    Parameters
    ----------
    init : callable
        ``init(key, x) -> params``, a pytree of floating point arrays.
    apply : callable
        ``apply(params, x) -> outputs`` with axes (data, outputs).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> net = FunctionalNetwork(
    ...     init=lambda key, x: {"w": jax.random.normal(key, (x.shape[1], 2))},
    ...     apply=lambda params, x: x @ params["w"],
    ... )
    >>> x = jnp.ones((3, 4))
    >>> net.apply(net.init(jax.random.key(0), x), x).shape
    (3, 2)
    """

    init: Callable[[Key, Any], Params]
    apply: Callable[[Params, Any], Any]
