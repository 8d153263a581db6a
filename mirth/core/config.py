"""Parameters of configuration objects, readable and settable by name.

scikit-learn reaches into an object through ``get_params`` and ``set_params``; with these two a
dataclass can stand as a parameter of an estimator and be searched as ``method__n_warmup``.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from mirth.core.deprecation import warn_renamed
from mirth.core.validation import nearest_name

Kind = TypeVar("Kind")


class ConfigError(ValueError):
    """A configuration that cannot be used.

    Parameters
    ----------
    problems : list of str
        One sentence for each value that is wrong.
    """

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


class Configurable:
    """Mixin for keyword-only dataclasses whose fields are public parameters."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the fields by name.

        Parameters
        ----------
        deep : bool, default=True
            Also return the fields of fields, as ``field__subfield``.

        Returns
        -------
        dict
            Name to value.
        """
        params: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if not field.init:
                continue
            value = getattr(self, field.name)
            params[field.name] = value
            if deep:
                params |= {f"{field.name}__{k}": v for k, v in _params_of(value).items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set fields by name; if a check fails nothing has changed.

        Parameters
        ----------
        **params : any
            Field names, or ``field__subfield``, and their new values. The object in a field is
            replaced by a copy with the new values, so that no other owner of it is affected.

        Returns
        -------
        Self
            The object itself.

        Raises
        ------
        ValueError
            If a name is unknown (the nearest known one is suggested), or a value is refused.
        """
        own = self.get_params(deep=False)
        params = rename_moved(type(self), params, stacklevel=3)
        changed: dict[str, Any] = {}
        deeper: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            head, _, tail = name.partition("__")
            if head not in own:
                near = nearest_name(head, list(own))
                hint = f"; did you mean {near!r}?" if near else ""
                raise ValueError(
                    f"{type(self).__name__} has no parameter {head!r}{hint} "
                    f"Known: {', '.join(own)}."
                )
            if tail:
                deeper.setdefault(head, {})[tail] = value
            else:
                changed[head] = value
        # As in scikit-learn: a new object first, then the parameters of that object.
        for head, values in deeper.items():
            changed[head] = _with_params((own | changed)[head], values)
        checked = dataclasses.replace(self, **changed)  # type: ignore[type-var]
        vars(self).update(vars(checked))
        return self


def _params_of(value: Any) -> dict[str, Any]:
    """Give the parameters of an object in a field, none if it has none."""
    if isinstance(value, type):
        return {}
    if hasattr(value, "get_params"):
        return dict(value.get_params())
    if dataclasses.is_dataclass(value):  # a frozen one, such as a sampler
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    return {}


def _with_params(value: Any, params: dict[str, Any]) -> Any:
    """Give a copy of an object with other parameters."""
    if hasattr(value, "set_params"):
        return copy.copy(value).set_params(**params)
    known = _params_of(value)
    for name in params:
        if name not in known:
            near = nearest_name(name, known)
            hint = f"; did you mean {near!r}?" if near else f". Known: {', '.join(known)}."
            raise ValueError(f"{type(value).__name__} has no parameter {name!r}{hint}")
    return dataclasses.replace(value, **params)


def rename_moved(kind: type, params: Mapping[str, Any], stacklevel: int = 2) -> dict[str, Any]:
    """Translate parameters that stand in another object now, with a warning.

    Parameters
    ----------
    kind : type
        The class; its ``MOVED`` says where an old name stands now: the class of the object, the
        field that has it, and the name there.
    params : mapping
        Names and values.
    stacklevel : int, default=2
        How many callers up the warning points.

    Returns
    -------
    dict
        The same with the new names.

    Examples
    --------
    >>> rename_moved(Configurable, {"a": 1})
    {'a': 1}
    """
    moved: Mapping[str, tuple[str, str, str]] = getattr(kind, "MOVED", {})
    renamed = {}
    for name, value in params.items():
        if name in moved:
            owner, field, inner = moved[name]
            new = f"{kind.__name__}({field}={owner}({inner}=...))"
            warn_renamed(f"{kind.__name__}({name}=...)", new, stacklevel + 1)
            name = f"{field}__{inner}"
        renamed[name] = value
    return renamed


def takes_moved_parameters(kind: type[Kind]) -> type[Kind]:
    """Let a dataclass take the parameters of its ``MOVED`` under their old names, with a warning.

    Parameters
    ----------
    kind : type
        A :class:`Configurable` dataclass of keywords.

    Returns
    -------
    type
        The same class.
    """
    init = kind.__init__

    @functools.wraps(init)
    def __init__(self: Any, **fields: Any) -> None:
        given = rename_moved(type(self), fields, stacklevel=3)
        moved = {name: given.pop(name) for name in list(given) if "__" in name}
        init(self, **given)
        if moved:
            self.set_params(**moved)

    kind.__init__ = __init__  # type: ignore[method-assign]
    return kind
