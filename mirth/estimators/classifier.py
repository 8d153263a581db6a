"""The classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from mirth.core.validation import check_name
from mirth.estimators._base import BaseBNN
from mirth.estimators.export import summarize_classes
from mirth.inference import MILE, Monitor
from mirth.model import Categorical, Likelihood, Prior
from mirth.prediction import CategoricalPredictive


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
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


class BNNClassifier(ClassifierMixin, BaseBNN):
    r"""Bayesian neural network for classification.

    A multi-layer perceptron with a prior on its weights; the posterior is sampled by ``method``
    and probabilities are averages over all draws,

    .. math:: p(y = c \mid x, D) = \frac1S \sum_{s=1}^{S} \mathrm{softmax}(f_{\theta_s}(x))_c.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(16, 16, 16)
        Width of each hidden layer.
    activation : str, default="relu"
        One of relu, leaky_relu, elu, gelu, silu, softplus, tanh, sigmoid, identity.
    likelihood : "categorical" or Categorical, default="categorical"
        Distribution of the label; an object must have the right number of classes.
    prior : "normal" or prior object, default="normal"
        Prior of every weight and bias; ``mirth.NormalPrior(scale=...)`` for another scale.
    method : str or method object, default="mile"
        How the posterior is found: one of mile, psmile, smile, psmile-naive, smile-naive, sgld,
        psgld, csgld, sghmc, adaptive-sghmc and deep_ensemble, or an object such as
        ``mirth.MILE(n_warmup=...)`` for another budget, whose fields can be searched as
        ``method__n_warmup``.
    n_members : int, default=10
        Networks, and chains that start from them.
    validation_fraction : float, default=0.1
        Share of the rows that is held back to stop the optimisation.
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
        Who else hears of the progress, such as :class:`mirth.TensorBoardMonitor`.
    draws_store : str or path, optional
        Where the draws of the run directory go: another folder, or a URL such as
        ``s3://bucket/run.zarr`` (with ``mirth[remote]`` and the protocol's own package, here
        s3fs). None means ``draws.zarr`` in the run directory.

    Attributes
    ----------
    classes_ : array of shape (classes,)
        Labels, sorted.
    posterior_, diagnostics_, verdicts_, model_, x_scaler_, n_features_in_, seed_
        As for :class:`BNNRegressor`.

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
    >>> method = mirth.MILE(n_warmup=200, n_samples=20)
    >>> clf = mirth.BNNClassifier((8,), method=method, n_members=2, random_state=0).fit(X, y)
    >>> clf.predict([[1.5], [-1.5]])
    array(['high', 'low'], dtype='<U4')
    """

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (16, 16, 16),
        *,
        activation: str = "relu",
        likelihood: str | Likelihood = "categorical",
        prior: str | Prior = "normal",
        method: str | MILE | Any = "mile",
        n_members: int = 10,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        verbose: int | bool = False,
        run_directory: str | Path | None = None,
        checkpoint_seconds: float = 30.0,
        max_time: float | str | None = None,
        monitors: Sequence[Monitor] | None = None,
        draws_store: str | Path | None = None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.prior = prior
        self.method = method
        self.n_members = n_members
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose
        self.run_directory = run_directory
        self.checkpoint_seconds = checkpoint_seconds
        self.max_time = max_time
        self.monitors = monitors
        self.draws_store = draws_store

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to rows.

        Parameters
        ----------
        X : array-like of shape (rows, features)
            Inputs, finite numbers in any units.
        y : array-like of shape (rows,)
            Labels of any type.
        sample_weight : array-like of shape (rows,), optional
            Weight of each row's log likelihood.

        Returns
        -------
        BNNClassifier
            The fitted estimator.
        """
        X, y, sample_weight = self._validate_fit(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, encoded = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has only one class ({self.classes_[0]!r}); a classifier needs at least two."
            )
        return self._fit(X, encoded, self._resolve_likelihood(), sample_weight)

    def _scaled_target(self, y: np.ndarray) -> np.ndarray:
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y has the label {str(unknown[0])!r}, which was not fitted; drop these rows. "
                f"Known: {', '.join(map(str, self.classes_))}."
            )
        return np.searchsorted(self.classes_, y)

    def _resolve_likelihood(self) -> Likelihood:
        num_classes = len(self.classes_)
        if isinstance(self.likelihood, str):
            check_name("likelihood", self.likelihood, ["categorical"])
            return Categorical(num_classes=num_classes)
        if not isinstance(self.likelihood, Categorical):
            raise TypeError(f"likelihood={self.likelihood!r} must be 'categorical' or Categorical.")
        if self.likelihood.num_classes != num_classes:
            raise ValueError(
                f"likelihood has num_classes={self.likelihood.num_classes}, but y has "
                f"{num_classes} classes; leave likelihood='categorical' to have it counted."
            )
        return self.likelihood

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
        of rows, and a dictionary of ``probabilities`` of shape (rows, classes),
        columns in the order of ``classes_``.
        The outputs of all draws for all rows are held at once, so
        compress first, and send large tables in parts.

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
        self._export(path, summarize_classes)

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
        dist = self.predict_dist(X)
        return EntropySplit(dist.entropy(), dist.aleatoric(), dist.epistemic())
