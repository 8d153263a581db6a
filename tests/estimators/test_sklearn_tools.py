"""The estimators inside scikit-learn's own tools, and scikit-learn's checks of an estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import (
    PartialDependenceDisplay,
    partial_dependence,
    permutation_importance,
)
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import mirth
from mirth import BNNClassifier, BNNRegressor
from mirth.estimators._base import BaseBNN

pytestmark = pytest.mark.usefixtures("unoptimised")

Table = tuple[np.ndarray, np.ndarray]


def test_clone_copies_the_parameters_and_nothing_else(
    regressor: BNNRegressor, table: Table
) -> None:
    twin = clone(regressor)
    assert twin.get_params().keys() == regressor.get_params().keys()
    assert twin.method == regressor.method and twin.method is not regressor.method
    assert not hasattr(twin, "posterior_")
    assert repr(twin) == repr(regressor)


def test_parameters_of_the_method_are_reachable() -> None:
    reg = BNNRegressor(method=mirth.MILE(n_warmup=100), prior=mirth.priors.NormalPrior())
    params = reg.get_params()
    assert params["method__n_warmup"] == 100
    assert params["method__start__learning_rate"] == mirth.DeepEnsemble().learning_rate
    reg.set_params(method__n_warmup=7, method__start__learning_rate=0.5, prior__scale=0.25)
    assert reg.method.n_warmup == 7 and reg.method.start.learning_rate == 0.5
    assert reg.prior.scale == 0.25
    with pytest.raises(ValueError, match="did you mean 'n_warmup'"):
        reg.set_params(method__n_warmups=7)


def test_names_and_objects_of_a_method_are_the_same() -> None:
    from mirth.inference import resolve_method

    assert resolve_method("mile") == mirth.MILE()
    assert resolve_method("deep_ensemble") == mirth.DeepEnsemble()


def test_grid_search_over_the_method(table: Table, tiny: dict[str, Any]) -> None:
    """The fields of a method object are searched without touching the one that was given."""
    given = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=2)
    search = GridSearchCV(
        BNNRegressor(**(tiny | {"method": given})),
        {"method__max_epochs": [1, 30]},
        cv=[(np.arange(60), np.arange(60, 80))],
    ).fit(*table)
    assert search.best_params_ == {"method__max_epochs": 30}
    assert search.best_estimator_.method.max_epochs == 30
    assert given.max_epochs == 2
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] > scores[0]


@pytest.mark.slow
def test_grid_search_over_the_warmup(table: Table, short: dict[str, Any]) -> None:
    search = GridSearchCV(
        BNNRegressor(**short), {"method__n_warmup": [50, 400]}, cv=2, error_score="raise"
    ).fit(*table)
    tuning = search.best_estimator_.posterior_.tuning
    assert tuning.num_steps == search.best_params_["method__n_warmup"]
    assert len(set(search.cv_results_["mean_test_score"])) == 2


def test_pipeline(table: Table, tiny: dict[str, Any]) -> None:
    X, y = table
    pipeline = make_pipeline(StandardScaler(), BNNRegressor(**tiny)).fit(X, y)
    plain = BNNRegressor(**tiny).fit(X, y)
    # The inputs are standardised anyway; twice is the same to a rounding of 1e-7, which some 120
    # updates of the optimiser carry on.
    np.testing.assert_allclose(pipeline.predict(X), plain.predict(X), rtol=0, atol=1e-2 * y.std())
    pipeline.set_params(bnnregressor__method__max_epochs=1)
    assert pipeline.get_params()["bnnregressor__method__max_epochs"] == 1


def test_cross_val_predict(table: Table, labels: np.ndarray, tiny: dict[str, Any]) -> None:
    folds = [(np.arange(40), np.arange(40, 80)), (np.arange(40, 80), np.arange(40))]
    probabilities = cross_val_predict(
        BNNClassifier(**tiny), table[0], labels, cv=folds, method="predict_proba"
    )
    assert probabilities.shape == (80, 3)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.5


@pytest.mark.slow  # that over the method always runs
def test_grid_search_over_the_parts(table: Table) -> None:
    """Fields of the prior, the likelihood and the start of the method change the scores."""
    start = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=20, batch_size=16)
    reg = BNNRegressor(
        (8,),
        method=mirth.MILE(n_warmup=100, n_samples=5, n_thinning=2, start=start),
        likelihood=mirth.Normal(),
        prior=mirth.priors.NormalPrior(),
        n_members=1,
        random_state=0,
    )
    grid: list[dict[str, list[Any]]] = [
        {"n_members": [1]},
        {"prior__scale": [0.1]},
        {"likelihood__link": ["exp"]},
        {"method__start__learning_rate": [1e-3]},
    ]
    before = reg.get_params()
    folds = [(np.arange(60), np.arange(60, 80))]
    search = GridSearchCV(reg, grid, cv=folds, error_score="raise", refit=False)
    with warnings.catch_warnings():  # a start that was hardly trained, a chain that is short
        warnings.simplefilter("ignore", mirth.MirthWarning)
        scores = search.fit(*table).cv_results_["mean_test_score"]
    assert len(set(scores)) == 4
    assert all(reg.get_params()[name] is value for name, value in before.items())


def test_parts_given_by_name_have_no_fields_to_search() -> None:
    with pytest.raises(ValueError, match=r"method__n_warmup cannot be set.*method='mile' is a na"):
        BNNRegressor().set_params(method__n_warmup=5)
    with pytest.raises(
        ValueError, match=r"prior__scale cannot be set.*mirth\.priors\.NormalPrior\(\)"
    ):
        BNNClassifier().set_params(prior__scale=5)
    reg = BNNRegressor().set_params(method=mirth.MILE(), method__n_warmup=5)
    assert reg.method.n_warmup == 5


def test_a_refused_value_is_not_kept() -> None:
    reg = BNNRegressor(method=mirth.MILE())
    with pytest.raises(ValueError, match="n_warmup"):
        reg.set_params(method__n_warmup=-1)
    with pytest.raises(ValueError, match="learning_rate"):
        reg.set_params(method__start__learning_rate=-1.0)
    assert reg.method == mirth.MILE()


@pytest.mark.slow
def test_parallel_search(table: Table, tiny: dict[str, Any]) -> None:
    """Two processes of joblib, each with a JAX of its own, find what one process finds."""
    given = {"estimator": BNNRegressor(**tiny), "param_grid": {"method__max_epochs": [1, 30]}}
    alone, both = (GridSearchCV(**given, cv=2, n_jobs=n).fit(*table) for n in (None, 2))
    for search in (alone, both):
        assert search.best_params_ == {"method__max_epochs": 30}
    np.testing.assert_allclose(
        both.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"], rtol=1e-2
    )


def test_threads_may_fit_at_the_same_time(table: Table, tiny: dict[str, Any]) -> None:
    from joblib import parallel_config

    search = GridSearchCV(
        BNNRegressor(**tiny),
        {"method__max_epochs": [1, 30]},
        cv=[(np.arange(60), np.arange(60, 80))],
        refit=False,
    )
    alone = clone(search).fit(*table)
    with parallel_config(backend="threading", n_jobs=2):
        both = clone(search).fit(*table)
    np.testing.assert_array_equal(
        both.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library: str, table: Table, tiny: dict[str, Any]) -> None:
    """Names are kept and compared; numbers are those of the array."""
    frames = pytest.importorskip(library)
    X, y = table
    frame = frames.DataFrame({"size": X[:, 0], "weight": X[:, 1]})
    target = frames.Series(y)
    reg = BNNRegressor(**tiny).fit(frame, target)
    assert reg.feature_names_in_.tolist() == ["size", "weight"]
    np.testing.assert_array_equal(reg.predict(frame), BNNRegressor(**tiny).fit(X, y).predict(X))
    reg.conformalize(frame, target)
    assert reg.predict_interval(frame).shape == (80, 2)
    with pytest.raises(ValueError, match=r"(?s)feature names.*must be in the same order"):
        reg.predict(frame[["weight", "size"]])
    renamed = frame.rename({"size": "length"}, **({"axis": 1} if library == "pandas" else {}))
    with pytest.raises(ValueError, match=r"(?s)feature names.*unseen at fit time.*length"):
        reg.predict(renamed)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        reg.predict(X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_labels_in_frames_and_steps_that_give_frames(
    library: str, table: Table, labels: np.ndarray, tiny: dict[str, Any]
) -> None:
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"size": table[0][:, 0], "weight": table[0][:, 1]})
    target = frames.Series(np.array(["low", "mid", "top"])[labels].tolist())
    pipeline = make_pipeline(StandardScaler(), BNNClassifier(**tiny))
    pipeline.set_output(transform=library).fit(frame, target)
    assert pipeline[-1].feature_names_in_.tolist() == ["size", "weight"]
    assert pipeline.predict_proba(frame).shape == (80, 3)
    assert set(pipeline.predict(frame)) <= {"low", "mid", "top"}
    pipeline[-1].conformalize(pipeline[:-1].transform(frame), target)
    assert pipeline[-1].predict_set(pipeline[:-1].transform(frame)).shape == (80, 3)


def test_weights_are_routed(table: Table, tiny: dict[str, Any]) -> None:
    """Through a pipeline and a cross-validation to ``fit`` and ``score``."""
    X, y = table
    weights = np.where(X[:, 0] > 0, 5.0, 0.1)
    folds = [(np.arange(60), np.arange(60, 80))]
    with config_context(enable_metadata_routing=True):
        reg = BNNRegressor(**tiny)
        with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set"):
            cross_validate(reg, X, y, cv=folds, params={"sample_weight": weights})
        asked = clone(reg).set_fit_request(sample_weight=True)
        asked.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        found = cross_validate(
            make_pipeline(scaler, asked),
            X,
            y,
            cv=folds,
            params={"sample_weight": weights},
            return_estimator=True,
        )
        fitted = found["estimator"][0][-1]
    by_hand = clone(reg).fit(StandardScaler().fit(X[:60]).transform(X[:60]), y[:60], weights[:60])
    np.testing.assert_array_equal(fitted.posterior_.positions(), by_hand.posterior_.positions())


def test_calibrated_classifier(table: Table, labels: np.ndarray, tiny: dict[str, Any]) -> None:
    calibrated = CalibratedClassifierCV(
        BNNClassifier(**tiny), cv=[(np.arange(50), np.arange(50, 80))]
    ).fit(table[0], labels)
    probabilities = calibrated.predict_proba(table[0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert np.mean(calibrated.predict(table[0]) == labels) > 0.5
    frozen = calibrated.calibrated_classifiers_[0].estimator
    again = CalibratedClassifierCV(FrozenEstimator(frozen)).fit(table[0], labels)
    assert again.predict_proba(table[0]).shape == (80, 3)


def test_inspection(regressor: BNNRegressor, classifier: BNNClassifier, table: Table) -> None:
    """Both columns matter to the target of the table: y = sin(z0) + z1 / 2."""
    import matplotlib

    matplotlib.use("agg")
    X, y = table
    found = permutation_importance(regressor, X, y, n_repeats=3, random_state=0)
    assert (found.importances_mean > 0.1).all()
    curve = partial_dependence(regressor, X, [1], grid_resolution=5)["average"][0]
    assert (np.diff(curve) > 0).all()
    of_class = partial_dependence(classifier, X, [1], grid_resolution=5)["average"]
    np.testing.assert_allclose(of_class.sum(axis=0), 1.0)
    display = PartialDependenceDisplay.from_estimator(regressor, X, [0, 1], grid_resolution=5)
    assert len(display.lines_.ravel()) == 2
    matplotlib.pyplot.close(display.figure_)


# Reasons why a check cannot pass.
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a weight of 2 is two rows for the posterior, but not for the validation split and the "
        "mini-batches of the optimisation"
    ),
}


def test_what_cannot_pass_cannot_pass_for_scikit_learns_own_estimators_of_the_kind() -> None:
    """Boosted trees, too, split off validation rows and draw samples of rows."""
    from sklearn.utils._test_common.instance_generator import PER_ESTIMATOR_XFAIL_CHECKS

    for peer in (HistGradientBoostingClassifier, HistGradientBoostingRegressor, SGDClassifier):
        assert EXPECTED_FAILURES.keys() <= PER_ESTIMATOR_XFAIL_CHECKS[peer].keys()


# Fast ones that see most of the interface; the rest is run with `-m slow`.
ALWAYS = {
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_empty_data_messages",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_requires_y_none",
    "check_set_params",
    "check_valid_tag_types",
}


def tiny_budget(kind: type[BaseBNN]) -> BaseBNN:
    start = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=30, batch_size=16)
    return kind(
        hidden_layer_sizes=(8,),
        method=mirth.MILE(n_warmup=50, n_samples=5, n_thinning=1, start=start),
        n_members=2,
        random_state=0,
    )


def checks() -> Iterator[Any]:
    for kind in (BNNRegressor, BNNClassifier):
        for number, (estimator, check) in enumerate(estimator_checks_generator(tiny_budget(kind))):
            name = check.func.__name__
            # The longest goes the same way for both.
            is_twice = kind is BNNClassifier and name == "check_estimators_overwrite_params"
            marks = [] if name in ALWAYS and not is_twice else [pytest.mark.slow]
            if name in EXPECTED_FAILURES:
                marks.append(pytest.mark.xfail(reason=EXPECTED_FAILURES[name], strict=True))
            label = f"{kind.__name__}-{name}-{number}"
            yield pytest.param(estimator, check, marks=marks, id=label)


@pytest.mark.filterwarnings("ignore::mirth.MirthWarning")  # budgets are tiny, tables are odd
@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_checks(estimator: BaseBNN, check: Callable[[BaseBNN], None]) -> None:
    check(estimator)
