"""What a regressor does with its target: a likelihood that fits it, the scaling that it allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mirth.core.validation import find_name
from mirth.data import Standardizer
from mirth.estimators._wild import FITTED, TARGET_REACH, note_wild_values, target_names
from mirth.estimators.resolution import Grid, on_grids
from mirth.model import Independent, MultivariateNormal, NumericLikelihood, SeveralTargets
from mirth.model.likelihoods import REGRESSION


def resolve_likelihood(likelihood: Any, target_shape: tuple[int, ...]) -> Any:
    """Turn a name into a likelihood of as many targets as there are.

    Parameters
    ----------
    likelihood : str or likelihood object
        The parameter of the estimator.
    target_shape : tuple of int
        Empty for one target, else their number.

    Returns
    -------
    NumericLikelihood or SeveralTargets
        That of a single target is taken for each of several.

    Raises
    ------
    ValueError
        If the name is unknown, or needs several targets.
    TypeError
        If the object is no likelihood of numbers.

    Examples
    --------
    >>> resolve_likelihood("poisson", (2,)).target_shape
    (2,)
    """
    if isinstance(likelihood, str):
        likelihood = find_name("likelihood", likelihood, REGRESSION)
    if likelihood == "multivariate_normal":
        if not target_shape:
            raise ValueError(
                "likelihood='multivariate_normal' needs y of shape (rows, targets) with at least "
                "two targets; for one there is 'normal'."
            )
        likelihood = MultivariateNormal(num_targets=target_shape[0])
    elif isinstance(likelihood, str):
        likelihood = REGRESSION[likelihood]()
    if not isinstance(likelihood, NumericLikelihood | SeveralTargets):
        raise TypeError(
            f"likelihood={likelihood!r} must be a name ({', '.join(REGRESSION)}) or an object such "
            "as mirth.Normal()."
        )
    if target_shape and isinstance(likelihood, NumericLikelihood):
        return Independent((likelihood,) * target_shape[0])
    return likelihood


def check_varies(y: np.ndarray) -> None:
    """Refuse a target that is text, or constant.

    Parameters
    ----------
    y : array of shape (rows,) or (rows, targets)
        Targets.

    Raises
    ------
    ValueError
        If there is nothing to learn.

    Examples
    --------
    >>> check_varies(np.array([1.0, 2.0]))
    """
    if y.dtype.kind not in "fiub":
        raise ValueError(
            f"y holds text ({y.flat[0]!r}, ...); a regressor needs numbers. For labels use "
            "BNNClassifier."
        )
    columns = y.reshape(len(y), -1)
    constant = np.flatnonzero(np.ptp(columns, axis=0) == 0)
    if len(constant):
        name = "y" if y.ndim == 1 else f"y[:, {constant[0]}]"
        raise ValueError(
            f"{name} is constant ({columns[0, constant[0]]:g} in all {len(y)} rows); there is "
            "nothing to learn. Check that the right column is the target."
        )


def fit_scaling(
    likelihood: Any,
    y: np.ndarray,
    weights: Any,
    *,
    normalize: bool = True,
    robust: bool = True,
    rows: np.ndarray | None = None,
    grids: Sequence[Grid | None] = (),
) -> Standardizer:
    """Scale each target as its likelihood allows, and warn of wild ones.

    Real numbers are standardised, positive ones divided by their mean, counts and rates left.

    Parameters
    ----------
    likelihood : NumericLikelihood or SeveralTargets
        It says which changes of units it allows.
    y : array of shape (rows,) or (rows, targets)
        Targets.
    weights : array of shape (rows,), optional
        Weights of the rows.
    normalize : bool, default=True
        Whether to change units at all.
    robust : bool, default=True
        Leave wild targets out of the statistics, and clip them. Rates have an upper end, so none of
        them is wild.
    rows : array of shape (rows,), optional
        Numbers of the rows, for the warning.
    grids : sequence of Grid or None, optional
        What each target is rounded to: a wild one is clipped at a value of it.

    Examples
    --------
    >>> scaler = fit_scaling(resolve_likelihood("gamma", ()), np.array([1.0, 3.0]), None)
    >>> scaler.mean, scaler.scale
    (array([0.]), array([2.]))
    """
    names = target_names(y)
    fitted = Standardizer.fit(y, weights, reach=TARGET_REACH if robust else None, names=names)
    how = np.asarray(likelihood.scalings if normalize else ["none"] * len(names))
    shift = np.where(how == "location-scale", fitted.mean, 0.0)
    scale = np.select(
        [how == "location-scale", how == "scale"], [fitted.scale, fitted.mean], default=1.0
    )
    if fitted.low is None or fitted.high is None:
        return Standardizer(shift, scale)
    columns = y.reshape(len(y), -1)
    parts = getattr(likelihood, "likelihoods", (likelihood,) * len(names))
    bounds = [
        _bounds(part, column, low, high)
        for part, column, low, high in zip(parts, columns.T, fitted.low, fitted.high, strict=True)
    ]
    low, high = np.transpose(bounds)
    if ((columns >= low) & (columns <= high)).all():
        return Standardizer(shift, scale)
    scaler = on_grids(Standardizer(shift, scale, low, high), grids)
    note_wild_values(y, scaler, names, FITTED, rows)
    return scaler


def _bounds(part: Any, y: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Where the values of one target are clipped; infinities on the sides that have none wild."""
    smallest, largest = getattr(part, "support", (-np.inf, np.inf))
    if np.isfinite(largest):  # a rate
        return -np.inf, np.inf
    if getattr(part, "has_counts", False):
        low, high = np.ceil(low), np.floor(high)
    elif smallest == 0:  # a positive number may be far out in its logarithm, too
        # One that is rounded may be 0: that is a value of its grid, and has no logarithm.
        logs = None if (y == 0).any() else Standardizer.fit(np.log(y), reach=TARGET_REACH).low
        low = 0.0 if logs is None else float(np.exp(logs[0]))
    return (low if y.min() < low else -np.inf), (high if y.max() > high else np.inf)
