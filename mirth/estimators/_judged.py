"""How the chains of an estimator are judged: their health, and the bias of their steps."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from mirth.data import Standardizer
from mirth.estimators._checks import text_explained
from mirth.estimators._wild import NEW_ROWS, column_names, note_wild_values
from mirth.estimators.resolution import note
from mirth.inference import Posterior
from mirth.results.bias import BiasReport
from mirth.results.diagnostics import Diagnostics, diagnose
from mirth.results.halving import bias_report

if TYPE_CHECKING:
    from mirth.estimators._session import Session


class JudgedBNN(BaseEstimator):
    """What an estimator says of its own chains."""

    method: Any
    posterior_: Posterior
    x_scaler_: Standardizer

    _diagnostics: Diagnostics | None
    _diagnostic_rows: np.ndarray
    _is_numeric = False

    @property
    def diagnostics_(self) -> Diagnostics:
        """Health of the chains: one verdict each, effective sample sizes, R-hat.

        Computed when it is first asked for, on up to 200 training rows.
        """
        check_is_fitted(self, "posterior_")
        if self._diagnostics is None:
            found = diagnose(self.posterior_, self._diagnostic_rows)
            notes = (*found.notes, *note(getattr(self, "resolution_", None)))
            self._diagnostics = dataclasses.replace(found, notes=notes)
        return self._diagnostics

    def bias_report(
        self, X: Any = None, y: Any = None, *, num_draws: int = 100, tolerance: float = 0.05
    ) -> BiasReport:
        """See if the steps of the chains were too long, from the chains themselves.

        They go on from where they stand, at their step size and at half of it, and the predictions
        of both are compared (:func:`mirth.results.bias_report`). The estimator is not changed.
        After ``fit_more(n_members=...)`` these are the members of the first fit.

        Parameters
        ----------
        X : array-like of shape (rows, features), optional
            Inputs to predict for; None means the rows that were held back in the fit. Of more than
            200 rows as many are used, equally spaced.
        y : array-like of shape (rows,), optional
            Targets of X, for the LPPD.
        num_draws : int, default=100
            Draws of each chain, at either step size, that are compared.
        tolerance : float, default=0.05
            Largest change that does not matter: of the predictive mean in predictive standard
            deviations, of that deviation as a share of it (so of the variance twice as much), of
            the LPPD in nats per row.

        Returns
        -------
        BiasReport
            Changes with Monte-Carlo errors and a verdict; prints as a table and a sentence.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If the method has no step size that can be halved, or the estimator was loaded, copied
            or unpickled: it has no training rows then.
        """
        check_is_fitted(self, "posterior_")
        session: Session | None = getattr(self, "_session", None)
        if session is None:
            raise ValueError(
                "bias_report goes on with the rows and chains of a fit in this process; this "
                "estimator is a copy or was loaded."
            )
        if X is not None:
            X, y = self._rows_to_judge(X, y)
        return bias_report(
            session.parts[0].posterior,
            session.dataset,
            self.method,
            x=X,
            y=y,
            directory=session.run.directory,
            num_draws=num_draws,
            tolerance=tolerance,
        )

    def _rows_to_judge(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Check rows with or without targets and give them as the model sees them."""
        if y is not None:
            return self._scaled_rows(X, y)
        with text_explained():
            X = validate_data(self, X, dtype=np.float64, reset=False)
        return self._scaled_inputs(X), None

    def _scaled_rows(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Check rows with targets and give them as the model sees them."""
        X, y = self._checked_rows(X, y)
        return self._scaled_inputs(X), self._scaled_target(y)

    def _scaled_inputs(self, X: np.ndarray) -> np.ndarray:
        """Give new inputs as the model sees them, and say which of them are clipped."""
        note_wild_values(X, self.x_scaler_, column_names(self, X.shape[1]), NEW_ROWS)
        return self.x_scaler_.transform(X)

    def _checked_rows(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        with text_explained():
            return validate_data(
                self, X, y, dtype=np.float64, y_numeric=self._is_numeric, reset=False
            )

    @abc.abstractmethod
    def _scaled_target(self, y: np.ndarray) -> np.ndarray:
        """Bring targets into the form that the model is fitted to."""

    def _observed_target(self, y: np.ndarray) -> np.ndarray:
        """Bring targets into the units of ``predict_dist``."""
        return self._scaled_target(y)
