"""Columns of a table: which are numbers, which categories, and how they become floats."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from mirth.core.validation import nearest_name

if TYPE_CHECKING:  # both take long to import, and most of the library does without them
    import pandas as pd
    from sklearn.compose import ColumnTransformer

ColumnKind = Literal["number", "category"]

TRUSTED_TYPES = ("numpy.dtype",)
"""What ``skops.io.load`` must be told to trust to read a fitted ``make_preprocessor`` back.

scikit-learn's ``SimpleImputer`` keeps the type of the numbers it saw, and skops does not list
``numpy.dtype`` among its own trusted types. It holds no code.
"""

RARE_SHARE = 0.01  # at most 100 columns for one category, whatever the number of its levels
MIN_LEVEL_ROWS = 2  # nothing can be learned about a level seen once

ISO_DATE = r"\d{4}-\d{2}-\d{2}(?:$|[T ])"


def column_kinds(frame: pd.DataFrame) -> dict[str, ColumnKind]:
    """Sort the columns that can be learned from into numbers and categories.

    Numbers are columns of a numeric type; categories are text, pandas categories and booleans.
    Columns without any value are left out, with a warning that names them. Dates (also text like
    ``2024-01-31`` in every row) are refused: whether the year, the weekday or the days since some
    event matter is a choice that nobody can make from the values.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (rows, columns)
        The features.

    Returns
    -------
    dict of str to {"number", "category"}
        Column name to kind, in the order of the columns. Keep it beside a fitted model for
        ``check_columns``.

    Raises
    ------
    TypeError
        If a column name is not text.
    ValueError
        If two columns have the same name, no column holds a value, a column holds dates, or text
        mixed with other things.

    Examples
    --------
    >>> import pandas as pd
    >>> column_kinds(pd.DataFrame({"rooms": [2, 3], "heating": ["gas", None]}))
    {'rooms': 'number', 'heating': 'category'}
    """
    unnamed = [name for name in frame.columns if not isinstance(name, str)]
    if unnamed:
        raise TypeError(f"column names must be text, got {unnamed[0]!r}; use columns.astype(str).")
    doubled = sorted(set(frame.columns[frame.columns.duplicated()]))
    if doubled:
        raise ValueError(f"column names must differ; these appear more than once: {doubled}.")
    empty = [name for name in frame.columns if frame[name].isna().all()]
    if empty:
        warnings.warn(f"columns without any value are left out: {', '.join(empty)}", stacklevel=2)
    kinds = {name: kind_of(frame[name]) for name in frame.columns if name not in empty}
    if not kinds:
        raise ValueError("no column of the table holds a value; there is nothing to learn from.")
    return kinds


def make_preprocessor(frame: pd.DataFrame) -> ColumnTransformer:
    """Build the transformer that turns a table into finite floats, for these columns.

    Missing numbers become the column's median, with an extra 0/1 column for each column that had
    missing values when fitted; scaling is left to the estimator. A category becomes one 0/1 column
    for each level, missing being a level like any other. Levels in fewer than 1 % of the rows of
    ``frame``, or in a single row, share one column, which then also stands for levels not seen in
    fitting; without such a column an unseen level is 0 everywhere.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (rows, columns)
        The training features; ``column_kinds`` says which are used and how. Missing categories
        should be NaN, as ``read_table`` has them.

    Returns
    -------
    sklearn.compose.ColumnTransformer
        Not fitted; its output is a dense float64 array. ``skops.io`` saves it, and loads it with
        ``trusted=TRUSTED_TYPES``.

    Raises
    ------
    TypeError, ValueError
        What ``column_kinds`` raises.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"rooms": [2.0, None, 4.0, 3.0], "heating": ["gas", "oil"] * 2})
    >>> make_preprocessor(frame).fit_transform(frame).tolist()[1]
    [3.0, 1.0, 0.0, 1.0]
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    kinds = column_kinds(frame)
    numbers = SimpleImputer(strategy="median", add_indicator=True)
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=max(MIN_LEVEL_ROWS, math.ceil(RARE_SHARE * len(frame))),
        sparse_output=False,
    )
    parts = [("number", numbers), ("category", categories)]
    columns = {part: [name for name, kind in kinds.items() if kind == part] for part, _ in parts}
    return ColumnTransformer(
        [(part, transformer, columns[part]) for part, transformer in parts if columns[part]],
        sparse_threshold=0,
    )


def check_columns(
    frame: pd.DataFrame, expected: Iterable[str] | Mapping[str, ColumnKind]
) -> pd.DataFrame:
    """Select the columns that a model was fitted to, and say what is wrong with them.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (rows, columns)
        New rows. Columns that are not expected are ignored.
    expected : iterable of str, or mapping of str to {"number", "category"}
        Names of the columns; with the mapping from ``column_kinds`` their kinds are checked too.

    Returns
    -------
    pandas.DataFrame of shape (rows, expected columns)
        The expected columns in their order; with the mapping, columns without any value have the
        type of their kind.

    Raises
    ------
    ValueError
        If columns are missing (all are named, with the nearest names found), or have another kind
        than expected.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"b": [1.0], "a": ["x"], "extra": [0]})
    >>> list(check_columns(frame, {"a": "category", "b": "number"}).columns)
    ['a', 'b']
    >>> check_columns(frame.rename(columns={"a": "A"}), ["a", "b"])
    Traceback (most recent call last):
    ...
    ValueError: the table lacks 1 of 2 expected columns: 'a' (did you mean 'A'?).
    """
    names = list(expected)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        others = [str(name) for name in frame.columns if name not in names]
        found = [(name, nearest_name(name, others)) for name in missing]
        listed = [
            f"{name!r}" + (f" (did you mean {near!r}?)" if near else "") for name, near in found
        ]
        raise ValueError(
            f"the table lacks {len(missing)} of {len(names)} expected columns: {', '.join(listed)}."
        )
    if not isinstance(expected, Mapping):
        return frame[names]
    return frame[names].assign(
        **{name: _of_kind(frame[name], kind) for name, kind in expected.items()}
    )


def kind_of(column: pd.Series) -> ColumnKind:
    """Say whether a column with values holds numbers or categories.

    Parameters
    ----------
    column : pandas.Series of shape (rows,)
        The column; its name is for the message.

    Returns
    -------
    {"number", "category"}
        Its kind, see ``column_kinds``.

    Raises
    ------
    ValueError
        If it holds dates, or text mixed with other things.

    Examples
    --------
    >>> import pandas as pd
    >>> kind_of(pd.Series([True, False]))
    'category'
    """
    import pandas as pd

    types, dtype = pd.api.types, column.dtype
    if types.is_bool_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
        return "number"
    values = column.dropna()
    content = types.infer_dtype(values)
    if content in ("string", "boolean", "integer", "floating", "empty"):
        if content == "string" and values.str.match(ISO_DATE).all() and len(values):
            content = "date"
        elif any(value is pd.NA for value in column[column.isna()]):
            content = "pandas.NA"
        else:
            return "category"
    if any(word in content for word in ("date", "time", "period")):
        raise ValueError(
            f"column {column.name!r} holds dates or times; replace it by numbers that matter (days "
            "since an event, month, weekday), or leave it out."
        )
    raise ValueError(
        f"column {column.name!r} is neither numbers nor text ({content}); convert it, for example "
        f"by frame.astype({{{column.name!r}: 'str'}})."
    )


def _of_kind(column: pd.Series, kind: ColumnKind) -> pd.Series:
    import pandas as pd

    if column.isna().all():  # then its type says nothing, and scikit-learn needs the right one
        return pd.Series(math.nan, column.index, float if kind == "number" else object)
    if kind_of(column) == kind:
        return column
    name = column.name
    if kind == "category":
        raise ValueError(
            f"column {name!r} held categories when the model was fitted and holds numbers now; "
            f"read it as text: read_table(path, text=[{name!r}])."
        )
    not_numbers = pd.to_numeric(column, errors="coerce").isna() & column.notna()
    example = f", such as {column[not_numbers].iloc[0]!r}" if not_numbers.any() else ""
    raise ValueError(
        f"column {name!r} held numbers when the model was fitted and holds {column.dtype} now"
        f"{example}; correct these values or leave them empty."
    )
