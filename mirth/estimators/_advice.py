"""What to do if all chains together predict worse than the ensemble that they started from."""

from __future__ import annotations

import numpy as np

from mirth.estimators.resolution import detect_grid
from mirth.model import Model, Rounded
from mirth.model.priors.independent import CauchyPrior, LaplacePrior, NormalPrior, StudentTPrior

_MANY_COLUMNS = 30
_ONE_SCALE = (NormalPrior, LaplacePrior, StudentTPrior, CauchyPrior)
_OTHERWISE = (
    "as_deep_ensemble() predicts by the ensemble; a longer warm-up or another prior may help."
)


def advice(model: Model, x: np.ndarray, y: np.ndarray) -> str:
    """Name the cause if it is a known one, and say what to do.

    Parameters
    ----------
    model : Model
        What was sampled.
    x : array of shape (rows, features)
        Scaled inputs.
    y : array of shape (rows,) or (rows, targets)
        Scaled targets, or numbers of classes.

    Returns
    -------
    str
        Sentences.

    Examples
    --------
    >>> from mirth.model import MLP, FanInNormalPrior, Normal
    >>> wide = Model(MLP((4,)), Normal(), NormalPrior())
    >>> advice(wide, np.zeros((5, 99)), np.linspace(0, 1, 5))
    "Under one scale for all weights functions grow with the number of columns (99); ...
    """
    causes = []
    if isinstance(model.prior, _ONE_SCALE) and x.shape[1] > _MANY_COLUMNS:
        causes.append(
            "Under one scale for all weights functions grow with the number of columns "
            f"({x.shape[1]}); prior='auto' takes the fan-in."
        )
    is_number = not model.likelihood.has_classes and y.ndim == 1
    if is_number and not isinstance(model.likelihood, Rounded) and detect_grid(y) is not None:
        causes.append(
            f"The target has {len(np.unique(y))} distinct values, onto which the noise scale can "
            "collapse; resolution='auto' takes their step into account."
        )
    return " ".join([*causes, _OTHERWISE])
