"""Leave-one-out scores from draws of the full posterior, by Pareto-smoothed importance sampling."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import boxcox, logsumexp

from mirth.evaluation._arrays import as_counts, as_log_density, check_axes, column_blocks

RELIABLE_K = 0.7
"""Pareto k up to which a leave-one-out density can be trusted (Vehtari et al., section 3.2.4)."""

MIN_DRAWS = 25
"""Least number of draws: a tail is a fifth of them, and fewer than five numbers have no shape."""

# Priors of the fit: those of Zhang and Stephens (2009), section 4, and k = 0.5 with the weight of
# ten numbers (Vehtari et al., appendix C).
_PRIOR_QUARTILE, _PRIOR_K, _PRIOR_COUNT = 3, 0.5, 10


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
    """Leave-one-out densities of rows; the leading axes are those of the sets of draws.

    Parameters
    ----------
    pointwise : array of shape (..., data)
        Log density of each row under the posterior without it, in nats.
    pareto_k : array of shape (..., data)
        Shape of the tail of each row's importance ratios. Above 0.7 the row moves the posterior so
        much that its density is a guess, as a rule too high. ``-inf`` where the largest ratios are
        equal, which needs no smoothing; ``inf`` where nothing can be told: a draw rules the row
        out, or the draws are all the same.

    Examples
    --------
    >>> scores = LeaveOneOut(np.array([-1.0, -2.0, -3.0]), np.array([0.1, 0.3, 0.9]))
    >>> float(scores.elpd), float(scores.standard_error), float(scores.share_above())
    (-2.0, 0.577350, 0.333333)
    """

    pointwise: Float[np.ndarray, "... data"]
    pareto_k: Float[np.ndarray, "... data"]

    @property
    def elpd(self) -> Float[np.ndarray, "..."]:
        """Expected log predictive density of a new row: the mean over rows, in nats per row."""
        return self.pointwise.mean(axis=-1)

    @property
    def standard_error(self) -> Float[np.ndarray, "..."]:
        """Standard error of ``elpd`` over the rows; NaN for a single row."""
        num_rows = self.pointwise.shape[-1]
        if num_rows == 1:
            return np.full(self.pointwise.shape[:-1], np.nan)[()]
        return self.pointwise.std(axis=-1, ddof=1) / np.sqrt(num_rows)

    def share_above(self, limit: float = RELIABLE_K) -> Float[np.ndarray, "..."]:
        """Give the share of the rows whose Pareto k is above a limit.

        Parameters
        ----------
        limit : float, default=0.7
            The limit.
        """
        return (self.pareto_k > limit).mean(axis=-1)


def leave_one_out(log_prob: ArrayLike, weights: ArrayLike | None = None) -> LeaveOneOut:
    r"""Estimate how well draws predict each of the rows that they were fitted to, without it.

    .. math:: \log \hat p(y_n \mid y_{-n}) =
              \log \frac{\sum_s r_{sn} \, p(y_n \mid \theta_s)}{\sum_s r_{sn}}, \qquad
              r_{sn} \approx p(y_n \mid \theta_s)^{-c_n}

    with :math:`\log p(y_n \mid \theta_s)` = ``log_prob[..., s, n]`` and :math:`c_n` =
    ``weights[n]``. The largest ratios r, a fifth of the S draws or :math:`3 \sqrt S` of them if
    that is less, are replaced by quantiles of a generalised Pareto distribution that is fitted to
    them, and cut at the largest one [1]_. Its shape k says whether the estimate can be trusted.
    Draws count as independent, and rows must be independent given the parameters.

    Parameters
    ----------
    log_prob : array of shape (..., samples, data)
        Log density of each training row under each draw. To pool chains, reshape (chains, draws,
        data) to (chains * draws, data).
    weights : array of shape (data,), optional
        How often each row counted in the fit; None means once.

    Returns
    -------
    LeaveOneOut
        Arrays of shape (..., data).

    Raises
    ------
    ValueError
        If there are fewer than 25 draws, an entry is NaN or ``+inf``, or ``weights`` has another
        shape or numbers that are negative or not finite.

    References
    ----------
    .. [1] Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto smoothed importance sampling", JMLR 25
       (2024), arXiv:1507.02646.

    Examples
    --------
    >>> rng = np.random.default_rng(0)  # y ~ N(theta, 1), 20 rows, flat prior
    >>> y = rng.normal(size=20)
    >>> theta = y.mean() + rng.normal(size=4000) / np.sqrt(20)
    >>> scores = leave_one_out(-0.5 * (y - theta[:, None]) ** 2 - 0.5 * np.log(2 * np.pi))
    >>> others = (y.sum() - y) / 19  # the exact answer is N(others, 1 + 1 / 19)
    >>> exact = -0.5 * (y - others) ** 2 * 19 / 20 - 0.5 * np.log(2 * np.pi * 20 / 19)
    >>> bool(abs(scores.elpd - exact.mean()) < 0.01), float(scores.share_above())
    (True, 0.0)
    """
    log_density = as_log_density(log_prob, "..., samples, data")
    *leading, num_samples, num_rows = log_density.shape
    if num_samples < MIN_DRAWS:
        raise ValueError(
            f"log_prob has {num_samples} draws and the fit of a tail needs {MIN_DRAWS}; its shape "
            f"{log_density.shape} is read as (..., samples, data). With fewer draws, score rows "
            "that were not fitted by lppd."
        )
    counts = as_counts(weights, num_rows)
    tail = min(num_samples // 5, int(3 * np.sqrt(num_samples)))
    largest = max(num_samples, tail * _num_candidates(tail))
    results = np.empty((2, *leading, num_rows))
    for index in np.ndindex(*leading):
        for block in column_blocks(num_rows, largest):
            values = log_density[index][:, block].astype(np.float64)
            results[(slice(None), *index, block)] = _one_block(values, counts[block], tail)
        if (log_density[index] == log_density[index][0]).all():  # the draws are one and the same
            results[(1, *index)] = np.inf
    return LeaveOneOut(results[0], results[1])


def chainwise_leave_one_out(log_prob: ArrayLike, weights: ArrayLike | None = None) -> LeaveOneOut:
    """Estimate the same for each chain alone.

    Parameters
    ----------
    log_prob : array of shape (chains, draws, data)
        Log density of each training row under each draw.
    weights : array of shape (data,), optional
        As for :func:`leave_one_out`.

    Returns
    -------
    LeaveOneOut
        Arrays of shape (chains, data).

    Raises
    ------
    ValueError
        If the axes are others, or as for :func:`leave_one_out`.

    Examples
    --------
    >>> log_prob = np.random.default_rng(0).normal(-1, 0.1, size=(3, 100, 40))
    >>> chainwise_leave_one_out(log_prob).elpd.shape
    (3,)
    """
    log_density = np.asarray(log_prob)
    check_axes("log_prob", log_density, "chains, draws, data")
    return leave_one_out(log_density, weights)


def _one_block(
    log_density: Float[np.ndarray, "samples data"], counts: Float[np.ndarray, " data"], tail: int
) -> tuple[Float[np.ndarray, " data"], Float[np.ndarray, " data"]]:
    """Give the leave-one-out log density and Pareto k of each row."""
    log_density = -np.sort(-log_density, axis=0)  # so the ratios rise
    is_ruled_out = np.isneginf(log_density[-1])
    finite = np.where(is_ruled_out, 0.0, log_density)
    log_ratios = counts * (finite[-1] - finite)  # the largest is 0
    k = np.where(is_ruled_out, np.inf, -np.inf)
    rows = np.flatnonzero(log_ratios[-1] > log_ratios[-tail])
    if rows.size:
        k[rows], log_ratios[-tail:, rows] = _smoothed(log_ratios[-tail - 1 :, rows])
    pointwise = logsumexp(log_ratios + finite, axis=0) - logsumexp(log_ratios, axis=0)
    return np.where(is_ruled_out, -np.inf, pointwise), k


def _smoothed(
    log_ratios: Float[np.ndarray, "above data"],
) -> tuple[Float[np.ndarray, " data"], Float[np.ndarray, "tail data"]]:
    """Give the shapes of tails and their numbers, smoothed; the first is the cutoff below them."""
    cutoff, raw = np.exp(log_ratios[0]), log_ratios[1:]
    shape, scale = _fit_pareto(np.exp(raw) - cutoff)
    quantiles = (np.arange(len(raw)) + 0.5) / len(raw)
    with np.errstate(all="ignore"):
        smooth = np.log(cutoff + scale * boxcox(1 / (1 - quantiles)[:, None], shape))
        is_fitted = np.isfinite(shape) & np.isfinite(smooth).all(axis=0)
    # Where nothing can be fitted the raw ratios stay.
    return np.where(is_fitted, shape, np.inf), np.where(is_fitted, np.minimum(smooth, 0.0), raw)


def _num_candidates(tail: int) -> int:
    """Points of the grid on which the fit integrates."""
    return 30 + int(np.sqrt(tail))


def _fit_pareto(
    excess: Float[np.ndarray, "tail data"],
) -> tuple[Float[np.ndarray, " data"], Float[np.ndarray, " data"]]:
    r"""Fit generalised Pareto distributions to sorted numbers; give their shapes and scales.

    Zhang and Stephens (2009): with :math:`b = -k / \sigma` the likelihood has one parameter, and
    its mean under a prior is taken over a grid.
    """
    tail = len(excess)
    size = _num_candidates(tail)
    grid = 1 - np.sqrt(size / (np.arange(1, size + 1) - 0.5))
    quartile = excess[int(tail / 4 + 0.5) - 1]
    with np.errstate(all="ignore"):  # the caller looks for what is not finite
        b = grid[:, None] / (_PRIOR_QUARTILE * quartile) + 1 / excess[-1]
        k = np.log1p(-b[:, None] * excess).mean(axis=1)
        profile = tail * (np.log(-b / k) - k - 1)
        weights = np.exp(profile - logsumexp(profile, axis=0))
        weights[weights < 10 * np.finfo(float).eps] = 0.0
        b_mean = (weights * b).sum(axis=0) / weights.sum(axis=0)
        shape = np.log1p(-b_mean * excess).mean(axis=0)
        scale = -shape / b_mean
        count = tail + _PRIOR_COUNT
        return (tail * shape + _PRIOR_COUNT * _PRIOR_K) / count, scale
