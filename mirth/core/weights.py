"""Weights of chains: checked once, and None where all are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

_ROUNDING = 1e-6  # weights that were kept in float32 still sum to 1


def check_weights(weights: Any, num_chains: int) -> Float[np.ndarray, " chains"] | None:
    """Check weights of chains.

    Parameters
    ----------
    weights : array of shape (chains,) or None
        Weights of at least 0 that sum to 1; None means equal ones.
    num_chains : int
        Number of chains.

    Returns
    -------
    array of shape (chains,), float64, or None
        The same.

    Raises
    ------
    ValueError
        If there are not as many, one is negative or not finite, or the sum is not 1.

    Examples
    --------
    >>> check_weights([0.25, 0.75], 2)
    array([0.25, 0.75])
    >>> check_weights([1, 3], 2)
    Traceback (most recent call last):
    ...
    ValueError: chain_weights sum to 4; divide them by their sum.
    """
    if weights is None:
        return None
    values = np.asarray(weights, np.float64)
    if values.shape != (num_chains,):
        raise ValueError(
            f"chain_weights has shape {values.shape}; pass one weight for each of the "
            f"{num_chains} chain(s), or None for equal ones."
        )
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(
            f"chain_weights={values.tolist()} has numbers that are negative or not finite."
        )
    if abs(values.sum() - 1) > _ROUNDING:
        raise ValueError(f"chain_weights sum to {values.sum():g}; divide them by their sum.")
    return values
