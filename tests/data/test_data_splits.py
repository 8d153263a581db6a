from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirth.data import train_validation_split


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    num_rows=st.integers(2, 60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_the_parts_are_a_partition(num_rows: int, fraction: float, seed: int) -> None:
    train, validation = train_validation_split(num_rows, fraction, seed)
    assert len(train) >= 1 and len(validation) >= 1
    assert sorted([*train, *validation]) == list(range(num_rows))
    # rounding and the guarantee of one row move the size by less than one row
    assert abs(len(validation) - fraction * num_rows) < 1
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()


def test_the_seed_decides() -> None:
    first = train_validation_split(50, 0.3, seed=7)
    again = train_validation_split(50, 0.3, seed=7)
    other = train_validation_split(50, 0.3, seed=8)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_every_row_is_as_likely() -> None:
    num_splits, share = 400, 0.25
    counts = np.zeros(20)
    for seed in range(num_splits):
        counts[train_validation_split(20, share, seed)[1]] += 1
    deviation = np.sqrt(num_splits * share * (1 - share))
    assert np.abs(counts - num_splits * share).max() < 4 * deviation


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_stratified_parts(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    num_rows = len(labels)
    room = num_rows - len(counts)
    if num_rows < 2 or min(max(round(fraction * num_rows), 1), num_rows - 1) > room:
        return
    train, validation = train_validation_split(num_rows, fraction, seed, stratify=labels)
    assert sorted([*train, *validation]) == list(range(num_rows))
    assert set(labels[train]) == set(range(len(counts)))


def test_stratified_parts_keep_the_proportions() -> None:
    labels = np.random.default_rng(0).permutation(["a"] * 60 + ["b"] * 30 + ["c"] * 9 + ["d"])
    _, validation = train_validation_split(100, 0.2, seed=0, stratify=labels)
    # shares 12, 6, 1.8 and 0.2: the largest remainder is c's
    names, counts = np.unique(labels[validation], return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"a": 12, "b": 6, "c": 2}
    other = train_validation_split(100, 0.2, seed=1, stratify=labels)[1]
    assert not np.array_equal(validation, other)


def test_a_class_keeps_a_training_row_even_if_most_rows_validate() -> None:
    labels = np.array([0] * 16 + [1] * 2 + [2] * 2)
    train, validation = train_validation_split(20, 0.85, seed=3, stratify=labels)
    assert len(validation) == 17
    assert sorted(labels[train]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_rows": 1}, "num_rows=1 must be at least 2"),
        ({"fraction": 0.0}, r"fraction=0.0 must be a finite number in \(0, 1\)"),
        ({"fraction": 1.0}, r"fraction=1.0 must be a finite number in \(0, 1\)"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"stratify": np.zeros(9)}, r"stratify must have shape \(10,\).*got \(9,\)"),
        ({"stratify": np.arange(10)}, "stratify has 10 classes in 10 rows: 5 validation rows"),
        ({"stratify": np.arange(10) // 2, "fraction": 0.6}, "Lower fraction to at most 0.5"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_validation_split(**{"num_rows": 10, "fraction": 0.5, "seed": 0, **arguments})
