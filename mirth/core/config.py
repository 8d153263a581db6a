"""Parameters of configuration objects, readable and settable by name.

scikit-learn reaches into an object through ``get_params`` and ``set_params``; with these two a
dataclass can stand as a parameter of an estimator and be searched as ``method__n_warmup``.
"""

from __future__ import annotations

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
        """Set fields by name and check the object again.

        Parameters
        ----------
        **params : any
            Field names, or ``field__subfield``, and their new values.

        Returns
        -------
        Self
            The object itself.

        Raises
        ------
        ValueError
            If a name is unknown; the nearest known one is suggested.
        """
        own = self.get_params(deep=False)
        # As in scikit-learn: a new object first, then the parameters of that object.
        for name, value in sorted(params.items(), key=lambda item: "__" in item[0]):
            head, _, tail = name.partition("__")
            if head not in own:
                near = nearest_name(head, list(own))
                hint = f"; did you mean {near!r}?" if near else ""
                raise ValueError(
                    f"{type(self).__name__} has no parameter {head!r}{hint} "
                    f"Known: {', '.join(own)}."
                )
            if tail:
                getattr(self, head).set_params(**{tail: value})
            else:
                object.__setattr__(self, head, value)
        check = getattr(self, "__post_init__", None)
        if check is not None:
            check()
        return self
