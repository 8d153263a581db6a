"""Levels of probability: every entry says the same of a wrong one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mirth
from mirth.prediction.checks import check_levels
from mirth.results import conformalize, credible_sets, export

from .conftest import estimator_of, predictive

pytestmark = pytest.mark.usefixtures("unoptimised")

Entry = Callable[[Any], Any]


@pytest.fixture(scope="module")
def entries(
    numbers: mirth.Posterior, classes: mirth.Posterior, table: Any, scaled: Any, labels: Any,
    scalers: Any, tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[str, Entry]]:  # fmt: skip
    """All public functions that take levels, with the name of the argument."""
    X, y = table
    path = Path(tmp_path_factory.mktemp("program")) / "model.stablehlo"
    reg, clf = estimator_of(numbers, scalers), estimator_of(classes, scalers)
    calibrated = [copy.copy(reg).conformalize(X[80:], y[80:])]
    calibrated += [copy.copy(clf).conformalize(X[80:], labels[80:])]
    of_numbers, of_classes = (predictive(p, scaled[0][80:]) for p in (numbers, classes))
    intervals = conformalize(of_numbers, scaled[1][80:])
    sets = conformalize(of_classes, labels[80:])
    return [
        ("confidence_level", lambda level: reg.predict_interval(X, level)),
        ("confidence_level", lambda level: calibrated[0].predict_interval(X, level)),
        ("confidence_level", lambda level: clf.predict_set(X, level)),
        ("confidence_level", lambda level: calibrated[1].predict_set(X, level)),
        ("confidence_level", lambda level: of_numbers.interval(level)),
        ("confidence_level", lambda level: intervals.interval(of_numbers, level)),
        ("confidence_level", lambda level: sets.sets(of_classes, level)),
        ("confidence_level", intervals.threshold),
        ("confidence_level", lambda level: credible_sets(of_classes, level)),
        ("levels", of_numbers.quantile),
        ("quantiles", lambda level: reg.predict_quantiles(X, level)),
        ("quantiles", lambda level: reg.export(path, quantiles=level)),
        ("quantiles", lambda level: export(numbers, path, 2, quantiles=level)),
    ]


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        ("a", TypeError), ("0.5", TypeError), (True, TypeError), ([0.5, None], TypeError),
        (0.0, ValueError), (1, ValueError), (-0.1, ValueError), (np.nan, ValueError),
        ([0.5, 1.0], ValueError), ([[0.5]], ValueError), ([[0.5], [0.5, 0.6]], ValueError),
    ],
)  # fmt: skip
def test_one_text_everywhere(entries: list[tuple[str, Entry]], level: Any, kind: type) -> None:
    for argument, entry in entries:
        with pytest.raises(kind) as caught:
            entry(level)
        assert str(caught.value) == (
            f"{argument}={level!r} must be a number, or a sequence of numbers, in (0, 1)."
        )


@pytest.mark.parametrize("level", [0.5, np.float32(0.5), [0.25, 0.5], (0.5,), np.array([0.5])])
def test_levels_that_will_do(entries: list[tuple[str, Entry]], level: Any) -> None:
    np.testing.assert_array_equal(check_levels("levels", level), np.asarray(level, float))
    for _, entry in entries[:9]:
        entry(level)
