"""The configuration of a run on a table, checked as a whole before anything starts.

The fields of methods and priors, their defaults and descriptions are those of their classes, such
as :class:`mirth.MILE` and :class:`mirth.priors.NormalPrior`; ranges are those of the classes that
use the values. Nothing of it is written a second time here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import typing
from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic import Field

from mirth.core.config import ConfigError
from mirth.core.validation import (
    check_duration,
    check_name,
    find_name,
    nearest_name,
)
from mirth.estimators import BNNRegressor
from mirth.estimators._checks import ESTIMATOR_PRIORS
from mirth.estimators._weights import check_weights
from mirth.estimators.resolution import check_resolution
from mirth.experiments.config_fields import Section, config_field, sections_of
from mirth.experiments.documentation import parameters
from mirth.experiments.tables import TASKS, TEST_SHARE, fit_table
from mirth.inference import METHODS, Run
from mirth.inference.infer import RANGES as INFER_RANGES
from mirth.inference.monitors.trackers import TRACKERS
from mirth.model import MLP
from mirth.model.likelihoods import CLASSIFICATION, REGRESSION
from mirth.model.mlp import ACTIVATIONS

LIKELIHOOD_NAMES = {
    "regression": tuple(name for name in REGRESSION if name != "multivariate_normal"),
    "classification": tuple(CLASSIFICATION),
}
"""Names of the likelihoods by task; a table has one target."""
_ALLOWED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text (in quotes, if it looks like a number or a truth value)",
    "tuple_type": "a list in square brackets",
    "model_type": "a group of named values",
    "model_attributes_type": "a group of named values",
}
"""What is allowed, by pydantic's name of the error."""


class DataSection(Section):
    """The table, and how its rows are used."""

    RANGES = {
        "test_fraction": TEST_SHARE,
        "validation_fraction": INFER_RANGES["validation"],
    }

    path: str = Field(
        description="CSV file with numbers, categories and missing values; a relative path starts "
        "where the command is called."
    )
    target: str = Field(description=parameters(fit_table)["target"].text)
    drop: tuple[str, ...] = config_field(fit_table, "drop")
    test_fraction: float = config_field(fit_table, "test_fraction")
    validation_fraction: float = config_field(BNNRegressor, "validation_fraction")


METHOD_SECTIONS = sections_of(METHODS, "How the posterior is found.")
"""Sections of the methods by name."""
PRIOR_SECTIONS = sections_of(ESTIMATOR_PRIORS, "Prior of the weights and biases.", "Prior")
"""Sections of the priors by name."""
_CHOICES = {"method": METHOD_SECTIONS, "model.prior": PRIOR_SECTIONS}
"""Sections to choose from, by the path of the value."""

if typing.TYPE_CHECKING:
    AnyMethod = Any
    AnyPrior = Any
else:
    AnyMethod, AnyPrior = (
        typing.Annotated[
            typing.Union[tuple(sections.values())], Field(discriminator="name")  # noqa: UP007
        ]
        for sections in _CHOICES.values()
    )


def _named(values: Any, field: str, default: str, known: Mapping[str, Any]) -> Any:
    """Fill in the name of a choice where it is left out, and write it as it is known."""
    choice = values.get(field) if isinstance(values, dict) else None
    if not isinstance(choice, dict):
        return values
    found = {"name": default, **choice}
    with contextlib.suppress(TypeError, ValueError):  # a wrong name is told of with its path
        found["name"] = find_name(field, found["name"], known)
    return values | {field: found}


class ModelSection(Section):
    """Network, likelihood and prior."""

    RANGES = {
        "hidden_layer_sizes": dataclasses.replace(MLP.RANGES["hidden_layer_sizes"], or_none=True)
    }

    hidden_layer_sizes: tuple[int, ...] | None = config_field(BNNRegressor, "hidden_layer_sizes")
    activation: str = config_field(BNNRegressor, "activation", choices=ACTIVATIONS)
    likelihood: str | None = Field(
        default=None,
        description="Distribution of the target by name, one of those for the task; without it "
        "that of the estimator.",
        json_schema_extra={"enum": [*itertools.chain(*LIKELIHOOD_NAMES.values()), None]},
    )
    prior: AnyPrior = Field(
        default=PRIOR_SECTIONS["auto"](), description="Prior of the weights and biases, by name."
    )
    normalize_y: bool = config_field(BNNRegressor, "normalize_y")
    robust_scaling: bool = config_field(BNNRegressor, "robust_scaling")
    resolution: Any = Field(
        default="auto",
        description=parameters(BNNRegressor)["resolution"].text,
        json_schema_extra={"type": ["number", "string", "null"]},
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _default_prior(cls, values: Any) -> Any:
        return _named(values, "prior", "auto", PRIOR_SECTIONS)

    def check(self) -> None:
        """Check the names, too."""
        super().check()
        MLP(self.hidden_layer_sizes or (), activation=self.activation)
        check_resolution(self.resolution)
        if self.likelihood is not None:
            find_name("likelihood", self.likelihood, itertools.chain(*LIKELIHOOD_NAMES.values()))


class RunConfig(Section):
    """One run on a table.

    Examples
    --------
    >>> config = parse_config({"data": {"path": "houses.csv", "target": "price"}, "n_members": 4})
    >>> config.method.build().n_samples, config.n_members
    (200, 4)
    """

    RANGES = {
        "n_members": INFER_RANGES["num_chains"],
        "seed": INFER_RANGES["seed"],
        "checkpoint_seconds": Run.RANGES["checkpoint_seconds"],
    }

    data: DataSection = Field(description="The table, and how its rows are used.")
    task: str = config_field(fit_table, "task")
    model: ModelSection = Field(ModelSection(), description="Network, likelihood and prior.")
    method: AnyMethod = Field(
        METHOD_SECTIONS["mile"](),
        description="The sampler and its budget. With name: deep_ensemble, the fields of start "
        "stand here, and no others.",
    )
    n_members: int = config_field(BNNRegressor, "n_members")
    seed: int = config_field(fit_table, "seed")
    checkpoint_seconds: float = config_field(BNNRegressor, "checkpoint_seconds")
    max_time: Any = Field(
        None,
        description=parameters(BNNRegressor)["max_time"].text,
        json_schema_extra={"type": ["number", "string", "null"]},
    )
    draws_store: str | None = config_field(BNNRegressor, "draws_store")
    weights: str = config_field(BNNRegressor, "weights")
    bias_check: bool = config_field(fit_table, "bias_check")
    track: tuple[str, ...] = Field(
        (),
        description="Where else the progress goes: tensorboard (the folder tensorboard of the "
        "run), mlflow (a run with the name of the folder).",
        json_schema_extra={"items": {"type": "string", "enum": list(TRACKERS)}},
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _default_method(cls, values: Any) -> Any:
        return _named(values, "method", "mile", METHOD_SECTIONS)

    def check(self) -> None:
        """Check the names, too."""
        check_name("task", self.task, TASKS)
        check_weights(self.weights, self.method)
        if self.bias_check and self.method.name == "deep_ensemble":
            raise ValueError("bias_check=True needs chains; a deep_ensemble has no steps.")
        for name in self.track:
            check_name("track", name, TRACKERS)
        if self.max_time is not None:
            check_duration("max_time", self.max_time)
        super().check()


def parse_config(record: Any) -> RunConfig:
    """Check what a file holds, and fill in the defaults.

    Parameters
    ----------
    record : any
        What was read; must be a mapping.

    Returns
    -------
    RunConfig

    Raises
    ------
    ConfigError
        If anything is unknown, missing, of a wrong type or out of range: one sentence each, with
        the dotted path of the value.

    Examples
    --------
    >>> parse_config({"data": {"path": "a.csv", "target": "y"}, "method": {"n_warmpu": 5}})
    Traceback (most recent call last):
    ...
    mirth.core.config.ConfigError: method.n_warmpu is not known; did you mean 'method.n_warmup'?
    """
    try:
        return RunConfig.model_validate(record)
    except pydantic.ValidationError as error:
        raise ConfigError([_sentence(problem) for problem in error.errors()]) from None


def _sentence(problem: Mapping[str, Any]) -> str:
    """Say what is wrong with one value, where, and what is allowed."""
    kind, message, value = problem["type"], problem["msg"], problem["input"]
    names, section = _place([str(part) for part in problem["loc"]])
    path, fields = ".".join(names), section.model_fields
    shown = list(value) if isinstance(value, tuple) else value
    if kind == "extra_forbidden":
        near = nearest_name(names[-1], fields)
        meant = ".".join([*names[:-1], near or ""])
        hint = f"; did you mean {meant!r}?" if near else f". Known: {', '.join(fields)}."
        return f"{path} is not known{hint}"
    if isinstance(value, tuple) and kind in ("missing", "too_long"):
        name = names[-1] if kind == "too_long" else names[-2]
        place = path.rpartition(name)[0] + name
        return f"{place}={shown!r} must have {len(fields[name].default)} values."
    if kind == "missing":
        return f"{path} is missing. {fields[names[-1]].description}"
    if kind == "union_tag_invalid":
        try:
            check_name(f"{path}.name", value["name"], _CHOICES[path])
        except (TypeError, ValueError) as error:
            return str(error)
    if kind == "value_error":
        return f"{path}.{problem['ctx']['error']}" if path else str(problem["ctx"]["error"])
    if not path:
        return "A configuration must be named values, such as data: {path: ..., target: ...}."
    return f"{path}={shown!r} must be {_ALLOWED.get(kind, message[0].lower() + message[1:])}."


def _place(location: list[str]) -> tuple[list[str], type[Section]]:
    """Give the path of a value as users write it, and the section that it stands in."""
    names: list[str] = []
    section: type[Section] = RunConfig
    inner = section
    for part in location:
        choices = _CHOICES.get(".".join(names), {})
        if part in choices:  # pydantic's name of the choice
            inner = choices[part]
            continue
        names.append(part)
        section = inner
        field = section.model_fields.get(part)
        kind = None if field is None else field.annotation
        if inspect.isclass(kind) and issubclass(kind, Section):
            inner = kind
    return names, section
