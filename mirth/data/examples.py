"""Small data sets to try things on: one made up, two bundled, six read from files."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from mirth.core.validation import check_int, check_name

Kind = Literal["regression", "classification"]

GAP = (-1.0, 1.0)
"""Interval of x without training rows in ``heteroscedastic_gap``; no row lies between."""

RANGE = (-3.0, 3.0)
"""Interval of x that the rows of ``heteroscedastic_gap`` come from."""


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A data set with its name and what is to be predicted.

    Parameters
    ----------
    name : str
        Name of the data set.
    kind : {"regression", "classification"}
        What ``y`` is.
    x : array of shape (N, features), float64
        Inputs, unscaled.
    y : array of shape (N,), float64 or int64
        Real targets for a regression, class indices from 0 for a classification.
    feature_names : tuple of str
        One name for each column of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> Example("toy", "regression", np.zeros((2, 1)), np.zeros(2), ("x0",)).kind
    'regression'
    """

    name: str
    kind: Kind
    x: Float[ndarray, "data features"]
    y: Shaped[ndarray, " data"]
    feature_names: tuple[str, ...]


def true_quantities(
    x_grid: Float[ndarray, "data ..."],
) -> tuple[Float[ndarray, " data"], Float[ndarray, " data"]]:
    r"""Mean and standard deviation of ``heteroscedastic_gap`` at any input.

    .. math:: \mu(x) = \sin(2x) + 0.3\,x, \qquad
              \sigma(x) = 0.05 + 0.3 / (1 + e^{-2x})

    The noise grows from left to right, from about 0.05 to about 0.35.

    Parameters
    ----------
    x_grid : array of shape (M,) or (M, 1)
        Inputs.

    Returns
    -------
    tuple of two arrays of shape (M,)
        Mean and standard deviation of the target.

    Examples
    --------
    >>> import numpy as np
    >>> mean, std = true_quantities(np.array([0.0]))
    >>> mean.tolist(), std.tolist()
    ([0.0], [0.2])
    """
    x = np.asarray(x_grid, dtype=np.float64).reshape(-1)
    return np.sin(2.0 * x) + 0.3 * x, 0.05 + 0.3 / (1.0 + np.exp(-2.0 * x))


def heteroscedastic_gap(
    num_rows: int = 200, seed: int = 0
) -> tuple[Float[ndarray, "data features"], Float[ndarray, " data"]]:
    r"""One-dimensional regression with noise that depends on the input and a gap in the middle.

    Inputs are uniform on [-3, -1] and [1, 3] (``RANGE`` without ``GAP``); targets are
    :math:`y \sim \mathcal N(\mu(x), \sigma(x)^2)` with the functions of ``true_quantities``. A good
    posterior follows the noise where there are data and is unsure of the mean in the gap.

    Parameters
    ----------
    num_rows : int, default=200
        Number of rows, at least 1; half of them (rounded up) left of the gap.
    seed : int, default=0
        Non-negative; the same seed gives the same rows.

    Returns
    -------
    x : array of shape (num_rows, 1)
        Inputs, in random order.
    y : array of shape (num_rows,)
        Targets.

    Raises
    ------
    ValueError
        If ``num_rows`` is below 1 or ``seed`` negative.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = heteroscedastic_gap(num_rows=50, seed=1)
    >>> x.shape, y.shape, bool((np.abs(x) < 1).any())
    ((50, 1), (50,), False)
    """
    num_rows = check_int("num_rows", num_rows, minimum=1)
    rng = np.random.default_rng(check_int("seed", seed, minimum=0))
    num_left = math.ceil(num_rows / 2)
    left = rng.uniform(RANGE[0], GAP[0], num_left)
    right = rng.uniform(GAP[1], RANGE[1], num_rows - num_left)
    x = rng.permutation(np.concatenate([left, right]))
    mean, std = true_quantities(x)
    return x[:, None], mean + std * rng.standard_normal(num_rows)


def diabetes() -> Example:
    """Disease progression of 442 diabetes patients, ten measurements in their own units.

    Returns
    -------
    Example
        A regression, from scikit-learn's ``load_diabetes(scaled=False)`` (Efron et al., 2004).

    Examples
    --------
    >>> diabetes().x.shape
    (442, 10)
    """
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    names = tuple(found.feature_names)
    return Example("diabetes", "regression", found.data, found.target, names)


def breast_cancer() -> Example:
    """Diagnosis of 569 breast tumours, 30 measurements of cell nuclei; 0 malignant, 1 benign.

    Returns
    -------
    Example
        A classification, from scikit-learn's ``load_breast_cancer`` (Street et al., 1993).

    Examples
    --------
    >>> breast_cancer().x.shape
    (569, 30)
    """
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    names = tuple(str(name) for name in found.feature_names)
    target = found.target.astype(np.int64)
    return Example("breast_cancer", "classification", found.data, target, names)


class _Benchmark(NamedTuple):
    path: str
    kind: Kind
    dropped: int = 0  # leading columns that are no features


BENCHMARKS = {
    "airfoil": _Benchmark("airfoil/airfoil.data", "regression"),
    "energy": _Benchmark("energy/energy.data", "regression"),
    # The first column is the row number, which orders the rows by time and gives the target away.
    "bikesharing": _Benchmark("bikesharing/bikesharing.data.gz", "regression", dropped=1),
    "protein": _Benchmark("protein/protein.data.gz", "regression"),
    "ionosphere": _Benchmark("ionosphere/ionosphere.data", "classification"),
    "australian": _Benchmark("australian/australian.dat", "classification"),
}
"""Name of each benchmark to its file, relative to the folder given to ``load_benchmark``."""


def load_benchmark(name: str, folder: str | Path) -> Example:
    r"""Read one of the UCI data sets of the papers from a folder.

    Each file holds numbers separated by blanks, one row a line, the target in the last column;
    files that end in ``.gz`` are compressed. The row number in the first column of ``bikesharing``
    is dropped. Features are named by their column, ``"x0"`` being the first of the file.

    Parameters
    ----------
    name : {"airfoil", "energy", "bikesharing", "protein", "ionosphere", "australian"}
        Which data set.
    folder : str or path
        Folder with one folder for each data set, such as ``folder/airfoil/airfoil.data``.

    Returns
    -------
    Example
        Regressions and, for the last two names, classifications with classes 0 and 1.

    Raises
    ------
    FileNotFoundError
        If the folder or the file is missing; the text names the file that is expected.
    ValueError
        If the name is unknown, or the file is not a table of numbers, or class labels are not 0
        and 1.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "energy").mkdir()
    ...     written = (Path(folder) / "energy" / "energy.data").write_text("1 2 3\n4 5 6\n")
    ...     load_benchmark("energy", folder).y.tolist()
    [3.0, 6.0]
    """
    benchmark = BENCHMARKS[check_name("name", name, BENCHMARKS)]
    path = Path(folder) / benchmark.path
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"folder={str(folder)!r} is no folder; expected {path} inside it.")
    if not path.is_file():
        raise FileNotFoundError(f"the data set {name!r} is not there: expected the file {path}.")
    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is not a table of numbers separated by blanks: {error}") from None
    x, y = table[:, benchmark.dropped : -1], table[:, -1]
    if benchmark.kind == "classification":
        if not np.isin(y, (0.0, 1.0)).all():
            raise ValueError(f"{path} must have 0 or 1 in its last column, got {np.unique(y)}.")
        y = y.astype(np.int64)
    names = tuple(f"x{i}" for i in range(benchmark.dropped, table.shape[1] - 1))
    return Example(name, benchmark.kind, x, y, names)
