"""Splits into rows to learn from and rows to look at."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Shaped
from numpy import ndarray

from mirth.core.validation import check_int, check_real


def train_validation_split(
    num_rows: int,
    fraction: float,
    seed: int,
    stratify: Shaped[ndarray, " data"] | None = None,
) -> tuple[Int[ndarray, " train"], Int[ndarray, " validation"]]:
    r"""Draw the validation rows at random, the same ones for the same arguments.

    The validation part has :math:`n = \text{fraction} \cdot \text{num\_rows}` rows, rounded, at
    least one and at most all but one. With ``stratify``, a class of :math:`c` rows gets
    :math:`c\,n/\text{num\_rows}` of them (largest remainder method), but never all its rows: every
    class stays in the training part, a class with a single row entirely.

    Parameters
    ----------
    num_rows : int
        Number of rows, at least 2.
    fraction : float
        Share of the rows for validation, between 0 and 1.
    seed : int
        Non-negative; says which rows.
    stratify : array of shape (num_rows,), optional
        Class labels whose proportions both parts shall keep.

    Returns
    -------
    tuple of two arrays, of shapes (train,) and (validation,)
        Row numbers of both parts, ascending.

    Raises
    ------
    ValueError
        If an argument is out of range, ``stratify`` has another length, or there are so many
        classes that the validation part cannot leave a row of each for training.

    Examples
    --------
    >>> train, validation = train_validation_split(10, 0.2, seed=0)
    >>> len(train), len(validation)
    (8, 2)
    >>> labels = ["a"] * 8 + ["b"] * 2
    >>> train, validation = train_validation_split(10, 0.5, seed=0, stratify=labels)
    >>> sorted(labels[i] for i in validation)
    ['a', 'a', 'a', 'a', 'b']
    """
    num_rows = check_int("num_rows", num_rows, minimum=2)
    check_real("fraction", fraction, low=0, high=1, low_open=True, high_open=True)
    seed = check_int("seed", seed, minimum=0)
    num_validation = min(max(round(fraction * num_rows), 1), num_rows - 1)
    classes = _class_numbers(stratify, num_rows)

    order = np.random.default_rng(seed).permutation(num_rows)
    shuffled = classes[order]
    takes = _rows_per_class(np.bincount(classes), num_validation)
    validation = np.concatenate([order[shuffled == k][:take] for k, take in enumerate(takes)])
    is_validation = np.zeros(num_rows, dtype=bool)
    is_validation[validation] = True
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def _class_numbers(
    stratify: Shaped[ndarray, " data"] | None, num_rows: int
) -> Int[ndarray, " data"]:
    if stratify is None:
        return np.zeros(num_rows, dtype=int)
    labels = np.asarray(stratify)
    if labels.shape != (num_rows,):
        raise ValueError(
            f"stratify must have shape ({num_rows},), one label for each row, got {labels.shape}."
        )
    return np.unique(labels, return_inverse=True)[1]


def _rows_per_class(
    counts: Int[ndarray, " classes"], num_validation: int
) -> Int[ndarray, " classes"]:
    most = counts - 1  # a class without a training row cannot be learned
    if num_validation > most.sum():
        raise ValueError(
            f"stratify has {len(counts)} classes in {counts.sum()} rows: {num_validation} "
            f"validation rows leave some class without a training row. Lower fraction to at most "
            f"{most.sum() / counts.sum():.3g}, or pass stratify=None."
        )
    share = counts * num_validation / counts.sum()
    takes = np.minimum(counts * num_validation // counts.sum(), most)
    while takes.sum() < num_validation:
        takes[np.argmax(np.where(takes < most, share - takes, -np.inf))] += 1
    return takes
