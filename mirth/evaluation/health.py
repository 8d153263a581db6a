"""Health of chains: a verdict for each one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mirth.core.outcomes import ChainVerdict
from mirth.core.validation import check_real
from mirth.evaluation._arrays import as_float, as_native, as_real, check_same_shape
from mirth.evaluation.verdicts import (
    DIVERGING_ABOVE,
    FROZEN_BELOW,
    STANDARD_ERRORS,
    TOLERANCE,
    first_verdict,
)


def relative_displacement(flat: ArrayLike) -> Float[np.ndarray, " chains"]:
    r"""Compute how far the draws of each chain lie from its first draw, relative to their norm.

    .. math:: \sqrt{\frac{\sum_t \|\theta_t - \theta_1\|^2}{\sum_t \|\theta_t\|^2}}

    with :math:`\theta_t` = ``flat[k, t]``.

    Parameters
    ----------
    flat : array of shape (chains, draws, parameters)
        Draws of the flattened parameters, at least 2.

    Returns
    -------
    array of shape (chains,)
        The ``distance`` of ``judge_chains``, without unit: 0 for a chain that never moved, order 1
        for one that forgot its start.

    Raises
    ------
    ValueError
        If the axes are others, there is one draw only, or a draw is not finite.

    Examples
    --------
    >>> relative_displacement([[[3.0, 4.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]])
    array([0., 1.])
    """
    draws = as_native("flat", flat, "chains, draws, parameters")
    if draws.shape[1] < 2:
        raise ValueError("flat has one draw per chain; movement needs at least 2.")
    distance = np.zeros(len(draws))
    for k, chain in enumerate(draws):
        values = chain.astype(np.float64)
        moved, norm = np.sum((values - values[0]) ** 2), np.sum(values**2)
        # Zero everywhere is a chain that did not move either.
        distance[k] = np.sqrt(moved / norm) if norm > 0 else 0.0
    return distance


def judge_chains(
    distance: ArrayLike,
    divergence_rate: ArrayLike,
    lppd_chain: ArrayLike,
    lppd_start: ArrayLike,
    *,
    lppd_standard_error: ArrayLike | None = None,
    frozen_below: float = FROZEN_BELOW,
    diverging_above: float = DIVERGING_ABOVE,
    tolerance: float = TOLERANCE,
    standard_errors: float = STANDARD_ERRORS,
) -> list[ChainVerdict]:
    """Judge each chain by how far it went, how often it failed, and what it predicts.

    Where several verdicts apply, the first of FROZEN, DIVERGING, WORSE_THAN_START is given: the
    one that leaves less of the chain to use.

    Parameters
    ----------
    distance : array of shape (chains,)
        Root mean square displacement of the draws relative to their norm, as
        ``relative_displacement`` gives it.
    divergence_rate : array of shape (chains,)
        Share of steps that were rejected as non-finite, between 0 and 1.
    lppd_chain, lppd_start : array of shape (chains,)
        LPPD of the chain's draws and of the network it started from, on the same rows, in nats per
        row. ``-inf`` is legal.
    lppd_standard_error : array of shape (chains,), optional
        Standard error of the difference ``lppd_chain - lppd_start`` over rows.
    frozen_below : float, default=1e-6
        Distance below which a chain is frozen: float32 resolves about 1e-7 of a number, so that is
        a few roundings and no movement.
    diverging_above : float, default=0.05
        Rate above which a chain is diverging. Single rejections are how a sampler protects itself;
        one in twenty means a step size that is too large where the chain lives.
    tolerance : float, default=0.05
        Loss in nats per row that is accepted. Draws of a short chain scatter around an optimised
        start and may predict slightly worse alone, though better together; 0.05 nats is 5 % of
        predictive density per row.
    standard_errors : float, default=2.0
        The loss must also exceed this many ``lppd_standard_error``; no effect without them.

    Returns
    -------
    list of ChainVerdict
        One per chain.

    Raises
    ------
    ValueError
        If shapes differ, a value is NaN, a rate is not between 0 and 1, or a threshold is negative.

    Examples
    --------
    >>> verdicts = judge_chains([0.3, 0.0, 0.3], [0.0, 0.0, 0.2], [0.7, 0.1, 0.6], [0.1, 0.1, 0.1])
    >>> [verdict.name for verdict in verdicts]
    ['MOVED', 'FROZEN', 'DIVERGING']
    """
    check_real("frozen_below", frozen_below, low=0)
    check_real("diverging_above", diverging_above, low=0, high=1)
    check_real("tolerance", tolerance, low=0)
    check_real("standard_errors", standard_errors, low=0)
    moved = as_real("distance", distance, "chains")
    rate = as_real("divergence_rate", divergence_rate)
    after, before = _as_lppd("lppd_chain", lppd_chain), _as_lppd("lppd_start", lppd_start)
    check_same_shape(distance=moved, divergence_rate=rate, lppd_chain=after, lppd_start=before)
    if rate.min() < 0 or rate.max() > 1:
        raise ValueError(
            "divergence_rate must be a share of steps between 0 and 1, got "
            f"{rate.min()} ... {rate.max()}; divide counts by the number of steps."
        )
    margin = np.full(moved.shape, tolerance)
    if lppd_standard_error is not None:
        error = as_real("lppd_standard_error", lppd_standard_error)
        check_same_shape(distance=moved, lppd_standard_error=error)
        margin = np.maximum(margin, standard_errors * error)
    return first_verdict(
        {
            ChainVerdict.FROZEN: moved < frozen_below,
            ChainVerdict.DIVERGING: rate > diverging_above,
            ChainVerdict.WORSE_THAN_START: after < before - margin,
        }
    )


def _as_lppd(name: str, value: ArrayLike) -> np.ndarray:
    """Check LPPDs, of which -inf is one."""
    array = as_float(name, value)
    if np.any(np.isnan(array) | np.isposinf(array)):
        raise ValueError(f"{name} has NaN or +inf values: {array}; compute it by lppd.")
    return array
