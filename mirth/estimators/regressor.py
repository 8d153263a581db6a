"""The regressor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from mirth.estimators._base import BaseBNN
from mirth.estimators._targets import check_varies, fit_scaling, resolve_likelihood
from mirth.estimators._views import PredictiveViews
from mirth.estimators._wild import NEW_ROWS, note_wild_values, tame, target_names
from mirth.estimators.resolution import find_grids, rounded
from mirth.inference import MILE, Monitor
from mirth.model import AutoPrior, Likelihood, Prior
from mirth.prediction import Predictive
from mirth.results.conformal import IntervalCalibration, conformalize


class BNNRegressor(RegressorMixin, PredictiveViews, BaseBNN):
    r"""Bayesian neural network for regression.

    A multi-layer perceptron with a prior on its weights; the posterior is sampled by ``method``
    and predictions are exact mixtures over all draws,

    .. math:: p(y \mid x, D) = \frac1S \sum_{s=1}^{S} p(y \mid x, \theta_s).

    Inputs and target are scaled inside with statistics of the training rows, the target as far as
    its likelihood allows; everything comes back in original units. With several targets,
    ``y`` of shape (rows, targets), each is scaled by itself and results have a last axis of them.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, optional
        Width of each hidden layer; None chooses by the table's size
        (:func:`~mirth.estimators.choose_layers`).
    activation : str, default="silu"
        One of relu, leaky_relu, elu, gelu, silu, softplus, tanh, sigmoid, identity. The papers
        have relu, which predicted regressions worse (``docs/performance.md``).
    likelihood : str or likelihood object, default="student_t"
        Distribution of the target: student_t, whose degrees of freedom are learnt and which
        predicted tables at least as well as the Normal or better (``docs/likelihoods.md``), normal,
        homoscedastic, laplace, quantile (real numbers), log_normal, gamma (positive), poisson,
        negative_binomial (counts), beta (rates) and multivariate_normal (several targets), or an
        object such as ``mirth.likelihoods.StudentT(min_scale=...)``. With several targets that of a
        single one is taken for each; ``mirth.likelihoods.Independent((...))`` has different ones.
    prior : str or prior object, default="auto"
        Prior of the weights and biases. "auto" is a fan-in prior whose scale follows from how well
        simple models predict the table (:class:`mirth.priors.AutoPrior`); ``model_.prior`` is what
        was chosen. Others are normal (N(0, 1), as in the papers), laplace, student_t, cauchy,
        fan_in, horseshoe, regularised_horseshoe, hierarchical and hierarchical_fan_in, or an
        object such as ``mirth.priors.NormalPrior(scale=...)``, whose fields can be searched as
        ``prior__scale``; ``mirth.priors.PriorMap`` gives each array a prior of its own.
    method : str or method object, default="mile"
        How the posterior is found: one of auto, mile, psmile, smile, psmile-naive, smile-naive,
        sgld, psgld, csgld, sghmc, adaptive-sghmc and deep_ensemble, or an object such as
        ``mirth.MILE(n_warmup=...)`` for another budget, whose fields can be searched as
        ``method__n_warmup``.
    n_members : int, default=10
        Networks, and chains that start from them.
    validation_fraction : float, default=0.1
        Share of the rows that is held back to stop the optimisation.
    normalize_y : bool, default=True
        Standardise the target inside where the likelihood allows it: positive targets are divided
        by their mean, counts and rates stay as they are. If False the prior has to fit the scale
        of the target.
    resolution : "auto", float, None or sequence of these, default="auto"
        Step to which the target is recorded, in its units: likelihood and predictions are then
        those of recorded values (:class:`mirth.likelihoods.Rounded`). "auto" finds it where values
        repeat and the step is a tenth of the standard deviation or more; None takes the target as
        exact. A sequence has one for each target.
    robust_scaling : bool, default=True
        Scale without wild values of X and y, which are no part of their column, and clip these; a
        warning names them (``docs/wild_values.md``). False scales by all values.
    random_state : int, RandomState or None, default=None
        Seed; the same int gives the same draws on CPU.
    verbose : int or bool, default=False
        1 shows a bar on a terminal and plain lines elsewhere, 2 always plain lines.
    run_directory : str or path, optional
        Where the fit keeps its draws and its state: after a kill the same ``fit`` goes on there, to
        the same draws. It belongs to one fit, so give none in a grid search, and needs an integer
        ``random_state``. None keeps everything in memory.
    checkpoint_seconds : float, default=30
        Least time between two checkpoints in the run directory.
    max_time : float or str, optional
        Limit of the time of ``fit`` in seconds, or as ``"10min"``; the warm-up and the draws are
        cut to it, so the result depends on the machine.
    monitors : sequence of Monitor, optional
        Who else hears of the progress, such as :class:`mirth.monitors.TensorBoardMonitor`.
    draws_store : str or path, optional
        Where the draws of the run directory go: another folder, or a URL such as
        ``s3://bucket/run.zarr`` (with ``mirth[remote]`` and s3fs). None means ``draws.zarr`` there.
    weights : {"equal", "stacking"}, default="equal"
        How much each chain counts in predictions: all alike, or by what it predicts of rows that
        it has not seen (:func:`mirth.results.stack`), for which chains leave out each of their own,
        25 draws at least, and a deep ensemble has the rows held back.

    Attributes
    ----------
    posterior_ : Posterior
        Draws, statistics and reports.
    diagnostics_ : Diagnostics
        Verdict, effective sample size and R-hat of every chain; prints as a table.
    verdicts_ : list of ChainVerdict
        The verdicts alone, without the cost of the rest.
    model_ : Model
        Network, likelihood and prior.
    x_scaler_, y_scaler_ : Standardizer
        Scaling of inputs and target.
    resolution_ : float, None or list of these
        Step that the target is rounded to; None if it is exact, a list for several targets.
    n_features_in_ : int
        Number of columns of X.
    seed_ : int
        Seed drawn from ``random_state``.
    calibration_ : IntervalCalibration or None
        What :meth:`conformalize` has found.

    Raises
    ------
    ValueError, TypeError
        At ``fit``, if a parameter or the data cannot be used; the text says what to change.

    References
    ----------
    .. [1] Sommer et al., arXiv 2502.06335 (MILE).

    Examples
    --------
    >>> import numpy as np, mirth
    >>> X = np.linspace(-2, 2, 60)[:, None]
    >>> y = 3 * X[:, 0] + np.random.default_rng(0).normal(size=60)
    >>> method = mirth.MILE(n_warmup=100, n_samples=5)
    >>> reg = mirth.BNNRegressor((8,), method=method, n_members=2, random_state=0).fit(X, y)
    >>> reg.predict_interval(X, confidence_level=0.9).shape
    (60, 2)
    """

    _is_numeric = True
    calibration_: IntervalCalibration | None = None
    resolution_: Any = None

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] | None = None,
        *,
        activation: str = "silu",
        likelihood: str | Likelihood = "student_t",
        prior: str | Prior | AutoPrior = "auto",
        method: str | MILE | Any = "mile",
        n_members: int = 10,
        validation_fraction: float = 0.1,
        normalize_y: bool = True,
        resolution: Any = "auto",
        robust_scaling: bool = True,
        random_state: Any = None,
        verbose: int | bool = False,
        run_directory: str | Path | None = None,
        checkpoint_seconds: float = 30.0,
        max_time: float | str | None = None,
        monitors: Sequence[Monitor] | None = None,
        draws_store: str | Path | None = None,
        weights: str = "equal",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.prior = prior
        self.method = method
        self.n_members = n_members
        self.validation_fraction = validation_fraction
        self.normalize_y = normalize_y
        self.resolution = resolution
        self.robust_scaling = robust_scaling
        self.random_state = random_state
        self.verbose = verbose
        self.run_directory = run_directory
        self.checkpoint_seconds = checkpoint_seconds
        self.max_time = max_time
        self.monitors = monitors
        self.draws_store = draws_store
        self.weights = weights

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to rows.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            Inputs, finite numbers in any units.
        y : array-like of shape (rows,) or (rows, targets)
            Target, finite numbers in any units, that the likelihood takes.
        sample_weight : array-like of shape (rows,), optional
            Weight of each row's log likelihood: a weight of 2 counts as two equal rows.

        Returns
        -------
        BNNRegressor
            The fitted estimator.
        """
        X, y, sample_weight, rows = self._validate_fit(X, y, sample_weight)
        check_varies(y)
        likelihood = resolve_likelihood(self.likelihood, y.shape[1:])
        grids = find_grids(self.resolution, likelihood, tame(y) if self.robust_scaling else y)
        rounded(likelihood, grids).check_targets(y)
        options: Any = {"normalize": self.normalize_y, "robust": self.robust_scaling, "rows": rows}
        self.y_scaler_ = fit_scaling(likelihood, y, sample_weight, grids=grids, **options)
        likelihood = rounded(likelihood, grids, self.y_scaler_)
        steps = [grid and grid.step for grid in grids]
        self.resolution_ = steps if y.ndim == 2 else steps[0]
        return self._fit(X, self.y_scaler_.transform(y), likelihood, sample_weight, rows)

    def _scaled_target(self, y: np.ndarray) -> np.ndarray:
        note_wild_values(y, self.y_scaler_, target_names(y), NEW_ROWS)
        return self.y_scaler_.transform(y)

    def _observed_target(self, y: np.ndarray) -> np.ndarray:
        return y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict_dist(self, X: Any) -> Predictive:
        """Predictive distribution of each row.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.

        Returns
        -------
        Predictive
            Mixture with ``mean, variance, std, epistemic, aleatoric, cdf, pit, quantile, interval,
            log_prob, sample, crps``, all in the units of y.
        """
        check_is_fitted(self, "posterior_")
        return self._predictive(X, **self._units())

    def _units(self) -> dict[str, np.ndarray]:
        """Units of the target, as the predictive distribution takes them."""
        likelihood: Any = self.model_.likelihood
        shape = likelihood.target_shape
        scaler = self.y_scaler_
        return {"shift": scaler.mean.reshape(shape), "scale": scaler.scale.reshape(shape)}

    def predict(
        self, X: Any, return_std: bool = False
    ) -> Float[np.ndarray, "rows ..."] | tuple[np.ndarray, np.ndarray]:
        """Predictive mean, and optionally standard deviation, of each row.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.
        return_std : bool, default=False
            Also return the standard deviation.

        Returns
        -------
        mean : array of shape (rows,) or (rows, targets)
            Predictive mean, in the units of y.
        std : array of the shape of ``mean``
            Predictive standard deviation (noise and disagreement), if asked for.
        """
        dist = self.predict_dist(X)
        return (dist.mean(), dist.std()) if return_std else dist.mean()

    def predict_interval(self, X: Any, confidence_level: Any = 0.9) -> np.ndarray:
        """Central predictive interval of each row.

        After :meth:`conformalize` with its guarantee; before, the interval of the model,
        ``predict_dist(X).interval(confidence_level)``.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.
        confidence_level : float or sequence of float, default=0.9
            Probability inside the interval.

        Returns
        -------
        array of shape (rows, 2) or (rows, 2, levels)
            Lower and upper bound, in the units of y; a last axis for several targets.

        Raises
        ------
        TypeError, ValueError
            If a level is no number in (0, 1), or the calibration had too few rows for it.
        """
        dist = self.predict_dist(X)
        if self.calibration_ is None:
            return dist.interval(confidence_level)
        return self.calibration_.interval(dist, confidence_level)

    def conformalize(self, X_cal: Any, y_cal: Any) -> Self:
        """Calibrate :meth:`predict_interval` on rows that the fit has not seen.

        Its intervals then hold the target with at least the probability asked for, whatever the
        model, for new rows that are exchangeable with these (:mod:`mirth.results.conformal`).
        The other methods are not affected; another fit forgets the calibration.

        Parameters
        ----------
        X_cal : array-like of shape (rows, features)
            Calibration rows: at least c / (1 - c) of them for a level c, some hundreds for
            intervals that vary little.
        y_cal : array-like of shape (rows,)
            Their targets, in the units of y.

        Returns
        -------
        BNNRegressor
            The estimator itself.

        Raises
        ------
        ValueError
            If the targets are not finite, or the numbers of rows differ.
        """
        dist = self.predict_dist(X_cal)
        check_consistent_length(X_cal, y_cal)
        y = check_array(y_cal, ensure_2d=False, dtype=np.float64, input_name="y_cal")
        self.calibration_ = conformalize(dist, column_or_1d(y))
        return self

    def export(self, path: str | Path, *, quantiles: Any = (0.05, 0.5, 0.95)) -> None:
        """Write the predictive distribution as one program that runs without mirth.

        The program takes rows in the units of X, float32 of shape (rows, features) with any number
        of rows, and gives a dictionary of ``mean`` and ``std`` (rows,) and ``quantiles``
        (rows, quantiles), in the units of y, with a last axis for several targets. The outputs of
        all draws for all rows are held at once: compress first, and send large tables in parts.

        Parameters
        ----------
        path : str or path
            ``*.stablehlo`` for what ``jax.export.deserialize`` reads, for CPU, CUDA, ROCm and TPU;
            ``*.onnx`` for ONNX, which needs ``mirth[onnx]``. An older file is replaced.
        quantiles : sequence of float, default=(0.05, 0.5, 0.95)
            Probabilities below the values that the program gives.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If the file name ends otherwise, a quantile is outside (0, 1), or the quantiles of the
            likelihood are not in closed form: ``quantiles=()`` exports the rest.
        ModuleNotFoundError
            If the converter to ONNX is missing.
        OSError
            If the file cannot be written; an older one is still there.
        """
        check_is_fitted(self, "posterior_")
        self._export(path, quantiles=quantiles, **self._units())
