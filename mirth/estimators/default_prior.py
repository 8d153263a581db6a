"""How well a table can be predicted: what the scale of the default prior follows from."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

_MAX_ROWS = 2000  # more do not change the share by a hundredth, and trees would take seconds
_MAX_COLUMNS_TRIED = 30
_MIN_ROWS = 20
_FOLDS = 3
_PENALTIES = np.logspace(-3, 3, 13)  # of the ridge, for standardised columns


def explained_share(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> float:
    r"""Estimate the share of the target's variance that simple models explain.

    .. math:: 1 - \frac{\sum_n (y_n - \hat y_n)^2}{\sum_n (y_n - \bar y)^2}

    with the better of two predictions :math:`\hat y` for rows that the models were not fitted to,
    in three folds: of a ridge regression and of randomised trees. Of several targets it is the
    mean.

    Parameters
    ----------
    x : array of shape (rows, features)
        Scaled inputs.
    y : array of shape (rows,) or (rows, targets)
        Targets; for classes one column of 0 and 1 for each.
    weights : array of shape (rows,), optional
        Weights of the rows.

    Returns
    -------
    float
        At most 1; 0 if nothing is explained, or there are fewer than 20 rows.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 3))
    >>> noise = np.random.default_rng(1).normal(size=200)
    >>> bool(explained_share(x, x[:, 0]) > 0.99), explained_share(x, noise) < 0.1
    (True, True)
    """
    if len(x) < _MIN_ROWS:
        return 0.0
    chosen = np.random.default_rng(0).permutation(len(x))[:_MAX_ROWS]
    x, y = np.asarray(x)[chosen], np.asarray(y, dtype=np.float64)[chosen]
    weights = np.ones(len(x)) if weights is None else np.asarray(weights)[chosen]
    y = y.reshape(len(y), -1)
    rest = (weights[:, None] * (y - np.average(y, axis=0, weights=weights)) ** 2).sum(axis=0)
    models: list[Any] = [
        RidgeCV(alphas=_PENALTIES),
        ExtraTreesRegressor(
            n_estimators=50,
            min_samples_leaf=2,
            max_features=min(x.shape[1], _MAX_COLUMNS_TRIED),
            random_state=0,
        ),
    ]
    missed = [_squared_errors(model, x, y, weights) for model in models]
    # A column that is constant in the rows that were chosen is no evidence of anything.
    shares = 1 - np.min(missed, axis=0)[rest > 0] / rest[rest > 0]
    return float(np.clip(shares.mean(), 0.0, 1.0)) if len(shares) else 0.0


def one_hot(labels: np.ndarray) -> np.ndarray:
    """Give a column of 0 and 1 for each class.

    Parameters
    ----------
    labels : int array of shape (rows,)
        Numbers of the classes, from 0.

    Examples
    --------
    >>> one_hot(np.array([0, 1, 1])).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    return np.eye(int(labels.max()) + 1)[labels]


def _squared_errors(model: Any, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum the weighted squared errors of each target over rows that were not fitted."""
    total = np.zeros(y.shape[1])
    for train, test in KFold(_FOLDS, shuffle=True, random_state=0).split(x):
        targets = y[train, 0] if y.shape[1] == 1 else y[train]
        model.fit(x[train], targets, sample_weight=weights[train])
        predicted = model.predict(x[test]).reshape(len(test), -1)
        total += (weights[test, None] * (y[test] - predicted) ** 2).sum(axis=0)
    return total
