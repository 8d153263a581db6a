"""What a predictive uncertainty is made of."""

from __future__ import annotations

from typing import NamedTuple, overload

import numpy as np

from mirth.prediction import CategoricalPredictive, Predictive
from mirth.results._checks import check_kind


class VarianceSplit(NamedTuple):
    """Predictive variance and its two parts, arrays of the shape of y in squared units of y.

    Parameters
    ----------
    total : array
        Variance of the predictive distribution, the sum of the two parts.
    aleatoric : array
        Noise that more data would not remove.
    epistemic : array
        Disagreement of the draws, which more data would remove.

    Examples
    --------
    >>> VarianceSplit(np.array([3.0]), np.array([2.0]), np.array([1.0])).epistemic
    array([1.])
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


class EntropySplit(NamedTuple):
    """Predictive entropy and its two parts, arrays of shape (rows,) in nats.

    Parameters
    ----------
    total : array
        Entropy of the averaged probabilities, the sum of the two parts.
    aleatoric : array
        Average entropy of the draws.
    epistemic : array
        Mutual information between the label and the draw.

    Examples
    --------
    >>> EntropySplit(np.array([0.6]), np.array([0.5]), np.array([0.1])).aleatoric
    array([0.5])
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


@overload
def split_uncertainty(predictive: Predictive) -> VarianceSplit: ...


@overload
def split_uncertainty(predictive: CategoricalPredictive) -> EntropySplit: ...


def split_uncertainty(
    predictive: Predictive | CategoricalPredictive,
) -> VarianceSplit | EntropySplit:
    """Split the uncertainty of predictions into noise and disagreement of the draws.

    Parameters
    ----------
    predictive : Predictive or CategoricalPredictive
        As :func:`mirth.make_predictive` makes it.

    Returns
    -------
    VarianceSplit or EntropySplit
        Variances of numbers, entropies of classes.

    Raises
    ------
    TypeError
        If it is no predictive distribution.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> posterior = mirth.infer(model, mirth.Dataset(x, x[:, 0]), "deep_ensemble", num_chains=2)
    >>> parts = split_uncertainty(mirth.make_predictive(model, posterior.draws, x))
    >>> bool(np.allclose(parts.total, parts.aleatoric + parts.epistemic))
    True
    """
    check_kind(predictive, ("aleatoric", "epistemic"))
    if isinstance(predictive, CategoricalPredictive):
        return EntropySplit(predictive.entropy(), predictive.aleatoric(), predictive.epistemic())
    return VarianceSplit(predictive.variance(), predictive.aleatoric(), predictive.epistemic())
