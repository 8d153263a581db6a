"""Scaling of inputs and targets with the statistics of the training rows."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from numpy import ndarray

# A column of one number that was computed in several ways differs by a few roundings.
ROUNDINGS = 4.0


@dataclasses.dataclass(frozen=True, eq=False)
class Standardizer:
    r"""The affine map that gives training columns mean 0 and standard deviation 1.

    .. math:: z_j = (x_j - \text{mean}_j) / \text{scale}_j

    One class serves inputs and targets: a vector of N targets is one column, with statistics of
    shape (1,). All arithmetic is in float64, so a large offset costs no digits as long as the
    input is still in float64.

    Parameters
    ----------
    mean : array of shape (features,)
        Mean of each column, in the column's unit.
    scale : array of shape (features,)
        Standard deviation (divisor N) of each column, in the column's unit; 1 for a constant one.

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

    @classmethod
    def fit(
        cls, x: Float[ndarray, "data ..."], weights: Float[ndarray, " data"] | None = None
    ) -> Self:
        r"""Compute weighted column means and standard deviations.

        .. math:: \text{mean}_j = \sum_n w_n x_{nj} / \sum_n w_n, \qquad
                  \text{scale}_j^2 = \sum_n w_n (x_{nj} - \text{mean}_j)^2 / \sum_n w_n

        A column counts as constant if its standard deviation is at most 4 machine epsilons of the
        type of ``x`` times its largest magnitude: that much comes from rounding alone. In float32
        this is a relative spread of 4.8e-7. Such a column keeps its unit (scale 1) and becomes 0;
        where the rounding itself exceeds 4 epsilons in that unit, the scale is as large as brings
        its standard deviation down to 4 epsilons.

        Parameters
        ----------
        x : array of shape (N, features) or (N,)
            Finite values of the training rows; (N,) is one column.
        weights : array of shape (N,), optional
            Non-negative weight of each row, not all zero; None means 1.

        Returns
        -------
        Standardizer
            The fitted map.

        Raises
        ------
        ValueError
            If ``x`` has no rows or more than two axes.

        Examples
        --------
        >>> import numpy as np
        >>> Standardizer.fit(np.array([0.0, 4.0]), weights=np.array([3.0, 1.0])).mean.tolist()
        [1.0]
        """
        values = np.asarray(x)
        if values.ndim not in (1, 2) or len(values) == 0:
            raise ValueError(
                f"x must have shape (N, features) or (N,) with at least one row, "
                f"got {values.shape}."
            )
        rounding = np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps
        columns = values.reshape(len(values), -1).astype(np.float64)
        # Relative to the first row a constant column is exactly 0, whatever the order of summation.
        first = columns[0]
        shifted = columns - first
        centre = np.average(shifted, axis=0, weights=weights)
        spread = np.sqrt(np.average((shifted - centre) ** 2, axis=0, weights=weights))
        noise = ROUNDINGS * rounding
        is_constant = spread <= noise * np.abs(columns).max(axis=0)
        return cls(first + centre, np.where(is_constant, np.maximum(1.0, spread / noise), spread))

    def transform(self, x: Float[ndarray, "data ..."]) -> Float[ndarray, "data ..."]:
        """Map from the columns' units to standard units.

        Parameters
        ----------
        x : array of shape (..., features), or (N,) if there is one column
            Values in the columns' units.

        Returns
        -------
        array of the shape of ``x``, float32
            Values in units of one standard deviation.

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
        return ((self._columns(x) - self.mean) / self.scale).astype(np.float32)

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
