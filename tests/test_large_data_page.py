"""The examples of docs/large_data.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "large_data.md").read_text(encoding="utf-8")


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S):
        exec(code, names)
    assert names["posterior"].num_draws == 10
    images = np.arange(16.0).reshape(1, 1, 16, 1).repeat(40, axis=0)
    changed = np.asarray(names["flip"](jax.random.key(0), images))[:, 0, :, 0]
    mirrored = changed[:, 0] == 15
    assert 5 < mirrored.sum() < 35  # of 40, half of them each
    np.testing.assert_array_equal(changed[~mirrored][0], np.arange(16))
    np.testing.assert_array_equal(changed[mirrored][0], np.arange(16)[::-1])
