"""Draws and new inputs to a predictive distribution: an exact mixture, computed in blocks."""

from __future__ import annotations

from typing import Any

from mirth.core.types import Params
from mirth.model import Model
from mirth.prediction.categorical import CategoricalPredictive
from mirth.prediction.predictive import Predictive

__all__ = ["CategoricalPredictive", "Predictive", "make_predictive"]


def make_predictive(
    model: Model, draws: Params, x: Any, **options: Any
) -> Predictive | CategoricalPredictive:
    """Make the predictive distribution that fits the likelihood of the model.

    Parameters
    ----------
    model : Model
        The model that was sampled.
    draws : pytree of arrays of shape (chains, draws, ...)
        Parameters of all draws.
    x : array of shape (rows, features) or (rows, ...)
        New inputs, scaled as in the fit.
    **options : any
        Further arguments of :class:`Predictive`, or of :class:`CategoricalPredictive` if
        ``model.likelihood.has_classes``.

    Returns
    -------
    Predictive or CategoricalPredictive
        The distribution; nothing is computed yet.

    Raises
    ------
    ValueError
        As the two classes do.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from mirth.model import MLP, Categorical, Model
    >>> model = Model(MLP((), num_outputs=2), Categorical(num_classes=2))
    >>> x = np.ones((4, 1))
    >>> params = model.init(jax.random.key(0), x)
    >>> one_draw = jax.tree.map(lambda leaf: leaf[None, None], params)
    >>> make_predictive(model, one_draw, x).probabilities().shape
    (4, 2)
    """
    kind = CategoricalPredictive if model.likelihood.has_classes else Predictive
    return kind(model, draws, x, **options)
