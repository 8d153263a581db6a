"""The log posterior as a sampler sees it: a function of one vector that also gives its terms."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from mirth.core.types import Params
from mirth.inference.chains.sources import LogLikelihood


class LogDensity:
    """Log posterior of a flat position, by the rows of a step.

    It is the sum that ``Model.log_density`` is, but with parameters of its own for each term: so
    each gradient is put together as one vector, not added leaf by leaf.

    Parameters
    ----------
    log_prior : callable
        Log prior density of parameters.
    log_likelihood : callable
        Log likelihood of parameters, and its terms.
    unravel : callable
        Makes parameters of a vector.

    Examples
    --------
    >>> rows = jnp.array([1.0, 2.0])
    >>> log_likelihood = lambda slope: (-jnp.sum(slope * rows), -slope * rows)
    >>> logdensity = LogDensity(lambda slope: -(slope**2), log_likelihood, lambda flat: flat[0])
    >>> value, terms = logdensity.with_terms(jnp.array([3.0]))
    >>> float(value), terms.tolist(), float(logdensity(jnp.array([3.0])))
    (-18.0, [-9.0, -3.0, -6.0], -18.0)
    """

    def __init__(
        self,
        log_prior: Callable[[Params], Float[Array, ""]],
        log_likelihood: LogLikelihood,
        unravel: Callable[[Array], Params],
    ):
        self.log_prior, self.log_likelihood, self.unravel = log_prior, log_likelihood, unravel

    def __call__(self, position: Float[Array, " params"]) -> Float[Array, ""]:
        """Give the log density."""
        return self.with_terms(position)[0]

    def with_terms(
        self, position: Float[Array, " params"]
    ) -> tuple[Float[Array, ""], Float[Array, " terms"]]:
        """Give the log density, and its terms: the prior's, then those of the rows."""
        log_prior = self.log_prior(self.unravel(position))
        total, terms = self.log_likelihood(self.unravel(position))
        return log_prior + total, jnp.concatenate([log_prior[None], terms])
