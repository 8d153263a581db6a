"""What the functions of this package share: input checks and blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

BLOCK_VALUES = 2**19
"""Numbers in one intermediate array: 4 MiB in float64, so that a few of them stay in the cache."""

_ROUNDING = 1e-4
"""Slack of probabilities: above float32 rounding over many classes, below what matters."""


def column_blocks(num_columns: int, column_size: int) -> Iterator[slice]:
    """Cut the columns of a (column_size, num_columns) array into blocks of BLOCK_VALUES numbers."""
    width = max(1, BLOCK_VALUES // max(1, column_size))
    return (slice(start, start + width) for start in range(0, num_columns, width))


def as_real(name: str, value: ArrayLike, axes: str | None = None) -> Float[np.ndarray, "..."]:
    """Convert to a float64 array of finite numbers, with the axes that ``axes`` names."""
    return as_native(name, value, axes).astype(np.float64, copy=False)


def as_native(name: str, value: ArrayLike, axes: str | None = None) -> np.ndarray:
    """Check the same, but leave float32 as it is: for draws, too many to be copied as a whole."""
    array = as_float(name, value, axes)
    num_bad = array.size - np.count_nonzero(np.isfinite(array))
    if num_bad:
        raise ValueError(
            f"{name} has {num_bad} NaN or infinite values among {array.size}; find out where they "
            "come from, or leave these rows or draws out explicitly."
        )
    return array


def as_float(name: str, value: ArrayLike, axes: str | None = None) -> np.ndarray:
    """Convert to a floating point array, NaN and infinities allowed, with the named axes."""
    array = np.asarray(value)
    check_axes(name, array, axes)
    if array.dtype.kind == "f":
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}.") from None


def as_log_density(log_prob: ArrayLike, axes: str, name: str = "log_prob") -> np.ndarray:
    """Check axes and values; the dtype stays, so that a large float32 array is not copied."""
    array = as_float(name, log_prob, axes)
    for problem, is_bad in (("NaN", np.isnan(array)), ("+inf", np.isposinf(array))):
        if is_bad.any():
            num_draws, num_rows = array.size // array.shape[-1], array.shape[-1]
            by_draw = is_bad.reshape(num_draws, num_rows)
            raise ValueError(
                f"{name} is {problem} in {by_draw.any(axis=1).sum()} of {num_draws} draws and "
                f"{by_draw.any(axis=0).sum()} of {num_rows} rows; no density gives that. Look for "
                "non-finite parameters or inputs, or leave these draws out explicitly."
            )
    return array


def log_mean_exp(log_prob: np.ndarray, axis: int) -> np.ndarray:
    """Compute log(mean(exp(log_prob))) in float64, with -inf for a mean of zero."""
    values = log_prob.astype(np.float64, copy=False)
    top = values.max(axis=axis, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        mean = np.log(np.mean(np.exp(values - top), axis=axis))
    return mean + top.squeeze(axis)


def as_counts(weights: ArrayLike | None, num_rows: int) -> Float[np.ndarray, " data"]:
    """Check how often each row counted."""
    if weights is None:
        return np.ones(num_rows)
    counts = as_real("weights", weights)
    if counts.shape != (num_rows,) or counts.min() < 0:
        raise ValueError(
            f"weights has shape {counts.shape} and a least value of {counts.min():g}; pass one "
            f"number of at least 0 for each of the {num_rows} rows."
        )
    return counts


def check_axes(name: str, array: np.ndarray, axes: str | None) -> None:
    """Check the number of axes and that none is empty; a trailing "..." allows more axes."""
    if axes is not None:
        required = [axis for axis in axes.split(", ") if axis != "..."]
        is_open = "..." in axes
        if array.ndim < len(required) or (array.ndim > len(required) and not is_open):
            raise ValueError(f"{name} must have axes ({axes}), got shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} is empty: it has shape {array.shape}.")


def check_same_shape(**arrays: np.ndarray) -> None:
    """Check that arrays have one shape: broadcasting (N, 1) against (N,) would score N^2 pairs."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"These must have the same shape: {listed}. Reshape or squeeze one.")


def check_positive(name: str, array: np.ndarray) -> None:
    """Check that all numbers are above zero."""
    if array.min() <= 0:
        raise ValueError(f"{name} must be positive everywhere, its least value is {array.min()}.")


def as_class_problem(
    y_index: ArrayLike, probabilities: ArrayLike
) -> tuple[Int[np.ndarray, " data"], Float[np.ndarray, "data classes"]]:
    """Check class indices and probabilities against each other."""
    probability = as_real("probabilities", probabilities, "data, classes")
    if probability.min() < -_ROUNDING or abs(probability.sum(axis=1) - 1).max() > _ROUNDING:
        raise ValueError(
            "Each row of probabilities must be non-negative and sum to 1; did you pass logits?"
        )
    index = np.asarray(y_index)
    if index.dtype.kind not in "iub":
        raise ValueError(
            f"y_index must hold integer class indices, got dtype {index.dtype}; encode the labels "
            "as 0 ... classes - 1 first."
        )
    num_rows, num_classes = probability.shape
    if index.shape != (num_rows,):
        raise ValueError(f"y_index must have shape ({num_rows},), got {index.shape}.")
    if index.min() < 0 or index.max() >= num_classes:
        raise ValueError(
            f"y_index must be within 0 ... {num_classes - 1} because probabilities has "
            f"{num_classes} columns, got {index.min()} ... {index.max()}."
        )
    return index.astype(np.intp), probability


def as_pit(pit: ArrayLike) -> Float[np.ndarray, " data"]:
    """Check probability integral transforms."""
    array = as_real("pit", pit).ravel()
    if array.min() < 0 or array.max() > 1:
        raise ValueError(
            "pit must hold values of a distribution function, between 0 and 1; got "
            f"{array.min()} ... {array.max()}."
        )
    return array


def as_interval(
    y: ArrayLike, lower: ArrayLike, upper: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check targets and interval bounds against each other."""
    target = as_real("y", y)
    low, high = as_bounds(lower, upper)
    check_same_shape(y=target, lower=low, upper=high)
    return target, low, high


def as_bounds(lower: ArrayLike, upper: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check interval bounds against each other."""
    low, high = as_real("lower", lower), as_real("upper", upper)
    check_same_shape(lower=low, upper=high)
    num_crossed = np.count_nonzero(low > high)
    if num_crossed:
        raise ValueError(
            f"lower is above upper in {num_crossed} of {low.size} intervals; swap them?"
        )
    return low, high
