"""Values of the network's units in those of the target, on its lattice where it has one."""

from __future__ import annotations

from typing import Any

import numpy as np

_DIGITS = 12
_ULPS = 8


def original_lattice(
    lattice: tuple[float, float] | None, shift: float, scale: float
) -> tuple[float, float] | None:
    """Give one value and the step of a lattice in original units, as the data have them.

    Parameters
    ----------
    lattice : tuple of float, optional
        In units of the network; None if there is none.
    shift, scale : float
        Units of the target.

    Examples
    --------
    >>> original_lattice((-1.1 / 0.7, 1 / 0.7), 2.1, 0.7)
    (1.0, 1.0)
    """
    if lattice is None:
        return None
    step = float(_decimal(np.array(scale * lattice[1]), 0.0))
    origin = np.array(shift + scale * lattice[0])
    return float(_decimal(origin, abs(shift) + step)), step


def original_values(
    values: np.ndarray,
    likelihood: Any,
    shift: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """Bring values into original units; those of a lattice are the very numbers of the data.

    A number such as 3 would come back as 2.9999998 from float32, so that an interval up to 3 would
    not hold it.

    Parameters
    ----------
    values : array of shape (..., *targets)
        In units of the network.
    likelihood : NumericLikelihood or SeveralTargets
        Likelihood of the targets, which knows their lattices in these units.
    shift, scale : array of shape targets
        Units of the targets.

    Returns
    -------
    array of the shape of ``values``, float64

    Examples
    --------
    >>> from mirth.model import Normal, Rounded
    >>> ratings = Rounded(Normal(), resolution=1 / 0.7, origin=-1.1 / 0.7)
    >>> original_values(np.array([0.9 / 0.7 + 1e-7]), ratings, np.array(2.1), np.array(0.7))
    array([3.])
    """
    result: np.ndarray = shift + scale * values
    for target, lattice in zip(np.ndindex(shift.shape), likelihood.lattices, strict=True):
        found = original_lattice(lattice, float(shift[target]), float(scale[target]))
        if found:
            origin, step = found
            own: Any = (..., *target)
            exact = origin + step * np.round((result[own] - origin) / step)
            result[own] = _decimal(exact, abs(origin) + step)
    return result


def _decimal(values: np.ndarray, size: float) -> np.ndarray:
    """Replace numbers by decimal ones that are equal but for rounding."""
    largest = np.maximum(np.abs(values), size)
    digits = _DIGITS - np.ceil(np.log10(largest)).astype(int)
    unit = 10.0 ** digits.astype(float)
    near = np.round(values * unit) / unit
    is_same = np.abs(near - values) <= _ULPS * np.finfo(float).eps * largest
    return np.where(is_same, near, values)
