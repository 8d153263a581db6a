"""What docstrings say about parameters, for whoever shows them elsewhere."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple


class Parameter(NamedTuple):
    """What a docstring says about one parameter.

    Parameters
    ----------
    text : str
        The description without markup, and the choices.
    choices : tuple of str
        The names that are allowed, if they are listed as ``{"one", "other"}``.
    """

    text: str
    choices: tuple[str, ...]


def parameters(thing: Any) -> dict[str, Parameter]:
    """Read the section ``Parameters`` of a numpydoc docstring.

    Parameters
    ----------
    thing : class or function
        What is documented.

    Returns
    -------
    dict of str to Parameter
        By name; names that are described together have the same description.

    Examples
    --------
    >>> parameters(parameters)
    {'thing': Parameter(text='What is documented.', choices=())}
    """
    _, _, section = (inspect.getdoc(thing) or "").partition("\nParameters\n----------\n")
    found: dict[str, tuple[str, list[str]]] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line.startswith(" "):
            for name in names:
                found[name][1].append(line.strip())
        elif " : " in line:
            head, _, kind = line.partition(" : ")
            names = [name.strip() for name in head.split(",")]
            found |= {name: (kind, []) for name in names}
        elif line:  # the heading of the next section
            break
    return {name: _parameter(kind, lines) for name, (kind, lines) in found.items()}


def _parameter(kind: str, lines: list[str]) -> Parameter:
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join(lines)).replace("``", "")
    listed = re.match(r"\{(.*?)\}", kind)
    choices = tuple(re.findall(r'"(.*?)"', listed[1])) if listed else ()
    return Parameter(f"{text} One of {', '.join(choices)}." if choices else text, choices)
