"""Calibration: whether stated probabilities come true.

The probability integral transform (PIT) of a row is the predictive distribution function at the
target, F_n(y_n). If the predictions are calibrated, PIT values are uniform on (0, 1). Of counts,
and wherever single values have a probability of their own, F_n(y_n) is not, but ``randomised_pit``
is; what is computed from ``pit`` here is then right for them, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from mirth.core.validation import check_int, check_real
from mirth.evaluation._arrays import (
    as_bounds,
    as_class_problem,
    as_interval,
    as_pit,
)

QUANTILE_LEVELS = tuple(k / 20 for k in range(1, 20))
"""0.05, 0.10, ... 0.95."""

COVERAGE_LEVELS = (0.5, 0.75, 0.9, 0.95)
"""Levels of central intervals that the MILE experiments report."""


class PitHistogram(NamedTuple):
    """Histogram of PIT values.

    Parameters
    ----------
    density : array of shape (bins,)
        Share of rows per unit of PIT: 1 everywhere if calibrated. A hump in the middle means
        intervals that are too wide, a U shape too narrow, a slope a biased prediction.
    edges : array of shape (bins + 1,)
        From 0 to 1 in equal steps.
    band_lower, band_upper : float
        Where the density of any one bin of a calibrated prediction lies with the chosen
        probability, by the binomial distribution of its count.
    """

    density: Float[np.ndarray, " bins"]
    edges: Float[np.ndarray, " bins_plus_1"]
    band_lower: float
    band_upper: float


class ReliabilityCurve(NamedTuple):
    """Confidence against accuracy, by bins of confidence.

    Parameters
    ----------
    confidence, accuracy : array of shape (bins,)
        Mean probability of the predicted class, and share of right predictions; NaN in empty bins.
    num_rows : integer array of shape (bins,)
        Rows in each bin.
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    num_rows: Int[np.ndarray, " bins"]


def interval_coverage(y: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    """Compute the share of targets within ``lower <= y <= upper``.

    Parameters
    ----------
    y, lower, upper : array of shape (data,) or (data, targets)
        Targets and the bounds of one level.

    Returns
    -------
    float
        Between 0 and 1; compare with the nominal level. Intervals of counts end at whole numbers,
        so those of the true model hold at least the nominal share, often much more: compare
        :func:`coverage_curve` of their randomised PIT values instead.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or a lower bound is above its upper one.

    Examples
    --------
    >>> interval_coverage([0.0, 1.0, 2.0, 3.0], lower=[0.0] * 4, upper=[2.0] * 4)
    0.75
    """
    target, low, high = as_interval(y, lower, upper)
    return float(np.mean((low <= target) & (target <= high)))


def interval_width(lower: ArrayLike, upper: ArrayLike) -> float:
    """Compute the mean width of intervals: of two with the right coverage, narrower is better.

    Parameters
    ----------
    lower, upper : array of shape (data,) or (data, targets)
        Bounds of one level.

    Returns
    -------
    float
        In the units of the bounds.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or a lower bound is above its upper one.

    Examples
    --------
    >>> interval_width([0.0, 1.0], upper=[1.0, 4.0])
    2.0
    """
    low, high = as_bounds(lower, upper)
    return float(np.mean(high - low))


def pit_histogram(pit: ArrayLike, bins: int = 10, band_level: float = 0.95) -> PitHistogram:
    r"""Compute the histogram of PIT values with the band that chance allows.

    If calibrated, the count of each bin is Binomial(N, 1 / bins); the band holds one bin with
    probability ``band_level`` or a little more. It is pointwise: of 20 bins, one outside a 95 %
    band is no surprise.

    Parameters
    ----------
    pit : array of shape (data,)
        Predictive distribution function at the targets, of counts :func:`randomised_pit`; further
        axes are flattened.
    bins : int, default=10
        Number of bins of equal width, at least 2.
    band_level : float, default=0.95
        Probability of the band.

    Returns
    -------
    PitHistogram
        ``density, edges, band_lower, band_upper``.

    Raises
    ------
    ValueError
        If ``pit`` leaves [0, 1], ``bins`` is below 2, or ``band_level`` is not in (0, 1).

    References
    ----------
    .. [1] Gneiting, Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness",
       J. R. Stat. Soc. B 69 (2007), section 3.1.

    Examples
    --------
    >>> pit_histogram([0.1, 0.2, 0.3, 0.9], bins=2).density
    array([1.5, 0.5])
    """
    from scipy.stats import binom  # half a second of import that most runs do not need

    values = as_pit(pit)
    check_int("bins", bins, minimum=2)
    check_real("band_level", band_level, low=0, high=1, low_open=True, high_open=True)
    count, edges = np.histogram(values, bins=bins, range=(0.0, 1.0))
    scale = bins / len(values)
    tail = (1 - band_level) / 2
    low, high = binom.ppf([tail, 1 - tail], len(values), 1 / bins)
    return PitHistogram(count * scale, edges, float(low * scale), float(high * scale))


def quantile_calibration_error(pit: ArrayLike, levels: Sequence[float] = QUANTILE_LEVELS) -> float:
    r"""Compute the root mean square gap between nominal and observed quantile frequencies.

    .. math:: \sqrt{\frac1J \sum_j (\hat q_j - q_j)^2}, \qquad
              \hat q_j = \frac1N \#\{n : F_n(y_n) \le q_j\}

    with ``levels`` :math:`q_j` and ``pit`` :math:`F_n(y_n)`. Chance alone gives about
    :math:`\sqrt{1 / (6 N)}` for levels spread evenly over (0, 1).

    Parameters
    ----------
    pit : array of shape (data,)
        Predictive distribution function at the targets, of counts :func:`randomised_pit`; further
        axes are flattened.
    levels : sequence of float, default=(0.05, 0.10, ..., 0.95)
        Nominal quantile levels.

    Returns
    -------
    float
        0 for perfect calibration, at most 1.

    Raises
    ------
    ValueError
        If ``pit`` leaves [0, 1], or a level is not in (0, 1).

    References
    ----------
    .. [1] Kuleshov, Fenner and Ermon, "Accurate uncertainties for deep learning using calibrated
       regression", ICML 2018, equation 9 (there without the root).

    Examples
    --------
    >>> quantile_calibration_error([0.1, 0.2, 0.3, 0.9], levels=[0.5])  # 3 of 4 are below 0.5
    0.25
    """
    values, nominal = np.sort(as_pit(pit)), _as_levels(levels)
    observed = np.searchsorted(values, nominal, side="right") / len(values)
    return float(np.sqrt(np.mean((observed - nominal) ** 2)))


def coverage_curve(
    pit: ArrayLike, levels: Sequence[float] = COVERAGE_LEVELS
) -> Float[np.ndarray, " levels"]:
    r"""Compute the observed coverage of central intervals from PIT values.

    A central interval of level c covers the target exactly if
    :math:`|F_n(y_n) - \tfrac12| \le c / 2`, so no interval has to be computed. With the PIT values
    of :func:`randomised_pit`, a count inside the interval of whole numbers is covered, one at its
    end with the probability that makes the coverage of the true model c and no more.

    Parameters
    ----------
    pit : array of shape (data,)
        Predictive distribution function at the targets, of counts :func:`randomised_pit`; further
        axes are flattened.
    levels : sequence of float, default=(0.5, 0.75, 0.9, 0.95)
        Nominal coverages.

    Returns
    -------
    array of shape (levels,)
        Share of targets covered. ``sqrt(mean((curve - levels)**2))`` is the coverage error of the
        MILE experiments.

    Raises
    ------
    ValueError
        If ``pit`` leaves [0, 1], or a level is not in (0, 1).

    Examples
    --------
    >>> coverage_curve([0.1, 0.4, 0.6, 0.9], levels=[0.5, 0.9])
    array([0.5, 1. ])
    """
    nominal = _as_levels(levels)
    distance = np.sort(2 * np.abs(as_pit(pit) - 0.5))
    return np.searchsorted(distance, nominal, side="right") / len(distance)


def reliability_curve(
    y_index: ArrayLike, probabilities: ArrayLike, n_bins: int = 15
) -> ReliabilityCurve:
    """Compute confidence and accuracy in bins of confidence.

    Confidence is the largest probability of a row, and its class is the prediction. Bin b holds
    the confidences in (b / n_bins, (b + 1) / n_bins].

    Parameters
    ----------
    y_index : integer array of shape (data,)
        True class indices, 0 ... classes - 1.
    probabilities : array of shape (data, classes)
        Predictive probabilities: the mean over draws. Rows sum to 1.
    n_bins : int, default=15
        Number of bins of equal width.

    Returns
    -------
    ReliabilityCurve
        ``confidence, accuracy, num_rows`` per bin.

    Raises
    ------
    ValueError
        If an index is out of range, a row of ``probabilities`` does not sum to 1, or ``n_bins`` is
        below 1.

    Examples
    --------
    >>> curve = reliability_curve([0, 1], [[0.9, 0.1], [0.7, 0.3]], n_bins=2)
    >>> curve.confidence, curve.accuracy, curve.num_rows
    (array([nan, 0.8]), array([nan, 0.5]), array([0, 2]))
    """
    index, probability = as_class_problem(y_index, probabilities)
    check_int("n_bins", n_bins, minimum=1)
    confidence = probability.max(axis=1)
    is_right = probability.argmax(axis=1) == index
    upper_edges = np.arange(1, n_bins + 1) / n_bins
    # The last bin also takes what rounding has put above 1.
    bin_index = np.minimum(np.searchsorted(upper_edges, confidence, side="left"), n_bins - 1)
    count = np.bincount(bin_index, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        return ReliabilityCurve(
            np.bincount(bin_index, weights=confidence, minlength=n_bins) / count,
            np.bincount(bin_index, weights=is_right, minlength=n_bins) / count,
            count,
        )


def expected_calibration_error(
    y_index: ArrayLike, probabilities: ArrayLike, n_bins: int = 15
) -> float:
    r"""Compute the expected calibration error of the predicted class.

    .. math:: \sum_b \frac{N_b}{N} \, |\mathrm{accuracy}_b - \mathrm{confidence}_b|

    over the bins of ``reliability_curve``. It is biased upwards for few rows per bin, so compare
    values of one data size and one ``n_bins`` only.

    Parameters
    ----------
    y_index : integer array of shape (data,)
        True class indices, 0 ... classes - 1.
    probabilities : array of shape (data, classes)
        Predictive probabilities: the mean over draws. Rows sum to 1.
    n_bins : int, default=15
        Number of bins of equal width.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If an index is out of range, a row of ``probabilities`` does not sum to 1, or ``n_bins`` is
        below 1.

    References
    ----------
    .. [1] Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3. Some
       published code for BNNs takes the probability of the true class as confidence, or divides
       by the number of bins once more; this is the standard form.

    Examples
    --------
    >>> expected_calibration_error([0, 1], [[0.9, 0.1], [0.7, 0.3]], n_bins=2)  # |0.5 - 0.8|
    0.3
    """
    confidence, accuracy, count = reliability_curve(y_index, probabilities, n_bins)
    filled = count > 0
    gap = np.abs(accuracy[filled] - confidence[filled])
    return float(np.average(gap, weights=count[filled]))


def _as_levels(levels: Sequence[float]) -> np.ndarray:
    """Check nominal levels."""
    if len(levels) == 0:
        raise ValueError("levels is empty; give at least one level such as 0.9.")
    for k, level in enumerate(levels):
        check_real(f"levels[{k}]", level, low=0, high=1, low_open=True, high_open=True)
    return np.asarray(levels, dtype=np.float64)
