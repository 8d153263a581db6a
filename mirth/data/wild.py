"""Wild values: cells of a column that are no part of its distribution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

MIN_RATIO = 10.0  # times as far from the median as the farthest other value
MAX_CHANCE = 0.01  # of such a gap, if the tail went on as it is
PRIOR_GAPS, PRIOR_SUM = 4.0, 1.0  # of the tail's exponent, a Gamma distribution with mean 4
MIN_OTHERS = 5  # values that differ from the median and are not wild
FEW_LEVELS = 10  # distinct values up to which a repeated one is a level of its own
ROUNDINGS = 4.0
"""Machine epsilons by which equal numbers may differ that were computed in several ways."""


class WildValues(NamedTuple):
    """What :func:`find_wild_values` has found.

    Parameters
    ----------
    is_wild : bool array of shape (N, features)
        Which cells are wild.
    median : array of shape (features,)
        Median of each column.
    lowest, highest : array of shape (features,)
        Ends of the values that are not wild.
    """

    is_wild: Bool[ndarray, "data features"]
    median: Float[ndarray, " features"]
    lowest: Float[ndarray, " features"]
    highest: Float[ndarray, " features"]


def find_wild_values(
    x: Float[ndarray, "data features"], rounding: float = float(np.finfo(np.float64).eps)
) -> WildValues:
    r"""Find the cells of each column that are no part of its distribution.

    Let :math:`d_1 \ge d_2 \ge \dots` be the distances of a column's values from its median. The
    farthest m values are wild if the next one is much nearer,

    .. math:: d_m \ge 10\, d_{m+1} \quad\text{and}\quad
              \left(1 + \frac{m \log(d_m / d_{m+1})}{b + S}\right)^{-(a + k)} < 0.01,
              \qquad S = \sum_{i=m+1}^{m+k} \log \frac{d_i}{d_{m+k+1}} .

    The second number is the chance of such a gap if the tail is a power law like the k values
    within it, whose exponent is unknown: the spacings :math:`i \log(d_i / d_{i+1})` of a power law
    are independent and exponential (Renyi's representation), S is the sum of k of them, and a and b
    are those of the exponent's prior, Gamma(4, 1). Lighter tails have smaller gaps at the end, so
    for them the chance is an upper bound; a heavy tail has to show a larger gap than a light one.
    Nothing in it is a mean or a standard deviation, so wild values cannot hide each other.

    k is a tenth of the column's other values, or 10 if that is more. At most a fiftieth of the
    rows, or 3 if that is more, are wild, and no more than a fifth of those that differ from the
    median. Hence a column that is constant but for a few rows has no wild values, nor has one of
    two values: there is nothing to compare with. Where the others have at most 10 values, one that
    is repeated is a level, and not wild.

    Parameters
    ----------
    x : array of shape (N, features)
        Finite values.
    rounding : float, default=2.2e-16
        Relative rounding error of the values; four of them from the median count as none.

    Returns
    -------
    WildValues
        Wild cells, and what the other values are like.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.append(np.linspace(0.0, 1.0, 30), [1e6, -1e6])[:, None]
    >>> found = find_wild_values(x)
    >>> np.flatnonzero(found.is_wild), found.lowest.tolist(), found.highest.tolist()
    (array([30, 31]), [0.0], [1.0])
    """
    is_wild = np.zeros(x.shape, bool)
    # Numbers near the end of the range of float64 are infinitely far apart, which is no harm.
    with np.errstate(over="ignore", invalid="ignore"):
        median = np.median(x, axis=0)
        for j, centre in enumerate(median):
            distance = np.abs(x[:, j] - centre)
            distance[distance <= ROUNDINGS * rounding * abs(centre)] = 0.0
            is_wild[:, j] = distance >= _first_wild_distance(distance)
    lowest = x.min(axis=0, where=~is_wild, initial=np.inf)
    highest = x.max(axis=0, where=~is_wild, initial=-np.inf)
    return WildValues(is_wild, median, lowest, highest)


def _first_wild_distance(distance: Float[ndarray, " data"]) -> float:
    """Distance of the nearest wild value, infinity if there is none."""
    d = distance[distance > 0]
    most = min(max(3, len(distance) // 50), (len(d) - 1) // MIN_OTHERS)
    if most < 1:
        return np.inf
    # A partition tells nearly all columns, at a tenth of the time that sorting takes.
    nth = len(d) - 1 - most
    if d.max() < MIN_RATIO * np.partition(d, nth)[nth]:
        return np.inf
    d = np.sort(d)[::-1]
    logs = np.log(d)
    gaps = logs[:most] - logs[1 : most + 1]
    for m in (np.flatnonzero(gaps >= np.log(MIN_RATIO)) + 1)[::-1]:  # the most wild ones first
        others = len(d) - m
        k = min(max(10, others // 10), others - 1)
        total = PRIOR_SUM + np.sum(logs[m : m + k] - logs[m + k])
        chance = (1 + m * gaps[m - 1] / total) ** -(PRIOR_GAPS + k)
        if chance < MAX_CHANCE and not _is_level(d, m):
            return float(d[m - 1])
    return np.inf


def _is_level(d: Float[ndarray, " data"], m: int) -> bool:
    """Whether the nearest of m far values is repeated, and the others are so, too."""
    return bool(np.sum(d == d[m - 1]) > 1) and len(np.unique(d[m:])) <= FEW_LEVELS
