"""The estimators inside scikit-learn's own tools, and scikit-learn's checks of an estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
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
    reg = BNNRegressor(method=mirth.MILE(n_warmup=100), prior=mirth.NormalPrior())
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


# Reasons why a check cannot pass.
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a weight of 2 is two rows for the posterior, but not for the validation split and the "
        "mini-batches of the optimisation"
    ),
}

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
            marks = [] if name in ALWAYS else [pytest.mark.slow]
            if name in EXPECTED_FAILURES:
                marks.append(pytest.mark.xfail(reason=EXPECTED_FAILURES[name], strict=True))
            label = f"{kind.__name__}-{name}-{number}"
            yield pytest.param(estimator, check, marks=marks, id=label)


@pytest.mark.filterwarnings("ignore::mirth.MirthWarning")  # budgets are tiny, tables are odd
@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_checks(estimator: BaseBNN, check: Callable[[BaseBNN], None]) -> None:
    check(estimator)
