"""What a regressor does with its target: a likelihood that fits it, the scaling that it allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mirth.core.validation import find_name
from mirth.data import Standardizer
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
    """Refuse a target that is constant.

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
    columns = y.reshape(len(y), -1)
    constant = np.flatnonzero(np.ptp(columns, axis=0) == 0)
    if len(constant):
        name = "y" if y.ndim == 1 else f"y[:, {constant[0]}]"
        raise ValueError(
            f"{name} is constant ({columns[0, constant[0]]:g} in all {len(y)} rows); there is "
            "nothing to learn. Check that the right column is the target."
        )


def fit_scaling(scalings: Sequence[str], y: np.ndarray, weights: Any) -> Standardizer:
    """Scale each target as its likelihood allows.

    Parameters
    ----------
    scalings : sequence of {"location-scale", "scale", "none"}
        By target: standardise, divide by the mean, or leave.
    y : array of shape (rows,) or (rows, targets)
        Targets.
    weights : array of shape (rows,), optional
        Weights of the rows.

    Examples
    --------
    >>> scaler = fit_scaling(["scale"], np.array([1.0, 3.0]), None)
    >>> scaler.mean, scaler.scale
    (array([0.]), array([2.]))
    """
    fitted = Standardizer.fit(y, weights)
    choices = {
        "location-scale": (fitted.mean, fitted.scale),
        "scale": (np.zeros_like(fitted.mean), fitted.mean),
        "none": (np.zeros_like(fitted.mean), np.ones_like(fitted.scale)),
    }
    shift, scale = zip(
        *((choices[how][0][k], choices[how][1][k]) for k, how in enumerate(scalings)), strict=True
    )
    return Standardizer(np.asarray(shift), np.asarray(scale))
