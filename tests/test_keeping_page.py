"""The examples of docs/keeping.md run, one after the other."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "keeping.md").read_text(encoding="utf-8")
FIT = "mirth.BNNRegressor(random_state=0)"
SHORT = (
    "mirth.BNNRegressor((8,), n_members=2, random_state=0, method=mirth.MILE(n_warmup=200, "
    "n_samples=40, start=mirth.DeepEnsemble(max_epochs=30)))"
)


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unoptimised: None) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.S))
    assert FIT in code
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        # Chains this short are not healthy, and leave too few draws for the tails of loo.
        warnings.simplefilter("ignore", UserWarning)
        exec(code.replace(FIT, SHORT), names)
    X, small = names["X_rest"], names["small"]
    np.testing.assert_array_equal(names["loaded"].predict(X), names["model"].predict(X))
    np.testing.assert_allclose(names["result"]["mean"], small.predict(X), rtol=1e-4)
    np.testing.assert_array_equal(names["kept"].predict(X), names["model"].predict(X))
    assert names["status"].state == "finished" and names["status"].phase == "sampling"
    assert (tmp_path / "small.mirth").stat().st_size < (tmp_path / "model.mirth").stat().st_size
