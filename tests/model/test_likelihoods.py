from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad

from mirth.model import Categorical, HomoscedasticNormal, Normal

NORMALS = [
    kind(link=link) for kind in (Normal, HomoscedasticNormal) for link in ("softplus", "exp")
]
OUTPUTS = jnp.array([[0.3, -1.2], [-2.0, 0.7], [5.0, 2.0]])


def scale_by_hand(likelihood, raw):
    raw = np.asarray(raw, dtype=np.float64)
    if likelihood.link == "softplus":
        return np.logaddexp(0, raw) + likelihood.min_scale
    return np.clip(np.exp(np.clip(raw, -700, 700)), likelihood.min_scale, 1e6)


@pytest.mark.parametrize("likelihood", NORMALS)
def test_normal_density_is_that_of_scipy(likelihood):
    y = jnp.array([0.0, -2.5, 9.0])
    expected = scipy.stats.norm(np.asarray(OUTPUTS[:, 0]), scale_by_hand(likelihood, OUTPUTS[:, 1]))
    np.testing.assert_allclose(likelihood.log_prob(OUTPUTS, y), expected.logpdf(y), rtol=1e-5)
    np.testing.assert_allclose(likelihood.mean(OUTPUTS), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(likelihood.variance(OUTPUTS), expected.var(), rtol=1e-5)
    np.testing.assert_allclose(likelihood.cdf(OUTPUTS, y), expected.cdf(y), rtol=1e-4)
    for level in (0.01, 0.5, 0.95):
        quantile = likelihood.quantile(OUTPUTS, level)
        np.testing.assert_allclose(quantile, expected.ppf(level), rtol=1e-4)
        np.testing.assert_allclose(likelihood.cdf(OUTPUTS, quantile), level, rtol=1e-4)


@pytest.mark.parametrize("likelihood", NORMALS)
def test_normal_density_integrates_to_one_with_its_mean_and_variance(likelihood):
    outputs = np.array([[0.3, -1.2]], dtype=np.float32)
    density = jax.jit(lambda y: jnp.exp(likelihood.log_prob(outputs, y[None])[0]))
    mean, sd = likelihood.mean(outputs)[0], likelihood.variance(outputs)[0] ** 0.5

    def moment(power):
        # In sd around the mean; ten of them hold all but 1e-22.
        return quad(lambda z: z**power * sd * density(np.float32(mean + sd * z)), -10, 10)[0]

    np.testing.assert_allclose([moment(k) for k in (0, 1, 2)], [1, 0, 1], atol=1e-5)


@pytest.mark.parametrize("likelihood", NORMALS)
def test_normal_samples_have_its_moments(likelihood):
    outputs = jnp.broadcast_to(OUTPUTS[1], (20_000, 2))
    draws = likelihood.sample(jax.random.key(0), outputs)
    mean, variance = likelihood.mean(OUTPUTS)[1], likelihood.variance(OUTPUTS)[1]
    np.testing.assert_allclose(draws.mean(), mean, atol=4 * np.sqrt(variance / 20_000))
    np.testing.assert_allclose(draws.var(), variance, rtol=4 * np.sqrt(2 / 20_000))
    pit = likelihood.cdf(outputs, draws)
    assert scipy.stats.kstest(np.asarray(pit), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("likelihood", [*NORMALS, Categorical(num_classes=2)])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_values_and_gradients_are_finite_at_extreme_outputs(likelihood, size):
    y = jnp.array([1]) if likelihood.has_classes else jnp.array([0.5])
    grids = np.array([[0, size], [size, 0], [size, size], [size, -size]], dtype=np.float32)
    value_and_grad = jax.jit(jax.value_and_grad(lambda o: likelihood.log_prob(o[None], y)[0]))
    for outputs in grids:
        value, gradient = value_and_grad(outputs)
        assert np.isfinite(value) and np.all(np.isfinite(gradient))


@pytest.mark.parametrize("likelihood", NORMALS)
def test_gradient_is_that_of_the_formula(likelihood):
    y = jnp.array([0.0, -2.5, 9.0])
    gradient = jax.grad(lambda o: likelihood.log_prob(o, y).sum())(OUTPUTS)
    scale = scale_by_hand(likelihood, OUTPUTS[:, 1])
    standard = (np.asarray(y) - np.asarray(OUTPUTS[:, 0])) / scale
    slope = scale if likelihood.link == "exp" else scipy.special.expit(np.asarray(OUTPUTS[:, 1]))
    by_hand = np.stack([standard / scale, (standard**2 - 1) * slope / scale], axis=1)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4)


@pytest.mark.parametrize("kind", [Normal, HomoscedasticNormal])
def test_links_and_their_floor(kind):
    raw = jnp.array([[0.0, -50.0], [0.0, 0.0], [0.0, 50.0]])
    np.testing.assert_allclose(
        kind(link="softplus", min_scale=0.01).scale(raw), [0.01, np.log(2) + 0.01, 50.01], rtol=1e-5
    )
    np.testing.assert_allclose(
        kind(link="exp", min_scale=0.01).scale(raw), [0.01, 1.0, 1e6], rtol=1e-5
    )


def test_normal_quantile_takes_one_level_per_row():
    levels = jnp.array([0.1, 0.5, 0.9])
    each = [Normal().quantile(OUTPUTS[i : i + 1], levels[i])[0] for i in range(3)]
    np.testing.assert_allclose(Normal().quantile(OUTPUTS, levels), each, rtol=1e-6)


def test_categorical_is_a_softmax_that_sums_to_one():
    likelihood = Categorical(num_classes=4)
    outputs = jnp.array([[0.0, 1.0, -2.0, 0.5], [100.0, -100.0, 0.0, 0.0], [1e4, 1e4, 0.0, -1e4]])
    log_prob = jnp.stack([likelihood.log_prob(outputs, jnp.full(3, c)) for c in range(4)], axis=1)
    expected = scipy.special.log_softmax(np.asarray(outputs, dtype=np.float64), axis=1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-6)
    probabilities = likelihood.probabilities(outputs)
    np.testing.assert_allclose(probabilities, np.exp(log_prob), rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(likelihood.mean(outputs), probabilities)
    np.testing.assert_allclose(
        likelihood.variance(outputs), probabilities * (1 - probabilities), rtol=1e-6
    )


def test_categorical_samples_have_its_frequencies():
    likelihood = Categorical(num_classes=3)
    outputs = jnp.broadcast_to(jnp.array([0.0, 1.0, -1.0]), (20_000, 3))
    draws = likelihood.sample(jax.random.key(0), outputs)
    frequencies = np.bincount(np.asarray(draws), minlength=3) / 20_000
    p, variance = likelihood.mean(outputs[:1])[0], likelihood.variance(outputs[:1])[0]
    np.testing.assert_array_less(np.abs(frequencies - p), 4 * np.sqrt(variance / 20_000))


def test_what_the_network_provides_and_what_is_shared():
    assert (Normal().num_outputs, Normal().num_shared) == (2, 0)
    assert (HomoscedasticNormal().num_outputs, HomoscedasticNormal().num_shared) == (1, 1)
    assert (Categorical(num_classes=5).num_outputs, Categorical(num_classes=5).num_shared) == (5, 0)
    assert Normal().init_shared().shape == (0,)


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_shared_scale_starts_at_one_and_has_its_own_prior(link):
    likelihood = HomoscedasticNormal(link=link, raw_scale_prior=2.0)
    start = likelihood.init_shared()
    scale = likelihood.scale(jnp.array([[0.0, start[0]]]))
    np.testing.assert_allclose(scale, 1, atol=likelihood.min_scale * 1.01)
    np.testing.assert_allclose(
        likelihood.shared_log_prior(jnp.array([1.5])),
        scipy.stats.norm(scale=2.0).logpdf(1.5),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Normal, "link", "exp"),
        (Normal, "min_scale", 0.5),
        (HomoscedasticNormal, "link", "exp"),
        (HomoscedasticNormal, "min_scale", 0.5),
        (HomoscedasticNormal, "raw_scale_prior", 1.0),
    ],
)
def test_every_parameter_changes_the_density(kind, name, value):
    def density(likelihood):
        shared = likelihood.shared_log_prior(OUTPUTS[0, 1:])
        return float(likelihood.log_prob(OUTPUTS, jnp.zeros(3)).sum() + shared)

    likelihoods = kind(), kind(**{name: value}), kind().set_params(**{name: value})
    one, two, three = map(density, likelihoods)
    assert abs(one - two) > 1e-2
    assert two == three


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Normal(link="softpluss"), "^link='softpluss' .* did you mean 'softplus'"),
        (lambda: Normal(min_scale=0.0), "^min_scale=0.0 must be"),
        (lambda: HomoscedasticNormal(raw_scale_prior=-1.0), r"^raw_scale_prior=-1\.0 must be"),
        (lambda: Categorical(num_classes=1), "^num_classes=1 must be at least 2"),
    ],
)
def test_wrong_values_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
