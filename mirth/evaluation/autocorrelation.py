"""Effective sample size of Markov chains."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import scipy.fft
from jaxtyping import Float

_BLOCK_VALUES = 32  # their transforms stay in the cache


def effective_sample_size(
    x: Float[np.ndarray, "chains draws *values"],
) -> Float[np.ndarray, "*values"]:
    r"""Estimate the effective sample size by Geyer's initial monotone sequence.

    .. math:: \mathrm{ESS} = \frac{K T}{-1 + 2 \sum_t P_t}, \qquad
              P_t = \hat\rho_{2t} + \hat\rho_{2t + 1}

    with the sums of neighbouring autocorrelations made decreasing and cut off where they become
    negative. The autocovariances come from one FFT per chain and value, in float64.

    Parameters
    ----------
    x : array of shape (chains, draws, ...)
        K chains of T draws, at least 4.

    Returns
    -------
    array of shape (...)
        Effective number of independent draws in all chains together, at most K T log10(K T); NaN
        for a value that never changes or is not finite.

    Raises
    ------
    ValueError
        If there are fewer than 4 draws.

    References
    ----------
    .. [1] Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7 (1992).
    .. [2] Vehtari et al., "Rank-normalization, folding, and localization", Bayesian Analysis 16
       (2021).

    Examples
    --------
    >>> import numpy as np
    >>> white = np.random.default_rng(0).normal(size=(2, 1000))
    >>> bool(1500 < effective_sample_size(white) < 2500)
    True
    """
    x = np.asarray(x)
    if x.ndim < 2 or x.shape[1] < 4:
        raise ValueError(
            f"x has shape {x.shape}; the effective sample size needs (chains, draws, ...) with at "
            "least 4 draws."
        )
    flat = x.reshape(*x.shape[:2], -1)
    num_values = flat.shape[2]
    blocks = [flat[:, :, i : i + _BLOCK_VALUES] for i in range(0, num_values, _BLOCK_VALUES)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = list(pool.map(_effective_sample_size, blocks))
    return np.concatenate([np.zeros(0), *parts]).reshape(x.shape[2:])


def _effective_sample_size(x: np.ndarray) -> np.ndarray:
    """Compute the same for (chains, draws, values)."""
    # Draws last: transforms and running sums along contiguous memory take a third of the time.
    x = np.ascontiguousarray(np.moveaxis(x, 2, 0), dtype=np.float64)
    num_values, num_chains, num_draws = x.shape
    # Relative to the first draw, a constant chain is exactly 0; relative to its mean, which is
    # rounded, it would be a chain of tiny variance with an effective sample size of 1.
    with np.errstate(invalid="ignore"):
        moved = x - x[..., :1]
    mean = moved.mean(axis=2, keepdims=True)
    # The output length is given to irfft because an odd one cannot be read off the spectrum.
    padded = scipy.fft.next_fast_len(2 * num_draws, real=True)
    spectrum = scipy.fft.rfft(moved - mean, padded)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=1)
    covariance = scipy.fft.irfft(power, padded)[:, :num_draws] / num_draws
    within = covariance[:, :1] * num_draws / (num_draws - 1)
    pooled = covariance[:, :1].copy()
    if num_chains > 1:
        pooled += (x[..., 0] + mean[..., 0]).var(axis=1, ddof=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1 - (within - covariance) / pooled
    rho[:, 0] = 1.0
    # As in Stan, the last lags do not count: they rest on a few products of draws.
    num_pairs = (num_draws - 3) // 2
    pairs = rho[:, : 2 * num_pairs].reshape(num_values, num_pairs, 2).sum(axis=2)
    is_positive = np.logical_and.accumulate(pairs > 0, axis=1)
    monotone = np.minimum.accumulate(np.where(is_positive, pairs, 0.0), axis=1)
    # The even lag at the cut counts once if it is positive, which helps anticorrelated chains.
    cut = 2 * is_positive.sum(axis=1)
    at_cut = np.maximum(rho[np.arange(num_values), cut], 0.0)
    time = -1 + 2 * monotone.sum(axis=1) + at_cut
    # Stan's bound for anticorrelated chains: K T log10(K T) independent draws at most.
    num_total = num_chains * num_draws
    ess = num_total / np.maximum(time, 1 / np.log10(num_total))
    is_moving = (moved != 0).any(axis=(1, 2)) & np.isfinite(moved).all(axis=(1, 2))
    return np.where(is_moving, ess, np.nan)
