"""What infer refuses before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mirth

pytestmark = pytest.mark.usefixtures("unoptimised")

X = np.linspace(-1, 1, 12)[:, None]
CLASSES = np.arange(12) % 3


def model(likelihood: Any) -> mirth.Model:
    return mirth.Model(mirth.MLP((3,), num_outputs=likelihood.num_outputs), likelihood)


@pytest.mark.parametrize(
    ("likelihood", "y", "message"),
    [
        (mirth.Normal(), np.zeros((12, 2)), r"y has shape \(12, 2\), but Normal takes one target"),
        (mirth.Categorical(num_classes=2), CLASSES, r"from 0 to 1; .* has 2 in row 2"),
        (mirth.Categorical(num_classes=3), CLASSES - 1, r"from 0 to 2; .* has -1 in row 0"),
        (mirth.Categorical(num_classes=3), CLASSES / 2, "is of type float32"),
    ],
)
def test_targets_that_the_likelihood_does_not_have(likelihood: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mirth.infer(model(likelihood), mirth.Dataset(X, y))
    good = mirth.Dataset(X, CLASSES if likelihood.has_classes else np.zeros(12))
    if likelihood.num_outputs == 3 or not likelihood.has_classes:
        with pytest.raises(ValueError, match=message):
            mirth.infer(model(likelihood), good, validation=mirth.Dataset(X, y))


def test_validation_rows_that_do_not_fit() -> None:
    data = mirth.Dataset(X, X[:, 0])
    with pytest.raises(TypeError, match=r"validation must be a mirth\.Dataset.*not tuple"):
        mirth.infer(model(mirth.Normal()), data, validation=(X, X[:, 0]))  # type: ignore[arg-type]
    wide = mirth.Dataset(np.hstack([X, X]), X[:, 0])
    with pytest.raises(ValueError, match="validation has 2 features per row, but dataset has 1"):
        mirth.infer(model(mirth.Normal()), data, validation=wide)


def test_the_time_between_checkpoints_is_no_negative_number(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="checkpoint_seconds=-1"):
        mirth.infer(
            model(mirth.Normal()),
            mirth.Dataset(X, X[:, 0]),
            run=mirth.Run(tmp_path / "run", checkpoint_seconds=-1),
        )
    assert not (tmp_path / "run").exists()
