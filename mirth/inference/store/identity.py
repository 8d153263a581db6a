"""What identifies a run: its settings in words, and whether another run may go on with it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

GROWING = ("n_samples",)
"""Settings that may be larger when a run is taken up again."""

HARMLESS = ("unhealthy_chains",)
"""Settings that may be others; those in neither list must be the same."""


def describe(value: Any) -> Any:
    """Describe an object as JSON holds it: the same words for the same thing in every process.

    Examples
    --------
    >>> import mirth
    >>> describe(mirth.Normal())
    {'class': 'Normal', 'link': 'softplus', 'min_scale': 0.001}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))  # addresses differ from run to run


def other_run(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say why a run cannot go on with other settings; None if it can.

    Examples
    --------
    >>> other_run({"method": {"n_samples": 10}}, {"method": {"n_samples": 20}}) is None
    True
    >>> other_run({"seed": 1}, {"seed": 2}).partition(".")[0]
    'a run with seed=1, not 2'
    """
    schedule = before.get("method", {}).get("schedule", "constant")
    for name, old, new in differences(before, now):
        field = name.rpartition(".")[2]
        if field in HARMLESS:
            continue
        if field in GROWING and isinstance(old, int) and isinstance(new, int) and new >= old:
            if schedule == "constant":
                continue
            return (
                f"a run with schedule={schedule!r}, whose steps depend on {name}={old!r}; it "
                "cannot grow. Give the same settings"
            )
        return (
            f"a run with {name}={old!r}, not {new!r}. Give the same settings and data to go on "
            f"(only {', '.join(GROWING)} may grow)"
        )
    return None


def differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Compare two JSON values; yields the names of what differs, and both values.

    Examples
    --------
    >>> list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}))
    [('a.b', 1, 3)]
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            inner = f"{name}.{key}" if name else key
            yield from differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield name, before, now
