"""The layers that a table gets if none are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mirth import BNNClassifier, BNNRegressor, DeepEnsemble

pytestmark = pytest.mark.usefixtures("unoptimised")

SHORT: dict[str, Any] = {"method": DeepEnsemble(max_epochs=1), "n_members": 2, "random_state": 0}


@pytest.mark.parametrize(
    ("num_rows", "depth"),
    # The classifier below has few rows.
    [
        pytest.param(100, 3, marks=pytest.mark.slow),
        pytest.param(1199, 3, marks=pytest.mark.slow),
        (1200, 4),
    ],
)
def test_layers_follow_from_the_rows(num_rows: int, depth: int) -> None:
    x = np.random.default_rng(0).normal(size=(num_rows, 2))
    regressor = BNNRegressor(**SHORT).fit(x, x[:, 0])
    assert regressor.model_.network.hidden_layer_sizes == (16,) * depth
    # As scikit-learn asks: what the user has said stays as it is.
    assert regressor.hidden_layer_sizes is None


def test_a_classifier_chooses_too_and_what_is_named_is_taken() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = (x[:, 0] > 0).astype(int)
    assert BNNClassifier(**SHORT).fit(x, y).model_.network.hidden_layer_sizes == (16, 16, 16)
    named = BNNClassifier((5,), **SHORT).fit(x, y)
    assert named.model_.network.hidden_layer_sizes == (5,)
    assert named.model_.network.activation == "silu"
