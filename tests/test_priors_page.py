"""The examples of docs/priors.md run, and its table is the one that is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mirth.model import PRIORS

PAGE = (Path(__file__).parent.parent / "docs" / "priors.md").read_text(encoding="utf-8")


def test_the_examples() -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S):
        exec(code, names)
    assert names["prior"].table(names["weights"]) in PAGE
    assert names["params"].keys() == {"network", "hyper"}


def test_every_prior_has_a_row_with_its_defaults() -> None:
    for name, prior in PRIORS.items():
        fields = [f"{k}={v:g}" for k, v in prior().get_params().items() if v is not None]
        assert f"| `{name}` | `{prior.__name__}({', '.join(fields)})` |" in PAGE
