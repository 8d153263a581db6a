"""Tables from CSV files: reading, the target column, the task."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from mirth.core.validation import check_name, nearest_name
from mirth.data.columns import kind_of

if TYPE_CHECKING:  # takes long to import, and most of the library does without it
    import pandas as pd

MAX_CLASSES = 10  # an integer target with more distinct values is a count or a measurement ...
MAX_CLASS_SHARE = 0.05  # ... and so is one in which values hardly repeat
MAX_LISTED = 5  # rows named in an error


def read_table(path: str | Path, text: Collection[str] = ()) -> pd.DataFrame:
    r"""Read a CSV file: a line of column names, then one row a line, separated by commas.

    A column becomes numbers (int64 or float64) if each of its values is one, and stays text
    otherwise, also if the text is ``True`` and ``False``; so a file that is read again as text
    gives the same categories. Empty fields, ``NA``, ``NaN``, ``null`` and what else pandas
    takes for missing are missing, and so is what a short line lacks. The text encoding is UTF-8;
    pandas unpacks ``.gz`` and other compressed files by their ending.

    Parameters
    ----------
    path : str or path
        The file.
    text : collection of str, default=()
        Columns to keep as text although they look like numbers: postal codes, say, or the columns
        that were categories when a model was fitted. Names that the file does not have are ignored.

    Returns
    -------
    pandas.DataFrame of shape (rows, columns)
        The table.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the nearest name in that folder is suggested.
    ValueError
        If the file is empty, has no rows, is not UTF-8, has lines with more fields than there are
        names, another separator, columns without a name or with the same name, or infinite
        numbers. Rows are counted from 1, the first below the names.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "houses.csv"
    ...     written = path.write_text("rooms,zip,heating\n3,01067,gas\n,10115,\n")
    ...     read_table(path, text=["zip"])
       rooms    zip heating
    0    3.0  01067     gas
    1    NaN  10115     NaN
    """
    import pandas as pd

    path = Path(path)
    _check_file(path)
    header = _parse(path, header=None, nrows=1, keep_default_na=False)
    names = [str(name) for name in header.iloc[0]]
    _check_header(path, names)
    frame = _parse(path, header=0, names=names)
    if len(frame) == 0:
        raise ValueError(f"{path} has column names but no rows.")
    if not isinstance(frame.index, pd.RangeIndex):  # pandas took the surplus for row labels
        raise ValueError(f"{path}: the rows have more fields than the {len(names)} column names.")
    columns = {
        name: column if name in text else _numbers_if_possible(column)
        for name, column in frame.items()
    }
    for name, column in columns.items():
        if column.dtype.kind == "f" and np.isinf(column).any():
            raise ValueError(
                f"{path}: column {name!r} is infinite in {_row_numbers(np.isinf(column))}."
            )
    return pd.DataFrame(columns)


def split_target(
    frame: pd.DataFrame, target: str, drop: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.Series]:
    """Separate the column to predict from the columns to predict it from.

    Parameters
    ----------
    frame : pandas.DataFrame of shape (rows, columns)
        The table.
    target : str
        Name of the column to predict.
    drop : collection of str, default=()
        Columns to leave out.

    Returns
    -------
    features : pandas.DataFrame of shape (rows, other columns)
        All columns but the target and those to leave out.
    target : pandas.Series of shape (rows,)
        The column to predict.

    Raises
    ------
    ValueError
        If there is no such column (the nearest name is suggested), it has missing values (their
        number and rows are named), or no other column is left; if a column to leave out is not
        there, or is the target.
    TypeError
        If ``drop`` is a single name.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"id": [7, 8], "rooms": [2, 3], "price": [1.5, 2.5]})
    >>> features, price = split_target(frame, "price", drop=["id"])
    >>> list(features.columns), price.tolist()
    (['rooms'], [1.5, 2.5])
    """
    names = [str(name) for name in frame.columns]
    check_name("target", target, names)
    if isinstance(drop, str):
        raise TypeError(f"drop={drop!r} must be a list of columns, such as [{drop!r}].")
    for name in drop:
        check_name("drop", name, names)
    if target in drop:
        raise ValueError(f"drop={list(drop)!r} has the target {target!r} in it; take it out.")
    column = frame[target]
    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"the target {target!r} is missing in {int(missing.sum())} of {len(frame)} rows: "
            f"{_row_numbers(missing)}. Remove these rows or fill in the values."
        )
    features = frame.drop(columns=[target, *drop])
    if features.shape[1] == 0:
        but = "" if not drop else " and those to drop"
        raise ValueError(f"the table has no column besides the target {target!r}{but}.")
    return features, column


def task_of(target: pd.Series) -> Literal["regression", "classification"]:
    """Guess from its values whether a target is a number or a class.

    Text, categories and booleans are classes. Whole numbers (of an integer type) are classes if
    there are at most two distinct ones, or at most 10 and fewer than one for every 20 rows. All
    else is a number: also 0.0 and 1.0 in a column of floats.

    Parameters
    ----------
    target : pandas.Series of shape (rows,)
        The column to predict, without missing values.

    Returns
    -------
    {"regression", "classification"}
        The likely task.

    Raises
    ------
    ValueError
        If the target holds dates or something else that is neither number nor class.

    Examples
    --------
    >>> import pandas as pd
    >>> task_of(pd.Series(["yes", "no"])), task_of(pd.Series([1.5, 2.5]))
    ('classification', 'regression')
    >>> task_of(pd.Series([1, 2, 3] * 40)), task_of(pd.Series(range(120)))
    ('classification', 'regression')
    """
    import pandas as pd

    if kind_of(target) == "category":
        return "classification"
    if not pd.api.types.is_integer_dtype(target.dtype):
        return "regression"
    distinct = target.nunique()
    is_few = distinct <= MAX_CLASSES and distinct < MAX_CLASS_SHARE * len(target)
    return "classification" if distinct <= 2 or is_few else "regression"


def _check_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, not a CSV file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no file {path}: its folder {path.parent} does not exist."
        )
    near = nearest_name(path.name, [p.name for p in path.parent.iterdir() if p.is_file()])
    hint = "" if near is None else f" Did you mean {near!r}?"
    raise FileNotFoundError(f"there is no file {path}.{hint}")


def _parse(path: Path, **options: Any) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str, skipinitialspace=True, **options)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as CSV in UTF-8.") from None
    except pd.errors.ParserError as error:
        raise ValueError(
            f"{path} is not a table separated by commas: {str(error).strip()}."
        ) from None


def _check_header(path: Path, names: list[str]) -> None:
    nameless = [str(i + 1) for i, name in enumerate(names) if not name]
    if nameless:
        raise ValueError(
            f"{path}: column {', '.join(nameless)} has no name. Row numbers written by pandas? "
            "Then write the file with to_csv(..., index=False); else name it in the first line."
        )
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        separator = ";" if ";" in names[0] else "\t"
        raise ValueError(f"{path} looks separated by {separator!r}; save it separated by commas.")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(
            f"{path}: column names must differ; these appear more than once: {doubled}."
        )


def _numbers_if_possible(column: pd.Series) -> pd.Series:
    import pandas as pd

    try:
        numbers = pd.to_numeric(column)
    except ValueError:
        return column
    # integers beyond 64 bits come back as Python objects
    return numbers.astype(np.float64) if numbers.dtype.kind == "O" else numbers


def _row_numbers(mask: Bool[ndarray, " rows"]) -> str:
    rows = [str(row + 1) for row in np.flatnonzero(mask)]
    more = f" and {len(rows) - MAX_LISTED} more" if len(rows) > MAX_LISTED else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(rows[:MAX_LISTED])}{more}"
