"""The rows of a run: one order, views instead of copies, checked once."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.data import dataset as module
from mirth.inference.rows import Rows, batch_of

X = np.arange(24.0).reshape(8, 3)
DATA = mirth.Dataset(X, np.arange(8.0))
WEIGHTED = mirth.Dataset(X, np.arange(8.0), np.full(8, 2.0))


def test_what_is_cut_is_a_view() -> None:
    rows = Rows.cut(WEIGHTED, 5)
    whole = jax.tree.leaves(batch_of(WEIGHTED))
    for part in (rows.train, rows.validation, rows.all):
        leaves = jax.tree.leaves(part)
        assert len(leaves) == 3
        assert all(np.shares_memory(a, b) for a, b in zip(leaves, whole, strict=True))
    joined = np.concatenate([rows.train.y, rows.validation.y])
    np.testing.assert_array_equal(joined, rows.all.y)


def test_rows_that_came_apart_are_joined_once() -> None:
    rows = Rows(batch_of(DATA), batch_of(WEIGHTED))
    assert rows.all is rows.all
    np.testing.assert_array_equal(rows.all.weights, [1.0] * 8 + [2.0] * 8)
    np.testing.assert_array_equal(rows.all.x, np.concatenate([X, X]))
    assert Rows(batch_of(DATA), batch_of(DATA)).all.weights is None


def test_rows_that_were_checked_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[Any] = []
    original = module.as_rows
    monkeypatch.setattr(module, "as_rows", lambda *args: checks.append(args) or original(*args))
    data = mirth.Dataset(X, np.arange(8.0))
    model = mirth.Model(mirth.MLP((2,), num_outputs=2), mirth.Normal())
    mirth.infer(model, data, mirth.DeepEnsemble(max_epochs=1), num_chains=1)
    assert len(checks) == 1
