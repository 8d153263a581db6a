"""The classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from mirth.core.validation import POSITIVE, check_name, find_name
from mirth.estimators._base import BaseBNN
from mirth.inference import MILE, Monitor
from mirth.model import AutoPrior, Bernoulli, Likelihood, Prior
from mirth.model.likelihoods import CLASSIFICATION, ClassLikelihood
from mirth.prediction import CategoricalPredictive
from mirth.results.conformal import SetCalibration, conformalize, credible_sets
from mirth.results.uncertainty import EntropySplit, split_uncertainty


class BNNClassifier(ClassifierMixin, BaseBNN):
    r"""Bayesian neural network for classification.

    A multi-layer perceptron with a prior on its weights; the posterior is sampled by ``method``
    and probabilities are averages over all draws,

    .. math:: p(y = c \mid x, D) = \frac1S \sum_{s=1}^{S} \mathrm{softmax}(f_{\theta_s}(x))_c.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, optional
        Width of each hidden layer; None chooses by the table's size
        (:func:`~mirth.estimators.choose_layers`).
    activation : str, default="silu"
        One of relu, leaky_relu, elu, gelu, silu, softplus, tanh, sigmoid, identity. The papers
        have relu, which is as good for classes, not for regressions (``docs/performance.md``).
    likelihood : {"categorical", "bernoulli", "ordinal"} or object, default="categorical"
        Distribution of the label: any classes, two classes with one output, or classes in their
        sorted order with learnt thresholds. An object such as
        ``mirth.likelihoods.Ordinal(num_classes=4)`` must have the right number of classes.
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
    class_weight : mapping of label to float, or "balanced", optional
        Factor of the log likelihood of each class, 1 where none is given; it multiplies
        ``sample_weight``. ``"balanced"`` is rows / (classes * rows of the class): as if all
        classes were equally frequent, which the probabilities then say as well.
    robust_scaling : bool, default=True
        Scale without wild values of X, which are no part of their column, and clip these; a
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
    classes_ : array of shape (classes,)
        Labels, sorted.
    posterior_, diagnostics_, verdicts_, model_, x_scaler_, n_features_in_, seed_
        As for :class:`BNNRegressor`.
    calibration_ : SetCalibration or None
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
    >>> noise = np.random.default_rng(0).normal(size=60)
    >>> y = np.where(X[:, 0] + 0.5 * noise > 0, "high", "low")
    >>> clf = mirth.BNNClassifier((8,), method="deep_ensemble", n_members=2, random_state=0)
    >>> clf = clf.fit(X, y)
    >>> clf.predict([[1.5], [-1.5]])
    array(['high', 'low'], dtype='<U4')
    """

    calibration_: SetCalibration | None = None

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] | None = None,
        *,
        activation: str = "silu",
        likelihood: str | Likelihood = "categorical",
        prior: str | Prior | AutoPrior = "auto",
        method: str | MILE | Any = "mile",
        n_members: int = 10,
        validation_fraction: float = 0.1,
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.class_weight = class_weight
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
        y : array-like of shape (rows,)
            Labels of any type.
        sample_weight : array-like of shape (rows,), optional
            Weight of each row's log likelihood: a weight of 2 counts as two equal rows.

        Returns
        -------
        BNNClassifier
            The fitted estimator.
        """
        X, y, sample_weight, rows = self._validate_fit(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has only one class ({self.classes_[0]!r}); a classifier needs at least two."
            )
        weights = self._weigh(y, sample_weight)
        return self._fit(X, encoded, self._resolve_likelihood(), weights, rows)

    def _weigh(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """Multiply the weights of the rows by those of their classes."""
        if self.class_weight is None:
            return sample_weight
        if isinstance(self.class_weight, Mapping):
            for label, weight in self.class_weight.items():
                POSITIVE.check(f"class_weight[{label!r}]", weight)
        elif isinstance(self.class_weight, str):
            check_name("class_weight", self.class_weight, ["balanced"])
        else:
            raise TypeError(
                f"class_weight={self.class_weight!r} must be 'balanced', a mapping such as "
                "{'rare': 10.0}, or None."
            )
        weights = compute_sample_weight(self.class_weight, y)
        return weights if sample_weight is None else weights * sample_weight

    def _scaled_target(self, y: np.ndarray) -> np.ndarray:
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y has the label {str(unknown[0])!r}, which was not fitted; drop these rows. "
                f"Known: {', '.join(map(str, self.classes_))}."
            )
        return np.searchsorted(self.classes_, y)

    def _resolve_likelihood(self) -> Likelihood:
        likelihood: Any = self.likelihood
        num_classes = len(self.classes_)
        if isinstance(likelihood, str):
            kind: Any = CLASSIFICATION[find_name("likelihood", likelihood, CLASSIFICATION)]
            likelihood = kind() if kind is Bernoulli else kind(num_classes=num_classes)
        if not isinstance(likelihood, ClassLikelihood):
            raise TypeError(
                f"likelihood={likelihood!r} must be a name ({', '.join(CLASSIFICATION)}) or an "
                "object such as mirth.likelihoods.Ordinal(num_classes=4)."
            )
        if likelihood.num_classes != num_classes:
            raise ValueError(
                f"likelihood has num_classes={likelihood.num_classes}, but y has "
                f"{num_classes} classes; leave likelihood='categorical' to have it counted."
            )
        return likelihood

    def predict_dist(self, X: Any) -> CategoricalPredictive:
        """Predictive distribution of each row over class indices (positions in ``classes_``).

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.

        Returns
        -------
        CategoricalPredictive
            Mixture with ``probabilities, log_prob, entropy, aleatoric, epistemic, sample``.
        """
        return self._predictive(X)

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """Probability of each class, averaged over all draws.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.

        Returns
        -------
        array of shape (rows, classes)
            Columns in the order of ``classes_``.
        """
        return self.predict_dist(X).probabilities()

    def export(self, path: str | Path) -> None:
        """Write the predictive distribution as one program that runs without mirth.

        The program takes rows in the units of X, float32 of shape (rows, features) with any number
        of rows, and gives a dictionary of ``probabilities`` of shape (rows, classes), columns in
        the order of ``classes_``. The outputs of all draws for all rows are held at once: compress
        first, and send large tables in parts.

        Parameters
        ----------
        path : str or path
            ``*.stablehlo`` for what ``jax.export.deserialize`` reads, for CPU, CUDA, ROCm and TPU;
            ``*.onnx`` for ONNX, which needs ``mirth[onnx]``. An older file is replaced.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If the file name ends otherwise.
        ModuleNotFoundError
            If the converter to ONNX is missing.
        OSError
            If the file cannot be written; an older one is still there.
        """
        self._export(path)

    def predict(self, X: Any) -> np.ndarray:
        """Label with the highest averaged probability.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.

        Returns
        -------
        array of shape (rows,)
            Labels, of the type given to ``fit``.
        """
        indices = self.predict_proba(X).argmax(axis=1)
        return self.classes_[indices]

    def conformalize(self, X_cal: Any, y_cal: Any, conformity_score: str = "lac") -> Self:
        """Calibrate :meth:`predict_set` on rows that the fit has not seen.

        Its sets then hold the true class with at least the probability asked for, whatever the
        model, for new rows that are exchangeable with these (:mod:`mirth.results.conformal`).
        The other methods are not affected; another fit forgets the calibration.

        Parameters
        ----------
        X_cal : array-like of shape (rows, features)
            Calibration rows: at least c / (1 - c) of them for a level c, some hundreds for sets
            that vary little.
        y_cal : array-like of shape (rows,)
            Their labels.
        conformity_score : {"lac", "aps"}, default="lac"
            ``"lac"`` gives the smallest sets on average, some of them empty; ``"aps"`` larger
            ones, never empty, that adapt more to how hard a row is.

        Returns
        -------
        BNNClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If a label is unknown, the numbers of rows differ, or the score is unknown.
        """
        dist = self.predict_dist(X_cal)
        labels = self._indices_of(X_cal, y_cal)
        self.calibration_ = conformalize(
            dist, labels, conformity_score=conformity_score, seed=self.seed_
        )
        return self

    def _indices_of(self, X_cal: Any, y_cal: Any) -> np.ndarray:
        """Positions of labels in ``classes_``."""
        check_consistent_length(X_cal, y_cal)
        index = {label: k for k, label in enumerate(self.classes_.tolist())}
        labels = column_or_1d(y_cal).tolist()
        unknown = [label for label in labels if label not in index]
        if unknown:
            raise ValueError(
                f"y_cal has the label {unknown[0]!r}, which y did not have at fit (known: "
                f"{', '.join(map(repr, index))}); leave such rows out."
            )
        return np.array([index[label] for label in labels])

    def predict_set(
        self, X: Any, confidence_level: float | Sequence[float] = 0.9
    ) -> Bool[np.ndarray, "rows classes ..."]:
        """Classes that are possible at a level of confidence.

        After :meth:`conformalize` with its guarantee; before, the likeliest classes until their
        probabilities exceed the level, which is right as far as the model is.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.
        confidence_level : float or sequence of float, default=0.9
            Probability that the set holds the true class.

        Returns
        -------
        bool array of shape (rows, classes) or (rows, classes, levels)
            Columns in the order of ``classes_``.

        Raises
        ------
        TypeError, ValueError
            If a level is no number in (0, 1), or the calibration had too few rows for it.
        """
        dist = self.predict_dist(X)
        if self.calibration_ is None:
            return credible_sets(dist, confidence_level)
        return self.calibration_.sets(dist, confidence_level)

    def predict_uncertainty(self, X: Any) -> EntropySplit:
        """Predictive entropy, split into the draws' own and their disagreement.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            New inputs.

        Returns
        -------
        EntropySplit
            ``total``, ``aleatoric`` and ``epistemic``, in nats.
        """
        return split_uncertainty(self.predict_dist(X))
