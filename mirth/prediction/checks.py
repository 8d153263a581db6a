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


def check_levels(argument: str, levels: Any) -> np.ndarray:
    """Check one level or a sequence of levels."""
    values = np.asarray(levels, np.float64)
    if values.ndim > 1 or not np.all((values > 0) & (values < 1)):
        raise ValueError(
            f"{argument}={levels!r} must be a number, or a sequence of numbers, in (0, 1)."
        )
    return values
