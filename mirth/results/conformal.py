r"""Split conformal calibration: intervals and class sets whose coverage needs no right model.

Rows that the fit has not seen are scored for how strange they are to the model; of n scores the
:math:`k = \lceil (n + 1) c \rceil`-th smallest is the threshold q of level c. A new row that is
exchangeable with them has a score of at most q with probability :math:`k / (n + 1) \ge c`,
whatever the model, and at most :math:`c + 1 / (n + 1)` if no two scores are equal [1]_.

=====  =======================================================  =============================
score  of a row (x, y)                                          what is predicted
=====  =======================================================  =============================
cdf    :math:`|F(y|x) - 1/2|` [2]_, in far tails a distance     quantiles at 1/2 - q, 1/2 + q
lac    :math:`1 - p(y|x)` [3]_                                  classes with p >= 1 - q
aps    probability of the likelier classes and a random share   likeliest classes until their
       of that of y [4]_                                        probabilities exceed q
=====  =======================================================  =============================

References
----------
.. [1] Lei et al., "Distribution-free predictive inference for regression", JASA 113 (2018).
.. [2] Chernozhukov, Wuthrich and Zhu, "Distributional conformal prediction", PNAS 118 (2021).
.. [3] Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error
   levels", JASA 114 (2019).
.. [4] Romano, Sesia and Candes, "Classification with valid and adaptive coverage", NeurIPS 2020.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, Self, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from mirth.core.validation import check_int, check_name
from mirth.prediction.checks import check_levels
from mirth.results._checks import check_kind, check_labels, check_probabilities, check_targets

Rows = Float[np.ndarray, " data"]
Probabilities = Float[np.ndarray, "data classes"]

_TAIL = 1e-4  # smaller probabilities are the likelihood's habit, and have few digits in float32
_SMALLEST_WIDTH = 1e-30  # counts may have all their mass on one value
_ROUNDING = 1e-9  # so that a product such as 100 * 0.29 does not ask for one row more


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Conformity scores of the calibration rows.

    Parameters
    ----------
    scores : array of shape (rows,)
        In any order; the larger the stranger.
    """

    scores: Rows

    def threshold(self, confidence_level: float | Sequence[float]) -> np.ndarray:
        """Give the score that a new row stays below with the probability asked for.

        Parameters
        ----------
        confidence_level : float or sequence of float
            Levels in (0, 1).

        Returns
        -------
        array of shape () or (levels,)

        Raises
        ------
        TypeError, ValueError
            If a level is no number in (0, 1), or there are too few rows for it.
        """
        levels, n = check_levels("confidence_level", confidence_level), len(self.scores)
        rank = np.ceil((n + 1) * levels - _ROUNDING).astype(int)
        if (rank > n).any():
            level = levels.max()
            needed = int(np.ceil(level / (1 - level) - _ROUNDING))
            raise ValueError(
                f"confidence_level={level:g} needs at least {needed} calibration rows, but "
                f"conformalize had {n}; give it more rows or lower the level."
            )
        return np.sort(self.scores)[np.maximum(rank, 1) - 1]


class Distribution(Protocol):
    """What intervals need of a predictive distribution."""

    def cdf(self, y: Any) -> np.ndarray: ...

    def quantile(self, levels: Any) -> np.ndarray: ...


@runtime_checkable
class ClassDistribution(Protocol):
    """What sets need of a predictive distribution."""

    def probabilities(self) -> np.ndarray: ...


@overload
def conformalize(predictive: Distribution, y: Any) -> IntervalCalibration: ...


@overload
def conformalize(
    predictive: ClassDistribution, y: Any, *, conformity_score: str | None = None, seed: int = 0
) -> SetCalibration: ...


def conformalize(
    predictive: Distribution | ClassDistribution,
    y: Any,
    *,
    conformity_score: str | None = None,
    seed: int = 0,
) -> IntervalCalibration | SetCalibration:
    """Calibrate predictions on rows that the fit has not seen.

    What comes back gives intervals or sets of new rows that hold the target with at least the
    probability asked for, whatever the model, if the new rows are exchangeable with these.

    Parameters
    ----------
    predictive : Predictive or CategoricalPredictive
        Of the calibration rows, as :func:`mirth.make_predictive` makes it: at least c / (1 - c) of
        them for a level c, some hundreds for intervals and sets that vary little.
    y : array of shape (rows,)
        Their targets, in the units of ``predictive``; of classes the indices.
    conformity_score : {"lac", "aps"}, optional
        For classes: ``"lac"``, which None means, gives the smallest sets on average, some of them
        empty; ``"aps"`` larger ones, never empty, that adapt more to how hard a row is.
    seed : int, default=0
        Of the random shares of ``"aps"``.

    Returns
    -------
    IntervalCalibration or SetCalibration
        With ``interval(predictive, confidence_level)``, or for classes
        ``sets(predictive, confidence_level)``, of new rows.

    Raises
    ------
    TypeError
        If ``predictive`` is no predictive distribution, or ``y`` holds no numbers.
    ValueError
        If ``y`` has another number of rows, is not finite or no class, ``predictive`` is of several
        targets, or ``conformity_score`` is unknown or given for numbers.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 80)[:, None]
    >>> y = x[:, 0] + 0.1 * np.random.default_rng(0).normal(size=80)
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> data = mirth.Dataset(x[::2], y[::2])
    >>> posterior = mirth.infer(model, data, "deep_ensemble", num_chains=2)
    >>> calibration = conformalize(mirth.make_predictive(model, posterior.draws, x[1::2]), y[1::2])
    >>> new = mirth.make_predictive(model, posterior.draws, x[:3])
    >>> calibration.interval(new, 0.9).shape
    (3, 2)
    """
    if isinstance(predictive, ClassDistribution):
        score = "lac" if conformity_score is None else conformity_score
        return SetCalibration.of(predictive, y, score, seed)
    if conformity_score is not None:
        raise ValueError(
            f"conformity_score={conformity_score!r} is for classes; leave it out for numbers, "
            "whose score is the distribution function."
        )
    return IntervalCalibration.of(predictive, y)


@dataclasses.dataclass(frozen=True, eq=False)
class IntervalCalibration(Calibration):
    r"""Calibration of central intervals by the predictive distribution function.

    The score of a row is :math:`|F(y|x) - \tfrac12|`, so one calibration serves all levels, and the
    intervals keep the shape of the distribution, its skewness included. Outside of the quantiles at
    0.0001 and 0.9999 a distribution says little; there the score is 1/2 + the distance from the
    nearer one, divided by the distance of the two. So intervals are finite, however wrong the model
    is. For counts, where F is a step function, they cover at least as often as asked for.

    Parameters
    ----------
    scores : array of shape (rows,)
        Scores of the calibration rows.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.stats import norm
    >>> class Forecast:  # every row Normal(0, 1), which is too narrow
    ...     def cdf(self, y):
    ...         return norm.cdf(y)
    ...     def quantile(self, levels):
    ...         return norm.ppf(levels)[None]
    >>> y = 3 * np.random.default_rng(0).normal(size=500)
    >>> IntervalCalibration.of(Forecast(), y).interval(Forecast(), 0.8)  # 3 * 1.28 = 3.84
    array([[-3.85,  3.85]])
    """

    @classmethod
    def of(cls, predictive: Distribution, y: Any) -> Self:
        """Score the targets of the calibration rows; :func:`conformalize` says how."""
        ends = _quantiles(predictive, np.array([_TAIL, 1 - _TAIL]))
        y = check_targets(y, len(ends))
        low, high = ends.T
        outside = np.maximum(low - y, y - high) / np.maximum(high - low, _SMALLEST_WIDTH)
        return cls(np.where(outside > 0, 0.5 + outside, np.abs(predictive.cdf(y) - 0.5)))

    def interval(
        self, predictive: Distribution, confidence_level: float | Sequence[float] = 0.9
    ) -> Float[np.ndarray, "data 2 ..."]:
        """Give the intervals of new rows.

        Parameters
        ----------
        predictive : Predictive
            Predictive distribution of the new rows.
        confidence_level : float or sequence of float, default=0.9
            Least probability that the interval holds the target.

        Returns
        -------
        array of shape (rows, 2), or (rows, 2, levels) for a sequence
            Lower and upper ends.

        Raises
        ------
        TypeError, ValueError
            As :meth:`threshold` does, or if ``predictive`` is of another kind.
        """
        threshold = self.threshold(confidence_level)
        tails = np.maximum(0.5 - threshold, _TAIL)
        ends = _quantiles(predictive, np.stack([tails, 1 - tails]).ravel())
        ends = ends.reshape(-1, 2, *tails.shape)
        width = np.maximum(ends[:, 1] - ends[:, 0], _SMALLEST_WIDTH)
        margin = np.maximum(threshold - 0.5, 0) * width
        return ends + np.stack([-margin, margin], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class SetCalibration(Calibration):
    """Calibration of sets of classes.

    Parameters
    ----------
    scores : array of shape (rows,)
        Scores of the calibration rows.
    conformity_score : {"lac", "aps"}
        What they are.

    Examples
    --------
    >>> import numpy as np
    >>> probabilities = np.array([[0.6, 0.3, 0.1]] * 10)
    >>> labels = np.array([0] * 7 + [1] * 3)
    >>> SetCalibration.of(probabilities, labels, "lac").sets(probabilities[:1], 0.9)
    array([[ True,  True, False]])
    """

    conformity_score: str

    @classmethod
    def of(
        cls,
        predictive: ClassDistribution | Probabilities,
        labels: Any,
        conformity_score: str,
        seed: int = 0,
    ) -> Self:
        """Score the classes of the calibration rows; :func:`conformalize` says how."""
        strangeness = CONFORMITY_SCORES[
            check_name("conformity_score", conformity_score, list(CONFORMITY_SCORES))
        ]
        check_int("seed", seed, minimum=0)
        probabilities = check_probabilities(predictive)
        labels = check_labels(labels, *probabilities.shape)
        rows = np.arange(len(labels))
        scores = strangeness(probabilities)[rows, labels]
        if conformity_score == "aps":
            kept = 1 - np.random.RandomState(seed).uniform(size=len(labels))
            scores = scores + kept * probabilities[rows, labels]
        return cls(scores, conformity_score)

    def sets(
        self,
        predictive: ClassDistribution | Probabilities,
        confidence_level: float | Sequence[float] = 0.9,
    ) -> Bool[np.ndarray, "data classes ..."]:
        """Give the sets of new rows.

        Parameters
        ----------
        predictive : CategoricalPredictive, or array of shape (rows, classes)
            Predictive distribution of the new rows, or its probabilities.
        confidence_level : float or sequence of float, default=0.9
            Least probability that the set holds the class.

        Returns
        -------
        bool array of shape (rows, classes), or (rows, classes, levels) for a sequence
            Which classes are in the set.

        Raises
        ------
        TypeError, ValueError
            As :meth:`threshold` does, or if ``predictive`` is of another kind.
        """
        strangeness = CONFORMITY_SCORES[self.conformity_score](check_probabilities(predictive))
        return _at_most(strangeness, self.threshold(confidence_level))


def credible_sets(
    predictive: ClassDistribution | Probabilities, confidence_level: float | Sequence[float] = 0.9
) -> Bool[np.ndarray, "data classes ..."]:
    """Give the likeliest classes of each row until their probabilities exceed the level.

    They are right as far as the model is; :func:`conformalize` gives sets with a guarantee.

    Parameters
    ----------
    predictive : CategoricalPredictive, or array of shape (rows, classes)
        Predictive distribution, or its probabilities.
    confidence_level : float or sequence of float, default=0.9
        Levels in (0, 1).

    Returns
    -------
    bool array of shape (rows, classes), or (rows, classes, levels) for a sequence
        Which classes are in the set.

    Raises
    ------
    TypeError, ValueError
        If a level is no number in (0, 1), or the probabilities are none.

    Examples
    --------
    >>> import numpy as np
    >>> credible_sets(np.array([[0.6, 0.3, 0.1]]), 0.8)
    array([[ True,  True, False]])
    """
    levels = check_levels("confidence_level", confidence_level)
    return _at_most(_likelier_mass(check_probabilities(predictive)), levels)


def _quantiles(predictive: Distribution, levels: np.ndarray) -> Float[np.ndarray, "data levels"]:
    """Quantiles of one target."""
    check_kind(predictive, ("cdf", "quantile"))
    ends = predictive.quantile(levels)
    if ends.ndim > 2:
        raise ValueError(
            f"predictive is of {ends.shape[2]} targets; only one can be calibrated, so sample a "
            "model for each target."
        )
    return ends


def _unlikeliness(probabilities: Probabilities) -> Probabilities:
    return 1 - probabilities


def _likelier_mass(probabilities: Probabilities) -> Probabilities:
    """Sum the probabilities of all likelier classes; classes of equal probability are equal."""
    order = np.argsort(-probabilities, axis=1)
    falling = np.take_along_axis(probabilities, order, axis=1)
    before = np.zeros_like(falling)
    before[:, 1:] = np.cumsum(falling, axis=1)[:, :-1]
    before[:, 1:][falling[:, 1:] == falling[:, :-1]] = 0
    result = np.empty_like(before)
    np.put_along_axis(result, order, np.maximum.accumulate(before, axis=1), axis=1)
    return result


CONFORMITY_SCORES = {"lac": _unlikeliness, "aps": _likelier_mass}
"""How strange each class is to the model, by the name of the score."""


def _at_most(strangeness: Probabilities, threshold: np.ndarray) -> np.ndarray:
    return strangeness.reshape(*strangeness.shape, *[1] * threshold.ndim) <= threshold
