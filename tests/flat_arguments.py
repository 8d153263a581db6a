"""Arguments of ``infer`` by name, for tests that vary one at a time."""

from __future__ import annotations

import dataclasses
from typing import Any

import mirth

RUN = {field.name for field in dataclasses.fields(mirth.Run)}


def in_groups(options: dict[str, Any], **run: Any) -> dict[str, Any]:
    """Put those that belong into a Run or a Keep there; ``out`` is the run directory."""
    options = dict(options)
    run |= {name: options.pop(name) for name in RUN & options.keys()}
    if "out" in options:
        run["directory"] = options.pop("out")
    if "draws_dtype" in options:
        options["keep"] = mirth.Keep(options.pop("keep", None), options.pop("draws_dtype"))
    return options | {"run": mirth.Run(**run)}
