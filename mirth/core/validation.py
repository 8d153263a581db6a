"""Checks of arguments at the public boundary: the text names argument, value and fix."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import re
from collections.abc import Iterable, Mapping

import numpy as np

MAX_LISTED = 20  # a table may have thousands of columns; an error message should fit a screen


def nearest_name(name: str, options: Iterable[str]) -> str | None:
    """Find the option that a mistyped name most likely means.

    Parameters
    ----------
    name : str
        What was typed; upper and lower case are alike.
    options : iterable of str
        The known names.

    Returns
    -------
    str or None
        The nearest option (``difflib`` ratio at least 0.6), None if nothing is near.

    Examples
    --------
    >>> nearest_name("rleu", ["relu", "tanh"])
    'relu'
    >>> nearest_name("sigmoid", ["relu", "tanh"]) is None
    True
    """
    folded = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def find_name(argument: str, value: str, options: Iterable[str]) -> str:
    """Find a name whatever its case, with ``-``, ``_`` or a space; give it as it is known.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    value : str
        The name to find.
    options : iterable of str
        The known names.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_name`.

    Examples
    --------
    >>> find_name("method", "Deep-Ensemble", ["mile", "deep_ensemble"])
    'deep_ensemble'
    """
    options = list(options)
    if isinstance(value, str):
        alike = {_plain(option): option for option in options}
        value = alike.get(_plain(value), value)
    return check_name(argument, value, options)


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def check_name(argument: str, value: str, options: Iterable[str]) -> str:
    """Check that a name is one of the known ones.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    value : str
        The name to check.
    options : iterable of str
        The known names.

    Returns
    -------
    str
        ``value``.

    Raises
    ------
    TypeError
        If ``value`` is not text.
    ValueError
        If ``value`` is not among ``options``; the nearest one is suggested.

    Examples
    --------
    >>> check_name("activation", "relu", ["relu", "tanh"])
    'relu'
    >>> check_name("activation", "rleu", ["relu", "tanh"])
    Traceback (most recent call last):
    ...
    ValueError: activation='rleu' is not known; did you mean 'relu'? Known: relu, tanh.
    """
    options = list(options)
    listed = ", ".join(options[:MAX_LISTED])
    if len(options) > MAX_LISTED:
        listed += f" and {len(options) - MAX_LISTED} more"
    if not isinstance(value, str):
        raise TypeError(
            f"{argument}={value!r} must be a name (str), not {type(value).__name__}. "
            f"Known: {listed}."
        )
    if value not in options:
        near = nearest_name(value, options)
        hint = "" if near is None else f"; did you mean {near!r}?"
        raise ValueError(f"{argument}={value!r} is not known{hint or '.'} Known: {listed}.")
    return value


def check_int(argument: str, value: object, *, minimum: int | None = None) -> int:
    """Check that a value is a whole number, and not too small.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    value : int
        The value to check; NumPy integers are accepted, booleans and floats are not.
    minimum : int, optional
        The least value allowed; None for no limit.

    Returns
    -------
    int
        ``value`` as a Python integer.

    Raises
    ------
    TypeError
        If ``value`` is not an integer.
    ValueError
        If ``value`` is below ``minimum``.

    Examples
    --------
    >>> check_int("num_chains", 4, minimum=1)
    4
    >>> check_int("num_chains", 0, minimum=1)
    Traceback (most recent call last):
    ...
    ValueError: num_chains=0 must be at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{argument}={value!r} must be an integer, not {type(value).__name__}.")
    if minimum is not None and value < minimum:
        raise ValueError(f"{argument}={int(value)} must be at least {minimum}.")
    return int(value)


def check_flag(argument: str, value: object, *, or_none: bool = False) -> None:
    """Check that a value is True or False.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    value : bool
        The value to check.
    or_none : bool, default=False
        Whether None will do, too.

    Raises
    ------
    TypeError
        If it is something else.

    Examples
    --------
    >>> check_flag("guarded", "yes")
    Traceback (most recent call last):
    ...
    TypeError: guarded='yes' must be True or False.
    """
    if not (isinstance(value, bool | np.bool_) or (or_none and value is None)):
        allowed = "True, False or None" if or_none else "True or False"
        raise TypeError(f"{argument}={value!r} must be {allowed}.")


def check_real(
    argument: str,
    value: object,
    *,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Check that a value is a finite number inside an interval.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    value : float
        The value to check; integers and NumPy scalars are accepted, booleans are not.
    low, high : float, optional
        Ends of the interval; None for no limit.
    low_open, high_open : bool, default=False
        Whether that end itself is excluded.

    Returns
    -------
    float
        ``value`` as a Python number.

    Raises
    ------
    TypeError
        If ``value`` is not a real number.
    ValueError
        If ``value`` is NaN, infinite, or outside the interval.

    Examples
    --------
    >>> check_real("momentum", 0.5, low=0, high=1)
    0.5
    >>> check_real("step_size", -1.0, low=0, low_open=True)
    Traceback (most recent call last):
    ...
    ValueError: step_size=-1.0 must be a finite number in (0, inf).
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument}={value!r} must be a number, not {type(value).__name__}.")
    number = float(value)
    too_low = low is not None and (number < low or (low_open and number == low))
    too_high = high is not None and (number > high or (high_open and number == high))
    if too_low or too_high or not math.isfinite(number):
        left = "(-inf" if low is None else f"{'(' if low_open else '['}{low:g}"
        right = "inf)" if high is None else f"{high:g}{')' if high_open else ']'}"
        raise ValueError(f"{argument}={number!r} must be a finite number in {left}, {right}.")
    return number


_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def check_duration(argument: str, value: object) -> float:
    """Check a length of time and give it in seconds.

    Parameters
    ----------
    argument : str
        Name of the argument, for the message.
    value : float or str
        Seconds, or a number with one of the units s, min, h, d.

    Returns
    -------
    float
        Seconds, above zero.

    Raises
    ------
    TypeError
        If ``value`` is neither a number nor text.
    ValueError
        If the text is no length of time, or it is not above zero.

    Examples
    --------
    >>> check_duration("max_time", "1.5h"), check_duration("max_time", 90)
    (5400.0, 90.0)
    >>> check_duration("max_time", "soon")
    Traceback (most recent call last):
    ...
    ValueError: max_time='soon' must be a length of time: seconds, or text such as '90s' or '2h'.
    """
    if not isinstance(value, str):
        return check_real(argument, value, low=0, low_open=True)
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|d)?\s*", value)
    if found is None or not float(found[1]):
        raise ValueError(
            f"{argument}={value!r} must be a length of time: seconds, or text such as '90s' or "
            "'2h'."
        )
    return float(found[1]) * _SECONDS[found[2] or "s"]


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a parameter may have: written once, for its check and for a schema.

    Parameters
    ----------
    low, high : float, optional
        Ends of the interval; None for no limit.
    low_open, high_open : bool, default=False
        Whether that end itself is excluded.
    whole : bool, default=False
        Only integers; they have a low end at most.
    or_none : bool, default=False
        Whether None is allowed, too: the number is chosen when it is needed.

    Examples
    --------
    >>> Range(low=0, high=1, low_open=True).json_schema()
    {'exclusiveMinimum': 0, 'maximum': 1}
    >>> COUNT.check("num_chains", 0)
    Traceback (most recent call last):
    ...
    ValueError: num_chains=0 must be at least 1.
    """

    low: int | float | None = None
    high: int | float | None = None
    low_open: bool = False
    high_open: bool = False
    whole: bool = False
    or_none: bool = False

    def check(self, argument: str, value: object) -> float | None:
        """Check a value as :func:`check_int` or :func:`check_real` does."""
        if value is None and self.or_none:
            return None
        if self.whole:
            return check_int(argument, value, minimum=None if self.low is None else int(self.low))
        return check_real(
            argument,
            value,
            low=self.low,
            high=self.high,
            low_open=self.low_open,
            high_open=self.high_open,
        )

    def json_schema(self) -> dict[str, float]:
        """Say the same in the words of JSON Schema."""
        low = "exclusiveMinimum" if self.low_open else "minimum"
        high = "exclusiveMaximum" if self.high_open else "maximum"
        ends = {low: self.low, high: self.high}
        return {name: end for name, end in ends.items() if end is not None}


COUNT = Range(low=1, whole=True)
NATURAL = Range(low=0, whole=True)
POSITIVE = Range(low=0, low_open=True)
NON_NEGATIVE = Range(low=0)
FRACTION = Range(low=0, high=1, low_open=True, high_open=True)
COUNT_OR_NONE = dataclasses.replace(COUNT, or_none=True)
POSITIVE_OR_NONE = dataclasses.replace(POSITIVE, or_none=True)


def check_ranges(thing: object, ranges: Mapping[str, Range]) -> None:
    """Check attributes of an object; of a tuple or list, each item.

    Parameters
    ----------
    thing : object
        What has the attributes.
    ranges : mapping of str to Range
        By name of the attribute.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or out of its range.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_ranges(SimpleNamespace(sizes=(8, 4), rate=0.1), {"sizes": COUNT, "rate": POSITIVE})
    """
    for name, allowed in ranges.items():
        value = getattr(thing, name)
        for item in value if isinstance(value, tuple | list) else (value,):
            allowed.check(name, item)
