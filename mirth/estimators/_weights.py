"""How an estimator weighs its chains, and the members of the ensemble that they started from."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

from mirth.core.outcomes import MirthWarning
from mirth.core.types import Batch
from mirth.core.validation import check_name
from mirth.data import Dataset
from mirth.estimators._session import Session
from mirth.evaluation.loo import MIN_DRAWS
from mirth.inference import Posterior
from mirth.results.stacking import stack

WEIGHTS = ("equal", "stacking")


class Weighted(NamedTuple):
    """A posterior with weights, and what its ensemble has.

    Parameters
    ----------
    posterior : Posterior
        The draws, with weights and a note of how they came about.
    start : tuple
        Weights of the members of the ensemble, or None, and its notes; None for those of the
        chains.
    """

    posterior: Posterior
    start: tuple[Any, Any]


def check_weights(weights: Any, method: Any) -> None:
    """Check the choice before anything is fitted.

    Raises
    ------
    ValueError, TypeError
        If it is unknown, or the method has too few draws for it.
    """
    check_name("weights", weights, WEIGHTS)
    num_draws = getattr(method, "n_samples", None)
    if weights == "stacking" and num_draws is not None and num_draws < MIN_DRAWS:
        raise ValueError(
            f"weights='stacking' needs {MIN_DRAWS} draws per chain for leave-one-out densities, "
            f"and method has n_samples={num_draws}; give it more, or take weights='equal'."
        )


def weigh(posterior: Posterior, session: Session, weights: str) -> Weighted:
    """Weigh chains by the rows that they learnt from, an ensemble by those that were held back."""
    if weights == "equal":
        return Weighted(posterior, (None, None))
    rows = session.rows()
    held_back = _dataset(rows.validation)
    start = stack(posterior.start_as_posterior(), held_back, held_out=True)
    if posterior.tuning is None:
        stacked = stack(posterior, held_back, held_out=True)
    elif posterior.num_draws < MIN_DRAWS:  # where a limit of the time has cut them
        warnings.warn(
            f"weights='stacking' needs {MIN_DRAWS} draws per chain and there are "
            f"{posterior.num_draws}, so the chains count alike.",
            MirthWarning,
            stacklevel=4,
        )
        stacked = posterior
    else:
        stacked = stack(posterior, _dataset(rows.train))
    return Weighted(stacked, (start.chain_weights, start.notes))


def ensemble_of(posterior: Posterior, start: tuple[Any, Any]) -> Posterior:
    """Give the ensemble that chains started from, with its own weights."""
    weights, notes = start
    ensemble = posterior.start_as_posterior()
    if notes is None:
        return ensemble
    return dataclasses.replace(ensemble, chain_weights=weights, notes=notes)


def _dataset(batch: Batch) -> Dataset:
    y: Any = batch.y  # of NumPy, on the host
    weights: Any = batch.weights
    return Dataset(batch.x, y, weights)
