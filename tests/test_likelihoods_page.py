"""The examples of docs/likelihoods.md run, and its table has every likelihood."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirth.model.likelihoods import CLASSIFICATION, REGRESSION

PAGE = (Path(__file__).parent.parent / "docs" / "likelihoods.md").read_text(encoding="utf-8")
SHORT = (
    "mirth.BNNRegressor((4,), n_members=2, method=mirth.DeepEnsemble(learning_rate=0.03, "
    "max_epochs=20), "
)


def run(heading: str) -> dict[str, Any]:
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    assert "mirth.BNNRegressor((16,), " in code
    names: dict[str, Any] = {}
    exec(code.replace("mirth.BNNRegressor((16,), ", SHORT), names)
    return names


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
def test_examples() -> None:
    counts = run("Counts")
    np.testing.assert_array_equal(counts["interval"], np.round(counts["interval"]))
    assert (0 < counts["probability_of_none"]).all() and counts["median"].shape == (200, 1)
    assert (run("Positive targets")["lower"] > 0).all()
    several = run("Several targets")
    assert several["interval"].shape == (200, 2, 2) and several["joint"].shape == (100, 200, 2)
    assert several["density"].shape == (200,)


def test_the_table_is_complete() -> None:
    for name, kind in (REGRESSION | CLASSIFICATION).items():
        assert f"| `{name}` | `{kind.__name__}` |" in PAGE
