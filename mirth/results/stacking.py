"""Predicting by a posterior with its weights, and finding weights of its chains by stacking."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from mirth.data import Dataset
from mirth.evaluation import leave_one_out, stacking_weights
from mirth.evaluation.loo import MIN_DRAWS, RELIABLE_K
from mirth.evaluation.stacking import PRIOR_ROWS
from mirth.inference import Posterior
from mirth.prediction import CategoricalPredictive, Predictive, make_predictive
from mirth.results._checks import check_posterior

_MAX_ROWS = 2000  # weights of ten chains then have errors of a hundredth or two
_HEAD = "Weights of the chains by stacking"


def predict_dist(
    posterior: Posterior, x: Any, **options: Any
) -> Predictive | CategoricalPredictive:
    """Give the predictive distribution of a posterior, with the weights of its chains.

    Parameters
    ----------
    posterior : Posterior
        What was sampled.
    x : array of shape (rows, features) or (rows, ...), or pytree of arrays
        New inputs, scaled as in the fit.
    **options : any
        Further arguments of :class:`~mirth.prediction.Predictive`, or of
        :class:`~mirth.prediction.CategoricalPredictive` for classes.

    Returns
    -------
    Predictive or CategoricalPredictive
        The distribution; nothing is computed yet.

    Raises
    ------
    TypeError
        If ``posterior`` is none.
    ValueError
        If ``x`` does not fit the network, or an option is wrong.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> posterior = mirth.infer(model, mirth.Dataset(x, x[:, 0]), "deep_ensemble", num_chains=2)
    >>> predict_dist(posterior, x).mean().shape
    (40,)
    """
    check_posterior(posterior)
    options = {"chain_weights": posterior.chain_weights} | options
    return make_predictive(posterior.model, posterior.draws, x, **options)


def stack(
    posterior: Posterior,
    dataset: Dataset,
    *,
    held_out: bool = False,
    prior_rows: float = PRIOR_ROWS,
) -> Posterior:
    """Weigh the chains so that their mixture predicts rows best that they have not seen.

    Of rows of the fit the densities are leave-one-out estimates for each chain
    (:func:`mirth.evaluation.chainwise_leave_one_out`). A row counts if its estimate can be trusted
    under every chain, Pareto k up to 0.7; where no row does, the weights stay equal. The weights
    are those of :func:`mirth.evaluation.stacking_weights`. ``docs/results.md`` has measurements.

    Parameters
    ----------
    posterior : Posterior
        What was sampled; weights that it has are replaced.
    dataset : Dataset
        Rows, scaled as in the fit: those that the chains were fitted to, with their weights, or
        others. Of more than 2000 as many are used, equally spaced.
    held_out : bool, default=False
        Whether the rows are others, so that the chains' densities count as they are. A deep
        ensemble, or chains of fewer than 25 draws, need such rows.
    prior_rows : float, default=2.0
        Rows of each chain that the prior on equal weights counts as.

    Returns
    -------
    Posterior
        The same draws with ``chain_weights``, None if they are equal, and a note that says from
        which rows they came.

    Raises
    ------
    TypeError
        If ``posterior`` or ``dataset`` is something else.
    ValueError
        If the chains have fewer than 25 draws and the rows are those of the fit, the rows do not
        fit the model, or ``prior_rows`` is not positive.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, size=(80, 1))
    >>> y = x[:, 0] + 0.1 * rng.normal(size=80)
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> train, other = mirth.Dataset(x[:60], y[:60]), mirth.Dataset(x[60:], y[60:])
    >>> posterior = mirth.infer(model, train, "deep_ensemble", num_chains=3)
    >>> stacked = stack(posterior, other, held_out=True)
    >>> stacked.chain_weights.shape, round(float(stacked.chain_weights.sum()), 6)
    ((3,), 1.0)
    """
    check_posterior(posterior)
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; pass the rows as mirth.Dataset(x, y), scaled "
            "as in the fit."
        )
    if not held_out and posterior.num_draws < MIN_DRAWS:
        raise ValueError(
            f"posterior has {posterior.num_draws} draw(s) per chain and leave-one-out densities "
            f"need {MIN_DRAWS}; pass rows that were not fitted, with held_out=True."
        )
    if len(dataset) > _MAX_ROWS:
        dataset = dataset.take(np.arange(0, len(dataset), -(-len(dataset) // _MAX_ROWS)))
    density, pareto_k = _densities(posterior, dataset, held_out)
    is_used = (pareto_k <= RELIABLE_K).all(axis=0)
    counts = None if dataset.weights is None else np.asarray(dataset.weights)[is_used]
    kind = f"{len(dataset)} held-out" if held_out else f"{is_used.sum()} of {len(dataset)}"
    if not is_used.any():
        found, said = None, "equal, because no row has a leave-one-out density to trust"
    else:
        found = stacking_weights(density[:, is_used], prior_rows=prior_rows, weights=counts)
        said = f"{found.min():.2g} to {found.max():.2g}, where equal ones are {1 / len(found):.2g}"
    notes = (*without_note(posterior.notes), f"{_HEAD} on {kind} rows: {said}.")
    if posterior.num_chains == 1:
        found, notes = None, without_note(posterior.notes)
    return dataclasses.replace(posterior, chain_weights=found, notes=notes)


def without_note(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out what :func:`stack` has said before.

    Parameters
    ----------
    notes : tuple of str
        Notes of a posterior.

    Examples
    --------
    >>> without_note(("All is well.", "Weights of the chains by stacking on 5 of 9 rows: ..."))
    ('All is well.',)
    """
    return tuple(note for note in notes if not note.startswith(_HEAD))


def _densities(
    posterior: Posterior, dataset: Dataset, held_out: bool
) -> tuple[Float[np.ndarray, "chains data"], Float[np.ndarray, "chains data"]]:
    """Log density of each row under each chain, and how far it can be trusted."""
    density = np.empty((posterior.num_chains, len(dataset)))
    pareto_k = np.full(density.shape, -np.inf)
    for k in range(posterior.num_chains):  # one after the other, so that one is in memory
        draws = posterior.take_chains([k]).draws
        by_draw = make_predictive(posterior.model, draws, dataset.x).log_prob_per_draw(dataset.y)[0]
        if held_out:
            density[k] = logsumexp(by_draw, axis=0) - np.log(len(by_draw))
        else:
            scores = leave_one_out(by_draw, dataset.weights)
            density[k], pareto_k[k] = scores.pointwise, scores.pareto_k
    return density, pareto_k
