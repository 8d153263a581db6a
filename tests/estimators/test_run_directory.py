"""Estimators with a run directory: the same fit goes on there, another one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from mirth import BNNClassifier, BNNRegressor
from mirth.inference.store.run_folder import RunFolderError

pytestmark = pytest.mark.usefixtures("unoptimised")


def num_checkpoints(folder: Path) -> int:
    """Checkpoints that were ever written."""
    return 1 + max(int(p.stem.split("-")[1]) for p in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("kind", [BNNRegressor, BNNClassifier])
def test_the_same_fit_goes_on(
    kind: Any, table: Any, labels: np.ndarray, tiny: dict[str, Any], tmp_path: Path
) -> None:
    X, y = table[0], table[1] if kind is BNNRegressor else labels
    plain = kind(**tiny).fit(X, y)
    estimator = kind(**tiny, run_directory=tmp_path / "run")
    first = estimator.fit(X, y).posterior_
    again = clone(estimator).fit(X, y).posterior_
    for posterior in (first, again):
        np.testing.assert_array_equal(posterior.positions(), plain.posterior_.positions())
    assert again.seconds == first.seconds  # read, not fitted again
    with pytest.raises(RunFolderError, match="has a run with data="):
        clone(estimator).fit(X + 1e-3 * X**2, y)


def test_time_between_checkpoints(table: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    counts = []
    for seconds in (0.0, 1e6):
        folder = tmp_path / f"{seconds:g}"
        BNNRegressor(**tiny, run_directory=str(folder), checkpoint_seconds=seconds).fit(*table)
        counts.append(num_checkpoints(folder))
    assert counts[0] > counts[1] == 1
    with pytest.raises(ValueError, match=r"checkpoint_seconds=-1"):
        BNNRegressor(**tiny, checkpoint_seconds=-1).fit(*table)


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_a_run_directory_needs_a_seed(
    table: Any, tiny: dict[str, Any], tmp_path: Path, random_state: Any
) -> None:
    options = tiny | {"random_state": random_state, "run_directory": tmp_path / "run"}
    with pytest.raises(ValueError, match="random_state=.*give an integer"):
        BNNRegressor(**options).fit(*table)
    assert not (tmp_path / "run").exists()


def test_diagnostics_read_the_draws_of_the_directory(
    regressor: BNNRegressor, table: Any, short: dict[str, Any], tmp_path: Path
) -> None:
    """They handed arrays on the disk to a compiled program."""
    stored = BNNRegressor(**short, run_directory=tmp_path / "run").fit(*table)
    assert stored.posterior_.num_draws >= 8
    assert str(stored.diagnostics_) == str(regressor.diagnostics_)
