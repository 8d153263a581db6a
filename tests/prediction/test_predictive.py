"""The mixture of Normals against a brute-force reference in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scoringrules
from scipy.stats import norm

from mirth.model import (
    MLP,
    Categorical,
    FunctionalNetwork,
    HomoscedasticNormal,
    Model,
    Normal,
)
from mirth.prediction import CategoricalPredictive, Predictive, make_predictive

pytestmark = pytest.mark.usefixtures("unoptimised")

SHIFT, SCALE = 3.0, 2.5
METHODS = {
    "mean": lambda p, y: p.mean(),
    "variance": lambda p, y: p.variance(),
    "epistemic": lambda p, y: p.epistemic(),
    "aleatoric": lambda p, y: p.aleatoric(),
    "component_means": lambda p, y: p.component_means(),
    "cdf": lambda p, y: p.cdf(y),
    "quantile": lambda p, y: p.quantile([0.05, 0.5, 0.99]),
    "log_prob": lambda p, y: p.log_prob(y),
    "log_prob_per_draw": lambda p, y: p.log_prob_per_draw(y),
    "sample": lambda p, y: p.sample(28),
    "crps by pairs": lambda p, y: p.crps(y),
    "crps by quadrature": lambda p, y: p.crps(y, max_components=0),
}


# A network that looks its outputs up: with one-hot inputs any mixture can be made. One object, so
# that all tests share the compilations.
LOOK_UP = FunctionalNetwork(
    init=lambda key, x: {"table": jax.random.normal(key, (x.shape[1], 2))},
    apply=lambda params, x: jnp.matmul(x, params["table"], precision="highest"),
)


def make_mixture(location, noise, **options) -> Predictive:
    """Make a mixture with the given components, each of shape (chains, draws, rows)."""
    table = np.stack([location, np.log(noise)], axis=-1).astype(np.float32)
    model = Model(LOOK_UP, Normal(link="exp", min_scale=1e-6))
    return Predictive(model, {"network": {"table": table}}, np.eye(location.shape[-1]), **options)


def random_components(shape=(2, 7, 11), seed=0):
    rng = np.random.default_rng(seed)
    location = rng.normal(size=shape).astype(np.float32).astype(np.float64)
    return location, np.exp(
        np.log(rng.uniform(0.2, 1.5, size=shape)).astype(np.float32), dtype=float
    )


@pytest.fixture(scope="module")
def components():
    """Locations and scales in original units, (draws, rows)."""
    location, scale = (values.reshape(-1, 11) for values in random_components())
    return SHIFT + SCALE * location, SCALE * scale


@pytest.fixture(scope="module")
def predictive() -> Predictive:
    return make_mixture(*random_components(), shift=SHIFT, scale=SCALE)


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    return SHIFT + SCALE * np.random.default_rng(1).normal(size=11)


def test_moments(predictive, components):
    location, scale = components
    np.testing.assert_allclose(predictive.mean(), location.mean(0), rtol=1e-6)
    np.testing.assert_allclose(predictive.epistemic(), location.var(0), rtol=1e-6)
    np.testing.assert_allclose(predictive.aleatoric(), (scale**2).mean(0), rtol=1e-6)
    total = (scale**2 + location**2).mean(0) - location.mean(0) ** 2
    np.testing.assert_allclose(predictive.variance(), total, rtol=1e-6)
    np.testing.assert_allclose(predictive.std(), np.sqrt(total), rtol=1e-6)
    means = predictive.component_means()
    assert means.shape == (2, 7, 11)
    np.testing.assert_allclose(means.reshape(14, 11), location, rtol=1e-6)


def test_cdf_of_one_number_one_per_row_and_many_per_row(predictive, components, y):
    location, scale = components

    def exact(values):
        return norm.cdf(values, location, scale).mean(0)

    np.testing.assert_allclose(predictive.cdf(y), exact(y), atol=1e-6)
    np.testing.assert_allclose(predictive.cdf(4.0), exact(4.0), atol=1e-6)
    grid = np.stack([y, y + 1, np.full_like(y, np.inf)], axis=1)
    result = predictive.cdf(grid)
    assert result.shape == (11, 3)
    np.testing.assert_allclose(result, np.stack([exact(g) for g in grid.T], axis=1), atol=1e-6)


def test_log_prob(predictive, components, y):
    per_draw = norm.logpdf(y, *components)
    result = predictive.log_prob_per_draw(y)
    assert result.shape == (2, 7, 11)
    np.testing.assert_allclose(result.reshape(14, 11), per_draw, rtol=1e-5, atol=1e-5)
    exact = np.log(np.exp(per_draw).mean(0))
    np.testing.assert_allclose(predictive.log_prob(y), exact, rtol=1e-5, atol=1e-5)


def test_log_prob_far_away_does_not_underflow(predictive, components):
    far = np.full(11, SHIFT + 1000 * SCALE)
    per_draw = norm.logpdf(far, *components)
    exact = np.logaddexp.reduce(per_draw, axis=0) - np.log(14)
    np.testing.assert_allclose(predictive.log_prob(far), exact, rtol=1e-5)


def test_infinite_targets_have_density_zero_and_the_worst_score(predictive):
    infinite = np.full(11, np.inf)
    np.testing.assert_array_equal(predictive.log_prob(infinite), -infinite)
    np.testing.assert_array_equal(predictive.crps(infinite), infinite)


@pytest.mark.parametrize("level", [1e-4, 0.025, 0.5, 0.9, 1 - 1e-4])
@pytest.mark.parametrize("kind", ["plain", "bimodal", "outlier", "one draw", "equal draws"])
def test_quantile_inverts_cdf(kind, level):
    location, scale = random_components((2, 6, 9), seed=3)
    if kind == "bimodal":  # a gap of 400 scales; level 0.5 lies inside it
        location[0], location[1], scale = location[0] * 0.1 - 10, location[1] * 0.1 + 10, scale / 10
    elif kind == "outlier":
        location[0, 0] += 1e4
    elif kind == "one draw":
        location, scale = location[:1, :1], scale[:1, :1]
    elif kind == "equal draws":
        location[:], scale[:] = location[0, 0], scale[0, 0]
    predictive = make_mixture(location, scale, shift=SHIFT, scale=SCALE)
    quantiles = predictive.quantile(level)
    location, scale = SHIFT + SCALE * location.reshape(-1, 9), SCALE * scale.reshape(-1, 9)
    # Rounding of the quantile itself in float32, as seen by the steepest component.
    rounding = np.abs((quantiles - SHIFT) / SCALE).max() * 2**-23 / (scale / SCALE).min()
    reached = norm.cdf(quantiles, location, scale).mean(0)
    np.testing.assert_allclose(reached, level, atol=1e-6 + rounding)
    if kind != "bimodal":  # away from the gap the quantile itself is determined
        np.testing.assert_allclose(predictive.cdf(quantiles), level, atol=1e-6 + rounding)


def test_quantiles_are_between_those_of_the_components(predictive, components):
    ends = norm.ppf(0.9, *components)
    quantiles = predictive.quantile(0.9)
    assert np.all(ends.min(0) < quantiles)
    assert np.all(quantiles < ends.max(0))


def test_shapes_of_quantile_and_interval(predictive):
    assert predictive.quantile(0.3).shape == (11,)
    quantiles = predictive.quantile([0.05, 0.25, 0.75, 0.95])
    assert quantiles.shape == (11, 4)
    assert np.all(np.diff(quantiles, axis=1) > 0)
    intervals = predictive.interval([0.9, 0.5])
    assert intervals.shape == (11, 2, 2)
    np.testing.assert_allclose(intervals[:, :, 0], quantiles[:, [0, 3]], rtol=1e-6)
    np.testing.assert_allclose(intervals[:, :, 1], quantiles[:, [1, 2]], rtol=1e-6)
    np.testing.assert_allclose(predictive.interval(0.9), quantiles[:, [0, 3]], rtol=1e-6)
    np.testing.assert_array_equal(predictive.interval(), predictive.interval(0.9))


def test_crps_against_an_independent_implementation(predictive, components, y):
    location, scale = components
    exact = scoringrules.crps_mixnorm(y, location.T, scale.T, backend="numpy")
    np.testing.assert_allclose(predictive.crps(y), exact, rtol=1e-5)
    np.testing.assert_allclose(predictive.crps(y, max_components=0), exact, rtol=1e-4)


@pytest.mark.parametrize("num_draws", [1, 2, 3])
def test_crps_counts_every_pair_once(num_draws):
    location, scale = random_components((1, num_draws, 4))
    y = np.linspace(-1, 1, 4)
    exact = scoringrules.crps_mixnorm(y, location[0].T, scale[0].T, backend="numpy")
    np.testing.assert_allclose(make_mixture(location, scale).crps(y), exact, rtol=1e-5)


@pytest.mark.parametrize("kind", ["narrow", "wide", "outliers", "hierarchy"])
def test_crps_by_quadrature_equals_pairs(kind):
    location, scale = random_components((2, 300, 6), seed=5)
    if kind == "narrow":
        scale /= 30
    elif kind == "wide":
        scale *= 30
    elif kind == "outliers":
        location[0, :2] += [[50.0], [1e4]]
    elif kind == "hierarchy":
        scale[0, :3] *= [[10.0], [100.0], [1e4]]
    predictive = make_mixture(location, scale)
    # The second term alone: the first is the same in both and would hide an error.
    y = np.zeros(6)
    z = location / scale
    first = (location * (2 * norm.cdf(z) - 1) + 2 * scale * norm.pdf(z)).mean((0, 1))
    pairs, quadrature = first - predictive.crps(y), first - predictive.crps(y, max_components=599)
    assert not np.array_equal(pairs, quadrature)
    np.testing.assert_allclose(quadrature, pairs, rtol=1e-4)
    np.testing.assert_array_equal(predictive.crps(y, max_components=600), first - pairs)


def test_samples_have_the_moments_of_the_mixture(predictive):
    n = 20_000
    samples = predictive.sample(n)
    assert samples.shape == (n, 11)
    assert samples.dtype == np.float64
    error = samples.std(0) / np.sqrt(n)
    assert np.all(np.abs(samples.mean(0) - predictive.mean()) < 5 * error)
    centred = samples - samples.mean(0)
    error = np.sqrt(((centred**4).mean(0) - samples.var(0) ** 2) / n)
    assert np.all(np.abs(samples.var(0) - predictive.variance()) < 5 * error)
    for level in (0.1, 0.5, 0.9):
        share = (samples < predictive.quantile(level)).mean(0)
        assert np.all(np.abs(share - level) < 5 * np.sqrt(level * (1 - level) / n))


def test_noise_of_samples_is_independent_between_rows_and_samples():
    n = 20_000
    samples = make_mixture(np.zeros((2, 7, 11)), np.ones((2, 7, 11))).sample(n)
    correlations = np.corrcoef(np.hstack([samples[1:], samples[:-1]]).T) - np.eye(22)
    assert np.abs(correlations).max() < 5 / np.sqrt(n)


def test_a_sample_is_one_draw_for_all_rows_and_all_draws_are_used_in_turn():
    location, _ = random_components()
    predictive = make_mixture(location, np.full_like(location, 1e-5))
    samples = predictive.sample(28)
    distance = np.abs(samples[:, None] - location.reshape(14, 11)).max(-1)
    draws = distance.argmin(1)
    assert distance.min(1).max() < 1e-4
    assert sorted(draws[:14]) == sorted(draws[14:]) == list(range(14))
    assert list(draws[:14]) != list(range(14))


def test_first_samples_do_not_depend_on_the_number_of_samples(predictive):
    few = predictive.sample(5)  # fewer than the draws, so the others are not evaluated
    np.testing.assert_allclose(few, predictive.sample(28)[:5], rtol=1e-6)


def test_seed(predictive):
    other = make_mixture(*random_components(), shift=SHIFT, scale=SCALE, seed=1)
    assert np.array_equal(predictive.sample(5), predictive.sample(5, seed=0))
    assert np.array_equal(other.sample(5), predictive.sample(5, seed=1))
    assert not np.any(other.sample(5) == predictive.sample(5))


@pytest.mark.parametrize("method", METHODS)
def test_shift_and_scale_are_a_change_of_units(method, predictive, y):
    plain = make_mixture(*random_components())
    before = METHODS[method](plain, (y - SHIFT) / SCALE)
    after = METHODS[method](predictive, y)
    if method in ("variance", "epistemic", "aleatoric"):
        before = SCALE**2 * before
    elif method.startswith("log_prob"):
        before = before - np.log(SCALE)
    elif method.startswith("crps"):
        before = SCALE * before
    elif method != "cdf":
        before = SHIFT + SCALE * before
    np.testing.assert_allclose(after, before, rtol=1e-10)


@pytest.fixture(scope="module")
def network_draws(random_draws):
    """A real network, two chains of 5 draws, 23 rows."""
    model = Model(MLP((8, 8), num_outputs=2, activation="tanh"), Normal())
    x = np.random.default_rng(0).normal(size=(23, 3))
    return model, random_draws(model, x), x


@pytest.mark.parametrize("method", METHODS)
def test_blocks_change_nothing(method, network_draws):
    y = np.linspace(-1, 1, 23)
    whole = METHODS[method](Predictive(*network_draws), y)
    small = Predictive(*network_draws, max_buffer_bytes=1800)
    blocks = METHODS[method](small, y)
    assert small._blocks.plan.rows == 12  # two blocks, the second padded, and draws in chunks of 3
    assert isinstance(blocks, np.ndarray)
    assert blocks.dtype == np.float64
    np.testing.assert_allclose(blocks, whole, rtol=2e-5, atol=2e-6)


def test_the_smallest_buffer_goes_row_by_row(network_draws):
    whole, rows = (Predictive(*network_draws, max_buffer_bytes=size) for size in (1 << 20, 1))
    assert rows._blocks.plan.rows == rows._blocks.plan.draws == 1
    np.testing.assert_allclose(rows.mean(), whole.mean(), rtol=2e-5, atol=2e-6)


def test_moments_do_not_cancel_around_a_large_mean():
    rng = np.random.default_rng(0)
    location = (1e4 + rng.normal(size=(1, 50, 4))).astype(np.float32).astype(np.float64)
    predictive = make_mixture(location, np.ones_like(location))
    np.testing.assert_allclose(predictive.epistemic(), location[0].var(0), rtol=1e-9)


def test_mean_of_equal_draws_has_no_rounding_of_a_long_sum():
    predictive = make_mixture(np.full((1, 20_000, 1), 0.1), np.ones((1, 20_000, 1)))
    np.testing.assert_allclose(predictive.mean(), np.float32(0.1), rtol=1e-12)


def test_learnt_global_noise(random_draws):
    model = Model(MLP((4,), num_outputs=1), HomoscedasticNormal())
    x = np.random.default_rng(0).normal(size=(6, 2))
    draws = random_draws(model, x, (2, 3))
    draws["shared"] = np.linspace(-1, 1, 6).reshape(2, 3, 1)
    noise = np.log1p(np.exp(np.linspace(-1, 1, 6))) + 1e-3
    result = Predictive(model, draws, x).aleatoric()
    np.testing.assert_allclose(result, np.full(6, (noise**2).mean()), rtol=1e-5)


def test_numpy_and_jax_draws_are_the_same(network_draws):
    model, draws, x = network_draws
    on_device = Predictive(model, jax.tree.map(jnp.asarray, draws), jnp.asarray(x))
    np.testing.assert_array_equal(on_device.mean(), Predictive(model, draws, x).mean())


def test_choice_by_likelihood(network_draws):
    model, draws, x = network_draws
    regression = make_predictive(model, draws, x, shift=1.0)
    assert isinstance(regression, Predictive)
    np.testing.assert_allclose(regression.mean(), 1 + Predictive(model, draws, x).mean())
    classes = Model(model.network, Categorical(num_classes=2))
    assert isinstance(make_predictive(classes, draws, x), CategoricalPredictive)
    with pytest.raises(ValueError, match="use CategoricalPredictive"):
        Predictive(classes, draws, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.log_prob(np.zeros(10)), r"y has shape \(10,\), but x has 11 rows"),
        (lambda p: p.log_prob_per_draw(np.zeros((11, 1))), r"y has shape \(11, 1\)"),
        (lambda p: p.crps(0.0), r"y has shape \(\)"),
        (lambda p: p.cdf(np.zeros((10, 2))), r"y has shape \(10, 2\)"),
        (lambda p: p.cdf(np.zeros((11, 2, 1))), r"y has shape \(11, 2, 1\)"),
        (lambda p: p.cdf(np.nan), "y has NaN"),
        (lambda p: p.log_prob(np.full(11, np.nan)), "y has NaN"),
        (lambda p: p.quantile(0.0), "levels=0.0 must be"),
        (lambda p: p.quantile([0.5, 1.5]), "levels=.* must be"),
        (lambda p: p.quantile(np.nan), "levels=nan must be"),
        (lambda p: p.quantile([[0.5]]), "levels=.* must be"),
        (lambda p: p.interval(1.0), "confidence_level=1.0 must be"),
        (lambda p: p.sample(0), "n=0 must be at least 1"),
        (lambda p: p.sample(1, seed=-1), "seed=-1"),
        (lambda p: p.crps(np.zeros(11), max_components=-1), "max_components=-1"),
    ],
)
def test_errors_of_methods(call, message, predictive):
    with pytest.raises(ValueError, match=message):
        call(predictive)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scale": 0.0}, "scale=0"), ({"shift": np.nan}, "shift=nan"), ({"seed": -1}, "seed=-1")],
)
def test_errors_of_the_constructor(options, message, network_draws):
    with pytest.raises(ValueError, match=message):
        Predictive(*network_draws, **options)
