"""The classifier."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import mirth
from mirth import BNNClassifier, BNNRegressor
from mirth.results import ChainVerdict, EntropySplit

pytestmark = pytest.mark.usefixtures("unoptimised")

Table = tuple[np.ndarray, np.ndarray]


def test_predictions_fit_the_labels(
    classifier: BNNClassifier, table: Table, labels: np.ndarray
) -> None:
    X, text = table[0], np.array(["low", "mid", "top"])[labels]
    assert classifier.classes_.tolist() == ["low", "mid", "top"]
    assert classifier.score(X, text) > 0.6
    assert classifier.verdicts_ == [ChainVerdict.MOVED] * 2
    assert set(classifier.predict(X)) <= set(text)


def test_probabilities(classifier: BNNClassifier, table: Table) -> None:
    X = table[0]
    probabilities = classifier.predict_proba(X)
    assert type(probabilities) is np.ndarray and probabilities.dtype == np.float64
    assert probabilities.shape == (80, 3) and (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-14)
    best = classifier.classes_[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(classifier.predict(X), best)
    # The average over draws of the softmax, not the softmax of an average.
    per_draw = classifier.predict_dist(X).log_prob_per_draw(np.zeros(80, dtype=int))
    np.testing.assert_allclose(probabilities[:, 0], np.exp(per_draw).mean((0, 1)), rtol=1e-5)


def test_entropy_adds_up(classifier: BNNClassifier, table: Table) -> None:
    parts = classifier.predict_uncertainty(table[0])
    assert isinstance(parts, EntropySplit)
    assert {p.shape for p in parts} == {(80,)} and {p.dtype for p in parts} == {np.dtype(float)}
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic, atol=1e-6)
    assert (parts.epistemic >= 0).all() and parts.epistemic.max() > 0
    assert (parts.total <= np.log(3) + 1e-12).all()


@pytest.mark.parametrize(
    "names",
    [
        np.array(["ja", "nein"]),
        np.array([7, -3]),
        np.array([True, False]),
        np.array([2.0, 1.0]),
        np.array(["ja", "nein"], dtype=object),
    ],
    ids=["text", "int", "bool", "float", "object"],
)
def test_labels_of_any_type(
    table: Table, tiny: dict[str, Any], labels: np.ndarray, names: np.ndarray
) -> None:
    X, y = table[0], names[(labels > 0).astype(int)]
    clf = BNNClassifier(**tiny).fit(X, y)
    assert clf.classes_.tolist() == sorted(names.tolist())
    predicted = clf.predict(X)
    assert predicted.dtype == y.dtype
    assert np.mean(predicted == y) > 0.7
    column = clf.classes_.tolist().index(names[1])
    assert ((clf.predict_proba(X)[:, column] > 0.5) == (predicted == names[1])).all()


def test_the_deep_ensemble_inside_is_the_deep_ensemble(
    classifier: BNNClassifier, table: Table, labels: np.ndarray, tiny: dict[str, Any]
) -> None:
    X, text = table[0], np.array(["low", "mid", "top"])[labels]
    alone = BNNClassifier(**tiny).fit(X, text)
    np.testing.assert_array_equal(
        classifier.as_deep_ensemble().predict_proba(X), alone.predict_proba(X)
    )


def test_the_draws_of_text_and_of_numbers_are_the_same(
    classifier: BNNClassifier, table: Table, labels: np.ndarray, short: dict[str, Any]
) -> None:
    again = BNNClassifier(**short).fit(table[0], labels)
    np.testing.assert_array_equal(again.posterior_.positions(), classifier.posterior_.positions())


def test_diagnostics(classifier: BNNClassifier) -> None:
    lines = str(classifier.diagnostics_).splitlines()
    assert lines[1].split()[:2] in (["0", "moved"], ["0", "not"])
    assert lines[3].startswith("start, LPPD:") and "Together they" in " ".join(lines[6:])


def test_pickle(classifier: BNNClassifier, table: Table) -> None:
    twin = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(twin.predict(table[0]), classifier.predict(table[0]))
    np.testing.assert_array_equal(twin.predict_proba(table[0]), classifier.predict_proba(table[0]))


def test_weights_change_the_probabilities(
    table: Table, labels: np.ndarray, tiny: dict[str, Any]
) -> None:
    y = labels > 0
    ones, heavy = (
        BNNClassifier(**tiny).fit(table[0], y, sample_weight=weights).predict_proba(table[0])[:, 1]
        for weights in (np.ones(80), np.where(y, 20.0, 1.0))
    )
    assert heavy.mean() > ones.mean()


WEIGHTS: dict[str, tuple[Any, np.ndarray, np.ndarray | None]] = {
    # What to give: (class_weight, sample_weight), and the weights of classes 0, 1 that it equals.
    "mapping": ({0: 3.0}, None, np.array([3.0, 1.0])),
    "balanced": ("balanced", None, np.array([80 / 2 / 30, 80 / 2 / 50])),
    "both": ({0: 3.0, 1: 0.5}, np.tile([1.0, 2.0], 40), np.array([3.0, 0.5])),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_class_weights_are_weights_of_rows(
    table: Table, labels: np.ndarray, tiny: dict[str, Any], case: str
) -> None:
    class_weight, sample_weight, factors = WEIGHTS[case]
    y = (labels > 0).astype(int)
    assert np.bincount(y).tolist() == [30, 50]
    by_class = BNNClassifier(**tiny, class_weight=class_weight)
    by_class.fit(table[0], y, sample_weight=sample_weight)
    weights = factors[y] * (1.0 if sample_weight is None else sample_weight)
    by_row = BNNClassifier(**tiny).fit(table[0], y, sample_weight=weights)
    np.testing.assert_array_equal(by_class.predict_proba(table[0]), by_row.predict_proba(table[0]))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("balancd", ValueError, r"class_weight='balancd'.*did you mean 'balanced'"),
        (3.0, TypeError, r"class_weight=3\.0 must be 'balanced', a mapping such as"),
        ({0: -1.0}, ValueError, r"class_weight\[0\]=-1\.0"),
        ({0: 0.0}, ValueError, r"class_weight\[0\]=0\.0"),
        ({0: "much"}, TypeError, r"class_weight\[0\]='much' must be a number"),
        ({"a": 2.0}, ValueError, r"are not in class_weight"),
    ],
)
def test_class_weights_that_cannot_be_used(
    table: Table, labels: np.ndarray, tiny: dict[str, Any], value: Any, error: type, text: str
) -> None:
    with pytest.raises(error, match=text):
        BNNClassifier(**tiny, class_weight=value).fit(table[0], labels)


def test_labels_that_the_fit_has_not_seen(
    classifier: BNNClassifier, table: Table, labels: np.ndarray
) -> None:
    """They count as wrong in the score; a log probability of them does not exist."""
    X = table[0]
    text = classifier.predict(X).astype("<U9")
    assert classifier.score(X, text) == 1.0
    text[:20] = "elsewhere"
    assert classifier.score(X, text) == 0.75
    with pytest.raises(ValueError, match=r"classes from 0 to 3, but the model knows 0 to 2"):
        classifier.predict_dist(X).log_prob(np.where(np.arange(80) == 0, 3, 0))


def test_a_class_whose_rows_all_have_weight_zero_is_not_there(
    table: Table, labels: np.ndarray, tiny: dict[str, Any]
) -> None:
    clf = BNNClassifier(**tiny).fit(table[0], labels, sample_weight=labels < 2)
    assert clf.classes_.tolist() == [0, 1]
    assert clf.predict_proba(table[0]).shape == (80, 2)
    with pytest.raises(ValueError, match=r"y has only one class \(.*0.*\).*at least two"):
        BNNClassifier(**tiny).fit(table[0], labels, sample_weight=labels < 1)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_uncertainty_of_few_and_of_many_classes(
    table: Table, labels: np.ndarray, tiny: dict[str, Any], num_classes: int
) -> None:
    """Entropy of the average, average of the entropies, and between them the mutual information."""
    X, y = table[0], np.minimum(labels, num_classes - 1)
    clf = BNNClassifier(**tiny).fit(X, y)
    parts, dist = clf.predict_uncertainty(X), clf.predict_dist(X)
    by_draw = np.exp([dist.log_prob_per_draw(np.full(80, c)) for c in range(num_classes)])
    by_draw = by_draw.reshape(num_classes, -1, 80)
    mean = by_draw.mean(axis=1)
    np.testing.assert_allclose(mean.T, clf.predict_proba(X), rtol=1e-5)
    np.testing.assert_allclose(parts.total, -(mean * np.log(mean)).sum(axis=0), rtol=1e-5)
    aleatoric = -(by_draw * np.log(by_draw)).sum(axis=0).mean(axis=0)
    np.testing.assert_allclose(parts.aleatoric, aleatoric, rtol=1e-5)
    ratio = np.log(by_draw / mean[:, None])
    mutual = (by_draw * ratio).sum(axis=0).mean(axis=0)  # mean divergence from the average
    np.testing.assert_allclose(parts.epistemic, mutual, atol=1e-6)
    assert parts.total.max() <= np.log(num_classes) + 1e-12


def test_the_same_parameters_as_the_regressor_but_for_the_target() -> None:
    own, other = (list(inspect.signature(c).parameters) for c in (BNNClassifier, BNNRegressor))
    assert [name for name in own if name != "class_weight"] == [
        name for name in other if name not in ("normalize_y", "resolution")
    ]


CHANGES: dict[str, Any] = {
    "hidden_layer_sizes": (4, 4),
    "activation": "tanh",
    "n_members": 1,
    "validation_fraction": 0.3,
    "random_state": 1,
}


@pytest.mark.parametrize(
    # The others go the same way as for the regressor too.
    "name",
    [
        pytest.param(name, marks=[] if name == "random_state" else [pytest.mark.slow])
        for name in CHANGES
    ],
)
def test_every_parameter_changes_the_predictions(
    table: Table, labels: np.ndarray, tiny: dict[str, Any], name: str
) -> None:
    """Method and prior go the same way as for the regressor."""
    base, other = (
        BNNClassifier(**(tiny | change)).fit(table[0], labels).predict_proba(table[0])
        for change in ({}, {name: CHANGES[name]})
    )
    assert (base != other).any()


def test_likelihood_objects(table: Table, labels: np.ndarray, tiny: dict[str, Any]) -> None:
    fits = BNNClassifier(**tiny, likelihood=mirth.Categorical(num_classes=3))
    assert fits.fit(table[0], labels).model_.likelihood.num_classes == 3
    too_few = BNNClassifier(**tiny, likelihood=mirth.Categorical(num_classes=2))
    with pytest.raises(ValueError, match=r"num_classes=2, but y has 3 classes; leave"):
        too_few.fit(table[0], labels)
    with pytest.raises(
        TypeError, match=r"must be a name \(categorical, bernoulli, ordinal\) or an"
    ):
        BNNClassifier(**tiny, likelihood=mirth.Normal()).fit(table[0], labels)
