"""Bad input: each case gets an error, or a warning, that says what to do."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import mirth
from mirth import BNNClassifier, BNNRegressor, MirthWarning

pytestmark = pytest.mark.usefixtures("unoptimised")

Table = tuple[np.ndarray, np.ndarray]


def with_value(array: np.ndarray, value: Any) -> np.ndarray:
    copy = array.astype(float)
    copy.flat[5] = value
    return copy


X = np.random.default_rng(1).normal(size=(12, 2))
Y = X[:, 0] + 0.1 * X[:, 1]
TEXT = np.array([["a", "b"]] * 12, dtype=object)

# What is wrong: (X, y, text of the error).
ROWS: dict[str, tuple[Any, Any, str]] = {
    "nan in X": (with_value(X, np.nan), Y, r"Input X contains NaN"),
    "inf in X": (with_value(X, np.inf), Y, r"Input X contains infinity"),
    "nan in y": (X, with_value(Y, np.nan), r"Input y contains NaN"),
    "inf in y": (X, with_value(Y, -np.inf), r"Input y contains infinity"),
    "one row": (X[:1], Y[:1], r"1 sample\(s\).*minimum of 2 is required"),
    "no rows": (X[:0], Y[:0], r"0 sample\(s\).*minimum of 2 is required"),
    "no columns": (X[:, :0], Y, r"0 feature\(s\)"),
    "one axis": (X[:, 0], Y, r"Reshape your data"),
    "constant target": (X, np.full(12, 3.5), r"y is constant \(3\.5 in all 12 rows\).*target"),
    "two constant targets": (X, np.ones((12, 2)), r"y\[:, 0\] is constant \(1 in all 12 rows\)"),
    "three axes in y": (X, X[:, :, None], r"Found array with dim 3"),
    "other length": (X, Y[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
    "text in X": (TEXT, Y, r"could not convert string to float: 'a'.*Encode text"),
    "text in y": (X, TEXT[:, 0], r"could not convert string to float: 'a'.*Encode text"),
    "fixed-width text in y": (X, TEXT[:, 0].astype(str), r"y holds text.*BNNClassifier"),
    "no y": (X, None, r"requires y to be passed"),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_of_the_regressor(case: str, tiny: dict[str, Any]) -> None:
    X, y, text = ROWS[case]
    with pytest.raises(ValueError, match=text):
        BNNRegressor(**tiny).fit(X, y)


CLASSES: dict[str, tuple[Any, Any, str]] = {
    "one class": (X, np.full(12, "a"), r"y has only one class .*at least two"),
    "real target": (X, Y, r"Unknown label type: continuous.*classifier"),
    "nan in X": (with_value(X, np.nan), Y > 0, r"Input X contains NaN"),
    "nan in y": (X, with_value(Y > 0, np.nan), r"Input y contains NaN"),
    "two targets": (X, X > 0, r"y should be a 1d array, got an array of shape \(12, 2\)"),
    "one row": (X[:1], [1], r"1 sample\(s\).*minimum of 2 is required"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_rows_of_the_classifier(case: str, tiny: dict[str, Any]) -> None:
    X, y, text = CLASSES[case]
    with pytest.raises(ValueError, match=text):
        BNNClassifier(**tiny).fit(X, y)


@pytest.mark.parametrize(
    ("weights", "error", "text"),
    [
        (np.ones(11), ValueError, r"sample_weight.*\(11,\).*\(12,\)"),
        (np.ones((12, 1)), ValueError, r"[Ss]ample.weights? must be 1D"),
        (-np.ones(12), ValueError, r"[Nn]egative values.*sample_weight"),
        (np.zeros(12), ValueError, r"zero"),
        (np.eye(12)[0], ValueError, r"positive for one row only"),
        (with_value(np.ones(12), np.nan), ValueError, r"sample_weight contains NaN"),
    ],
    ids=["length", "axes", "negative", "zero", "one row", "nan"],
)
def test_weights(weights: np.ndarray, error: type, text: str, tiny: dict[str, Any]) -> None:
    with pytest.raises(error, match=text):
        BNNRegressor(**tiny).fit(X, Y, sample_weight=weights)


PARAMETERS: list[tuple[str, Any, type, str]] = [
    ("hidden_layer_sizes", (16, 0), ValueError, r"hidden_layer_sizes=0 must be at least 1"),
    ("hidden_layer_sizes", (16, -4), ValueError, r"hidden_layer_sizes=-4"),
    ("hidden_layer_sizes", (16.5,), TypeError, r"hidden_layer_sizes=16.5 must be an integer"),
    ("hidden_layer_sizes", "16,16", TypeError, r"hidden_layer_sizes='16,16'"),
    ("activation", "rleu", ValueError, r"activation='rleu'.*did you mean 'relu'"),
    ("activation", np.tanh, TypeError, r"activation=.*must be a name"),
    ("likelihood", "norml", ValueError, r"likelihood='norml'.*did you mean 'normal'"),
    ("likelihood", mirth.Normal, TypeError, r"likelihood=.*must be a name .*or an object"),
    ("prior", "nromal", ValueError, r"prior='nromal'.*did you mean 'normal'"),
    ("prior", 0.5, TypeError, r"prior=0.5 .*mirth\.priors\.NormalPrior\(scale="),
    ("method", "mil", ValueError, r"method='mil'.*did you mean 'mile'"),
    ("method", {"n_warmup": 5}, TypeError, r"method=.*mirth\.MILE\("),
    ("n_members", 0, ValueError, r"n_members=0 must be at least 1"),
    ("n_members", -2, ValueError, r"n_members=-2"),
    ("n_members", 2.0, TypeError, r"n_members=2.0 must be an integer"),
    ("validation_fraction", 0.0, ValueError, r"validation_fraction=0.0"),
    ("validation_fraction", 1.0, ValueError, r"validation_fraction=1.0"),
    ("validation_fraction", "10%", TypeError, r"validation_fraction='10%'"),
    ("random_state", "seed", ValueError, r"'seed' cannot be used to seed"),
]


@pytest.mark.parametrize(("name", "value", "error", "text"), PARAMETERS)
def test_parameters(name: str, value: Any, error: type, text: str, tiny: dict[str, Any]) -> None:
    with pytest.raises(error, match=text):
        BNNRegressor(**(tiny | {name: value})).fit(X, Y)


def test_likelihoods_of_the_other_kind(tiny: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="likelihood='categorical' is not known"):
        BNNRegressor(**tiny, likelihood="categorical").fit(X, Y)
    with pytest.raises(ValueError, match="likelihood='normal' is not known"):
        BNNClassifier(**tiny, likelihood="normal").fit(X, Y > 0)


def test_a_failed_fit_leaves_no_fitted_estimator(tiny: dict[str, Any]) -> None:
    reg = BNNRegressor(**(tiny | {"n_members": 0}))
    with pytest.raises(ValueError, match="n_members"):
        reg.fit(X, Y)
    with pytest.raises(NotFittedError):
        reg.predict(X)


@pytest.mark.parametrize(
    "call",
    [
        lambda reg: reg.predict(X),
        lambda reg: reg.predict_dist(X),
        lambda reg: reg.predict_interval(X),
        lambda reg: reg.predict_quantiles(X),
        lambda reg: reg.predict_uncertainty(X),
        lambda reg: reg.sample_predictive(X),
        lambda reg: reg.score(X, Y),
        lambda reg: reg.diagnostics_,
        lambda reg: reg.as_deep_ensemble(),
    ],
)
def test_before_the_fit(call: Any) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet. Call 'fit'"):
        call(BNNRegressor())


def test_the_classifier_before_the_fit() -> None:
    for call in ("predict", "predict_proba", "predict_uncertainty"):
        with pytest.raises(NotFittedError, match="not fitted yet. Call 'fit'"):
            getattr(BNNClassifier(), call)(X)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (X[:, :1], r"X has 1 features, but BNNRegressor is expecting 2 features"),
        (np.c_[X, X], r"X has 4 features"),
        (with_value(X, np.nan), r"Input X contains NaN"),
        (X[0], r"Reshape your data"),
        (X[:0], r"0 sample\(s\)"),
        (TEXT, r"could not convert string to float: 'a'.*Encode text"),
    ],
    ids=["fewer columns", "more columns", "nan", "one axis", "no rows", "text"],
)
def test_rows_to_predict(regressor: BNNRegressor, rows: np.ndarray, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        regressor.predict(rows)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda reg: reg.predict_interval(X, confidence_level=90), r"confidence_level=90 "),
        (lambda reg: reg.predict_interval(X, confidence_level=[0.5, 1.0]), r"confidence_level="),
        (lambda reg: reg.predict_interval(X, confidence_level=np.nan), r"confidence_level=nan"),
        (lambda reg: reg.predict_quantiles(X, quantiles=[0.0, 0.5]), r"quantiles=\[0.0, 0.5\]"),
        (lambda reg: reg.predict_quantiles(X, quantiles=50), r"quantiles=50"),
        (lambda reg: reg.sample_predictive(X, n_draws=0), r"n_draws=0 must be at least 1"),
    ],
)
def test_arguments_of_predictions(regressor: BNNRegressor, call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call(regressor)


def test_other_column_names(table: Table, tiny: dict[str, Any]) -> None:
    frame = pd.DataFrame(table[0], columns=["angle", "speed"])
    reg = BNNRegressor(**tiny).fit(frame, pd.Series(table[1]))
    assert reg.feature_names_in_.tolist() == ["angle", "speed"]
    np.testing.assert_array_equal(
        reg.predict(frame), BNNRegressor(**tiny).fit(*table).predict(table[0])
    )
    with pytest.raises(ValueError, match="(?s)feature names should match.*velocity.*speed"):
        reg.predict(frame.rename(columns={"speed": "velocity"}))
    with pytest.raises(ValueError, match="feature names"):
        reg.predict(frame[["speed", "angle"]])


def test_constant_columns_are_named_and_harmless(table: Table, tiny: dict[str, Any]) -> None:
    X, y = table
    wide = np.c_[np.full(80, 7.0), X, np.zeros(80)]
    with pytest.warns(MirthWarning, match=r"Columns 0, 3 of X are constant \(2 in all\)") as caught:
        reg = BNNRegressor(**tiny).fit(wide, y)
    assert caught[0].filename == __file__  # the warning points at the user's line
    assert np.isfinite(reg.predict(wide)).all() and reg.score(wide, y) > 0.5
    frame = pd.DataFrame(wide, columns=["site", "angle", "speed", "flag"])
    with pytest.warns(MirthWarning, match=r"Columns site, flag of X are constant"):
        BNNRegressor(**tiny).fit(frame, y)


def test_only_constant_columns(table: Table, tiny: dict[str, Any]) -> None:
    X, y = np.ones((80, 1)), table[1]
    with pytest.warns(MirthWarning, match=r"Columns 0 of X are constant"):
        reg = BNNRegressor(**tiny).fit(X, y)
    # The best guess is the mean of the target.
    assert np.abs(reg.predict(X) - y.mean()).max() < y.std()


def test_two_rows_are_enough_to_run(tiny: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MirthWarning)  # one row says little about two members
        reg = BNNRegressor(**tiny).fit([[0.0], [1.0]], [0.0, 1.0])
    assert np.isfinite(reg.predict([[0.5]])).all()


def test_extreme_units(table: Table, tiny: dict[str, Any]) -> None:
    """Far beyond the range of float32 before the scaling."""
    X, y = table
    base = BNNRegressor(**tiny).fit(X, y).predict(X)
    reg = BNNRegressor(**tiny).fit(X * 2.0**200, y * 2.0**-200)
    np.testing.assert_allclose(reg.predict(X * 2.0**200) * 2.0**200, base, rtol=1e-12)


def test_columns_in_a_column_vector_are_taken_with_scikit_learns_warning(
    table: Table, tiny: dict[str, Any]
) -> None:
    from sklearn.exceptions import DataConversionWarning

    X, y = table
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        reg = BNNRegressor(**tiny).fit(X, y[:, None])
    assert reg.predict(X).shape == (80,)
