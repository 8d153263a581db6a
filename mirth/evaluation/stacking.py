"""Weights of chains by stacking of their predictive densities."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from mirth.core.validation import check_real
from mirth.evaluation._arrays import as_counts, as_log_density

PRIOR_ROWS = 2.0
"""How many rows of each chain the prior on equal weights counts as; see ``docs/results.md``."""

_MAX_ROUNDS = 200  # Newton steps; some twenty are taken
_PRECISION = 1e-10  # nats per row between the objective and its maximum


def stacking_weights(
    log_density: ArrayLike, *, prior_rows: float = PRIOR_ROWS, weights: ArrayLike | None = None
) -> Float[np.ndarray, " chains"]:
    r"""Weigh chains so that their mixture predicts rows best which none of them has seen.

    .. math:: \max_w \sum_n c_n \log \sum_k w_k \, p_k(y_n) + m \sum_k \log w_k,
              \qquad w_k > 0, \quad \sum_k w_k = 1

    with :math:`\log p_k(y_n)` = ``log_density[k, n]``, m = ``prior_rows`` and :math:`c_n` =
    ``weights[n]``. The first term is that of Yao et al. [1]_ [2]_. The second is the log density of
    a Dirichlet prior with all parameters 1 + m: as if for each chain m rows more had been seen
    that it alone explains. Without it a small table puts nearly all weight on the chain that was
    lucky on it. The objective is concave, and its maximum is found by Newton's method to 1e-10
    nats per row.

    Parameters
    ----------
    log_density : array of shape (chains, data)
        Log predictive density of each row under each chain: leave-one-out densities of the rows of
        the fit (:func:`chainwise_leave_one_out`), or densities of other rows. ``-inf`` is legal; a
        row that all chains rule out says nothing of the weights.
    prior_rows : float, default=2.0
        Rows of each chain that the prior on equal weights counts as.
    weights : array of shape (data,), optional
        How often each row counts; None means once.

    Returns
    -------
    array of shape (chains,)
        Positive weights with the sum 1.

    Raises
    ------
    ValueError
        If an entry is NaN or ``+inf``, ``prior_rows`` is not positive, or ``weights`` has another
        shape or numbers that are negative or not finite.

    References
    ----------
    .. [1] Yao, Vehtari, Simpson and Gelman, "Using stacking to average Bayesian predictive
       distributions", Bayesian Analysis 13 (2018), arXiv:1704.02030.
    .. [2] Yao, Vehtari and Gelman, "Stacking for non-mixing Bayesian computations", JMLR 23 (2022),
       arXiv:2006.12335.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=200)
    >>> centres = np.array([[0.0], [0.0], [3.0]])  # the third chain is wrong
    >>> stacking_weights(-0.5 * (rows - centres) ** 2).round(2).tolist()
    [0.49, 0.49, 0.02]
    """
    values = as_log_density(log_density, "chains, data", "log_density").astype(
        np.float64, copy=False
    )
    check_real("prior_rows", prior_rows, low=0.0, low_open=True)
    num_chains, num_rows = values.shape
    counts = as_counts(weights, num_rows)
    top = values.max(axis=0)
    used = np.isfinite(top) & (counts > 0)
    density, counts = np.exp(values[:, used] - top[used]), counts[used]
    total = counts.sum() + num_chains * prior_rows

    def objective(w: np.ndarray) -> float:
        return float(counts @ np.log(w @ density) + prior_rows * np.log(w).sum())

    w = np.full(num_chains, 1 / num_chains)
    value = objective(w)
    for _ in range(_MAX_ROUNDS):
        share = density / (w @ density)
        slope = share @ counts + prior_rows / w
        if slope.max() - total < _PRECISION * total:  # no weights are better by more than this
            break
        direction = _newton(slope, (share * counts) @ share.T + np.diag(prior_rows / w**2))
        falling = direction < 0
        step = min(1.0, 0.99 * float(np.min(w[falling] / -direction[falling], initial=np.inf)))
        gain = float(slope @ direction)
        while (found := objective(w + step * direction)) < value + 0.1 * step * gain:
            if step * gain < _PRECISION:  # below the rounding of the objective
                return w / w.sum()
            step /= 2
        w, value = w + step * direction, found
    return w / w.sum()


def _newton(
    slope: Float[np.ndarray, " chains"], curvature: Float[np.ndarray, "chains chains"]
) -> Float[np.ndarray, " chains"]:
    """Give the Newton step that leaves the sum of the weights as it is."""
    solved = np.linalg.solve(curvature, np.stack([slope, np.ones_like(slope)], axis=1))
    return solved[:, 0] - solved[:, 1] * solved[:, 0].sum() / solved[:, 1].sum()
