"""The probability integral transform where single values have a probability of their own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mirth.core.validation import check_int
from mirth.evaluation._arrays import as_real, check_same_shape

_ROUNDING = 1e-4  # slack of probabilities in float32
_STREAM = 0x717  # keeps the shares apart from data that a caller made from the same seed


def randomised_pit(
    cdf: ArrayLike, mass: ArrayLike, seed: int = 0
) -> Float[np.ndarray, "data *targets"]:
    r"""Compute PIT values that are uniform for the true distribution, whatever its kind.

    .. math:: u_n = F_n(y_n) - w_n \, P_n(y_n), \qquad w_n \sim \mathrm{Uniform}[0, 1)

    with ``cdf`` :math:`F_n(y_n) = P(Y_n \le y_n)` and ``mass`` :math:`P_n(y_n) = P(Y_n = y_n)`
    [1]_. For counts this is :math:`F(y - 1) + v\,(F(y) - F(y - 1))` with :math:`v = 1 - w`. The
    distribution function alone is not uniform there: it jumps, and takes few values only. Where the
    mass is 0, as of every continuous target, :math:`u_n` is :math:`F_n(y_n)` to the last bit.

    The mean over w has a closed form, which needs no random numbers [2]_. Random ones are taken
    because each row then has one value in [0, 1], with which every check for continuous targets
    works as it is, the band of ``pit_histogram`` included: a mean scatters less than the band says.
    The price is noise: scores of a few rows change a little with ``seed``.

    Parameters
    ----------
    cdf : array of shape (data,) or (data, targets)
        Predictive probability of a target of at most the observed one.
    mass : array of the same shape
        Predictive probability of the observed target itself; 0 for a continuous one.
    seed : int, default=0
        Seed of w, which is the same for all forecasts of the same rows, so that they can be
        compared; the value of a row does not depend on the number of rows after it.

    Returns
    -------
    array of the same shape
        Numbers between 0 and 1, for ``pit_histogram``, ``quantile_calibration_error`` and
        ``coverage_curve``.

    Raises
    ------
    ValueError
        If the shapes differ, a value is not finite, ``cdf`` leaves [0, 1], ``mass`` is negative or
        larger than ``cdf``, or ``seed`` is negative.

    References
    ----------
    .. [1] Smith, "Diagnostic checks of non-standard time series models", J. Forecast. 4 (1985);
       Brockwell, "Universal residuals: a multivariate transformation", Stat. Probab. Lett. 77
       (2007).
    .. [2] Czado, Gneiting and Held, "Predictive model assessment for count data", Biometrics 65
       (2009), equation 2.

    Examples
    --------
    >>> from scipy.stats import poisson
    >>> from mirth.evaluation import quantile_calibration_error
    >>> y = poisson.rvs(0.5, size=10_000, random_state=0)
    >>> quantile_calibration_error(poisson.cdf(y, 0.5))  # although 0.5 is right
    0.31...
    >>> pit = randomised_pit(poisson.cdf(y, 0.5), poisson.pmf(y, 0.5))
    >>> quantile_calibration_error(pit)
    0.00...
    """
    below_or_at, own = as_real("cdf", cdf), as_real("mass", mass)
    check_same_shape(cdf=below_or_at, mass=own)
    if below_or_at.min() < -_ROUNDING or below_or_at.max() > 1 + _ROUNDING:
        raise ValueError(
            "cdf must hold values of a distribution function, between 0 and 1; got "
            f"{below_or_at.min()} ... {below_or_at.max()}."
        )
    if own.min() < -_ROUNDING or (own > below_or_at + _ROUNDING).any():
        raise ValueError(
            "mass must be between 0 and cdf, because a target of at most y may be y itself; pass "
            "the probability of the single value (0 for a continuous target), no density."
        )
    rng = np.random.default_rng((check_int("seed", seed, minimum=0), _STREAM))
    share = rng.random(below_or_at.shape)
    return np.clip(below_or_at - share * own, 0.0, 1.0)
