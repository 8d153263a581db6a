"""Conformal calibration of what infer gives, without an estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mirth
from mirth.results import (
    IntervalCalibration,
    SetCalibration,
    conformalize,
    credible_sets,
    split_uncertainty,
)

from .conftest import estimator_of, predictive

pytestmark = pytest.mark.usefixtures("unoptimised")

LEVELS = [0.5, 0.9]


def test_intervals_are_those_of_the_estimator(
    numbers: mirth.Posterior, table: Any, scaled: Any, scalers: Any
) -> None:
    X, y = table
    units = {"shift": scalers[1].mean[0], "scale": scalers[1].scale[0]}
    old, new = (predictive(numbers, rows, **units) for rows in (scaled[0][80:], scaled[0][:80]))
    calibration = conformalize(old, y[80:])
    assert isinstance(calibration, IntervalCalibration)
    found = calibration.interval(new, LEVELS)
    reg = estimator_of(numbers, scalers).conformalize(X[80:], y[80:])
    np.testing.assert_array_equal(found, reg.predict_interval(X[:80], LEVELS))
    np.testing.assert_array_equal(calibration.interval(new), calibration.interval(new, 0.9))
    # The 40 rows themselves: as many of them inside as the rank of the level says. The last of them
    # is the end of its interval, which is a root in float32.
    low, high = calibration.interval(old, 0.9).T
    rounding = 1e-5 * units["scale"]
    inside = (low - rounding <= y[80:]) & (y[80:] <= high + rounding)
    assert np.sum(inside) == np.ceil(41 * 0.9)
    assert (found != new.interval(LEVELS)).any()


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_sets_are_those_of_the_estimator(
    score: str, classes: mirth.Posterior, table: Any, scaled: Any, labels: Any, scalers: Any
) -> None:
    old, new = (predictive(classes, rows) for rows in (scaled[0][80:], scaled[0][:80]))
    calibration = conformalize(old, labels[80:], conformity_score=score, seed=7)
    assert isinstance(calibration, SetCalibration)
    clf = estimator_of(classes, scalers)
    plain = clf.predict_set(table[0][:80], LEVELS)
    clf.conformalize(table[0][80:], labels[80:], score)
    sets = calibration.sets(new, LEVELS)
    np.testing.assert_array_equal(sets, clf.predict_set(table[0][:80], LEVELS))
    np.testing.assert_array_equal(sets, calibration.sets(new.probabilities(), LEVELS))
    np.testing.assert_array_equal(calibration.sets(new), sets[..., 1])
    np.testing.assert_array_equal(credible_sets(new, LEVELS), plain)
    np.testing.assert_array_equal(credible_sets(new), plain[..., 1])


def test_score_and_seed_count(classes: mirth.Posterior, scaled: Any, labels: Any) -> None:
    old = predictive(classes, scaled[0][80:])
    scores = [
        conformalize(old, labels[80:], **options).scores
        for options in (
            {}, {"conformity_score": "lac"}, {"conformity_score": "aps"},
            {"conformity_score": "aps", "seed": 1},
        )
    ]  # fmt: skip
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[1] != scores[2]).all() and (scores[2] != scores[3]).all()


def test_images(images: mirth.Posterior, pixels: np.ndarray) -> None:
    labels = (pixels.mean(axis=(1, 2, 3)) > 0).astype(int)
    calibration = conformalize(predictive(images, pixels), labels)
    sets = calibration.sets(predictive(images, pixels[:5]), 0.9)
    assert sets.shape == (5, 2)


def test_uncertainty_is_split(
    numbers: mirth.Posterior, classes: mirth.Posterior, table: Any, scaled: Any, scalers: Any
) -> None:
    units = {"shift": scalers[1].mean[0], "scale": scalers[1].scale[0]}
    for posterior, options in ((numbers, units), (classes, {})):
        found = split_uncertainty(predictive(posterior, scaled[0], **options))
        expected = estimator_of(posterior, scalers).predict_uncertainty(table[0])
        assert type(found) is type(expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(TypeError, match="predictive is a ndarray without the methods"):
        split_uncertainty(scaled[0])


def test_bad_input(numbers: Any, classes: Any, scaled: Any, labels: Any, scalers: Any) -> None:
    x, y = scaled[0][80:], scaled[1][80:]
    of_numbers, of_classes = predictive(numbers, x), predictive(classes, x)
    hole = np.where(np.arange(40) == 3, np.nan, y)
    reg = estimator_of(numbers, scalers)
    two = mirth.Model(
        mirth.MLP((2,), num_outputs=4),
        mirth.likelihoods.Independent((mirth.Normal(), mirth.Normal())),
    )
    draws = {
        "network": tuple(
            {name: np.ones((1, 1, *shape), np.float32) for name, shape in layer.items()}
            for layer in ({"weight": (2, 2), "bias": (2,)}, {"weight": (4, 2), "bias": (4,)})
        )
    }
    several = mirth.make_predictive(two, draws, x)
    cases: list[tuple[type, Any, str]] = [
        (TypeError, lambda: conformalize(numbers, y), "is a Posterior .*make_predictive"),
        (TypeError, lambda: conformalize(reg, y), r"is a BNNRegressor .*predict_dist\(X\)"),
        (ValueError, lambda: conformalize(of_numbers, hole), r"y has 1 value\(s\) that are"),
        (ValueError, lambda: conformalize(of_numbers, y[1:]), r"y has shape \(39,\).* 40 row"),
        (ValueError, lambda: conformalize(of_numbers, []), r"y has shape \(0,\)"),
        (ValueError, lambda: conformalize(of_numbers, y[:, None]), r"y has shape \(40, 1\)"),
        (TypeError, lambda: conformalize(of_numbers, y.astype(str)), "y has the type <U.*numbers"),
        (ValueError, lambda: conformalize(several, y), "predictive is of 2 targets; only one"),
        (
            ValueError,
            lambda: conformalize(of_numbers, y, conformity_score="aps"),
            "conformity_score='aps' is for classes; leave it out",
        ),
        (
            ValueError,
            lambda: conformalize(of_classes, labels[80:], conformity_score="apss"),
            "conformity_score='apss'.*did you mean 'aps'",
        ),
        (ValueError, lambda: conformalize(of_classes, labels[80:], seed=-1), "seed=-1 must be at"),
        (ValueError, lambda: conformalize(of_classes, labels), r"y has shape \(120,\).* 40 row"),
        (TypeError, lambda: conformalize(of_classes, labels[80:] * 1.0), "class indices, integers"),
        (ValueError, lambda: conformalize(of_classes, labels[80:] + 1), "classes from 1 to 3, but"),
    ]  # fmt: skip
    calibration, sets = conformalize(of_numbers, y), conformalize(of_classes, labels[80:])
    cases += [
        (TypeError, lambda: calibration.interval(of_classes), "is a CategoricalPredictive without"),
        (TypeError, lambda: sets.sets(of_numbers), "is a Predictive without the methods probab"),
        (ValueError, lambda: sets.sets(x), r"has shape \(40, 2\) and no rows of probabilities"),
        (ValueError, lambda: credible_sets([[0.5, np.nan]]), "no rows of probabilities"),
        (ValueError, lambda: calibration.interval(several), "predictive is of 2 targets"),
        (ValueError, lambda: calibration.interval(of_numbers, 0.99), "needs at least 99 calib"),
    ]
    for kind, call, text in cases:
        with pytest.raises(kind, match=text):
            call()
