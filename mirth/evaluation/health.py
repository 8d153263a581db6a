"""Health of chains: a verdict for each one, and one sentence about all of them.

The rules stand in :func:`judge_chains` alone. The reviews of a run that goes on and the judgement
of a finished one both call it, with the facts that they have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mirth.core.outcomes import ChainVerdict
from mirth.core.validation import check_real
from mirth.evaluation._arrays import as_float, as_native, as_real, check_same_shape

_PHRASES = {
    ChainVerdict.FROZEN: ("did not move", "did not move"),
    ChainVerdict.DIVERGING: ("kept diverging", "kept diverging"),
    ChainVerdict.AT_CAP: (
        "is held at the cap of its step size",
        "are held at the cap of their step size",
    ),
    ChainVerdict.WORSE_THAN_START: (
        "predicts worse than its start",
        "predict worse than their start",
    ),
    ChainVerdict.NOT_CONVERGED: ("has not converged", "have not converged"),
}
"""What is said of one chain and of several, the worst verdict first."""


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


def distance_between(begin: ArrayLike, end: ArrayLike) -> Float[np.ndarray, " chains"]:
    """Compute how far each chain went from one position to another.

    Parameters
    ----------
    begin, end : array of shape (chains, parameters)
        Two positions of each chain.

    Returns
    -------
    array of shape (chains,)
        The ``relative_displacement`` of the two; NaN where a position is not finite.

    Examples
    --------
    >>> distance_between([[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, np.nan]])
    array([ 1., nan])
    """
    path = np.stack([as_float("begin", begin), as_float("end", end)], axis=1)
    is_finite = np.isfinite(path).all(axis=(1, 2))
    distance = np.full(len(path), np.nan)
    if is_finite.any():
        distance[is_finite] = relative_displacement(path[is_finite])
    return distance


@dataclasses.dataclass(frozen=True)
class HealthLimits:
    """Limits of the verdicts on chains; who is exactly at one is healthy.

    Parameters
    ----------
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
        The loss must also exceed this many standard errors, where they are known.
    rhat_above : float, default=1.2
        R-hat above which a chain has not converged: the variance of the whole is then 1.44 times
        that within its parts. Chains of networks hardly get to the 1.01 that is asked for
        elsewhere; what is pooled over an ensemble predicts well before.
    effective_below : float, default=10.0
        Effective draws below which a chain has not converged: the error of a mean is then a third
        of the spread, and R-hat itself says little.

    Raises
    ------
    ValueError
        If a limit is negative, a rate above 1 or an R-hat below 1.

    Examples
    --------
    >>> HealthLimits(tolerance=0.1).tolerance
    0.1
    """

    frozen_below: float = 1e-6
    diverging_above: float = 0.05
    tolerance: float = 0.05
    standard_errors: float = 2.0
    rhat_above: float = 1.2
    effective_below: float = 10.0

    def __post_init__(self) -> None:
        for name in ("frozen_below", "tolerance", "standard_errors", "effective_below"):
            check_real(name, getattr(self, name), low=0)
        check_real("diverging_above", self.diverging_above, low=0, high=1)
        check_real("rhat_above", self.rhat_above, low=1)


_LIMITS = HealthLimits()


def judge_chains(
    distance: ArrayLike,
    divergence_rate: ArrayLike,
    lppd_chain: ArrayLike | None = None,
    lppd_start: ArrayLike | None = None,
    *,
    lppd_standard_error: ArrayLike | None = None,
    is_at_cap: ArrayLike | None = None,
    rhat: ArrayLike | None = None,
    num_effective: ArrayLike | None = None,
    limits: HealthLimits = _LIMITS,
) -> list[ChainVerdict]:
    """Judge each chain by how far it went, how often it failed, what it predicts and how it mixes.

    Where several verdicts apply, the first of FROZEN, DIVERGING, AT_CAP, WORSE_THAN_START,
    NOT_CONVERGED is given: the one that leaves less of the chain to use. A verdict whose facts are
    not given is not given either: while a chain is tuned its predictions say nothing yet, and
    afterwards no cap holds it.

    A chain that is exactly at a limit is healthy: each rule is a strict inequality. Numbers
    that overflowed are judged, not refused, because a run must not end by them:

    - a distance of NaN is not known, so it makes no chain frozen;
    - an LPPD of NaN counts as ``-inf``: predictions that overflowed are worse than any start whose
      LPPD is finite, and no worse than one of ``-inf``;
    - a standard error that is not finite is not known, so the tolerance alone decides;
    - an R-hat or effective sample size of NaN is not known, so the other alone decides.

    Parameters
    ----------
    distance : array of shape (chains,)
        Root mean square displacement of the draws relative to their norm, as
        ``relative_displacement`` gives it.
    divergence_rate : array of shape (chains,)
        Share of steps that were rejected as non-finite, between 0 and 1.
    lppd_chain, lppd_start : array of shape (chains,), optional
        LPPD of the chain's draws and of the network it started from, on the same rows, in nats per
        row; both or none.
    lppd_standard_error : array of shape (chains,), optional
        Standard error of the difference ``lppd_chain - lppd_start`` over rows.
    is_at_cap : bool array of shape (chains,), optional
        Whether the step size is held at its cap.
    rhat, num_effective : array of shape (chains,), optional
        Split R-hat and effective sample size of each chain alone, in function space.
    limits : HealthLimits, optional
        Limits of the verdicts.

    Returns
    -------
    list of ChainVerdict
        One per chain.

    Raises
    ------
    ValueError
        If shapes differ, a rate is not between 0 and 1, or one of the two LPPDs is missing.

    Examples
    --------
    >>> verdicts = judge_chains([0.3, 0.0, 0.3], [0.0, 0.0, 0.2], [0.7, 0.1, 0.6], [0.1, 0.1, 0.1])
    >>> [verdict.name for verdict in verdicts]
    ['MOVED', 'FROZEN', 'DIVERGING']
    >>> [v.name for v in judge_chains([0.3, 0.3], [0.0, 0.0], is_at_cap=[False, True])]
    ['MOVED', 'AT_CAP']
    >>> [v.name for v in judge_chains([0.3, 0.3], [0.0, 0.0], rhat=[1.1, 1.7])]
    ['MOVED', 'NOT_CONVERGED']
    """
    moved = as_float("distance", distance, "chains")
    rate = as_real("divergence_rate", divergence_rate)
    check_same_shape(distance=moved, divergence_rate=rate)
    if rate.min() < 0 or rate.max() > 1:
        raise ValueError(
            "divergence_rate must be a share of steps between 0 and 1, got "
            f"{rate.min()} ... {rate.max()}; divide counts by the number of steps."
        )
    is_so = {
        ChainVerdict.FROZEN: moved < limits.frozen_below,
        ChainVerdict.DIVERGING: rate > limits.diverging_above,
    }
    if is_at_cap is not None:
        is_so[ChainVerdict.AT_CAP] = np.asarray(is_at_cap, dtype=bool)
        check_same_shape(distance=moved, is_at_cap=is_so[ChainVerdict.AT_CAP])
    if lppd_chain is not None and lppd_start is not None:
        after, before = _as_lppd("lppd_chain", lppd_chain), _as_lppd("lppd_start", lppd_start)
        check_same_shape(distance=moved, lppd_chain=after, lppd_start=before)
        margin = np.full(moved.shape, limits.tolerance)
        if lppd_standard_error is not None:
            error = as_float("lppd_standard_error", lppd_standard_error)
            check_same_shape(distance=moved, lppd_standard_error=error)
            known = np.where(np.isfinite(error), error, 0.0)
            margin = np.maximum(margin, limits.standard_errors * known)
        is_so[ChainVerdict.WORSE_THAN_START] = after < before - margin
    elif lppd_chain is not None or lppd_start is not None or lppd_standard_error is not None:
        raise ValueError(
            "lppd_chain and lppd_start belong together, because they are compared, and "
            "lppd_standard_error to both; pass both or none of the three."
        )
    is_so[ChainVerdict.NOT_CONVERGED] = _is_unsettled(moved, rhat, num_effective, limits)
    return [
        next((verdict for verdict, found in is_so.items() if found[k]), ChainVerdict.MOVED)
        for k in range(len(moved))
    ]


def _is_unsettled(
    distance: np.ndarray,
    rhat: ArrayLike | None,
    num_effective: ArrayLike | None,
    limits: HealthLimits,
) -> np.ndarray:
    """Tell which chains mix badly; what is NaN is not known, and a comparison with it is false."""
    unsettled = np.zeros(distance.shape, dtype=bool)
    if rhat is not None:
        found = as_float("rhat", rhat)
        check_same_shape(distance=distance, rhat=found)
        unsettled |= found > limits.rhat_above
    if num_effective is not None:
        found = as_float("num_effective", num_effective)
        check_same_shape(distance=distance, num_effective=found)
        unsettled |= found < limits.effective_below
    return unsettled


def _as_lppd(name: str, value: ArrayLike) -> np.ndarray:
    """Convert LPPDs; those that overflowed are -inf."""
    array = as_float(name, value)
    return np.where(np.isnan(array), -np.inf, array)


def summarize_health(verdicts: Sequence[ChainVerdict], numbers: Sequence[int] | None = None) -> str:
    """Say in one sentence which chains are unhealthy.

    Parameters
    ----------
    verdicts : sequence of ChainVerdict
        One per chain, from ``judge_chains``.
    numbers : sequence of int, optional
        Number of each chain, if they are not 0, 1, 2, ...

    Returns
    -------
    str
        A sentence that names chains by their numbers, from 0.

    Raises
    ------
    ValueError
        If there are no verdicts.

    Examples
    --------
    >>> good, bad = ChainVerdict.MOVED, ChainVerdict.FROZEN
    >>> summarize_health([good, good, good, bad, good, good, good, bad])
    'Of 8 chains (numbered from 0), chains 3 and 7 did not move.'
    >>> summarize_health([good, good])
    'All chains (2) moved and predict no worse than their start.'
    """
    if not verdicts:
        raise ValueError("verdicts is empty; there is no chain to speak of.")
    numbers = range(len(verdicts)) if numbers is None else numbers
    clauses = []
    for verdict, (singular, plural) in _PHRASES.items():
        chains = [str(k) for k, other in zip(numbers, verdicts, strict=True) if other is verdict]
        if len(chains) == 1:
            clauses.append(f"chain {chains[0]} {singular}")
        elif chains:
            clauses.append(f"chains {', '.join(chains[:-1])} and {chains[-1]} {plural}")
    if not clauses:
        return f"All chains ({len(verdicts)}) moved and predict no worse than their start."
    return f"Of {len(verdicts)} chains (numbered from 0), {'; '.join(clauses)}."
