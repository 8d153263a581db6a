"""Whether two sets of chains differ by more than chance: changes with their Monte-Carlo errors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import fdtrc, ncfdtr

from mirth.evaluation.autocorrelation import effective_sample_size

SEEN_AT = 0.01
"""Probability below which a change is seen: chance alone would make it as rarely."""

_TAIL = 0.05  # below the low end of an interval, and above the high end
_HALVINGS = 50


class Change(NamedTuple):
    """A change with its Monte-Carlo error.

    Parameters
    ----------
    size : float
        The change: of several values its root mean square, after what chance has added to the
        square was taken off; of one value with its sign.
    error : float
        Monte-Carlo error: the root mean square of what chance alone would give.
    low, high : float
        Ends between which the size of the true change (without its sign) lies, with at most 5 %
        beyond each. The high end is never below what an average result without any change gives:
        a difference that is small by luck does not show more than others.
    p_value : float
        Probability that chance alone gives as much.

    Examples
    --------
    >>> Change(0.06, 0.01, 0.05, 0.07, 1e-6).is_seen
    True
    """

    size: float
    error: float
    low: float
    high: float
    p_value: float

    @property
    def is_seen(self) -> bool:
        """Whether chance alone would give as much in less than one of a hundred cases."""
        return self.p_value < SEEN_AT


def mean_change(
    before: Float[np.ndarray, "chains draws values"],
    after: Float[np.ndarray, "chains draws values"],
) -> Change:
    r"""Compare the means of chains before and after something was changed.

    With the difference D of the means over all chains and draws, of V values,

    .. math:: Q = \frac1V \sum_i D_i^2, \qquad \mathrm E[Q] = b^2 + \frac1V \mathrm{tr}\, \Sigma

    where b is the root mean square of the true change and :math:`\Sigma` the Monte-Carlo covariance
    of D. It is that of the differences of paired draws, the t-th of a chain with the t-th of the
    same chain, whose effective sample sizes turn variances into errors: where chains sit in modes
    of their own, which both sets have in common, that is no error. Values are usually correlated
    (neighbouring rows change together), so Q has :math:`\nu = (\mathrm{tr} \Sigma)^2 /
    \mathrm{tr} \Sigma^2` degrees of freedom (Satterthwaite); :math:`\Sigma` itself is an estimate,
    to which half the effective number of pairs is given. So Q over what is expected of it without
    a change is compared with an F number, and the interval is that of its non-centrality.

    Parameters
    ----------
    before, after : array of shape (chains, draws, values)
        Draws of the same quantities by the same chains, at least 4 per chain.

    Returns
    -------
    Change
        Root mean square over the values.

    Raises
    ------
    ValueError
        If there are fewer than 4 draws.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> one, two = rng.normal(size=(2, 4, 500, 3))
    >>> mean_change(one, two).is_seen, mean_change(one, two + 0.2).is_seen
    (False, True)
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    difference = after.mean(axis=(0, 1)) - before.mean(axis=(0, 1))
    covariance, effective = _error_covariance(after - before)
    square, expected = float(np.mean(difference**2)), float(np.mean(np.diag(covariance)))
    if expected == 0:  # nothing moves: the difference is exact
        size = math.sqrt(square)
        return Change(size, 0.0, size, size, 0.0 if size else 1.0)
    unit = float(np.mean(covariance**2)) / expected
    found = _Ratio(square / expected, expected / unit, effective / 2)
    low, high = found.ends()
    return Change(
        size=math.sqrt(max(0.0, square - expected)),
        error=math.sqrt(expected),
        low=math.sqrt(unit * low),
        high=math.sqrt(unit * high),
        p_value=found.p_value(),
    )


def lppd_change(
    before: Float[np.ndarray, "chains draws data"],
    after: Float[np.ndarray, "chains draws data"],
) -> Change:
    r"""Compare the LPPD of rows by two sets of chains.

    .. math:: D = \frac1N \sum_i \left(\log \bar p'_i - \log \bar p_i\right)

    with the mean probability of each row over all draws. To first order the error of either LPPD is
    that of the mean over the draws of :math:`\frac1N \sum_i p_{si} / \bar p_i`; draws are paired as
    for :func:`mean_change`.

    Parameters
    ----------
    before, after : array of shape (chains, draws, data)
        Log probability of each row by each draw, at least 4 draws per chain.

    Returns
    -------
    Change
        Nats per row; positive where the second set predicts better.

    Raises
    ------
    ValueError
        If there are fewer than 4 draws.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> one, two = -1 + 0.1 * rng.normal(size=(2, 4, 500, 3))
    >>> change = lppd_change(one, two + 0.5)
    >>> round(change.size, 1), change.is_seen
    (0.5, True)
    """
    values, weights = [], []
    for log_prob in (np.asarray(before, np.float64), np.asarray(after, np.float64)):
        pooled = np.logaddexp.reduce(log_prob, axis=(0, 1)) - math.log(
            log_prob.shape[0] * log_prob.shape[1]
        )
        values.append(float(pooled.mean()))
        weights.append(np.exp(log_prob - pooled).mean(axis=2, keepdims=True))
    size = values[1] - values[0]
    covariance, effective = _error_covariance(weights[1] - weights[0])
    error = math.sqrt(float(covariance[0, 0]))
    if error == 0:
        return Change(size, 0.0, abs(size), abs(size), 0.0 if size else 1.0)
    # The square of a number with a Student distribution is an F number.
    found = _Ratio((size / error) ** 2, 1.0, effective / 2)
    low, high = (error * math.sqrt(end) for end in found.ends())
    return Change(size, error, low, high, found.p_value())


def _error_covariance(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance of the means over all chains and draws, and the effective number of draws."""
    means = values.mean(axis=1)
    within = (values - means[:, None]).reshape(-1, values.shape[2])
    covariance = within.T @ within / len(within)
    if len(means) > 1:
        between = means - means.mean(axis=0)
        covariance += between.T @ between / (len(means) - 1)
    effective = effective_sample_size(values)
    # A value that never changes has no error; NaN says so.
    root = np.nan_to_num(1 / np.sqrt(effective), nan=0.0)
    is_moving = np.isfinite(effective)
    typical = float(np.median(effective[is_moving])) if is_moving.any() else 0.0
    return covariance * root[:, None] * root, typical


class _Ratio(NamedTuple):
    """An F number with its degrees of freedom, of the numerator and of the error."""

    value: float
    degrees: float
    error_degrees: float

    def p_value(self) -> float:
        """Probability of as much without a change."""
        return float(fdtrc(self.degrees, self.error_degrees, self.value))

    def ends(self) -> tuple[float, float]:
        """Give the ends of the interval of the non-centrality."""
        low = self._non_centrality(self.value, 1 - _TAIL)
        return low, self._non_centrality(max(self.value, 1.0), _TAIL)

    def _non_centrality(self, value: float, share: float) -> float:
        """Solve for the one with which at most ``value`` has a chance; 0 if none has."""

        def chance(non_centrality: float) -> float:
            return float(ncfdtr(self.degrees, self.error_degrees, non_centrality, value))

        if chance(0.0) <= share:
            return 0.0
        low, high = 0.0, 1.0
        while chance(high) > share:  # it falls with the non-centrality
            low, high = high, 2 * high
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if chance(middle) > share else (low, middle)
        return (low + high) / 2
