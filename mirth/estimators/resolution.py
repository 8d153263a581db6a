"""Rounded targets: whether they are, to which step, and the likelihood that knows it."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mirth.data import Standardizer
from mirth.model import Independent, NumericLikelihood, Rounded
from mirth.model.likelihoods.rounded import ROUNDABLE, Roundable

_LEAST_STEP = 0.1  # of a standard deviation; below, noise narrower than it is rarely predictable
_SAME = 1e-4  # of a standard deviation: closer values are equal, but for floating point
_ROWS_PER_VALUE = 3
_OCCUPIED = 0.5  # share of the steps between the ends that must occur


class Grid(NamedTuple):
    """Values that are recorded: ``origin`` + k ``step``."""

    step: float
    origin: float


def detect_grid(y: np.ndarray) -> Grid | None:
    """Find the step that a target is rounded to, if it is and if that matters.

    It matters if the step is at least a tenth of the standard deviation and values repeat: three
    rows for each on average. All values must lie on one grid, to a hundredth of its step, and more
    than half of the grid's values between the smallest and the largest must occur, so that 1, 10,
    100 are none.

    Parameters
    ----------
    y : array of shape (rows,)
        Target.

    Returns
    -------
    Grid or None
        Step and a value, in the units of ``y``.

    Examples
    --------
    >>> detect_grid(np.tile([1.0, 2.0, 3.0, 5.0], 3))
    Grid(step=1.0, origin=1.0)
    >>> detect_grid(np.linspace(0, 1, 100)) is None
    True
    """
    values = np.unique(np.asarray(y, np.float64))
    spread = float(np.std(y))
    # Values that differ by floating point only: a run of them counts once, by its first.
    values = values[np.r_[True, np.diff(values) > _SAME * spread]]
    if len(values) < 2 or len(values) * _ROWS_PER_VALUE > len(y):
        return None
    gaps, least = np.diff(values), _LEAST_STEP * spread
    step = gaps.min()
    if step < least:
        return None
    for gap in gaps:  # Euclid's algorithm: the largest step that divides all gaps
        a, b = step, abs(gap - step * round(gap / step))
        while b > _SAME * 10 * spread:
            a, b = b, abs(a - b * round(a / b))
        step = a
        if step < least:
            return None
    places = np.round((values - values[0]) / step)
    step = (values[-1] - values[0]) / places[-1]  # the longest way has the smallest error
    errors = np.abs(values - values[0] - step * places)
    if errors.max() > 0.01 * step or len(values) <= _OCCUPIED * (places[-1] + 1):
        return None
    return Grid(float(f"{step:.10g}"), float(values[0]))


def grid_of_step(y: np.ndarray, step: float) -> Grid:
    """Place a grid of a given step where most targets lie.

    Parameters
    ----------
    y : array of shape (rows,)
        Target.
    step : float
        Step, in the same units.

    Examples
    --------
    >>> grid_of_step(np.array([0.5, 1.5, 3.5]), 1.0)
    Grid(step=1.0, origin=0.5)
    """
    turns = (np.asarray(y, np.float64) - y[0]) / step
    angle = np.angle(np.mean(np.exp(2j * np.pi * turns))) / (2 * np.pi)
    return Grid(step, float(y[0] + step * angle))


def find_grids(resolution: Any, likelihood: Any, y: np.ndarray) -> list[Grid | None]:
    """Resolve the parameter ``resolution`` of the regressor.

    Parameters
    ----------
    resolution : "auto", float, None or sequence of these
        The parameter; a sequence has one for each target.
    likelihood : NumericLikelihood or SeveralTargets
        Likelihood of the target, or of all of them.
    y : array of shape (rows,) or (rows, targets)
        Targets.

    Returns
    -------
    list of Grid or None
        One for each target.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If a number is not positive, there is not one for each target, or the likelihood cannot be
        rounded.

    Examples
    --------
    >>> from mirth.model import Normal, Poisson
    >>> find_grids(0.5, Normal(), np.array([0.5, 1.0]))
    [Grid(step=0.5, origin=0.5)]
    >>> find_grids("auto", Poisson(), np.tile([0.0, 1.0], 9))
    [None]
    """
    columns = list(y.reshape(len(y), -1).T)
    if isinstance(resolution, Sequence | np.ndarray) and not isinstance(resolution, str):
        if len(resolution) != len(columns):
            raise ValueError(
                f"resolution={resolution!r} has {len(resolution)} entries, but y has "
                f"{len(columns)} target(s); give one for each, or one for all."
            )
        wanted = list(resolution)
    else:
        wanted = [resolution] * len(columns)
    kinds = likelihood.likelihoods if isinstance(likelihood, Independent) else None
    found: list[Grid | None] = []
    for k, (column, one) in enumerate(zip(columns, wanted, strict=True)):
        kind = kinds[k] if kinds else likelihood
        found.append(_find_grid(one, kind, column))
    return found


def check_resolution(resolution: Any) -> None:
    """Check what is given for one target.

    Parameters
    ----------
    resolution : any
        What should be "auto", a number or None.

    Raises
    ------
    TypeError, ValueError
        If it is something else, or not positive.

    Examples
    --------
    >>> check_resolution(0.0)
    Traceback (most recent call last):
    ...
    ValueError: resolution=0.0 must be a positive number in the units of y; None switches the ...
    """
    if resolution is None or (isinstance(resolution, str) and resolution == "auto"):
        return
    if not isinstance(resolution, numbers.Real) or isinstance(resolution, bool | np.bool_):
        raise TypeError(
            f'resolution={resolution!r} must be "auto", a number in the units of y, or None.'
        )
    if not 0 < float(resolution) < np.inf:
        raise ValueError(
            f"resolution={resolution!r} must be a positive number in the units of y; None switches "
            "the rounding off."
        )


def _find_grid(resolution: Any, likelihood: Any, y: np.ndarray) -> Grid | None:
    """Resolve the parameter for one target."""
    check_resolution(resolution)
    is_roundable = isinstance(likelihood, Roundable)
    if resolution is None:
        return None
    if isinstance(resolution, str):
        return detect_grid(y) if is_roundable else None
    if not is_roundable:
        raise ValueError(
            f"resolution={resolution!r} is for a likelihood of rounded real numbers, {ROUNDABLE}, "
            f"but the target has {likelihood!r}; leave resolution out, or choose one of those."
        )
    return grid_of_step(y, float(resolution))


def rounded(
    likelihood: Any, grids: Sequence[Grid | None], scaler: Standardizer | None = None
) -> Any:
    """Give the likelihood that takes the rounding of scaled targets into account.

    Parameters
    ----------
    likelihood : NumericLikelihood or SeveralTargets
        Likelihood of the latent values.
    grids : sequence of Grid or None
        One for each target, in its own units.
    scaler : Standardizer, optional
        Scaling of the targets; None for targets in their own units.

    Returns
    -------
    NumericLikelihood or SeveralTargets
        ``likelihood`` itself if nothing is rounded.

    Examples
    --------
    >>> from mirth.model import Normal
    >>> rounded(Normal(), [Grid(1.0, 3.0)], Standardizer(np.array([3.0]), np.array([2.0])))
    Rounded(likelihood=Normal(link='softplus', min_scale=0.001), resolution=0.5, origin=0.0, ...
    """
    if not any(grids):
        return likelihood
    scaler = scaler or Standardizer(np.zeros(len(grids)), np.ones(len(grids)))
    units = zip(grids, scaler.mean.tolist(), scaler.scale.tolist(), strict=True)
    kinds = likelihood.likelihoods if isinstance(likelihood, Independent) else [likelihood]
    each = [_one(kind, *unit) for kind, unit in zip(kinds, units, strict=True)]
    return Independent(tuple(each)) if isinstance(likelihood, Independent) else each[0]


def on_grids(scaler: Standardizer, grids: Sequence[Grid | None]) -> Standardizer:
    """Clip rounded targets to values of their grid.

    Parameters
    ----------
    scaler : Standardizer
        Scaling of the targets, which may clip wild ones.
    grids : sequence of Grid or None
        One for each target.

    Examples
    --------
    >>> scaler = Standardizer(*(np.array([v]) for v in (0.0, 1.0, -9.3, 9.3)))
    >>> on_grids(scaler, [Grid(0.5, 0.0)]).high
    array([9.])
    """
    if scaler.low is None or scaler.high is None or not any(grids):
        return scaler
    low, high = scaler.low.copy(), scaler.high.copy()
    for k, grid in enumerate(grids):
        if grid:  # bounds may be infinite, and stay so
            low[k] = grid.origin + grid.step * np.ceil((low[k] - grid.origin) / grid.step)
            high[k] = grid.origin + grid.step * np.floor((high[k] - grid.origin) / grid.step)
    return dataclasses.replace(scaler, low=low, high=high)


def _one(
    likelihood: NumericLikelihood, grid: Grid | None, shift: float, scale: float
) -> NumericLikelihood:
    if grid is None:
        return likelihood
    return Rounded(likelihood, resolution=grid.step / scale, origin=(grid.origin - shift) / scale)


def note(resolution: Any) -> tuple[str, ...]:
    """Say in a sentence what a target was rounded to; nothing if it was not.

    Parameters
    ----------
    resolution : float, None or list of these
        What the fit has found.

    Examples
    --------
    >>> note(0.5), note(None)
    (('The target is rounded to steps of 0.5.',), ())
    """
    if not isinstance(resolution, list):
        return () if resolution is None else (f"The target is rounded to steps of {resolution:g}.",)
    steps = [f"target {k} to {step:g}" for k, step in enumerate(resolution) if step is not None]
    return (f"Targets are rounded in steps: {', '.join(steps)}.",) if steps else ()
