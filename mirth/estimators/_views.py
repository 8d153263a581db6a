"""What a regressor tells of its predictive distribution beside mean and interval."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from mirth.core.validation import check_int
from mirth.prediction import Predictive
from mirth.prediction.checks import check_levels
from mirth.results.uncertainty import VarianceSplit, split_uncertainty


class PredictiveViews:
    """Quantiles, parts of the variance and samples of the predictive distribution."""

    @abc.abstractmethod
    def predict_dist(self, X: Any) -> Predictive:
        """Predictive distribution of each row."""

    def predict_quantiles(self, X: Any, quantiles: Any = (0.05, 0.5, 0.95)) -> np.ndarray:
        """Quantiles of each row's predictive distribution.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.
        quantiles : sequence of float, default=(0.05, 0.5, 0.95)
            Probabilities below the values asked for.

        Returns
        -------
        array of shape (rows, quantiles)
            In the units of y; a last axis for several targets.
        """
        return self.predict_dist(X).quantile(np.atleast_1d(check_levels("quantiles", quantiles)))

    def predict_uncertainty(self, X: Any) -> VarianceSplit:
        """Predictive variance, split into noise and disagreement of the draws.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.

        Returns
        -------
        VarianceSplit
            ``total``, ``aleatoric`` and ``epistemic``, in squared units of y.
        """
        return split_uncertainty(self.predict_dist(X))

    def sample_predictive(self, X: Any, n_draws: int = 100, random_state: Any = None) -> np.ndarray:
        """Draw targets from the predictive distribution.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.
        n_draws : int, default=100
            Values to draw for each row.
        random_state : int, RandomState or None, default=None
            Seed of the draws.

        Returns
        -------
        array of shape (n_draws, rows) or (n_draws, rows, targets)
            In the units of y.
        """
        check_int("n_draws", n_draws, minimum=1)
        seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
        return self.predict_dist(X).sample(n_draws, seed=seed)
