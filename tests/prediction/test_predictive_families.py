"""The predictive distribution of every family: quantiles, scores, units, several targets."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import scoringrules

import mirth
from mirth.model import FunctionalNetwork, Likelihood, Model, NumericLikelihood
from mirth.prediction import Predictive

pytestmark = pytest.mark.usefixtures("unoptimised")

NUM_ROWS = 4
FAMILIES = {
    "student_t": mirth.likelihoods.StudentT(),
    "laplace": mirth.likelihoods.Laplace(),
    "quantile": mirth.likelihoods.AsymmetricLaplace(level=0.9),
    "log_normal": mirth.likelihoods.LogNormal(),
    "gamma": mirth.likelihoods.Gamma(),
    "beta": mirth.likelihoods.Beta(),
    "poisson": mirth.likelihoods.Poisson(),
    "negative_binomial": mirth.likelihoods.NegativeBinomial(),
}


def make(likelihood: Any, seed: int = 0, rows: int = NUM_ROWS, **options: Any) -> Predictive:
    """Six random components: with one-hot inputs the network looks its outputs up."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(2, 3, rows, likelihood.num_outputs)).astype(np.float32)
    table[..., -1] -= 2.0 * (likelihood.num_outputs > 1)  # less noise: rates away from 0 and 1
    network = FunctionalNetwork(
        init=lambda key, x: {"table": jnp.zeros(table.shape[2:])},
        apply=lambda params, x: jnp.matmul(x, params["table"], precision="highest"),
    )
    draws = {"network": {"table": table}}
    if likelihood.num_shared:
        draws["shared"] = rng.normal(size=(2, 3, likelihood.num_shared)).astype(np.float32)
    return Predictive(Model(network, likelihood), draws, np.eye(rows), **options)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("gamma", "poisson", "beta") else [pytest.mark.slow])
        for name in FAMILIES
    ],
)
def test_quantiles_match_the_distribution_function(name: str) -> None:
    predictive, levels = make(FAMILIES[name]), np.array([0.05, 0.5, 0.99])
    quantiles = predictive.quantile(levels)
    reached = predictive.cdf(quantiles)
    if FAMILIES[name].has_counts:
        np.testing.assert_array_equal(quantiles, np.round(quantiles))
        assert np.all(reached >= levels - 1e-6)
        assert np.all(predictive.cdf(quantiles - 1) < levels + 1e-6)
    else:
        np.testing.assert_allclose(reached, np.broadcast_to(levels, reached.shape), rtol=1e-4)
    np.testing.assert_allclose(predictive.interval(0.9)[:, 0], quantiles[:, 0], rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("gamma", "poisson") else [pytest.mark.slow])
        for name in FAMILIES
    ],
)
def test_crps_is_that_of_a_fine_grid(name: str) -> None:
    predictive = make(FAMILIES[name])
    y = predictive.quantile(0.8) if name != "beta" else np.full(NUM_ROWS, 0.3)
    low, high = (predictive.quantile(p) for p in (1e-5, 1 - 1e-5))
    if FAMILIES[name].has_counts:
        z = np.broadcast_to(np.arange(0, high.max() + 1), (NUM_ROWS, int(high.max()) + 1))
        square = (predictive.cdf(z) - (z >= y[:, None])) ** 2
        expected = square.sum(axis=1)
    else:
        # Dense where the distribution is, with a node on each side of the step.
        t = np.linspace(-1, 1, 4001)
        z = (
            predictive.quantile(0.5)[:, None]
            + np.where(
                t < 0,
                (predictive.quantile(0.5) - low)[:, None],
                (high - predictive.quantile(0.5))[:, None],
            )
            * t**3
        )
        below = predictive.cdf(z)
        expected = np.trapezoid((below - (z >= y[:, None])) ** 2, z, axis=1)
    np.testing.assert_allclose(predictive.crps(y), expected, rtol=5e-3)


@pytest.mark.parametrize("degrees", [-9.0, 1.0])  # raw ones: 2.0001 and 4.7
def test_crps_of_heavy_tails_is_that_of_a_fine_rule(degrees: float) -> None:
    """Against 4800 nodes in float64, to 1e-4 of the spread: narrow, wide and far mixtures."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(1, 40, NUM_ROWS, 2)) * [1.0, 0.5] - [0.0, 1.0]
    table[..., 0] *= np.array([0.01, 0.3, 1.0, 5.0])
    table = table.astype(np.float32)
    network = FunctionalNetwork(
        init=lambda key, x: {"table": jnp.zeros(table.shape[2:])},
        apply=lambda params, x: jnp.matmul(x, params["table"], precision="highest"),
    )
    draws = {
        "network": {"table": table},
        "shared": np.full((1, 40, 1), degrees, np.float32),
    }
    dist = Predictive(Model(network, FAMILIES["student_t"]), draws, np.eye(NUM_ROWS))
    y = np.array([0.1, 3.0, -0.5, 200.0], np.float32)  # the last beyond the nodes
    nodes, weights = np.polynomial.legendre.leggauss(20)
    expected = np.empty(NUM_ROWS)
    for row, at in enumerate(y.astype(float)):
        locations, raw = table[0, :, row].astype(float).T[..., None]
        part = scipy.stats.t(2 + np.exp(degrees), locations, np.logaddexp(0, raw) + 1e-3)
        # Gauss-Legendre in t of z = sinh(t), panel by panel, with an edge at the step.
        edges = np.sort(np.append(np.linspace(-12, 12, 241), np.arcsinh(at)))
        half = np.diff(edges)[:, None] / 2
        t = (edges[:-1, None] + half * (1 + nodes)).ravel()
        z, factors = np.sinh(t), (half * weights).ravel() * np.cosh(t)
        below, above = part.cdf(z).mean(0), part.sf(z).mean(0)
        expected[row] = np.where(z < at, below, above) ** 2 @ factors
    spread = (dist.quantile(0.84) - dist.quantile(0.16)) / 2
    assert (np.abs(dist.crps(y) - expected) < 1e-4 * spread).all()
    assert (np.abs(dist.crps(y) - expected)[:3] < 1e-5 * spread[:3]).all()  # no far one
    assert np.isinf(dist.crps([np.inf, -np.inf, 0.0, 0.0])).tolist() == [True, True, False, False]


def test_crps_of_one_component_is_the_closed_form_of_others() -> None:
    """Against scoringrules, with wide counts whose sum skips terms."""
    location, raw = 12.0, 0.3
    scale = np.logaddexp(0, raw) + 1e-3

    def one(likelihood: Any, outputs: list[float]) -> Predictive:
        network = FunctionalNetwork(lambda key, x: jnp.zeros(1), lambda w, x: w * jnp.ones((1, 1)))
        draws = {"network": np.asarray(outputs, np.float32)[None, None]}
        return Predictive(Model(network, likelihood), draws, np.ones((1, 1)))

    y = np.array([14.0])
    laplace = one(mirth.likelihoods.Laplace(), [location, raw]).crps(y)
    np.testing.assert_allclose(laplace, scoringrules.crps_laplace(y, location, scale), rtol=1e-3)
    y = np.array([163_500.0])
    poisson = one(mirth.likelihoods.Poisson(), [location]).crps(y)
    mean = np.exp(location)  # so large that it is a Normal
    exact = scoringrules.crps_normal(y, mean, np.sqrt(mean))
    np.testing.assert_allclose(poisson, exact, rtol=2e-3)
    far = one(mirth.likelihoods.Laplace(), [location, raw]).crps(np.array([np.inf]))
    assert far == np.inf


@pytest.mark.parametrize(
    "name",
    [pytest.param("gamma", marks=pytest.mark.slow), "laplace"],  # the latter with a shift
)
def test_units(name: str) -> None:
    likelihood = FAMILIES[name]
    shift, scale = (0.0, 50.0) if likelihood.scaling == "scale" else (3.0, 50.0)
    plain, other = make(likelihood), make(likelihood, shift=shift, scale=scale)
    y = plain.quantile(0.7)
    np.testing.assert_allclose(other.log_prob(shift + scale * y), plain.log_prob(y) - np.log(scale))
    np.testing.assert_allclose(other.mean(), shift + scale * plain.mean())
    np.testing.assert_allclose(other.std(), scale * plain.std())
    np.testing.assert_allclose(other.quantile(0.7), shift + scale * y)
    np.testing.assert_allclose(other.crps(shift + scale * y), scale * plain.crps(y))
    np.testing.assert_allclose(other.sample(5), shift + scale * plain.sample(5))


@pytest.mark.parametrize(
    ("likelihood", "options", "message"),
    [
        (
            mirth.likelihoods.Poisson(),
            {"scale": 2.0},
            r"scale=2 would change .*neither shift nor scale",
        ),
        (mirth.likelihoods.Beta(), {"shift": 1.0}, r"shift=1 and scale=1 would change"),
        (mirth.likelihoods.Gamma(), {"shift": 1.0}, r"shift=1 .*allows a scale only"),
        (mirth.Normal(), {"shift": [1.0, 2.0]}, r"shift has shape \(2,\)"),
        (
            mirth.likelihoods.Independent((mirth.Normal(), mirth.likelihoods.Poisson())),
            {"scale": [2.0, 2.0]},
            r"neither shift nor scale",
        ),
    ],
)
def test_units_that_change_the_family(likelihood: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(likelihood, **options)


SEVERAL = {
    "independent": mirth.likelihoods.Independent(
        (mirth.Normal(), mirth.likelihoods.Poisson(), mirth.likelihoods.Gamma())
    ),
    "multivariate": mirth.likelihoods.MultivariateNormal(num_targets=3),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "multivariate" else [pytest.mark.slow])
        for name in SEVERAL
    ],
)
def test_several_targets(name: str) -> None:
    scale = np.array([2.0, 1.0, 3.0])
    predictive = make(SEVERAL[name], scale=scale)
    n = 2000
    samples = predictive.sample(n)
    assert samples.shape == (n, NUM_ROWS, 3)
    shapes = {
        (NUM_ROWS, 3): [predictive.mean(), predictive.std(), predictive.quantile(0.5)],
        (NUM_ROWS, 2, 3): [predictive.interval(0.9), predictive.quantile([0.1, 0.9])],
        (2, 3, NUM_ROWS, 3): [predictive.component_means()],
    }
    for shape, results in shapes.items():
        assert [result.shape for result in results] == [shape] * len(results)
    assert predictive.interval([0.5, 0.9]).shape == (NUM_ROWS, 2, 2, 3)
    error = samples.std(0) / np.sqrt(n)
    assert np.all(np.abs(samples.mean(0) - predictive.mean()) < 5 * error)
    median = predictive.quantile(0.5)
    assert np.all(predictive.cdf(median) >= 0.5 - 1e-4)
    both = predictive.cdf(np.stack([median, median], axis=1))
    np.testing.assert_array_equal(both[:, 0], predictive.cdf(median))
    share = (samples <= median).mean(0)
    assert np.all(np.abs(share - predictive.cdf(median)) < 5 * 0.5 / np.sqrt(n))
    y = np.abs(np.round(median)) + [0.5, 0.0, 0.5]
    assert predictive.crps(y).shape == (NUM_ROWS, 3)
    joint = predictive.log_prob_per_draw(y)
    assert joint.shape == (2, 3, NUM_ROWS)
    np.testing.assert_allclose(
        predictive.log_prob(y), np.logaddexp.reduce(joint.reshape(6, -1)) - np.log(6), rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"one number per row and target, shape \(4, 3\)"):
        predictive.log_prob(y[:, 0])
    with pytest.raises(ValueError, match=r"pass one number, \(4, 3\) or \(4, values, 3\)"):
        predictive.cdf(y[:, :2])


def test_the_density_of_several_targets_is_that_of_scipy() -> None:
    likelihood = mirth.likelihoods.MultivariateNormal(num_targets=3)
    rng = np.random.default_rng(0)
    outputs = jnp.asarray(rng.normal(size=(2, 9)), jnp.float32)
    y = rng.normal(size=(2, 3)).astype(np.float32)
    scales = np.logaddexp(0, np.asarray(outputs[:, 3:6], float)) + 1e-3
    correlation = np.asarray(likelihood.correlation(outputs), float)
    values = likelihood.log_prob(outputs, y)
    draws = likelihood.sample(jax.random.key(0), jnp.broadcast_to(outputs[0], (20_000, 9)))
    found = np.corrcoef(np.asarray(draws).T)
    assert np.abs(found - correlation[0]).max() < 5 / np.sqrt(20_000)
    for k in range(2):
        covariance = scales[k][:, None] * correlation[k] * scales[k]
        exact = scipy.stats.multivariate_normal(np.asarray(outputs[k, :3]), covariance)
        np.testing.assert_allclose(values[k], exact.logpdf(y[k]), rtol=1e-4)
        assert np.linalg.eigvalsh(correlation[k]).min() > 0


def test_independent_targets_add_up() -> None:
    parts = (mirth.likelihoods.StudentT(), mirth.likelihoods.NegativeBinomial())
    likelihood = mirth.likelihoods.Independent(parts)
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
    y = jnp.array([[0.3, 2.0]] * 3)
    first, second = outputs[:, jnp.array([0, 1, 3])], outputs[:, jnp.array([2, 4])]
    expected = parts[0].log_prob(first, y[:, 0]) + parts[1].log_prob(second, y[:, 1])
    np.testing.assert_allclose(likelihood.log_prob(outputs, y), expected, rtol=1e-6)
    start = likelihood.init_shared()
    np.testing.assert_array_equal(start, jnp.concatenate([p.init_shared() for p in parts]))
    prior = sum(p.shared_log_prior(jnp.full(1, 0.5)) for p in parts)
    np.testing.assert_allclose(likelihood.shared_log_prior(jnp.full(2, 0.5)), prior, rtol=1e-6)


def test_a_likelihood_without_distribution_function_is_refused() -> None:
    class Bare(mirth.Normal):
        pass

    assert isinstance(Bare(), NumericLikelihood)

    class Silent(Likelihood):
        num_outputs, num_shared = 1, 0  # type: ignore[assignment]
        log_prob = mean = variance = sample = Likelihood.check_targets  # type: ignore[assignment]

    with pytest.raises(ValueError, match="has no distribution function; derive it from"):
        make(Silent())
