r"""Log densities as sums of terms, whose small differences keep their digits.

A log density of 10 million rows is a number of about 10 million, and float32 rounds it to a whole
one. The energy error of a step is a difference of two such numbers, and is wanted to 0.1. So a log
density may say what it is the sum of, and the difference is taken term by term first:

.. math:: \log p(x') - \log p(x) = \sum_i \left(\ell_i(x') - \ell_i(x)\right)

A plain function has no terms, and the two values are subtracted.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mirth.core.types import LogDensityFn


@runtime_checkable
class HasTerms(Protocol):
    """A log density that gives its terms, too."""

    def __call__(self, position: Any) -> Float[Array, ""]:
        """Give the log density."""
        ...

    def with_terms(self, position: Any) -> tuple[Float[Array, ""], Float[Array, " terms"]]:
        """Give the log density, and the terms that it is the sum of, in an order that stays."""
        ...


class Evaluated(NamedTuple):
    """A log density at a position.

    Parameters
    ----------
    logdensity : scalar
        The log density.
    terms : array of shape (terms,), or None
        What it is the sum of; None for a plain function.
    """

    logdensity: Float[Array, ""]
    terms: Float[Array, " terms"] | None = None


def evaluate(logdensity_fn: LogDensityFn, position: PyTree) -> Evaluated:
    """Evaluate a log density, with its terms where it has some.

    Examples
    --------
    >>> evaluate(lambda x: -jnp.sum(x**2), jnp.ones(2))
    Evaluated(logdensity=Array(-2., dtype=float32), terms=None)
    """
    if isinstance(logdensity_fn, HasTerms):
        return _summed(logdensity_fn.with_terms(position)[1])
    return Evaluated(logdensity_fn(position))


def value_and_grad(logdensity_fn: LogDensityFn, position: PyTree) -> tuple[Evaluated, PyTree]:
    """Evaluate a log density and its gradient.

    Examples
    --------
    >>> value, gradient = value_and_grad(lambda x: -jnp.sum(x**2), jnp.ones(2))
    >>> float(value.logdensity), gradient.tolist()
    (-2.0, [-2.0, -2.0])
    """
    if isinstance(logdensity_fn, HasTerms):
        found = jax.value_and_grad(logdensity_fn.with_terms, has_aux=True)(position)
        (_, terms), gradient = found
        return _summed(terms), gradient
    value, gradient = jax.value_and_grad(logdensity_fn)(position)
    return Evaluated(value), gradient


def _summed(terms: Float[Array, " terms"]) -> Evaluated:
    """Sum up terms; the value that came with them is not used, so XLA does not compute it."""
    return Evaluated(jnp.sum(terms), terms)


def logdensity_change(before: Evaluated, after: Evaluated) -> Float[Array, ""]:
    """Subtract two values of one log density, term by term where both have terms.

    Examples
    --------
    >>> before, after = jnp.array([2e7, 2.0]), jnp.array([2e7, 2.5])
    >>> float(logdensity_change(Evaluated(before.sum()), Evaluated(after.sum())))
    0.0
    >>> both = Evaluated(before.sum(), before), Evaluated(after.sum(), after)
    >>> float(logdensity_change(*both))
    0.5
    """
    if before.terms is None or after.terms is None:
        return after.logdensity - before.logdensity
    return jnp.sum(after.terms - before.terms)
