"""What the sections of a configuration are made of: fields as their classes document them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from mirth.core.deprecation import warn_renamed
from mirth.core.validation import Range, check_ranges
from mirth.experiments.documentation import parameters
from mirth.inference import DeepEnsemble
from mirth.samplers import MILETuner


class Section(pydantic.BaseModel):
    """Named values of the right types; others than the known names are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    RANGES: ClassVar[Mapping[str, Range]] = {}

    def check(self) -> None:
        """Check the ranges."""
        check_ranges(self, self.RANGES)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Tell editors of the ranges, too."""
        schema: dict[str, Any] = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, allowed in cls.RANGES.items():
            field = properties[name]
            for kind in field.get("anyOf", [field]):  # of a value that may be null
                if kind.get("type") == "null":
                    continue
                for item in kind.get("prefixItems") or [kind.get("items", kind)]:
                    item |= allowed.json_schema()
        return schema

    @pydantic.model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}

    @pydantic.model_validator(mode="after")
    def _check(self) -> Section:
        try:
            self.check()
        except TypeError as error:  # pydantic expects ValueError only
            raise ValueError(str(error)) from error
        return self


def config_field(source: Any, name: str, choices: Any = ()) -> Any:
    """Take description, choices and default from where a parameter is defined."""
    found = parameters(source)[name]
    default = inspect.signature(source).parameters[name].default
    listed = list(choices or found.choices)
    # The check of the section tests them; the schema tells editors of them.
    extra: Any = {"enum": listed} if listed else None
    return Field(default, description=found.text, json_schema_extra=extra)


class BuildingSection(Section):
    """The fields of a method or a prior; made by :func:`_section_of`."""

    builds: ClassVar[type]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _moved_fields(cls, values: Any) -> Any:
        """Put fields that stand in a group of their own now there, with a warning."""
        moved = getattr(cls.builds, "MOVED", {})
        if not isinstance(values, dict) or not moved.keys() & values.keys():
            return values
        values = dict(values)
        for name in moved.keys() & values.keys():
            _, group, inner = moved[name]
            if isinstance(values.setdefault(group, {}), dict):
                warn_renamed(f"{name}: ...", f"{group}: {{{inner}: ...}}")
                values[group] = {**values[group], inner: values.pop(name)}
        return values

    def build(self) -> Any:
        """Build the method or prior."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "name"}
        return self.builds(
            **{k: v.build() if isinstance(v, BuildingSection) else v for k, v in values.items()}
        )

    def check(self) -> None:
        """Let the method or prior check its fields."""
        self.build()


def _section_of(
    make: Callable[..., Any], name: str | None = None, role: str = "", kind: str = ""
) -> type[BuildingSection]:
    """Make the section with the fields of a method or prior: of its class, or a preset of it."""
    method: Any = getattr(make, "func", make)
    preset: dict[str, Any] = getattr(make, "keywords", {})
    fields: dict[str, Any] = {}
    if name is not None:
        fields["name"] = (Literal[name], Field(name, description=role))
    hints = typing.get_type_hints(method)
    for field in dataclasses.fields(method):
        if _is_function(hints[field.name]):
            if str not in typing.get_args(hints[field.name]):
                continue  # a file cannot hold one
            hints[field.name] = str  # but the names that stand for some
        inner = _inner_class(hints[field.name])
        if inner is not None:
            group = _section_of(inner)
            text = parameters(method)[field.name].text
            if field.default is None:
                text = f"{text.partition(';')[0]}."  # no None in a file
            fields[field.name] = (group, Field(group(), description=text))
        else:
            found = config_field(method, field.name)
            found.default = preset.get(field.name, found.default)
            fields[field.name] = (hints[field.name], found)
    section: Any = pydantic.create_model(
        f"{re.sub('[-_]', '', name.title())}{kind}Section"
        if name
        else f"{method.__name__}FieldsSection",
        __base__=BuildingSection,
        __doc__=(inspect.getdoc(method) or "").partition("\n")[0],
        **fields,
    )
    section.builds, section.RANGES = method, method.RANGES
    return section


def _inner_class(hint: Any) -> type | None:
    """Give the class whose fields a field takes as a group of its own, if there is one."""
    kinds = (DeepEnsemble, MILETuner)
    return next((kind for kind in kinds if kind in (hint, *typing.get_args(hint))), None)


def _is_function(hint: Any) -> bool:
    """Whether a field takes a function."""
    return any(typing.get_origin(part) is Callable for part in (hint, *typing.get_args(hint)))


def sections_of(
    things: Mapping[str, Callable[..., Any]], role: str, kind: str = ""
) -> dict[str, Any]:
    """Make the sections of all methods, or of all priors; ``kind`` is part of their names."""
    text = f"{role} One of {', '.join(things)}."
    return {name: _section_of(thing, name, text, kind) for name, thing in things.items()}
