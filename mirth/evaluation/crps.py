"""Continuous ranked probability score, of mixtures in closed form and of samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erf

from mirth.evaluation._arrays import (
    as_real,
    check_positive,
    check_same_shape,
    column_blocks,
)


def crps_normal_mixture(y: ArrayLike, loc: ArrayLike, scale: ArrayLike) -> float:
    r"""Compute the continuous ranked probability score of a mixture of Normals, in closed form.

    .. math:: \frac1S \sum_s A(y - \mu_s, \sigma_s)
              - \frac{1}{2 S^2} \sum_{s, s'} A\Big(\mu_s - \mu_{s'},
                \sqrt{\sigma_s^2 + \sigma_{s'}^2}\Big)

    with :math:`A(m, \sigma) = m (2 \Phi(m / \sigma) - 1) + 2 \sigma \varphi(m / \sigma)`, the mean
    of :math:`|X|` for X ~ N(m, sigma^2); ``loc`` holds :math:`\mu` and ``scale`` :math:`\sigma`.
    The mean over rows is returned. Time grows as samples^2, memory does not: beyond some 1000
    samples use ``crps_from_samples`` on draws from the mixture.

    Parameters
    ----------
    y : array of shape (data,) or (data, targets)
        Targets.
    loc, scale : array of shape (samples, data) or (samples, data, targets)
        Means and standard deviations of the components, in units of ``y``.

    Returns
    -------
    float
        In units of ``y``; the absolute error for a single narrow component.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, or a ``scale`` is not positive.

    References
    ----------
    .. [1] Grimit et al., "The continuous ranked probability score for circular variables and its
       application to mesoscale forecast ensemble verification", Q. J. R. Meteorol. Soc. 132
       (2006), equation 5.

    Examples
    --------
    >>> crps_normal_mixture([0.0], loc=[[0.0]], scale=[[1.0]])  # (sqrt(2) - 1) / sqrt(pi)
    0.233695
    """
    target, centre = as_real("y", y), as_real("loc", loc, "samples, data, ...")
    width = as_real("scale", scale)
    check_same_shape(loc=centre, scale=width)
    check_same_shape(**{"y": target, "loc[0]": centre[0]})
    check_positive("scale", width)
    num_samples = len(centre)
    target = target.ravel()
    centre, width = centre.reshape(num_samples, -1), width.reshape(num_samples, -1)
    total = 0.0
    for block in column_blocks(len(target), num_samples):
        mean, std = centre[:, block], width[:, block]
        # A pair and its mirror image are equal, so half the double sum counts each pair once; the
        # pairs (s, s) keep their half: A(0, sqrt(2) sigma) / 2 = sigma / sqrt(pi).
        pairs = std.sum() / np.sqrt(np.pi)
        for lag in range(1, num_samples):
            spread = np.hypot(std[lag:], std[:-lag])
            pairs += _normal_mean_abs(mean[lag:] - mean[:-lag], spread).sum()
        total += _normal_mean_abs(target[block] - mean, std).sum() / num_samples
        total -= pairs / num_samples**2
    return float(total / len(target))


def crps_from_samples(y: ArrayLike, samples: ArrayLike) -> float:
    r"""Estimate the continuous ranked probability score from samples, without bias.

    .. math:: \frac1S \sum_s |x_s - y| - \frac{1}{2 S (S - 1)} \sum_{s, s'} |x_s - x_{s'}|

    The double sum is taken over the sorted samples in O(S log S). Dividing by S (S - 1) instead of
    S^2 makes the expectation independent of the number of samples ("fair" CRPS), so that
    predictions with different numbers of draws can be compared. The mean over rows is returned.

    Parameters
    ----------
    y : array of shape (data,) or (data, targets)
        Targets.
    samples : array of shape (samples, data) or (samples, data, targets)
        Draws of the predictive distribution, noise included, at least two.

    Returns
    -------
    float
        In units of ``y``; an estimate can be slightly negative for very few samples.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, or there is only one sample.

    References
    ----------
    .. [1] Ferro, "Fair scores for ensemble forecasts", Q. J. R. Meteorol. Soc. 140 (2014).

    Examples
    --------
    >>> crps_from_samples([0.0], samples=[[-1.0], [2.0]])  # 3 / 2 - 6 / 4
    0.0
    """
    target, draws = as_real("y", y), as_real("samples", samples, "samples, data, ...")
    check_same_shape(**{"y": target, "samples[0]": draws[0]})
    num_samples = len(draws)
    if num_samples < 2:
        raise ValueError("samples has 1 draw per row; the spread between draws needs two or more.")
    # sum over pairs of x_(j) - x_(i): rank r is the larger one r times, the smaller S - 1 - r times
    weight = (2 * np.arange(num_samples) - (num_samples - 1)) / (num_samples * (num_samples - 1))
    target, draws = target.ravel(), draws.reshape(num_samples, -1)
    total = 0.0
    for block in column_blocks(len(target), num_samples):
        # Errors instead of draws: a large common offset would cancel badly in the sum of ranks.
        error = np.sort(draws[:, block] - target[block], axis=0)
        total += np.abs(error).mean(axis=0).sum() - (weight @ error).sum()
    return float(total / len(target))


def _normal_mean_abs(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Compute E|X| for X ~ N(mean, std^2), the function A(m, sigma) of Grimit et al."""
    # Overflow means a component without width: erf and exp then have the right limits, 1 and 0.
    with np.errstate(over="ignore"):
        ratio = mean / std
        return mean * erf(ratio / np.sqrt(2)) + std * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2)
