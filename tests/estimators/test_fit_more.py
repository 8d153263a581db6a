"""fit_more: the draws of a longer or larger first fit, in memory and in a run directory."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth import results

pytestmark = pytest.mark.usefixtures("unoptimised")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = X[:, 0] + 0.1 * RNG.normal(size=60)


def regressor(n_samples: int = 6, n_members: int = 2, **params: Any) -> mirth.BNNRegressor:
    method = params.pop("method", None) or mirth.MILE(
        n_warmup=60, n_samples=n_samples, n_thinning=2, start=mirth.DeepEnsemble(max_epochs=5)
    )
    return mirth.BNNRegressor(
        (3,), method=method, n_members=n_members, random_state=0, **params
    ).fit(X, Y)


@pytest.fixture(scope="module")
def whole() -> mirth.BNNRegressor:
    return regressor(n_samples=10, n_members=3)


def assert_same(model: mirth.BNNRegressor, other: mirth.BNNRegressor) -> None:
    np.testing.assert_allclose(  # members on other devices agree to rounding
        model.posterior_.positions()[:, :2], other.posterior_.positions()[:, :2], atol=1e-3
    )
    assert model.posterior_.positions().shape == other.posterior_.positions().shape
    np.testing.assert_array_equal(model.posterior_.members, other.posterior_.members)
    assert model.posterior_.num_gradients == other.posterior_.num_gradients
    assert len(model.verdicts_) == len(other.verdicts_)


@pytest.mark.parametrize("in_folder", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_more_draws_and_members(whole: mirth.BNNRegressor, tmp_path: Path, in_folder: bool) -> None:
    model = regressor(run_directory=tmp_path / "run" if in_folder else None)
    first = model.posterior_.positions()
    model.conformalize(X[:30], Y[:30])
    assert model.fit_more(n_samples=8) is model
    assert model.calibration_ is None
    np.testing.assert_array_equal(model.posterior_.positions()[:, :6], first)
    model.fit_more(n_members=3)
    assert model.method.n_samples == 8 and model.n_members == 3
    model.fit_more(n_samples=10)
    assert_same(model, whole)
    assert model.predict(X).shape == (60,) and "3" in str(model.diagnostics_)
    assert len(model.bias_report(num_draws=16).step_size) == 2  # the members of the first fit


def test_an_ensemble_grows() -> None:
    method = mirth.DeepEnsemble(max_epochs=3)
    model = regressor(method=method, n_members=2)
    with pytest.raises(ValueError, match="n_samples=5 cannot be reached: DeepEnsemble has one"):
        model.fit_more(n_samples=5)
    model.fit_more(n_members=3)
    assert_same(model, regressor(method=method, n_members=3))


def test_the_bias_of_the_steps(whole: mirth.BNNRegressor) -> None:
    """As of a posterior with its scaled rows; every argument changes something."""
    before = whole.posterior_.positions()
    report = whole.bias_report(num_draws=40)
    held = results.bias_report(whole.posterior_, whole._session.dataset, whole.method, num_draws=40)
    assert str(report) == str(held) and report.lppd is not None
    given = whole.bias_report(X, Y, num_draws=40, tolerance=0.5)
    assert given.tolerance == 0.5 and given.lppd not in (None, report.lppd)
    x, y = whole.x_scaler_.transform(X), whole.y_scaler_.transform(Y)
    scaled = results.bias_report(
        whole.posterior_, whole._session.dataset, whole.method, x=x, y=y, num_draws=40
    )
    assert given.changes == scaled.changes
    assert set(whole.bias_report(X[:5], num_draws=16).changes) == {"mean", "variance"}
    np.testing.assert_array_equal(whole.posterior_.positions(), before)
    with pytest.raises(Exception, match="not fitted"):
        mirth.BNNRegressor().bias_report()


def test_what_cannot_go_on(whole: mirth.BNNRegressor, tmp_path: Path) -> None:
    whole.save(tmp_path / "model")
    others = [
        mirth.load(tmp_path / "model"), pickle.loads(pickle.dumps(whole)), copy.copy(whole),
        whole.as_deep_ensemble(), whole.compress(2),
    ]  # fmt: skip
    for other in others:
        with pytest.raises(ValueError, match="is a copy or was loaded"):
            other.fit_more(n_samples=20)
        with pytest.raises(ValueError, match="is a copy or was loaded"):
            other.bias_report()
    for params, message in (
        ({"n_samples": 3}, "n_samples=3 must be at least 10"),
        ({"n_members": 2}, "n_members=2 must be at least 3"),
        ({}, "nothing to add: there are 3 members"),
        ({"n_samples": 10, "n_members": 3}, "nothing to add"),
    ):
        with pytest.raises(ValueError, match=message):
            whole.fit_more(**params)
    with pytest.raises(Exception, match="not fitted"):
        mirth.BNNRegressor().fit_more(n_samples=3)


def test_infer_goes_on_only_with_the_same_run() -> None:
    data = mirth.Dataset(X, Y)
    model = mirth.Model(mirth.MLP((3,), num_outputs=2), mirth.Normal())

    def infer(data: Any = data, n_samples: int = 4, **options: Any) -> mirth.Posterior:
        method = mirth.SGMCMC(
            n_warmup=5, n_samples=n_samples, n_thinning=1, batch_size=20,
            schedule=options.pop("schedule", "constant"),
            start=mirth.DeepEnsemble(max_epochs=2),
        )  # fmt: skip
        return mirth.infer(model, data, method, num_chains=1, **in_groups(options))

    short = infer()
    longer = infer(n_samples=6, go_on_from=short)
    np.testing.assert_array_equal(longer.positions(), infer(n_samples=6).positions())
    for options, message in (
        ({"seed": 1}, "a run with seed=0, not 1"),
        ({"data": mirth.Dataset(X, -Y)}, "a run with data="),
        ({"n_samples": 3}, "a run with method.n_samples=4, not 3"),
        ({"out": "run"}, "go_on_from and directory='run' exclude each other"),
        ({"go_on_from": short.take_chains([0])}, "has no chains to go on with"),
    ):
        with pytest.raises(ValueError, match=message):
            infer(**({"go_on_from": short} | options))
    linear = infer(schedule="linear")
    with pytest.raises(ValueError, match="schedule='linear', whose steps depend on .*n_samples=4"):
        infer(schedule="linear", n_samples=6, go_on_from=linear)


def test_join_refuses_what_does_not_belong_together(whole: mirth.BNNRegressor) -> None:
    one = whole.posterior_.take_chains([0])
    two = whole.posterior_.take_chains([1, 2])
    joined = mirth.join_chains([two, one])
    np.testing.assert_array_equal(joined.members, [1, 2, 0])
    assert joined.num_chains == 3 and joined.tuning is not None
    assert joined.tuning.step_size.shape == (3,)
    for parts, message in (
        ([], "posteriors is empty"),
        ([one, one], r"chains \[0, 0\], some of them twice"),
        ([one, two.take_draws(np.array([[0, 1], [0, 1]]))], "differ in num_draws"),
    ):
        with pytest.raises(ValueError, match=message):
            mirth.join_chains(parts)
