"""PIT values of a mixture: uniform for what it says itself, equal to its cdf where continuous."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import mirth
from mirth.evaluation import coverage_curve, quantile_calibration_error
from mirth.model import FunctionalNetwork, Model, NumericLikelihood
from mirth.prediction import Predictive

pytestmark = pytest.mark.usefixtures("unoptimised")

NUM_ROWS = 2000
FOUR_SIGMA = 4 * 0.5 / np.sqrt(NUM_ROWS)
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (NUM_ROWS, 1))


@dataclasses.dataclass(frozen=True)
class ZeroInflatedPoisson(mirth.likelihoods.Poisson):
    """Counts that are 0 with probability 0.4, else Poisson: no method says what a count weighs."""

    def log_prob_inside(self, outputs: Any, y: Any) -> Any:
        plain = super().log_prob_inside(outputs, y) + jnp.log(0.6)
        return jnp.where(y == 0, jnp.logaddexp(plain, jnp.log(0.4)), plain)

    def cdf(self, outputs: Any, y: Any) -> Any:
        return jnp.where(y < 0, 0.0, 0.4 + 0.6 * super().cdf(outputs, y))

    def sample(self, key: Any, outputs: Any) -> Any:
        keys = jax.random.split(key)
        some = jax.random.bernoulli(keys[0], 0.6, outputs.shape[:-1])
        return some * super().sample(keys[1], outputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Censored(mirth.Normal):
    """A Normal of which what is below 0 is recorded as 0."""

    def log_prob(self, outputs: Any, y: Any) -> Any:
        at_zero = jax.scipy.stats.norm.logcdf(-self.location(outputs) / self.scale(outputs))
        return jnp.where(y > 0, super().log_prob(outputs, y), at_zero)

    def cdf(self, outputs: Any, y: Any) -> Any:
        return jnp.where(y < 0, 0.0, super().cdf(outputs, y))

    def point_mass(self, outputs: Any, y: Any) -> Any:
        return jnp.where(y == 0, super().cdf(outputs, y), 0.0)

    def sample(self, key: Any, outputs: Any) -> Any:
        return jnp.maximum(super().sample(key, outputs), 0)


DISCRETE: dict[str, Any] = {
    "poisson": mirth.likelihoods.Poisson(),
    "negative_binomial": mirth.likelihoods.NegativeBinomial(),
    "zero-inflated": ZeroInflatedPoisson(),
    "censored": Censored(),
}
CONTINUOUS: dict[str, Any] = {
    "normal": mirth.Normal(),
    "laplace": mirth.likelihoods.Laplace(),
    "gamma": mirth.likelihoods.Gamma(),
}


def make(likelihood: Any, shift: float = 0.0, **options: Any) -> Predictive:
    """Six draws of lines; ``shift`` is added to the first output."""
    rng = np.random.default_rng(1)
    network = FunctionalNetwork(
        init=lambda key, x: jnp.zeros((2, likelihood.num_outputs)),
        apply=lambda params, x: params[0] + params[1] * x,
    )
    weights = rng.normal(-0.7, 0.3, (2, 3, 2, likelihood.num_outputs)).astype(np.float32)
    weights[..., 0, 0] += np.float32(shift)
    draws = {"network": weights}
    if likelihood.num_shared:
        draws["shared"] = rng.normal(size=(2, 3, likelihood.num_shared)).astype(np.float32)
    return Predictive(Model(network, likelihood), draws, X, **options)


def own_targets(predictive: Predictive) -> np.ndarray:
    """A target of each row, each from a draw of its own: independent given the inputs."""
    samples = predictive.sample_per_draw().reshape(6, NUM_ROWS, -1)
    picks = np.random.default_rng(2).integers(0, 6, NUM_ROWS)
    return samples[picks, np.arange(NUM_ROWS)].squeeze()


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_targets_of_the_true_model_are_calibrated_and_others_not(name: str) -> None:
    predictive = make(DISCRETE[name])
    y, levels = own_targets(predictive), np.array([0.5, 0.75, 0.9, 0.95])
    pit = predictive.pit(y)
    assert predictive.has_atoms
    assert quantile_calibration_error(pit) < FOUR_SIGMA
    assert np.all(np.abs(coverage_curve(pit) - levels) < FOUR_SIGMA)
    assert quantile_calibration_error(predictive.cdf(y)) > 2 * FOUR_SIGMA
    # Half as much again: of a log mean ln 1.5, of the censored location half a unit.
    wrong = make(DISCRETE[name], shift=0.5 if name == "censored" else np.log(1.5))
    assert quantile_calibration_error(wrong.pit(y)) > FOUR_SIGMA


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_targets_are_at_their_distribution_function(name: str) -> None:
    predictive = make(CONTINUOUS[name])
    y = own_targets(predictive)
    assert not predictive.has_atoms
    np.testing.assert_array_equal(predictive.pit(y), predictive.cdf(y))
    np.testing.assert_array_equal(predictive.pit(y), predictive.pit(y, seed=5))


def test_the_random_places_are_those_of_the_seed_whatever_the_blocks() -> None:
    y = own_targets(make(DISCRETE["poisson"]))
    pit = make(DISCRETE["poisson"]).pit(y)
    np.testing.assert_array_equal(pit, make(DISCRETE["poisson"], max_buffer_bytes=5000).pit(y))
    other = make(DISCRETE["poisson"], seed=3)
    assert not np.any(pit == other.pit(y))
    np.testing.assert_array_equal(pit, other.pit(y, seed=0))
    with pytest.raises(ValueError, match="seed=-1 must be at least 0"):
        other.pit(y, seed=-1)
    with pytest.raises(ValueError, match=r"y has shape \(2000, 1\).* shape \(2000,\)"):
        other.pit(y[:, None])
    with pytest.raises(ValueError, match="y has NaN"):
        other.pit(np.full(NUM_ROWS, np.nan))


def test_several_targets_have_each_the_rule_of_their_own() -> None:
    likelihood = mirth.likelihoods.Independent((mirth.Normal(), mirth.likelihoods.Poisson()))
    predictive = make(likelihood)
    y = own_targets(predictive)
    pit = predictive.pit(y)
    assert predictive.has_atoms and pit.shape == (NUM_ROWS, 2)
    np.testing.assert_array_equal(pit[:, 0], predictive.cdf(y)[:, 0])
    assert quantile_calibration_error(pit[:, 1]) < FOUR_SIGMA
    assert quantile_calibration_error(predictive.cdf(y)[:, 1]) > 2 * FOUR_SIGMA
    assert not mirth.likelihoods.MultivariateNormal(num_targets=2).has_atoms


def test_what_has_no_probability_has_no_jump() -> None:
    """Halves, negative numbers and infinity are no counts; the rule holds at their cdf."""
    predictive = make(DISCRETE["poisson"])
    for y in (0.5, -1.0, np.inf):
        values = np.full(NUM_ROWS, y)
        np.testing.assert_array_equal(predictive.pit(values), predictive.cdf(values))


def test_the_point_mass_of_a_likelihood() -> None:
    outputs, y = jnp.log(jnp.array([[0.5], [3.0]])), jnp.array([1.0, 2.5])
    found = mirth.likelihoods.Poisson().point_mass(outputs, y)
    np.testing.assert_allclose(found, [scipy.stats.poisson.pmf(1, 0.5), 0], rtol=1e-5)
    for name, likelihood in {**DISCRETE, **CONTINUOUS}.items():
        assert isinstance(likelihood, NumericLikelihood)
        assert likelihood.has_atoms == (name in DISCRETE)
    normal = mirth.Normal().point_mass(jnp.zeros((3, 2, 2)), jnp.zeros(2))
    np.testing.assert_array_equal(normal, np.zeros((3, 2)))
