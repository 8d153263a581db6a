"""Configurations as YAML: read, written, changed by overrides, explained by an example."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from mirth.core.config import ConfigError
from mirth.core.folders import write_text
from mirth.core.validation import nearest_name
from mirth.experiments.config import RunConfig, Section, parse_config

_WIDTH = 96
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as the number that it is; YAML 1.1 takes it for text."""


class _Dumper(yaml.SafeDumper):
    """Puts the text 1e-3 into quotes, so that it is read as text again."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a configuration and check it.

    Parameters
    ----------
    path : str or path
        YAML file.
    overrides : iterable of str, default=()
        Values to put in place of those of the file, such as ``"method.n_warmup=5000"``; what
        follows the first ``=`` is YAML.

    Returns
    -------
    RunConfig

    Raises
    ------
    FileNotFoundError
        If there is no such file; the nearest name is suggested.
    ConfigError
        If it is no YAML, or a value cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = nearest_name(path.name, siblings)
        hint = f" Did you mean {str(path.parent / near)!r}?" if near else ""
        raise FileNotFoundError(f"there is no file {path}.{hint}")
    record = _load(path.read_text(encoding="utf-8"), str(path))
    for override in overrides:
        record = with_override(record, override)
    return parse_config(record)


def write_config(path: str | Path, config: RunConfig) -> None:
    """Write a configuration with all its values, whole or not at all.

    Parameters
    ----------
    path : str or path
        The file.
    config : RunConfig
        What to write.
    """
    write_text(path, _dump(config.model_dump(mode="json")))


def with_override(record: Any, override: str) -> Any:
    """Put a value into what a file holds.

    Parameters
    ----------
    record : any
        What was read.
    override : str
        Such as ``"method.n_warmup=5000"``.

    Returns
    -------
    dict
        A copy with the value.

    Raises
    ------
    ConfigError
        If it has no ``=``, its value is no YAML, or its path leads through something that is no
        group of values.

    Examples
    --------
    >>> with_override({"method": {"n_warmup": 100}}, "method.start.patience=5")
    {'method': {'n_warmup': 100, 'start': {'patience': 5}}}
    """
    path, equals, text = override.partition("=")
    if not equals:
        raise ConfigError([f"--set {override} must be PATH=VALUE, such as method.n_warmup=5000."])
    head, dot, rest = path.strip().partition(".")
    if not isinstance(record, dict):
        raise ConfigError([f"--set {override}: {head!r} is no part of {record!r}."])
    if dot:
        return record | {head: with_override(record.get(head, {}), f"{rest}={text}")}
    return record | {head: _load(text, f"--set {override}")}


def example_yaml() -> str:
    """Write a configuration with the defaults, and what each value means.

    Returns
    -------
    str
        YAML; only the path and the target have to be changed.

    Examples
    --------
    >>> print(example_yaml()[:95])
    # The table, and how its rows are used.
    data:
      # CSV file with numbers, categories and missing
    """
    config = parse_config({"data": {"path": "data.csv", "target": "y"}})
    return "\n".join(_explained(config, "")) + "\n"


def _explained(section: Section, indent: str) -> Iterator[str]:
    """Give the lines of a section with comments."""
    last, comment = "", f"{indent}# "
    for name, field in type(section).model_fields.items():
        text = (field.description or "").replace("None", "null").replace("False", "false")
        if text != last:  # some fields are described together
            yield from textwrap.wrap(
                text, _WIDTH, initial_indent=comment, subsequent_indent=comment
            )
        last, value = text, getattr(section, name)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _explained(value, indent + "  ")
        elif isinstance(value, tuple):
            yield f"{indent}{name}: {_dump(list(value), flow=True).strip()}"
        else:
            yield indent + _dump({name: value}).strip()


def _load(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError([f"{origin} is no YAML: {' '.join(str(error).split())}."]) from None


def _dump(value: Any, *, flow: bool = False) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=flow, width=_WIDTH)
