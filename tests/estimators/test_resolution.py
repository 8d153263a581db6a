"""Rounded targets: found, told of, and fitted as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mirth
from mirth.estimators.resolution import Grid, detect_grid, find_grids, note
from mirth.likelihoods import Gamma, Independent, Normal, Poisson, Rounded, StudentT

RNG = np.random.default_rng(0)
LATENT = RNG.normal(size=3000)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.round(LATENT), Grid(1.0, -3.0)),
        (10 * np.round(7.7 * LATENT), Grid(10.0, -250.0)),
        (0.1 * np.round(3 * LATENT) + 0.2, Grid(0.1, -0.9)),  # with 0.30000000000000004
        (np.round(LATENT) + 0.25, Grid(1.0, -2.75)),  # an offset
        (np.float32(0.1 * np.round(2 * LATENT) + 20).astype(float), Grid(0.1, 19.3)),
        (np.round(LATENT) / 3, Grid(1 / 3, -1.0)),
        (np.repeat([1.0, 1.5, 3.0, 4.0, 2.0], 9), Grid(0.5, 1.0)),  # one half among whole ones
        (np.repeat([0.0, 2.0, 5.0, 3.0, 7.0], 9), Grid(1.0, 0.0)),  # the smallest gap is the step
        (np.repeat([0.0, 2.0, 5.0, 7.0], 9), None),  # half of eight values occur
        (np.repeat([0.0, 1.0, np.pi], 9), None),
        (np.repeat([1.0, 2.0, 4.0, 8.0], 9), None),  # even steps of the logarithm
        (np.repeat([0.1, 1.0, 10.0], 9), None),
        (np.repeat([3.0, 8.0], 9), Grid(5.0, 3.0)),
        (np.tile(np.arange(1.0, 7.0), 3), Grid(1.0, 1.0)),  # 18 rows
        (np.arange(20.0), None),  # whole numbers, but no ties
        (np.round(LATENT[:20], 1), None),
        (LATENT, None),
        (np.repeat(LATENT[:40], 9), None),  # ties without a step
        (np.round(LATENT, 2), None),  # a tiny step
        (np.round(20 * LATENT), None),  # just below a tenth
        (np.round(LATENT) + 0.02 * (RNG.random(3000) < 0.5), None),  # almost on a grid
        (np.where(LATENT < 0, 0.0, LATENT), None),  # a heap at zero
    ],
)
def test_steps_are_found_where_they_matter(y: np.ndarray, expected: Grid | None) -> None:
    found = detect_grid(y)
    if expected is None or found is None:
        assert found is expected
    else:
        assert abs(found.step - expected.step) < 1e-6 * expected.step
        places = (y - found.origin) / found.step
        np.testing.assert_allclose(places, np.round(places), atol=1e-2)
        places = (expected.origin - found.origin) / found.step
        assert abs(places - round(places)) < 1e-4


def test_a_large_table_is_no_trouble() -> None:
    y = np.random.default_rng(1).normal(size=1_000_000)
    assert detect_grid(y) is None
    assert detect_grid(np.round(2 * y) / 2) == Grid(0.5, np.round(2 * y.min()) / 2)


def test_likelihoods_without_steps_are_left_alone_or_refuse_a_number() -> None:
    y = np.tile([1.0, 2.0, 3.0], 9)
    quantile = mirth.likelihoods.AsymmetricLaplace()
    for likelihood in (Poisson(), Gamma(), quantile, Rounded(Normal(), resolution=1.0)):
        assert find_grids("auto", likelihood, y) == [None]
        with pytest.raises(ValueError, match=r"^resolution=0.5 is for .* Normal, Homo.* but the"):
            find_grids(0.5, likelihood, y)
    joint = mirth.likelihoods.MultivariateNormal(num_targets=2)
    assert find_grids("auto", joint, np.c_[y, y]) == [None, None]
    with pytest.raises(ValueError, match=r"the target has MultivariateNormal"):
        find_grids(1.0, joint, np.c_[y, y])


def test_each_target_has_its_step() -> None:
    y = np.c_[np.tile([1.0, 2.0, 3.0], 900), LATENT[:2700]]
    both = Independent((Normal(), Normal()))
    assert find_grids("auto", both, y) == [Grid(1.0, 1.0), None]
    assert find_grids([None, 0.5], both, y)[0] is None
    assert find_grids([None, 0.5], both, y)[1].step == 0.5
    assert find_grids(None, both, y) == [None, None]
    assert note([1.0, None]) == ("Targets are rounded in steps: target 0 to 1.",)


@pytest.mark.parametrize(
    ("resolution", "error", "message"),
    [
        ("automatic", TypeError, r"^resolution='automatic' must be \"auto\", a number"),
        (True, TypeError, r"^resolution=True must be"),
        (-1.0, ValueError, r"^resolution=-1.0 must be a positive number"),
        (np.nan, ValueError, r"^resolution=nan must be a positive number"),
        ([1.0, 2.0], ValueError, r"has 2 entries, but y has 1 target"),
    ],
)
def test_wrong_steps_are_refused(resolution: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        mirth.BNNRegressor(resolution=resolution).fit(np.ones((9, 1)), np.arange(9.0))


X = RNG.normal(size=(120, 2))
RATINGS = np.clip(np.round(3 + X[:, 0] + 0.3 * RNG.normal(size=120)), 1, 6)
ENSEMBLE: dict[str, Any] = {
    "hidden_layer_sizes": (6,), "method": "deep_ensemble", "n_members": 2, "random_state": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def rated() -> mirth.BNNRegressor:
    return mirth.BNNRegressor(**ENSEMBLE).fit(X, RATINGS)


def test_predictions_are_recorded_values(rated: mirth.BNNRegressor) -> None:
    assert rated.resolution_ == 1.0
    likelihood = rated.model_.likelihood
    assert isinstance(likelihood, Rounded)
    np.testing.assert_allclose(likelihood.resolution, 1 / RATINGS.std(), rtol=1e-12)
    low, high = rated.predict_interval(X, 0.9).T
    for values in (low, high, rated.sample_predictive(X, 5), rated.predict_quantiles(X)):
        np.testing.assert_array_equal(values, np.round(values))
    assert np.mean((low <= RATINGS) & (high >= RATINGS)) > 0.85
    assert "The target is rounded to steps of 1." in rated.diagnostics_.summary


def test_scores_add_up_to_one(rated: mirth.BNNRegressor) -> None:
    """The density of the recorded values times the step, which is 1 in the units of y."""
    dist = rated.predict_dist(X)
    values = np.arange(-10.0, 20.0)
    density = np.exp([dist.log_prob(np.full(len(X), value)) for value in values])
    np.testing.assert_allclose(density.sum(axis=0), 1, atol=1e-4)
    below = dist.cdf(values[None].repeat(len(X), 0)).T
    np.testing.assert_allclose(np.cumsum(density, axis=0), below, atol=1e-4)
    mean = np.sum(values[:, None] * density, axis=0)
    np.testing.assert_allclose(dist.mean(), mean, atol=0.01)
    square = np.sum((values[:, None] - mean) ** 2 * density, axis=0)
    np.testing.assert_allclose(dist.variance(), square, rtol=0.03)
    # The score is the sum over the values of the squared distance of F from the step at y.
    step = values[:, None] >= RATINGS
    crps = np.sum((below - step) ** 2, axis=0)
    np.testing.assert_allclose(dist.crps(RATINGS), crps, atol=1e-4)
    pit = dist.pit(RATINGS)
    above = dist.cdf(RATINGS)
    assert np.all((pit <= above + 1e-6) & (pit >= dist.cdf(RATINGS - 1) - 1e-6))


def test_it_is_kept_and_exported(rated: mirth.BNNRegressor, tmp_path: Path) -> None:
    import jax.export

    rated.save(tmp_path / "ratings.mirth")
    loaded = mirth.load(tmp_path / "ratings.mirth")
    assert loaded.resolution_ == 1.0 and loaded.model_.likelihood == rated.model_.likelihood
    np.testing.assert_array_equal(loaded.predict_quantiles(X), rated.predict_quantiles(X))
    rated.export(tmp_path / "ratings.stablehlo")
    content = bytearray((tmp_path / "ratings.stablehlo").read_bytes())
    found = jax.export.deserialize(content).call(np.float32(X))
    np.testing.assert_array_equal(found["quantiles"], rated.predict_quantiles(X))
    np.testing.assert_allclose(found["mean"], rated.predict(X), rtol=1e-4)


@pytest.mark.slow  # the converter takes 20 seconds to import
def test_it_is_written_as_onnx(rated: mirth.BNNRegressor, tmp_path: Path) -> None:
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    rated.export(tmp_path / "ratings.onnx")
    session = runtime.InferenceSession(str(tmp_path / "ratings.onnx"))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"x": np.float32(X)}), strict=True))
    np.testing.assert_array_equal(found["quantiles"], rated.predict_quantiles(X))
    mean, std = rated.predict(X, return_std=True)
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["std"], std, rtol=1e-4)


def test_without_steps_nothing_changes() -> None:
    y = X[:, 0] + 0.1 * RNG.normal(size=120)
    fits = [mirth.BNNRegressor(**ENSEMBLE, resolution=how).fit(X, y) for how in ("auto", None)]
    assert [fit.resolution_ for fit in fits] == [None, None]
    assert fits[0].model_ == fits[1].model_
    np.testing.assert_array_equal(*(fit.posterior_.positions() for fit in fits))
    assert "rounded" not in fits[0].diagnostics_.summary
    exact = mirth.BNNRegressor(**ENSEMBLE, resolution=None).fit(X, RATINGS)
    assert exact.resolution_ is None and exact.model_.likelihood == StudentT()


def test_a_number_is_in_the_units_of_y() -> None:
    y = 100 * X[:, 0] + RNG.normal(size=120)
    fit = mirth.BNNRegressor(**ENSEMBLE, resolution=25).fit(X, y)
    assert fit.resolution_ == 25.0
    ends = np.unique(fit.predict_interval(X))
    steps = np.diff(ends) / 25
    assert len(steps) > 5
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
