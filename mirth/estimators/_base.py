"""What the estimators share: parameters, checks, scaling, the fit, health."""

from __future__ import annotations

import abc
import copy
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from mirth.core.validation import check_flag
from mirth.data import Dataset, Standardizer
from mirth.estimators._advice import advice
from mirth.estimators._archive import write_estimator
from mirth.estimators._checks import (
    keep_weighted_rows,
    note_constant_columns,
    resolve_prior,
    text_explained,
)
from mirth.estimators._judged import JudgedBNN
from mirth.estimators._session import Session
from mirth.estimators._weights import check_weights, ensemble_of, weigh
from mirth.estimators._wild import FITTED, REACH, column_names, note_wild_values
from mirth.estimators.default_network import choose_layers
from mirth.estimators.default_prior import explained_share, one_hot
from mirth.inference import (
    DeepEnsemble,
    Monitor,
    Run,
    configure_cpu_devices,
    resolve_method,
)
from mirth.inference.infer import RANGES
from mirth.model import MLP, AutoPrior, Likelihood, Model, Prior
from mirth.results.arviz import arviz_tree
from mirth.results.compression import CompressionReport, compress
from mirth.results.diagnostics import Diagnostics, judge, some_rows
from mirth.results.program import export
from mirth.results.stacking import predict_dist

if TYPE_CHECKING:
    import xarray as xr


class BaseBNN(JudgedBNN):
    """Common part of :class:`BNNRegressor` and :class:`BNNClassifier`."""

    hidden_layer_sizes: tuple[int, ...] | None
    activation: str
    likelihood: str | Likelihood
    prior: str | Prior | AutoPrior
    n_members: int
    validation_fraction: float
    robust_scaling: bool
    random_state: Any
    verbose: int | bool
    run_directory: str | Path | None
    checkpoint_seconds: float
    max_time: float | str | None
    monitors: Sequence[Monitor] | None
    draws_store: str | Path | None
    weights: str

    calibration_: Any
    compression_: CompressionReport
    _start_weights: Any = (None, None)  # of a model that was saved before there were weights

    def _fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        likelihood: Likelihood,
        weights: Any,
        rows: np.ndarray,
    ) -> Self:
        """Scale the inputs, sample the posterior, judge the chains."""
        configure_cpu_devices()
        RANGES["num_chains"].check("n_members", self.n_members)
        RANGES["validation"].check("validation_fraction", self.validation_fraction)
        run = Run(self.run_directory, self.checkpoint_seconds, self.draws_store, self.max_time)
        method = resolve_method(self.method)
        check_weights(self.weights, method)
        if self.run_directory is not None and not isinstance(self.random_state, numbers.Integral):
            raise ValueError(
                f"random_state={self.random_state!r} gives another seed at every fit, so no fit "
                f"could go on in run_directory={str(self.run_directory)!r}; give an integer."
            )
        prior = resolve_prior(self.prior)
        names = column_names(self, x.shape[1])
        reach = REACH if self.robust_scaling else None
        self.x_scaler_ = Standardizer.fit(x, weights, reach=reach, names=names)
        note_wild_values(x, self.x_scaler_, names, FITTED, rows)
        note_constant_columns(x, getattr(self, "feature_names_in_", np.arange(x.shape[1])))
        scaled = self.x_scaler_.transform(x)
        if isinstance(prior, AutoPrior):
            targets = one_hot(y) if likelihood.has_classes else y
            prior = prior.choose(explained_share(scaled, targets, weights))
        layers = self.hidden_layer_sizes
        network = MLP(
            choose_layers(len(x)) if layers is None else tuple(np.atleast_1d(layers).tolist()),
            num_outputs=likelihood.num_outputs,
            activation=self.activation,
        )
        self.model_ = Model(network, likelihood, prior)
        self.seed_ = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self._session = Session(
            self.model_, Dataset(scaled, y, weights), self.seed_, self.validation_fraction, run
        )
        posterior = self._session.start(
            method, self.n_members, max_time=self.max_time, **self._display()
        )
        self.posterior_, self._start_weights = weigh(posterior, self._session, self.weights)
        self._diagnostic_rows = some_rows(scaled).copy()  # a view would keep the whole table
        self.verdicts_ = judge(self.posterior_, advice=advice(self.model_, scaled, y))
        return self._renewed()

    def _display(self) -> dict[str, Any]:
        """Give what shows the progress."""
        return {"verbose": self.verbose, "monitors": self.monitors or ()}

    def _renewed(self) -> Self:
        """Forget what was made from other draws."""
        self._diagnostics: Diagnostics | None = None
        self.calibration_ = None
        return self

    def fit_more(self, *, n_samples: int | None = None, n_members: int | None = None) -> Self:
        """Go on from where the chains stand: more draws, or more members.

        The draws are those that a longer first fit would have given. ``method`` and ``n_members``
        become those of that fit; a calibration is forgotten. There is no limit of the time.

        Parameters
        ----------
        n_samples : int, optional
            Draws per chain in the end, the present ones included.
        n_members : int, optional
            Members in the end, the present ones included.

        Returns
        -------
        estimator
            The estimator itself.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If a number is smaller than the present one, nothing would be added, or the estimator
            was loaded, copied or unpickled: it has no training rows then.
        """
        check_is_fitted(self, "posterior_")
        session: Session | None = getattr(self, "_session", None)
        if session is None:
            raise ValueError(
                "fit_more goes on with the rows and chains of a fit in this process; this "
                "estimator is a copy or was loaded. With a run_directory, fit goes on, too."
            )
        method = resolve_method(self.method)
        longer = session.longer(method, n_samples)
        check_weights(self.weights, longer)
        posterior = session.more(longer, longer != method, n_members, **self._display())
        self.posterior_, self._start_weights = weigh(posterior, session, self.weights)
        self.method, self.n_members = longer, n_members or self.n_members
        self.verdicts_ = judge(self.posterior_, stacklevel=3)
        return self._renewed()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training rows behind: copies and pickles only predict."""
        return {name: value for name, value in super().__getstate__().items() if name != "_session"}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of the method, the prior and the likelihood.

        Parameters
        ----------
        **params : any
            Names such as ``n_members`` or ``method__n_warmup``, and their values.

        Returns
        -------
        estimator
            The estimator itself.

        Raises
        ------
        ValueError
            If a name is unknown, or the object whose field it names is given by name.
        """
        for name in params:
            head, _, tail = name.partition("__")
            value = params.get(head, getattr(self, head, None))
            if tail and isinstance(value, str):
                raise ValueError(
                    f"{name} cannot be set, because {head}={value!r} is a name; give an object, "
                    f"such as method=mirth.MILE() or prior=mirth.priors.NormalPrior()."
                )
        return super().set_params(**params)

    def _validate_fit(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
        """Check the rows once, with at least two of them; give their numbers, too."""
        check_flag("robust_scaling", self.robust_scaling)
        with text_explained():
            X, y = validate_data(
                self,
                X,
                y,
                dtype=np.float64,
                ensure_min_samples=2,
                y_numeric=self._is_numeric,
                multi_output=self._is_numeric,
            )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return keep_weighted_rows(X, y, sample_weight)

    def _predictive(self, X: Any, **options: Any) -> Any:
        """Predictive distribution of new rows."""
        check_is_fitted(self, "posterior_")
        with text_explained():
            X = validate_data(self, X, dtype=np.float64, reset=False)
        scaled = self._scaled_inputs(X)
        return predict_dist(self.posterior_, scaled, seed=self.seed_, **options)

    def save(self, path: str | Path) -> None:
        """Save the fitted estimator in one file; :func:`mirth.load` gives it back.

        The file is a zip archive of a JSON manifest and arrays, without pickle. It is written under
        another name, forced to the disk and renamed, so that an older model of this name is kept
        until the new one is whole.

        Parameters
        ----------
        path : str or path
            The file, such as ``"model.mirth"``. Its folder is made if it is missing; an older model
            is replaced, anything else is not.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        IsADirectoryError, FileExistsError
            If the path is a folder, or a file that is no model.
        OSError
            If the file cannot be written, as on a full disk; an older one is still there.
        TypeError
            If a part cannot be saved, such as a likelihood of one's own; the text names it.

        Notes
        -----
        A ``RandomState`` given as ``random_state``, the ``run_directory``, the ``draws_store`` and
        the ``monitors`` are not kept: these parameters are None when loaded.
        """
        check_is_fitted(self, "posterior_")
        write_estimator(self, path)

    def compress(
        self, n_draws: int = 20, *, dtype: str = "float16", X: Any = None, y: Any = None
    ) -> Self:
        """Give a fitted copy with fewer draws in fewer bits, to keep or to ship.

        Rows that were not fitted, X and y, let it choose the draws that predict best together;
        without them the draws are equally spaced. Predictions compute in float32 all the same.

        Parameters
        ----------
        n_draws : int, default=20
            Draws to keep per chain.
        dtype : {"float16", "bfloat16", "float32"}, default="float16"
            Type of the draws. ``"bfloat16"`` has three digits less, for weights above 65504.
        X : array-like of shape (rows, features), optional
            Inputs of rows that were not fitted; some hundred are enough.
        y : array-like of shape (rows,), optional
            Their targets.

        Returns
        -------
        estimator
            The copy. Its ``compression_`` says what was lost, and so does its ``diagnostics_``.

        Raises
        ------
        ValueError
            If there are not so many draws, a draw is too large for ``dtype``, or only one of X and
            y is given.
        """
        check_is_fitted(self, "posterior_")
        if (X is None) != (y is None):
            raise ValueError("compress needs both X and y, rows that were not fitted, or neither.")
        x, y = (self._diagnostic_rows, None) if X is None else self._scaled_rows(X, y)
        other = copy.copy(self)
        other.posterior_, other.compression_ = compress(
            self.posterior_, n_draws, x=x, y=y, dtype=dtype, seed=self.seed_
        )
        other._diagnostics = None
        return other

    def _export(self, path: str | Path, **options: Any) -> None:
        """Write the program from inputs in their own units."""
        check_is_fitted(self, "posterior_")
        export(self.posterior_, path, self.n_features_in_, x_scaler=self.x_scaler_, **options)

    def to_arviz(
        self, X: Any, y: Any, *, n_rows: int | None = 50, n_weights: int | None = 20, seed: int = 0
    ) -> xr.DataTree:
        """Give the draws as ArviZ reads them, in the units of X and y; needs ``mirth[arviz]``.

        An estimator keeps no targets, so the rows are given: those of the fit, for leave-one-out
        scores and checks of the posterior predictive. Groups and variables are those of
        :func:`mirth.results.to_arviz`; labels are given as positions in ``classes_``.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            Inputs.
        y : array-like of shape (rows,)
            Targets.
        n_rows : int or None, default=50
            Rows of the predictive mean in the posterior group, equally spaced; None means all.
        n_weights : int or None, default=20
            Weights in the posterior group, drawn at random; None means all.
        seed : int, default=0
            Seed of the targets of the posterior predictive and of the choice of weights.

        Returns
        -------
        xarray.DataTree
            With the groups posterior, sample_stats, log_likelihood, posterior_predictive and
            observed_data.

        Raises
        ------
        ModuleNotFoundError
            If arviz-base is missing.
        """
        check_is_fitted(self, "posterior_")
        X, y = self._checked_rows(X, y)
        return arviz_tree(
            self.posterior_,
            self.predict_dist(X),
            self._observed_target(y),
            n_rows=n_rows,
            n_weights=n_weights,
            seed=seed,
            classes=getattr(self, "classes_", None),
        )

    @abc.abstractmethod
    def predict_dist(self, X: Any) -> Any:
        """Predictive distribution of each row."""

    def as_deep_ensemble(self) -> Self:
        """Give the deep ensemble that the chains started from, as a fitted estimator.

        It predicts with the same methods and costs no second fit, so that what sampling has
        gained can be measured. With ``weights="stacking"`` it has weights of its own, those of a
        fit of the ensemble alone.

        Returns
        -------
        estimator
            A copy that predicts with the starts of the chains.
        """
        check_is_fitted(self, "posterior_")
        other = copy.copy(self)
        method = resolve_method(self.method)
        # So clones are alike, if there was an optimisation.
        start = getattr(method, "start", None)
        other.method = start if isinstance(start, DeepEnsemble) else method
        other.posterior_ = ensemble_of(self.posterior_, self._start_weights)
        other.verdicts_ = judge(other.posterior_)
        return other._renewed()
