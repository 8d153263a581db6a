"""The classifier."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import mirth
from mirth import BNNClassifier, BNNRegressor, ChainVerdict
from mirth.estimators import EntropySplit

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
    assert len(lines) == 4 and lines[1].split()[:2] == ["0", "moved"]


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


def test_the_same_parameters_as_the_regressor_but_for_the_target() -> None:
    parameters = [list(inspect.signature(c).parameters) for c in (BNNClassifier, BNNRegressor)]
    assert parameters[0] == [name for name in parameters[1] if name != "normalize_y"]


CHANGES: dict[str, Any] = {
    "hidden_layer_sizes": (4, 4),
    "activation": "tanh",
    "n_members": 1,
    "validation_fraction": 0.3,
    "random_state": 1,
}


@pytest.mark.parametrize("name", CHANGES)
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
