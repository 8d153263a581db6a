"""Scaling of inputs and targets with the statistics of the training rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from mirth.core.validation import check_real
from mirth.data.wild import ROUNDINGS, find_wild_values

_RANGE = (1e-140, 1e140)  # of magnitudes whose squares, and sums of them, fit into float64


@dataclasses.dataclass(frozen=True, eq=False)
class Standardizer:
    r"""The affine map that gives training columns mean 0 and standard deviation 1.

    .. math:: z_j = (x_j - \text{mean}_j) / \text{scale}_j

    where :math:`x_j` is first clipped to ``low`` and ``high``, if they are given. One class serves
    inputs and targets: a vector of N targets is one column, with statistics of shape (1,). All
    arithmetic is in float64, so a large offset costs no digits as long as the input is still in
    float64.

    Parameters
    ----------
    mean : array of shape (features,)
        Mean of each column, in the column's unit.
    scale : array of shape (features,)
        Standard deviation (divisor N) of each column, in the column's unit; 1 for a constant one.
    low, high : array of shape (features,), optional
        Bounds to which values are clipped before they are scaled, in the column's unit; None clips
        nothing.

    Examples
    --------
    >>> import numpy as np
    >>> scaler = Standardizer.fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
    >>> scaler.mean.tolist(), scaler.scale.tolist()
    ([2.0, 7.0], [1.0, 1.0])
    >>> scaler.transform(np.array([[5.0, 7.0]])).tolist()
    [[3.0, 0.0]]
    """

    mean: Float[ndarray, " features"]
    scale: Float[ndarray, " features"]
    low: Float[ndarray, " features"] | None = None
    high: Float[ndarray, " features"] | None = None

    @classmethod
    def fit(
        cls,
        x: Float[ndarray, "data ..."],
        weights: Float[ndarray, " data"] | None = None,
        *,
        reach: float | None = None,
        names: Sequence[str] | None = None,
    ) -> Self:
        r"""Compute weighted column means and standard deviations.

        .. math:: \text{mean}_j = \sum_n w_n x_{nj} / \sum_n w_n, \qquad
                  \text{scale}_j^2 = \sum_n w_n (x_{nj} - \text{mean}_j)^2 / \sum_n w_n

        A column counts as constant if its standard deviation is at most 4 machine epsilons of the
        type of ``x`` times its largest magnitude: that much comes from rounding alone. In float32
        this is a relative spread of 4.8e-7. Such a column keeps its unit (scale 1) and becomes 0;
        where the rounding itself exceeds 4 epsilons in that unit, the scale is as large as brings
        its standard deviation down to 4 epsilons.

        With ``reach``, the statistics of a column are those without its wild values, which
        :func:`~mirth.data.wild.find_wild_values` finds whatever the weights, and values are clipped
        at so many times the distance of the ends of the other values from their median,

        .. math:: \text{low}_j = \text{median}_j
                  - \text{reach} \max(\text{median}_j - \text{lowest}_j, \text{scale}_j)

        and ``high`` likewise. No other value of the training rows is clipped, and a column without
        wild ones has the statistics that it has otherwise, to the last bit.

        Parameters
        ----------
        x : array of shape (N, features) or (N,)
            Finite values of the training rows; (N,) is one column.
        weights : array of shape (N,), optional
            Non-negative weight of each row, not all zero; None means 1.
        reach : float, optional
            At least 1: where to clip, and then wild values are left out of the statistics. None
            means all values and no bounds.
        names : sequence of str, optional
            What to call the columns in messages; None means ``"column 0 of x"`` and so on.

        Returns
        -------
        Standardizer
            The fitted map.

        Raises
        ------
        ValueError
            If ``x`` has no rows or more than two axes, ``reach`` is below 1, or a column that
            varies has magnitudes whose squares are out of the range of float64.

        Examples
        --------
        >>> import numpy as np
        >>> Standardizer.fit(np.array([0.0, 4.0]), weights=np.array([3.0, 1.0])).mean.tolist()
        [1.0]
        >>> x = np.append(np.linspace(-1.0, 1.0, 21), 1e6)
        >>> scaler = Standardizer.fit(x, reach=3.0)
        >>> scaler.scale.round(2), scaler.low.round(2), scaler.high.round(2)
        (array([0.61]), array([-3.1]), array([2.9]))
        """
        values = np.asarray(x)
        if values.ndim not in (1, 2) or len(values) == 0:
            raise ValueError(
                f"x must have shape (N, features) or (N,) with at least one row, "
                f"got {values.shape}."
            )
        rounding = np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps
        columns = values.reshape(len(values), -1).astype(np.float64)
        if reach is None:
            _check_magnitudes(columns, names)
            return cls(*_statistics(columns, weights, rounding))
        check_real("reach", reach, low=1.0)
        found = find_wild_values(columns, rounding)
        others = columns
        if found.is_wild.any():
            others = columns.copy(order="K")  # sums in another order would differ in the last bit
            others[found.is_wild] = np.broadcast_to(found.median, columns.shape)[found.is_wild]
        _check_magnitudes(others, names)
        mean, scale = _statistics(others, weights, rounding)
        for j in np.flatnonzero(found.is_wild.any(axis=0)):
            rows = ~found.is_wild[:, j]
            kept = None if weights is None else np.asarray(weights)[rows]
            mean[j : j + 1], scale[j : j + 1] = _statistics(
                columns[rows, j : j + 1], kept, rounding
            )
        low = found.median - reach * np.maximum(found.median - found.lowest, scale)
        high = found.median + reach * np.maximum(found.highest - found.median, scale)
        return cls(mean, scale, low, high)

    def is_beyond(self, x: Float[ndarray, "data ..."]) -> Bool[ndarray, "data ..."]:
        """Tell which values are clipped.

        Parameters
        ----------
        x : array of shape (..., features), or (N,) if there is one column
            Values in the columns' units.

        Returns
        -------
        bool array of the shape of ``x``
            Whether they are outside of ``low`` to ``high``.

        Examples
        --------
        >>> import numpy as np
        >>> one = np.ones(1)
        >>> Standardizer(0 * one, one, -5 * one, 5 * one).is_beyond(np.array([4.0, 1e6])).tolist()
        [False, True]
        """
        values = self._columns(x)
        if self.low is None or self.high is None:
            return np.zeros(values.shape, bool)
        return (values < self.low) | (values > self.high)

    def transform(self, x: Float[ndarray, "data ..."]) -> Float[ndarray, "data ..."]:
        """Map from the columns' units to standard units.

        Parameters
        ----------
        x : array of shape (..., features), or (N,) if there is one column
            Values in the columns' units.

        Returns
        -------
        array of the shape of ``x``, float32
            Values in units of one standard deviation, clipped if there are bounds.

        Raises
        ------
        ValueError
            If the last axis of ``x`` does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> Standardizer(np.array([1.0]), np.array([2.0])).transform(np.array([5.0, 1.0])).tolist()
        [2.0, 0.0]
        """
        values = self._columns(x)
        if self.low is not None or self.high is not None:
            values = np.clip(values, self.low, self.high)
        return ((values - self.mean) / self.scale).astype(np.float32)

    def inverse(self, z: Float[ndarray, "data ..."]) -> Float[ndarray, "data ..."]:
        """Map from standard units back to the columns' units.

        Parameters
        ----------
        z : array of shape (..., features), or (N,) if there is one column
            Values in units of one standard deviation.

        Returns
        -------
        array of the shape of ``z``, float32
            Values in the columns' units.

        Raises
        ------
        ValueError
            If the last axis of ``z`` does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> Standardizer(np.array([1.0]), np.array([2.0])).inverse(np.array([2.0, 0.0])).tolist()
        [5.0, 1.0]
        """
        return (self._columns(z) * self.scale + self.mean).astype(np.float32)

    def _columns(self, values: Any) -> Float[ndarray, "data ..."]:
        array = np.asarray(values, dtype=np.float64)
        is_single = array.ndim == 1 and self.mean.size == 1
        if not is_single and array.shape[-1:] != self.mean.shape:
            raise ValueError(
                f"the array has shape {array.shape}, but the scaling was fitted to "
                f"{self.mean.size} column(s); its last axis must have that length."
            )
        return array


def _statistics(
    columns: Float[ndarray, "data features"],
    weights: Float[ndarray, " data"] | None,
    rounding: float,
) -> tuple[Float[ndarray, " features"], Float[ndarray, " features"]]:
    """Mean and standard deviation of each column; 1 for a constant one."""
    # Relative to the first row a constant column is exactly 0, whatever the order of summation.
    first = columns[0]
    shifted = columns - first
    centre = np.average(shifted, axis=0, weights=weights)
    spread = np.sqrt(np.average((shifted - centre) ** 2, axis=0, weights=weights))
    noise = ROUNDINGS * rounding
    is_constant = spread <= noise * np.abs(columns).max(axis=0)
    return first + centre, np.where(is_constant, np.maximum(1.0, spread / noise), spread)


def _check_magnitudes(
    columns: Float[ndarray, "data features"], names: Sequence[str] | None
) -> None:
    """Refuse columns whose standard deviation would overflow, or vanish."""
    largest = np.abs(columns).max(axis=0)
    varies = columns.min(axis=0) < columns.max(axis=0)
    for j in np.flatnonzero(varies & ((largest < _RANGE[0]) | (largest > _RANGE[1]))).tolist():
        name = f"column {j} of x" if names is None else names[j]
        row = int(np.abs(columns[:, j]).argmax())
        problem, act = ("large", "divide") if largest[j] > 1 else ("small", "multiply")
        raise ValueError(
            f"{name} has {columns[row, j]:g} in row {row}, which is too {problem} for its standard "
            f"deviation to be computed; {act} the column by {_power(largest[j]):g}, or drop it."
        )


def _power(magnitude: float) -> float:
    """Power of ten of a magnitude or of its inverse, whichever is large."""
    return float(10.0 ** min(300, round(abs(np.log10(magnitude)))))
