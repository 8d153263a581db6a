"""Checks of what the functions of this part are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from mirth.core.trees import full_precision
from mirth.core.types import Params
from mirth.inference import Posterior
from mirth.prediction.blocks import trace_network
from mirth.prediction.inputs import check_inputs


def check_posterior(posterior: Any) -> Posterior:
    """Check that something is a posterior.

    Parameters
    ----------
    posterior : Posterior
        What was passed.

    Returns
    -------
    Posterior
        The same.

    Raises
    ------
    TypeError
        If it is something else; the text says where the posterior is.

    Examples
    --------
    >>> check_posterior({"weight": 1.0})
    Traceback (most recent call last):
    ...
    TypeError: posterior is a dict; pass the Posterior that mirth.infer has returned.
    """
    if isinstance(posterior, Posterior):
        return posterior
    kind = type(posterior).__name__
    if hasattr(posterior, "predict_dist"):
        raise TypeError(
            f"posterior is a {kind}; call the estimator's method of this name, which knows its "
            "scaling, or pass its posterior_, which is in scaled units."
        )
    raise TypeError(f"posterior is a {kind}; pass the Posterior that mirth.infer has returned.")


def check_rows(posterior: Posterior, x: Any) -> Any:
    """Check inputs and that the network of a posterior takes them.

    Parameters
    ----------
    posterior : Posterior
        What was sampled.
    x : array-like of shape (rows, ...), or pytree of arrays
        Inputs, scaled as in the fit.

    Returns
    -------
    array or pytree of arrays
        The same, real numbers in the precision that the network computes in.

    Raises
    ------
    ValueError
        If there are no rows, numbers are not finite, or the network does not take them.
    """
    draw = first_draw(posterior.draws)
    x = check_inputs(x, draw)
    trace_network(posterior.model, draw, x)
    return x


def first_draw(draws: Params) -> Params:
    """Give the first draw of every chain, shape (chains, ...), in full precision."""
    return jax.tree.map(lambda leaf: full_precision(leaf[:, 0]), draws)


def check_kind(predictive: Any, methods: Sequence[str]) -> None:
    """Refuse what is no predictive distribution with these methods."""
    if not all(hasattr(predictive, method) for method in methods):
        raise TypeError(
            f"predictive is a {type(predictive).__name__} without the methods "
            f"{' and '.join(methods)}; pass what mirth.make_predictive(model, draws, x) gives, or "
            "an estimator's predict_dist(X), for numbers or classes as the calibration is."
        )


def check_targets(y: Any, num_rows: int) -> Float[np.ndarray, " data"]:
    """Check the targets of the calibration rows; a forecast may be one row for all."""
    values = np.asarray(y)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"y has the type {values.dtype}; pass numbers.")
    if values.ndim != 1 or not len(values) or num_rows not in (1, len(values)):
        raise ValueError(
            f"y has shape {values.shape}, but predictive has {num_rows} row(s); pass one target "
            f"for each calibration row, shape ({num_rows},)."
        )
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise ValueError(
            f"y has {bad} value(s) that are not finite; leave these rows out of y and predictive."
        )
    return values.astype(np.float64)


def check_labels(labels: Any, num_rows: int, num_classes: int) -> Int[np.ndarray, " data"]:
    """Check the class indices of the calibration rows."""
    values = np.asarray(labels)
    if values.shape != (num_rows,):
        raise ValueError(
            f"y has shape {values.shape}, but predictive has {num_rows} row(s); pass one class "
            f"index for each calibration row, shape ({num_rows},)."
        )
    if values.dtype.kind not in "iu":
        raise TypeError(
            f"y has the type {values.dtype}; pass class indices, integers from 0 to "
            f"{num_classes - 1}."
        )
    if values.min() < 0 or values.max() >= num_classes:
        raise ValueError(
            f"y has classes from {values.min()} to {values.max()}, but the model knows 0 to "
            f"{num_classes - 1}; leave rows of other classes out of y and predictive."
        )
    return values


def check_probabilities(predictive: Any) -> Float[np.ndarray, "data classes"]:
    """Take the probabilities of a predictive distribution, or check an array of them."""
    if hasattr(predictive, "probabilities"):
        return predictive.probabilities()
    values = np.asarray(predictive)
    if values.dtype.kind not in "fiu":
        check_kind(predictive, ("probabilities",))
    # Comparisons with NaN are false.
    fine = values.ndim == 2 and len(values) and np.all(values >= 0)
    if not (fine and np.all(np.abs(values.sum(axis=1) - 1) < 1e-3)):
        raise ValueError(
            f"predictive has shape {values.shape} and no rows of probabilities that sum to 1; pass "
            "those, shape (rows, classes), or a CategoricalPredictive."
        )
    return values
