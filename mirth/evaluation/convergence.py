"""Convergence of chains: effective sample sizes and R-hat, in function and in parameter space.

A caveat for neural networks: their posterior has very many modes and symmetries, so weights of
different chains need not agree, and R-hat over chains in parameter space is expected to be large.
Judge chains one by one (``chainwise_split_rhat``), and agreement by the outputs of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import ndtri

from mirth.core.validation import check_int
from mirth.evaluation._arrays import as_native, check_axes, column_blocks
from mirth.evaluation.autocorrelation import effective_sample_size as geyer_ess


@dataclass(frozen=True)
class ChainDiagnostics:
    """Convergence of each chain, as medians over the values that moved.

    Parameters
    ----------
    ess : array of shape (chains,)
        Rank-normalised effective sample size of each chain alone; NaN for a chain that is frozen.
    ess_total : float
        Sum of ``ess``, where frozen chains add nothing. It takes the chains as independent draws
        of one posterior and says nothing about whether they agree; ``rhat_pooled`` does.
    rhat : array of shape (chains,)
        Chain-wise split R-hat; 1 for a stationary chain, NaN for a frozen one.
    rhat_pooled : float
        Split R-hat over all chains together: 1 if they sample the same distribution.
    """

    ess: Float[np.ndarray, " chains"]
    ess_total: float
    rhat: Float[np.ndarray, " chains"]
    rhat_pooled: float


def effective_sample_size(x: ArrayLike) -> Float[np.ndarray, "..."]:
    r"""Estimate the effective sample size of means, by Geyer's initial monotone sequence.

    .. math:: \mathrm{ESS} = \frac{K T}{1 + 2 \sum_{t \ge 1} \hat\rho_t}

    with autocorrelations :math:`\hat\rho_t` from K chains of T draws combined as in Stan, so that
    chains which disagree lower the result. Chains are neither split nor rank-normalised.

    Parameters
    ----------
    x : array of shape (chains, draws, ...)
        Draws of any number of values; one chain is enough, with 4 draws or more.

    Returns
    -------
    array of shape (...), a scalar for one value
        Number of independent draws that estimate the mean equally well, at most K T log10(K T).
        NaN for a value that moves in no chain.

    Raises
    ------
    ValueError
        If there are fewer than 4 draws, or a draw is not finite.

    References
    ----------
    .. [1] Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7 (1992).
    .. [2] Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat",
       Bayesian Analysis 16 (2021), section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> walk = np.random.default_rng(0).normal(size=(2, 1000)).cumsum(axis=1)
    >>> bool(effective_sample_size(walk) < 20)
    True
    """
    return _by_value(geyer_ess, _as_chains(x, least_draws=4))


def rank_normalized_ess(x: ArrayLike) -> Float[np.ndarray, "..."]:
    """Estimate the bulk effective sample size: of split chains, after rank normalisation.

    As ``effective_sample_size``, but defined for draws without a variance too, and lower for
    chains that drift: each chain is cut into halves, and all draws are replaced by Normal scores
    of their ranks.

    Parameters
    ----------
    x : array of shape (chains, draws, ...)
        Draws of any number of values; one chain is enough, with 8 draws or more. Of an odd number
        of draws the first is left out.

    Returns
    -------
    array of shape (...), a scalar for one value
        Effective number of draws; NaN for a value that moves in no chain.

    Raises
    ------
    ValueError
        If there are fewer than 8 draws, or a draw is not finite.

    References
    ----------
    .. [1] Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat",
       Bayesian Analysis 16 (2021), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> heavy = np.random.default_rng(0).standard_cauchy(size=(2, 1000))
    >>> bool(1500 < rank_normalized_ess(heavy) < 2500)
    True
    """
    return _by_value(_split_rank_ess, _as_chains(x, least_draws=8))


def split_rhat(x: ArrayLike) -> Float[np.ndarray, "..."]:
    r"""Compute the rank-normalised split R-hat over all chains.

    .. math:: \hat R = \sqrt{\frac{n - 1}{n} + \frac{B}{W}}

    with the mean variance W within half chains of n draws and the variance B of their means, for
    Normal scores of the ranks. The larger of two is returned: of the draws (do locations agree?),
    and of their distances from the median (do spreads agree?).

    Parameters
    ----------
    x : array of shape (chains, draws, ...)
        Draws of any number of values; one chain is enough, with 4 draws or more. Of an odd number
        of draws the first is left out.

    Returns
    -------
    array of shape (...), a scalar for one value
        About 1 if converged (below 1.01 is the usual demand); infinite if all chains are frozen
        in different places, NaN if in one place.

    Raises
    ------
    ValueError
        If there are fewer than 4 draws, or a draw is not finite.

    References
    ----------
    .. [1] Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat",
       Bayesian Analysis 16 (2021), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> chains = np.random.default_rng(0).normal(size=(4, 500))
    >>> bool(split_rhat(chains) < 1.01), bool(split_rhat(chains + np.arange(4)[:, None]) > 1.4)
    (True, True)
    """
    return _by_value(_rank_rhat, _as_chains(x, least_draws=4))


def chainwise_split_rhat(x: ArrayLike, n_splits: int = 4) -> Float[np.ndarray, "chains ..."]:
    r"""Compute the split R-hat (cRhat) of each chain alone: whether it is stationary.

    .. math:: \hat R = \sqrt{\frac{\frac{n - 1}{n} W + B}{W}}

    with the mean variance W within ``n_splits`` consecutive parts of n draws and the variance B of
    their means, after rank normalisation within the chain. Chains may well sit in different modes,
    which the usual R-hat counts against them and this one does not.

    Parameters
    ----------
    x : array of shape (chains, draws, ...)
        Draws of any number of values. Where draws is no multiple of ``n_splits``, the first ones
        are left out.
    n_splits : int, default=4
        Number of parts, at least 2.

    Returns
    -------
    array of shape (chains, ...)
        About 1 for a stationary chain, NaN for a frozen one.

    Raises
    ------
    ValueError
        If a part would have fewer than 2 draws, ``n_splits`` is below 2, or a draw is not finite.

    References
    ----------
    .. [1] Sommer et al., "Microcanonical Langevin Ensembles", arXiv:2502.06335.

    Examples
    --------
    >>> import numpy as np
    >>> chains = np.random.default_rng(0).normal(size=(2, 1000))
    >>> chains[1] += np.linspace(0, 3, 1000)
    >>> still, drifting = chainwise_split_rhat(chains)
    >>> bool(still < 1.01), bool(drifting > 1.1)
    (True, True)
    """
    check_int("n_splits", n_splits, minimum=2)
    chains = _as_chains(x, least_draws=2 * n_splits)
    return _each_chain(lambda one: _rhat(_rank_normalize(_split(one, n_splits))), chains)


def function_space_diagnostics(
    outputs: ArrayLike, *, max_rows: int = 200, seed: int = 0
) -> ChainDiagnostics:
    """Diagnose chains by the outputs of the network, which is what predictions depend on.

    Parameters
    ----------
    outputs : array of shape (chains, draws, data, outputs)
        Network outputs at some inputs for every draw, 8 draws or more.
    max_rows : int, default=200
        Data rows to look at; of more, this many are chosen at random.
    seed : int, default=0
        Seed of that choice.

    Returns
    -------
    ChainDiagnostics
        Medians over the chosen rows and all outputs.

    Raises
    ------
    ValueError
        If the axes are others, there are fewer than 8 draws, a chosen value is not finite, or
        ``max_rows`` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = np.random.default_rng(0).normal(size=(3, 100, 50, 2))
    >>> function_space_diagnostics(outputs).ess.shape
    (3,)
    """
    check_int("max_rows", max_rows, minimum=1)
    array = np.asarray(outputs)
    check_axes("outputs", array, "chains, draws, data, outputs")
    return _diagnose("outputs", array[:, :, _choose(array.shape[2], max_rows, seed)])


def parameter_space_diagnostics(
    flat: ArrayLike, *, max_params: int = 500, seed: int = 0
) -> ChainDiagnostics:
    """Diagnose chains by their parameters; see the caveat of this module on ``rhat_pooled``.

    Parameters
    ----------
    flat : array of shape (chains, draws, parameters)
        Draws of the flattened parameters, 8 draws or more.
    max_params : int, default=500
        Parameters to look at; of more, this many are chosen at random.
    seed : int, default=0
        Seed of that choice.

    Returns
    -------
    ChainDiagnostics
        Medians over the chosen parameters.

    Raises
    ------
    ValueError
        If the axes are others, there are fewer than 8 draws, a chosen value is not finite, or
        ``max_params`` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> flat = np.random.default_rng(0).normal(size=(3, 100, 1000))
    >>> bool(parameter_space_diagnostics(flat).rhat_pooled < 1.02)
    True
    """
    check_int("max_params", max_params, minimum=1)
    array = np.asarray(flat)
    check_axes("flat", array, "chains, draws, parameters")
    return _diagnose("flat", array[:, :, _choose(array.shape[2], max_params, seed)])


def _diagnose(name: str, chains: np.ndarray) -> ChainDiagnostics:
    """Compute ESS and R-hat per chain and over all, for (chains, draws, ...)."""
    checked = _as_chains(chains, least_draws=8, name=name)
    ess_values = _each_chain(_split_rank_ess, checked)
    ess = np.array([_median_of_moving(values) for values in ess_values])
    rhat = np.array([_median_of_moving(values) for values in chainwise_split_rhat(checked)])
    rhat_pooled = _median_of_moving(split_rhat(checked))
    return ChainDiagnostics(ess, float(np.nansum(ess)), rhat, rhat_pooled)


def _median_of_moving(values: np.ndarray) -> float:
    """Compute the median over values that are not frozen; NaN if all are."""
    moving = values[~np.isnan(values)]
    return float(np.median(moving)) if moving.size else float("nan")


def _choose(size: int, most: int, seed: int) -> np.ndarray | slice:
    """Choose at most ``most`` of ``size`` indices at random."""
    if size <= most:
        return slice(None)
    return np.random.default_rng(seed).choice(size, most, replace=False)


def _as_chains(x: ArrayLike, least_draws: int, name: str = "x") -> np.ndarray:
    """Check draws of shape (chains, draws, ...)."""
    array = as_native(name, x, "chains, draws, ...")
    if array.shape[1] < least_draws:
        raise ValueError(
            f"{name} has {array.shape[1]} draws per chain and this needs {least_draws}; its shape "
            f"{array.shape} is read as (chains, draws, ...)."
        )
    return array


def _by_value(statistic: Callable[[np.ndarray], np.ndarray], chains: np.ndarray) -> np.ndarray:
    """Apply ``statistic`` (chains, draws, values) -> (values,) in blocks of bounded memory."""
    num_chains, num_draws, *shape = chains.shape
    columns = chains.reshape(num_chains, num_draws, -1)
    blocks = column_blocks(columns.shape[2], num_chains * num_draws)
    results = [statistic(columns[:, :, block]) for block in blocks]
    return np.concatenate(results).reshape(shape)[()]


def _each_chain(statistic: Callable[[np.ndarray], np.ndarray], chains: np.ndarray) -> np.ndarray:
    """Apply ``statistic`` to every chain as the only one; the result has the chain axis first."""
    return np.stack([_by_value(statistic, chains[k : k + 1]) for k in range(len(chains))])


def _split(chains: np.ndarray, parts: int) -> np.ndarray:
    """Cut each chain into parts that stand as chains of their own; the oldest draws are left out.

    The first ones, because they are the ones most likely not to be stationary yet.
    """
    num_chains, num_draws, num_values = chains.shape
    length = num_draws // parts
    kept = chains[:, num_draws - parts * length :]
    return kept.reshape(num_chains * parts, length, num_values)


def _rank_normalize(chains: np.ndarray) -> np.ndarray:
    """Replace draws by Normal scores of their pooled ranks (Vehtari et al. 2021, equation 14)."""
    from scipy.stats import rankdata  # half a second of import that most runs do not need

    num_chains, num_draws, num_values = chains.shape
    ranks = rankdata(chains.reshape(-1, num_values), axis=0)  # ties share their mean rank
    scores = ndtri((ranks - 3 / 8) / (num_chains * num_draws + 1 / 4))
    return scores.reshape(chains.shape)


def _split_rank_ess(chains: np.ndarray) -> np.ndarray:
    """Compute the bulk ESS of (chains, draws, values)."""
    return geyer_ess(_rank_normalize(_split(chains, 2)))


def _rank_rhat(chains: np.ndarray) -> np.ndarray:
    """Compute the larger of the location and the spread R-hat of (chains, draws, values)."""
    halves = _split(chains, 2).astype(np.float64)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    # fmax: the folded draws of a value with two levels are all equal and their R-hat is undefined.
    return np.fmax(_rhat(_rank_normalize(halves)), _rhat(_rank_normalize(folded)))


def _rhat(parts: np.ndarray) -> np.ndarray:
    """Compute R-hat of (parts, draws, values)."""
    # Relative to the first draw, so that a constant part has a variance of exactly 0.
    moved = parts - parts[:, :1]
    within = moved.var(axis=1, ddof=1).mean(axis=0)
    between = (parts[:, 0] + moved.mean(axis=1)).var(axis=0, ddof=1)
    num_draws = parts.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(((num_draws - 1) / num_draws * within + between) / within)
