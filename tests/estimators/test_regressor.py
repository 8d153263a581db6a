"""The regressor: units, shapes, parameters, health."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import mirth
from mirth import BNNRegressor, MirthWarning
from mirth.results import ChainVerdict, VarianceSplit

pytestmark = pytest.mark.usefixtures("unoptimised")

Table = tuple[np.ndarray, np.ndarray]


@pytest.mark.fast
def test_predictions_fit_the_table(regressor: BNNRegressor, table: Table) -> None:
    X, y = table
    assert regressor.score(X, y) > 0.8  # the noise alone explains 1 %
    assert regressor.verdicts_ == [ChainVerdict.MOVED] * 2
    assert regressor.n_features_in_ == 2


@pytest.mark.fast
def test_everything_is_float64_numpy(regressor: BNNRegressor, table: Table) -> None:
    X = table[0][:7]
    mean, std = regressor.predict(X, return_std=True)
    results = {
        "mean": (mean, (7,)),
        "std": (std, (7,)),
        "interval": (regressor.predict_interval(X), (7, 2)),
        "intervals": (regressor.predict_interval(X, confidence_level=[0.5, 0.9, 0.99]), (7, 2, 3)),
        "quantiles": (regressor.predict_quantiles(X), (7, 3)),
        "quantile": (regressor.predict_quantiles(X, 0.25), (7, 1)),
        "total": (regressor.predict_uncertainty(X).total, (7,)),
        "aleatoric": (regressor.predict_uncertainty(X).aleatoric, (7,)),
        "epistemic": (regressor.predict_uncertainty(X).epistemic, (7,)),
        "samples": (regressor.sample_predictive(X, n_draws=5), (5, 7)),
    }
    for name, (values, shape) in results.items():
        assert type(values) is np.ndarray and values.dtype == np.float64, name
        assert values.shape == shape, name
        assert np.isfinite(values).all(), name
    np.testing.assert_array_equal(mean, regressor.predict(X))


def test_uncertainty_adds_up(regressor: BNNRegressor, table: Table) -> None:
    parts = regressor.predict_uncertainty(table[0])
    assert isinstance(parts, VarianceSplit)
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic, rtol=1e-12)
    assert (parts.epistemic > 0).all() and (parts.aleatoric > 0).all()
    std = regressor.predict(table[0], return_std=True)[1]
    np.testing.assert_allclose(std**2, parts.total, rtol=1e-12)


@pytest.mark.fast
def test_intervals_are_quantiles(regressor: BNNRegressor, table: Table) -> None:
    X = table[0]
    interval = regressor.predict_interval(X, confidence_level=[0.5, 0.9])
    quantiles = regressor.predict_quantiles(X, quantiles=[0.05, 0.25, 0.75, 0.95])
    # Levels such as 1/2 - 0.9/2 are rounded in float64, the roots found in float32.
    np.testing.assert_allclose(interval[:, :, 1], quantiles[:, [0, 3]], rtol=1e-5)
    np.testing.assert_allclose(interval[:, :, 0], quantiles[:, [1, 2]], rtol=1e-5)
    np.testing.assert_allclose(regressor.predict_interval(X), interval[:, :, 1], rtol=1e-5)
    assert (np.diff(quantiles, axis=1) > 0).all()
    cdf = regressor.predict_dist(X).cdf(quantiles)
    np.testing.assert_allclose(cdf, np.broadcast_to([0.05, 0.25, 0.75, 0.95], cdf.shape), atol=1e-4)


def test_samples_have_a_seed_and_the_right_moments(regressor: BNNRegressor, table: Table) -> None:
    X = table[0][:3]
    one, two, other = (regressor.sample_predictive(X, 2000, random_state=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    mean, std = regressor.predict(X, return_std=True)
    # Five standard errors of a mean of 2000 independent samples.
    assert (np.abs(one.mean(axis=0) - mean) < 5 * std / np.sqrt(2000)).all()
    generator = np.random.RandomState(1)
    np.testing.assert_array_equal(regressor.sample_predictive(X, 10, generator), one[:10])


def test_the_density_is_in_units_of_the_target(regressor: BNNRegressor, table: Table) -> None:
    """It integrates to one over the original units."""
    X = table[0][:2]
    mean, std = regressor.predict(X, return_std=True)
    grid = np.linspace(-12, 12, 2001)
    for k in range(2):
        y = mean[k] + std[k] * grid
        density = np.exp(regressor.predict_dist(np.repeat(X[k : k + 1], 2001, axis=0)).log_prob(y))
        assert np.trapezoid(density, y) == pytest.approx(1.0, abs=1e-3)


def test_the_scale_of_the_target_comes_back(
    regressor: BNNRegressor, table: Table, short: dict[str, Any]
) -> None:
    """A power of two changes no digit, so the draws are the same."""
    X, y = table
    other = BNNRegressor(**short).fit(X, 8192.0 * y)
    np.testing.assert_array_equal(other.posterior_.positions(), regressor.posterior_.positions())
    for one, two in zip(
        other.predict(X, return_std=True), regressor.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_allclose(one / 8192.0, two, rtol=1e-14)
    np.testing.assert_allclose(
        other.predict_uncertainty(X), 8192.0**2 * np.asarray(regressor.predict_uncertainty(X))
    )
    np.testing.assert_allclose(
        other.predict_dist(X).log_prob(8192.0 * y) + np.log(8192.0),
        regressor.predict_dist(X).log_prob(y),
        rtol=1e-12,
        atol=1e-14,  # a sum with log(8192) = 9 is rounded by 1e-15, however near 0 it comes
    )


def test_shift_and_scale_of_the_target_come_back(table: Table, tiny: dict[str, Any]) -> None:
    """By 1e4: the standardised targets differ in their last digit, so only short runs agree."""
    X, y = table
    start = mirth.DeepEnsemble(learning_rate=0.01, max_epochs=3)
    method = mirth.MILE(n_warmup=20, n_samples=5, n_thinning=1, start=start)
    one, two = (
        BNNRegressor(**(tiny | {"method": method})).fit(X, target)
        for target in (y, 1e4 * (y + 1.0))
    )
    # 6 + 25 updates with a rounding of 1e-7 each, and as much again for every factor of ten that
    # the dynamics amplify: 1e-4 leaves a factor of 30.
    tolerance = 1e-4 * y.std()
    for method_of in (lambda r: r.predict(X), lambda r: r.predict_quantiles(X)):
        np.testing.assert_allclose(
            method_of(two) / 1e4 - 1.0, method_of(one), rtol=0, atol=tolerance
        )
    std = [reg.predict(X, return_std=True)[1] for reg in (one, two)]
    np.testing.assert_allclose(std[1] / 1e4, std[0], rtol=0, atol=tolerance)


def test_units_of_the_inputs_do_not_matter(
    regressor: BNNRegressor, table: Table, short: dict[str, Any]
) -> None:
    X, y = table
    other = BNNRegressor(**short).fit(X * 4.0, y)
    np.testing.assert_array_equal(other.predict(X * 4.0), regressor.predict(X))


def test_the_same_random_state_gives_the_same_draws(
    regressor: BNNRegressor, table: Table, short: dict[str, Any]
) -> None:
    again = BNNRegressor(**short).fit(*table)
    np.testing.assert_array_equal(again.posterior_.positions(), regressor.posterior_.positions())
    np.testing.assert_array_equal(again.predict(table[0]), regressor.predict(table[0]))


def test_the_deep_ensemble_inside_is_the_deep_ensemble(
    regressor: BNNRegressor, table: Table, tiny: dict[str, Any]
) -> None:
    X = table[0]
    inside, alone = regressor.as_deep_ensemble(), BNNRegressor(**tiny).fit(*table)
    for one, two in zip(
        inside.predict(X, return_std=True), alone.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    assert inside.verdicts_ == [ChainVerdict.MOVED] * 2
    assert inside.posterior_.num_draws == 1
    assert regressor.posterior_.num_draws == 20  # the copy left the original alone
    assert (regressor.predict(X) != inside.predict(X)).all()
    assert np.isnan(inside.diagnostics_.ess_function).all()
    assert inside.diagnostics_.verdicts == inside.verdicts_


def test_diagnostics_print_a_line_per_chain(regressor: BNNRegressor) -> None:
    diagnostics = regressor.diagnostics_
    assert diagnostics is regressor.diagnostics_  # computed once
    assert diagnostics.notes == ()
    assert diagnostics.chain_weights is None
    assert diagnostics.judged_by.startswith("Together they predict ")
    assert diagnostics.judged_by in diagnostics.summary
    for name in {field.name for field in dataclasses.fields(diagnostics)} - {
        "notes",
        "chain_weights",
        "judged_by",
    }:
        assert len(getattr(diagnostics, name)) == 2
    assert (diagnostics.ess_function > 0).all() and (diagnostics.rhat_function > 0.9).all()
    assert (diagnostics.divergence_rate == 0).all()
    np.testing.assert_array_equal(diagnostics.lppd_chain, regressor.posterior_.lppd_chain)
    np.testing.assert_array_equal(diagnostics.step_size, regressor.posterior_.tuning.step_size)
    lines = str(diagnostics).splitlines()
    assert lines[0].split()[:2] == ["chain", "verdict"]
    # Twenty draws are too few to have settled, of which the verdicts of the fit say nothing.
    assert [line.split()[:3] for line in lines[1:3]] == [[k, "not", "converged"] for k in "01"]
    assert diagnostics.verdicts == [ChainVerdict.NOT_CONVERGED] * 2
    assert regressor.verdicts_ == [ChainVerdict.MOVED] * 2
    legend, words = "\n".join(lines[3:6]), " ".join(lines[6:])
    assert all(column in legend for column in ("start, LPPD:", "ESS, Rhat:", "step, L:"))
    assert words == diagnostics.summary and max(map(len, lines)) <= 100


def test_a_frozen_chain_is_reported(table: Table, short: dict[str, Any]) -> None:
    frozen = mirth.MILE(
        n_warmup=0, step_size_init=1e-30, n_samples=20, n_thinning=2, start=short["method"].start
    )
    with pytest.warns(MirthWarning, match=r"chains 0 and 1 .*diagnostics_") as caught:
        reg = BNNRegressor(**(short | {"method": frozen})).fit(*table)
    assert caught[0].filename == __file__  # the warning points at the user's line
    assert reg.verdicts_ == [ChainVerdict.FROZEN] * 2
    assert reg.diagnostics_.verdicts == reg.verdicts_
    assert "frozen" in str(reg.diagnostics_)
    np.testing.assert_allclose(
        reg.predict(table[0]), reg.as_deep_ensemble().predict(table[0]), rtol=1e-6
    )


def test_pickle(regressor: BNNRegressor, table: Table) -> None:
    twin = pickle.loads(pickle.dumps(regressor))
    np.testing.assert_array_equal(twin.predict(table[0]), regressor.predict(table[0]))
    np.testing.assert_array_equal(
        twin.predict_interval(table[0]), regressor.predict_interval(table[0])
    )


def test_another_fit_forgets_the_first(table: Table, tiny: dict[str, Any]) -> None:
    X, y = table
    reg = BNNRegressor(**tiny).fit(X, y)
    first = reg.diagnostics_
    reg.fit(X[:, :1], y)
    assert reg.n_features_in_ == 1 and reg.predict(X[:, :1]).shape == (80,)
    assert reg.diagnostics_ is not first


def test_verbose_fits_speak(
    table: Table, tiny: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    BNNRegressor(**tiny).fit(*table)
    assert capfd.readouterr() == ("", "")
    BNNRegressor(**tiny, verbose=2).fit(*table)
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("mirth: This run needs about")
    assert "\nmirth: warm start" in err


CHANGES: dict[str, Any] = {
    "hidden_layer_sizes": (4, 4),
    "activation": "tanh",
    "likelihood": "homoscedastic",
    "prior": mirth.priors.NormalPrior(scale=0.1),
    "method": "mile",
    "n_members": 1,
    "validation_fraction": 0.3,
    "normalize_y": False,
    "resolution": 5.0,
    "random_state": 1,
    "weights": "stacking",
}


@pytest.mark.parametrize(
    "name",
    [
        # Of the likelihood test_likelihood_objects sees the change.
        pytest.param(name, marks=[pytest.mark.slow] if name == "likelihood" else [])
        for name in CHANGES
        if name not in ("method", "prior")
    ],
)
def test_every_parameter_changes_the_predictions(
    table: Table, tiny: dict[str, Any], name: str
) -> None:
    base, other = (
        BNNRegressor(**(tiny | change)).fit(*table).predict(table[0])
        for change in ({}, {name: CHANGES[name]})
    )
    assert (base != other).any()


def test_the_prior_changes_the_draws(
    regressor: BNNRegressor, table: Table, short: dict[str, Any]
) -> None:
    """A narrow one pulls the weights of the chains, which start from the same ensemble, to zero."""
    with pytest.warns(MirthWarning, match="predict worse than their start"):
        narrow = BNNRegressor(**short, prior=CHANGES["prior"]).fit(*table)
    assert narrow.verdicts_ == [ChainVerdict.WORSE_THAN_START] * 2
    start = [np.abs(reg.as_deep_ensemble().predict(table[0])) for reg in (regressor, narrow)]
    np.testing.assert_array_equal(*start)
    size = [np.square(reg.posterior_.positions()[:, -1]).sum() for reg in (regressor, narrow)]
    assert size[1] < 0.5 * size[0]


def test_no_parameter_is_forgotten() -> None:
    # These change no draw, or are tested where they belong.
    elsewhere = {"verbose", "monitors", "max_time"}
    elsewhere |= {"run_directory", "checkpoint_seconds", "draws_store", "robust_scaling"}
    assert set(CHANGES) | elsewhere == set(inspect.signature(BNNRegressor).parameters)


def test_the_target_may_keep_its_units(table: Table, tiny: dict[str, Any]) -> None:
    X, y = table
    reg = BNNRegressor(**tiny, normalize_y=False).fit(X, (y - 50) / 3)
    assert reg.score(X, (y - 50) / 3) > 0.5
    assert (reg.y_scaler_.mean, reg.y_scaler_.scale) == (0.0, 1.0)


def test_likelihood_objects(table: Table, tiny: dict[str, Any]) -> None:
    likelihood = mirth.likelihoods.HomoscedasticNormal(link="exp")
    reg = BNNRegressor(**tiny, likelihood=likelihood).fit(*table)
    assert reg.model_.likelihood == likelihood
    noise = reg.predict_uncertainty(table[0]).aleatoric
    np.testing.assert_allclose(noise, noise[0], rtol=1e-6)


def test_weights_change_the_fit_and_zero_is_no_row(table: Table, tiny: dict[str, Any]) -> None:
    X, y = table
    rows = np.arange(80) % 2 == 0
    zero = BNNRegressor(**tiny).fit(X, y, sample_weight=rows.astype(int))
    fewer = BNNRegressor(**tiny).fit(X[rows], y[rows])
    # Weights of 1 leave the same numbers, but go through another program.
    np.testing.assert_allclose(zero.predict(X), fewer.predict(X), rtol=1e-4)
    ones = BNNRegressor(**tiny).fit(X, y)
    heavy = BNNRegressor(**tiny).fit(X, y, sample_weight=np.where(rows, 5.0, 1.0))
    assert np.abs(heavy.predict(X) - ones.predict(X)).max() > 0.1
    # The scaling of the inputs counts the rows by weight, as if they stood there five times.
    repeated = np.repeat(X, np.where(rows, 5, 1), axis=0)
    np.testing.assert_allclose(heavy.x_scaler_.mean, repeated.mean(axis=0))
    np.testing.assert_allclose(heavy.x_scaler_.scale, repeated.std(axis=0))
