"""The network that an estimator takes if it is told of none."""

from __future__ import annotations

_MANY_ROWS = 1200


def choose_layers(num_rows: int) -> tuple[int, ...]:
    """Choose the widths of the hidden layers for a table.

    Three layers of 16 units, and a fourth one from 1200 rows on: narrow and deep was better than
    wide at the budgets of MILE (``docs/tuning.md`` has the measured table).

    Parameters
    ----------
    num_rows : int
        Rows to fit.

    Returns
    -------
    tuple of int
        Width of each hidden layer.

    Examples
    --------
    >>> choose_layers(700), choose_layers(5000)
    ((16, 16, 16), (16, 16, 16, 16))
    """
    return (16,) * (3 if num_rows < _MANY_ROWS else 4)
