"""Checks of what a predictive distribution is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from mirth.core.validation import check_real
from mirth.model import NumericLikelihood, SeveralTargets

_ALLOWED = {"scale": "a scale only", "none": "neither shift nor scale"}


def check_units(
    likelihood: NumericLikelihood | SeveralTargets, shift: Any, scale: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Check shift and scale of each target, and that the likelihood allows them."""
    for name, values in (("shift", shift), ("scale", scale)):
        if np.shape(values) not in ((), likelihood.target_shape):
            raise ValueError(
                f"{name} has shape {np.shape(values)}, but the likelihood has targets of shape "
                f"{likelihood.target_shape}; pass one number, or one for each target."
            )
    units = [
        np.broadcast_to(np.asarray(v, np.float64), likelihood.target_shape) for v in (shift, scale)
    ]
    for allowed, one, unit in zip(
        likelihood.scalings, *(values.ravel().tolist() for values in units), strict=True
    ):
        check_real("shift", one)
        check_real("scale", unit, low=0.0, low_open=True)
        if (one != 0 and allowed != "location-scale") or (unit != 1 and allowed == "none"):
            raise ValueError(
                f"shift={one:g} and scale={unit:g} would change the family of "
                f"{likelihood!r}, which allows {_ALLOWED[allowed]}."
            )
    return units[0], units[1]


def check_target(y: Any, num_rows: int, target_shape: tuple[int, ...]) -> np.ndarray:
    """Check the targets of all rows: shape (rows, *targets), float64, no NaN."""
    values, expected = np.asarray(y, np.float64), (num_rows, *target_shape)
    if values.shape != expected:
        raise ValueError(
            f"y has shape {values.shape}, but x has {num_rows} rows; pass one number per row"
            f"{' and target' if target_shape else ''}, shape {expected}."
        )
    return _without_nan(values)


def check_values(y: Any, num_rows: int, target_shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """Check one value for all rows, one or several for each; tell whether it is several.

    The array that comes back has the shape (rows, values, *targets).
    """
    values, one_per_row = np.asarray(y, np.float64), (num_rows, *target_shape)
    if values.ndim == 0:
        values = np.broadcast_to(values, one_per_row)
    has_values = values.ndim == len(one_per_row) + 1
    inner = values.shape[:1] + values.shape[2:] if has_values else values.shape
    if inner != one_per_row:
        several = ", ".join(map(str, [num_rows, "values", *target_shape]))
        raise ValueError(
            f"y has shape {np.shape(y)}, but x has {num_rows} rows; pass one number, "
            f"{one_per_row} or ({several})."
        )
    return _without_nan(values if has_values else values[:, None]), has_values


def _without_nan(y: np.ndarray) -> np.ndarray:
    if np.isnan(y).any():
        raise ValueError("y has NaN; drop these rows, or fill them, before scoring.")
    return y


def check_levels(argument: str, levels: Any) -> np.ndarray:
    """Check one level of probability, or a sequence of levels.

    Everything that takes levels asks here, so that it says the same of a wrong one.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    levels : float or sequence of float
        Levels in (0, 1); a sequence may be empty.

    Returns
    -------
    array of shape () or (levels,), float64

    Raises
    ------
    TypeError
        If something is no number.
    ValueError
        If a level is outside (0, 1) or NaN, or there are more axes than one.

    Examples
    --------
    >>> check_levels("quantiles", [0.1, 0.9]).tolist()
    [0.1, 0.9]
    >>> check_levels("confidence_level", 90)
    Traceback (most recent call last):
    ...
    ValueError: confidence_level=90 must be a number, or a sequence of numbers, in (0, 1).
    """
    text = f"{argument}={levels!r} must be a number, or a sequence of numbers, in (0, 1)."
    try:
        values = np.asarray(levels)
    except ValueError:  # rows of different lengths
        raise ValueError(text) from None
    if values.dtype.kind not in "fiu":  # text, None, True
        raise TypeError(text)
    values = values.astype(np.float64)
    if values.ndim > 1 or not np.all((values > 0) & (values < 1)):
        raise ValueError(text)
    return values
