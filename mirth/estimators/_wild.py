"""What an estimator says of wild values: in which cells they are, and what is done with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from mirth.core.outcomes import warn_user
from mirth.data import Standardizer
from mirth.data.wild import find_wild_values

REACH, TARGET_REACH = 3.0, 2.0
"""Where inputs and targets are clipped, as ``Standardizer.fit`` takes it: a target that is far out
costs more than an input, because a Normal likelihood counts it by the square."""
NAMED = 5
"""Cells that a warning names at most."""
FITTED = "Mean and standard deviation are those of the column's other values."
NEW_ROWS = (
    "The fit had nothing so far out; what is said of these rows is said for the clipped values."
)


def column_names(estimator: Any, num_columns: int) -> list[str]:
    """Name the columns of X, by the names of a frame if there was one.

    Parameters
    ----------
    estimator : BNNRegressor or BNNClassifier
        It has seen the columns.
    num_columns : int
        Their number.

    Returns
    -------
    list of str
        Such as ``"column 'age' of X"`` or ``"column 3 of X"``.

    Examples
    --------
    >>> column_names(object(), 2)
    ['column 0 of X', 'column 1 of X']
    """
    names = getattr(estimator, "feature_names_in_", np.arange(num_columns)).tolist()
    return [f"column {name!r} of X" for name in names]


def target_names(y: np.ndarray) -> list[str]:
    """Name the columns of y.

    Parameters
    ----------
    y : array of shape (rows,) or (rows, targets)
        Targets.

    Examples
    --------
    >>> target_names(np.zeros(3)), target_names(np.zeros((3, 2)))
    (['y'], ['column 0 of y', 'column 1 of y'])
    """
    return ["y"] if y.ndim == 1 else [f"column {j} of y" for j in range(y.shape[1])]


def tame(y: np.ndarray) -> np.ndarray:
    """Give the targets of the rows that have no wild one.

    Parameters
    ----------
    y : array of shape (rows,) or (rows, targets)
        Targets.

    Examples
    --------
    >>> tame(np.append(np.arange(30), 10**6)).max()
    np.int64(29)
    """
    wild = find_wild_values(y.reshape(len(y), -1).astype(np.float64)).is_wild
    return y[~wild.any(axis=1)]


def note_wild_values(
    values: np.ndarray,
    scaler: Standardizer,
    names: list[str],
    consequence: str,
    rows: np.ndarray | None = None,
) -> None:
    """Warn of values that the scaling clips; say nothing where there are none.

    Parameters
    ----------
    values : array of shape (rows,) or (rows, columns)
        Values in their own units.
    scaler : Standardizer
        Their scaling.
    names : list of str
        What the columns are called.
    consequence : str
        What it means, as a sentence or two.
    rows : array of shape (rows,), optional
        Numbers of the rows where the user has them; None means 0, 1, and so on.
    """
    beyond = scaler.is_beyond(values).reshape(len(values), -1)
    if scaler.low is None or scaler.high is None or not beyond.any():
        return
    columns = values.reshape(beyond.shape)
    cells = np.argwhere(beyond)
    shown = []
    for row, column in cells[:NAMED].tolist():
        value = columns[row, column]
        bound = (scaler.low if value < scaler.low[column] else scaler.high)[column]
        number = row if rows is None else int(rows[row])
        shown.append(f"{value:.6g} in row {number} of {names[column]} (clipped to {bound:.6g})")
    more = f", and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
    one = len(cells) == 1
    warn_user(
        f"{'A wild value is' if one else f'{len(cells)} wild values are'} clipped: "
        f"{', '.join(shown)}{more}. {consequence} Correct {'it' if one else 'them'}, leave the "
        f"row{'' if one else 's'} out, or fit with robust_scaling=False, which clips nothing and "
        "scales by all values."
    )
