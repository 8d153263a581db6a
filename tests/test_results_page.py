"""The examples of docs/results.md run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "results.md").read_text(encoding="utf-8")


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unoptimised: None) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)), names)
    new = names["new"]
    np.testing.assert_array_equal(names["same"].T, [names["low"], names["high"]])
    np.testing.assert_allclose(names["answer"]["mean"], new.mean(), rtol=1e-4)
    inside = (names["low"] <= names["y"][names["test"]]) & (
        names["y"][names["test"]] <= names["high"]
    )
    # 100 calibration and 100 test rows: beta-binomial, four standard deviations of 0.042 below 0.9.
    assert inside.mean() > 0.73
    unseen = names["digits"][names["unseen"]]
    # 200 and 137 rows: standard deviation 0.024; the score aps covers at least as often.
    assert names["possible"][np.arange(len(unseen)), unseen].mean() > 0.95 - 4 * 0.024
