"""Scores of predictive distributions: arrays in, one number out, always a mean over data rows.

========================  ===============================================  ======
score                     what is scored                                   better
========================  ===============================================  ======
``lppd`` and its kin      the density of the pooled draws                  higher
``gaussian_nll``          mean and standard deviation of the prediction    lower
``crps_normal_mixture``   a mixture of Normals, in closed form             lower
``crps_from_samples``     any distribution, by its samples                 lower
``interval_score``        two bounds for one level                         lower
``rmse``                  one number per row                               lower
``accuracy``              one label per row                                higher
``brier``                 class probabilities                              lower
========================  ===============================================  ======
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mirth.core.validation import check_real
from mirth.evaluation._arrays import (
    as_class_problem,
    as_interval,
    as_log_density,
    as_real,
    check_axes,
    check_positive,
    check_same_shape,
    column_blocks,
    log_mean_exp,
)


def lppd(log_prob: ArrayLike) -> Float[np.ndarray, "..."]:
    r"""Compute the log pointwise predictive density of pooled draws.

    .. math:: \frac{1}{N} \sum_n \log \frac{1}{S} \sum_s p(y_n \mid \theta_s)

    with :math:`\log p(y_n \mid \theta_s)` = ``log_prob[..., s, n]``, in log space throughout.

    Parameters
    ----------
    log_prob : array of shape (..., samples, data)
        Log density of each row under each draw. ``-inf`` is legal: a draw that rules a row out.
        To pool chains, reshape (chains, draws, data) to (chains * draws, data).

    Returns
    -------
    array of shape (...), a scalar for a two-dimensional input
        In nats per row. ``-inf`` where all draws rule out some row.

    Raises
    ------
    ValueError
        If an entry is NaN or ``+inf``; none is ever dropped, which would flatter the score.

    References
    ----------
    .. [1] Gelman, Hwang and Vehtari, "Understanding predictive information criteria for Bayesian
       models", Statistics and Computing 24 (2014), equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> float(lppd(np.log([[0.2, 0.5], [0.4, 0.5]])))  # mean of log 0.3 and log 0.5
    -0.948559
    """
    log_density = as_log_density(log_prob, "..., samples, data")
    *leading, num_samples, num_rows = log_density.shape
    total = np.zeros(leading)
    for block in column_blocks(num_rows, log_density.size // num_rows):
        total += log_mean_exp(log_density[..., block], axis=-2).sum(axis=-1)
    return total[()] / num_rows


def chainwise_lppd(log_prob: ArrayLike) -> Float[np.ndarray, " chains"]:
    """Compute the log pointwise predictive density of each chain alone.

    ``lppd(log_prob[k])`` for each chain ``k``: what the chain would score as the only member.

    Parameters
    ----------
    log_prob : array of shape (chains, draws, data)
        Log density of each row under each draw.

    Returns
    -------
    array of shape (chains,)
        In nats per row.

    Raises
    ------
    ValueError
        If an entry is NaN or ``+inf``, or the axes are others.

    Examples
    --------
    >>> import numpy as np
    >>> chainwise_lppd(np.log([[[0.2], [0.4]], [[0.5], [0.5]]]))
    array([-1.2039728 , -0.69314718])
    """
    log_density = np.asarray(log_prob)
    check_axes("log_prob", log_density, "chains, draws, data")
    return lppd(log_density)


def running_lppd(log_prob: ArrayLike) -> Float[np.ndarray, " draws"]:
    r"""Compute how the LPPD of all chains together grows with the number of draws.

    Entry ``t`` is the LPPD of draws 0 ... t of every chain. The sums of densities are cumulated in
    log space: in linear space they underflow to 0 for networks that fit badly at first.

    Parameters
    ----------
    log_prob : array of shape (chains, draws, data)
        Log density of each row under each draw.

    Returns
    -------
    array of shape (draws,)
        In nats per row; the last entry is the LPPD of the whole.

    Raises
    ------
    ValueError
        If an entry is NaN or ``+inf``, or the axes are others.

    Examples
    --------
    >>> import numpy as np
    >>> running_lppd(np.log([[[0.2], [0.4]], [[0.5], [0.5]]]))
    array([-1.049822, -0.916291])
    """
    log_density = as_log_density(log_prob, "chains, draws, data")
    _, num_draws, num_rows = log_density.shape
    log_count = np.log(np.arange(1, num_draws + 1))[:, None]
    total = np.zeros(num_draws)
    for block in column_blocks(num_rows, log_density.size // num_rows):
        per_draw = log_mean_exp(log_density[..., block], axis=0)
        cumulated = np.logaddexp.accumulate(per_draw, axis=0) - log_count
        total += cumulated.sum(axis=1)
    return total / num_rows


def gaussian_nll(y: ArrayLike, mean: ArrayLike, std: ArrayLike) -> float:
    r"""Compute the negative log density of a Normal with the predictive mean and deviation.

    .. math:: \frac{1}{N} \sum_n \tfrac12 \log(2 \pi \sigma_n^2)
              + \frac{(y_n - \mu_n)^2}{2 \sigma_n^2}

    with ``mean`` :math:`\mu` and ``std`` :math:`\sigma` of the whole predictive mixture (moment
    matching). It differs from ``-lppd`` wherever the mixture is not Normal; report which one.

    Parameters
    ----------
    y, mean, std : array of shape (data,) or (data, targets)
        Targets, predictive means and total predictive standard deviations, in units of ``y``.

    Returns
    -------
    float
        In nats per value.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite, or a ``std`` is not positive.

    Examples
    --------
    >>> gaussian_nll([0.0, 1.0], mean=[0.0, 0.0], std=[1.0, 1.0])  # log(2 pi) / 2 + 1 / 4
    1.168939
    """
    target, centre, deviation = as_real("y", y), as_real("mean", mean), as_real("std", std)
    check_same_shape(y=target, mean=centre, std=deviation)
    check_positive("std", deviation)
    nll = 0.5 * ((target - centre) / deviation) ** 2 + np.log(deviation)
    return float(nll.mean() + 0.5 * np.log(2 * np.pi))


def rmse(y: ArrayLike, prediction: ArrayLike) -> float:
    r"""Compute the root mean square error :math:`\sqrt{\frac1N \sum_n (y_n - \hat y_n)^2}`.

    Parameters
    ----------
    y, prediction : array of shape (data,) or (data, targets)
        Targets and point predictions, for BNNs the mean over all draws.

    Returns
    -------
    float
        In units of ``y``.

    Raises
    ------
    ValueError
        If shapes differ or a value is not finite.

    Examples
    --------
    >>> rmse([1.0, 2.0], prediction=[1.0, 4.0])  # the root of (0 + 4) / 2
    1.414214
    """
    target, predicted = as_real("y", y), as_real("prediction", prediction)
    check_same_shape(y=target, prediction=predicted)
    return float(np.sqrt(np.mean((target - predicted) ** 2)))


def accuracy(y: ArrayLike, labels: ArrayLike) -> float:
    """Compute the share of rows whose label is right.

    Parameters
    ----------
    y, labels : array of shape (data,)
        True and predicted labels, in the same encoding: both text or both numbers.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If shapes differ, or one holds text and the other numbers (no label could ever match).

    Examples
    --------
    >>> accuracy(["cat", "dog", "dog"], labels=["cat", "dog", "cat"])
    0.666667
    """
    truth, predicted = np.asarray(y), np.asarray(labels)
    check_axes("y", truth, "data")
    check_same_shape(y=truth, labels=predicted)
    if isinstance(truth.flat[0], str) != isinstance(predicted.flat[0], str):
        raise ValueError(
            f"y and labels must be in one encoding, got {truth.flat[0]!r} and "
            f"{predicted.flat[0]!r}; decode the class indices first."
        )
    return float(np.mean(truth == predicted))


def brier(y_index: ArrayLike, probabilities: ArrayLike) -> float:
    r"""Compute the Brier score of class probabilities.

    .. math:: \frac1N \sum_n \sum_k (p_{nk} - [y_n = k])^2

    between 0 and 2. For two classes that is twice the score of the positive class alone.

    Parameters
    ----------
    y_index : integer array of shape (data,)
        True class indices, 0 ... classes - 1.
    probabilities : array of shape (data, classes)
        Predictive probabilities: the mean over draws. Rows sum to 1.

    Returns
    -------
    float
        The score, 0 for a perfect forecast.

    Raises
    ------
    ValueError
        If an index is out of range or a row of ``probabilities`` does not sum to 1.

    References
    ----------
    .. [1] Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
       Review 78 (1950).

    Examples
    --------
    >>> brier([0, 1], [[0.8, 0.2], [0.4, 0.6]])  # the mean of 0.08 and 0.32
    0.2
    """
    index, probability = as_class_problem(y_index, probabilities)
    residual = probability.copy()
    residual[np.arange(len(index)), index] -= 1
    return float(np.mean(np.sum(residual**2, axis=1)))


def interval_score(y: ArrayLike, lower: ArrayLike, upper: ArrayLike, level: float) -> float:
    r"""Compute the interval score (Winkler score) of central prediction intervals.

    .. math:: \frac1N \sum_n (u_n - l_n) + \frac{2}{1 - c} (l_n - y_n)_+
              + \frac{2}{1 - c} (y_n - u_n)_+

    with ``lower`` l, ``upper`` u and ``level`` c: the width, plus a penalty for each miss that
    makes the true quantiles the best answer.

    Parameters
    ----------
    y, lower, upper : array of shape (data,) or (data, targets)
        Targets and the bounds.
    level : float
        Nominal coverage of the intervals, such as 0.9.

    Returns
    -------
    float
        In units of ``y``.

    Raises
    ------
    ValueError
        If shapes differ, a lower bound is above its upper one, or ``level`` is not in (0, 1).

    References
    ----------
    .. [1] Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA
       102 (2007), equation 43.

    Examples
    --------
    >>> interval_score([0.0, 3.0], lower=[-1.0, -1.0], upper=[1.0, 1.0], level=0.9)  # 2 and 42
    22.0
    """
    check_real("level", level, low=0, high=1, low_open=True, high_open=True)
    target, low, high = as_interval(y, lower, upper)
    misses = np.maximum(low - target, 0) + np.maximum(target - high, 0)
    return float(np.mean(high - low + 2 / (1 - level) * misses))
