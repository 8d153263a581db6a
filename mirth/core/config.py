"""Parameters of configuration objects, readable and settable by name.

scikit-learn reaches into an object through ``get_params`` and ``set_params``; with these two a
dataclass can stand as a parameter of an estimator and be searched as ``method__n_warmup``.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Self

from mirth.core.validation import nearest_name


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
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                params |= {f"{field.name}__{k}": v for k, v in value.get_params().items()}
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
            inner = copy.copy((own | changed)[head])
            changed[head] = inner.set_params(**values)
        checked = dataclasses.replace(self, **changed)  # type: ignore[type-var]
        vars(self).update(vars(checked))
        return self
