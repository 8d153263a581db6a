"""Sums over groups of rows: terms of a log likelihood that are small enough to be subtracted."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

ROWS_PER_TERM = 4096
"""Rows of a term, where all rows are summed up: 10 million rows have 2 442 terms, and the energy
error of a step is known to 0.03 in place of 0.7 (``docs/performance.md``)."""


def group_sums(values: Float[Array, " data"], rows_per_term: int) -> Float[Array, " terms"]:
    """Sum up groups of consecutive rows; the last one may have fewer.

    Parameters
    ----------
    values : array of shape (data,)
        A number for each row.
    rows_per_term : int
        Rows of a group.

    Returns
    -------
    array of shape (ceil(data / rows_per_term),)
        The sums.

    Examples
    --------
    >>> group_sums(jnp.ones(7), 3).tolist(), group_sums(jnp.ones(7), 100).tolist()
    ([3.0, 3.0, 1.0], [7.0])
    """
    if rows_per_term == 1:
        return values
    num_full = values.shape[0] // rows_per_term
    end = num_full * rows_per_term
    rest = jnp.sum(values[end:])[None]
    if not num_full:
        return rest
    full = jnp.sum(values[:end].reshape(num_full, rows_per_term), axis=1)
    return jnp.concatenate([full, rest]) if end < values.shape[0] else full
