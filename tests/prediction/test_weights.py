"""Weights of chains: a chain of weight 3 / 4 is one that is there three times among four."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from mirth.model import (
    MLP,
    Categorical,
    HomoscedasticNormal,
    Independent,
    Model,
    Normal,
    Poisson,
    StudentT,
)
from mirth.prediction import make_predictive
from mirth.prediction.mixture import weighted_picks

pytestmark = pytest.mark.usefixtures("unoptimised")

WEIGHTS = np.array([0.25, 0.75])
LIKELIHOODS = {
    "normal": Normal(),
    "student": StudentT(),
    "poisson": Poisson(),
    "two targets": Independent((Normal(), HomoscedasticNormal())),
}
X = np.linspace(-1, 1, 9)[:, None].astype(np.float32)
NUMBERS = {
    "mean": lambda p, y: p.mean(),
    "variance": lambda p, y: p.variance(),
    "epistemic": lambda p, y: p.epistemic(),
    "aleatoric": lambda p, y: p.aleatoric(),
    "cdf": lambda p, y: p.cdf(y),
    "pit": lambda p, y: p.pit(y),
    "interval": lambda p, y: p.interval([0.5, 0.9]),
    "log_prob": lambda p, y: p.log_prob(y),
    "crps": lambda p, y: p.crps(y),
    "crps by quadrature": lambda p, y: p.crps(y, max_components=0),
}
CLASSES = {
    "probabilities": lambda p, y: p.probabilities(),
    "entropy": lambda p, y: p.entropy(),
    "aleatoric": lambda p, y: p.aleatoric(),
    "epistemic": lambda p, y: p.epistemic(),
    "log_prob": lambda p, y: p.log_prob(y),
}
CASES = [(name, method) for name in LIKELIHOODS for method in NUMBERS]
CASES += [("categorical", method) for method in CLASSES]


def build(likelihood: Any, random_draws: Any) -> tuple[Any, Any, np.ndarray]:
    """Give a distribution by weights, the same by repeated chains, and targets."""
    model = Model(MLP((3,), num_outputs=likelihood.num_outputs), likelihood)
    draws = jax.tree.map(lambda leaf: leaf / 2, random_draws(model, X, shape=(2, 6)))
    repeated = jax.tree.map(lambda leaf: leaf[[0, 1, 1, 1]], draws)
    weighted = make_predictive(model, draws, X, chain_weights=WEIGHTS)
    same = make_predictive(model, repeated, X)
    shape = (9, *getattr(likelihood, "target_shape", ()))
    y = np.random.default_rng(1).integers(0, 2, size=shape)
    return weighted, same, y


@pytest.fixture(scope="module")
def distributions(random_draws: Any) -> dict[str, tuple[Any, Any, np.ndarray]]:
    likelihoods = LIKELIHOODS | {"categorical": Categorical(num_classes=3)}
    return {name: build(likelihood, random_draws) for name, likelihood in likelihoods.items()}


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_weight_is_a_number_of_times(name: str, method: str, distributions: Any) -> None:
    weighted, same, y = distributions[name]
    call = (CLASSES if name == "categorical" else NUMBERS)[method]
    # Sums in float32 are taken in another order; a root is as exact as its distribution function.
    np.testing.assert_allclose(call(weighted, y), call(same, y), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["normal", "categorical"])
def test_weights_change_predictions(name: str, distributions: Any, random_draws: Any) -> None:
    weighted, _, y = distributions[name]
    likelihood = LIKELIHOODS.get(name, Categorical(num_classes=3))
    model = Model(MLP((3,), num_outputs=likelihood.num_outputs), likelihood)
    draws = jax.tree.map(lambda leaf: leaf / 2, random_draws(model, X, shape=(2, 6)))
    equal = make_predictive(model, draws, X)
    assert np.abs(weighted.log_prob(y) - equal.log_prob(y)).max() > 0.01
    same = make_predictive(model, draws, X, chain_weights=[0.5, 0.5])
    np.testing.assert_allclose(same.log_prob(y), equal.log_prob(y), rtol=1e-6, atol=1e-6)


def test_what_is_given_for_each_draw_has_no_weights(distributions: Any) -> None:
    weighted, same, y = distributions["normal"]
    by_draw, repeated = weighted.log_prob_per_draw(y), same.log_prob_per_draw(y)
    np.testing.assert_allclose(by_draw, repeated[:2], rtol=1e-5)
    assert weighted.sample_per_draw().shape == (2, 6, 9)


def test_samples_have_the_distribution_of_the_mixture(distributions: Any) -> None:
    for name in ("normal", "categorical"):
        weighted, same, _ = distributions[name]
        samples = weighted.sample(4000)
        if name == "normal":
            found, expected, variance = samples.mean(axis=0), same.mean(), same.variance()
        else:
            found, expected = (samples == 1).mean(axis=0), same.probabilities()[:, 1]
            variance = expected * (1 - expected)
        assert np.all(np.abs(found - expected) < 4.5 * np.sqrt(variance / 4000))
        np.testing.assert_array_equal(weighted.sample(7), samples[:7])
        assert np.any(weighted.sample(7, seed=1) != samples[:7])


@pytest.mark.parametrize("start", [0.0, 0.3, 0.999])
def test_picks_follow_the_weights_from_the_first_on(start: float) -> None:
    weights = np.repeat([0.05, 0.35, 0.0, 0.1], [2, 2, 3, 2])
    order = np.random.default_rng(0).permutation(9)
    picks = weighted_picks(order, weights, 1000, start)
    np.testing.assert_array_equal(weighted_picks(order, weights, 10, start), picks[:10])
    for count in (20, 100, 1000):
        shares = np.bincount(picks[:count], minlength=9) / count
        # The golden ratio's discrepancy is below 2 log(n) / n; draws of a weight take turns.
        assert np.abs(shares - weights).max() < 2 * np.log(count) / count
    assert not np.isin(picks, [4, 5, 6]).any()  # those of weight 0


def test_a_first_sample_is_a_draw_by_its_weight() -> None:
    weights = np.array([0.1, 0.2, 0.7])
    first = [weighted_picks(np.arange(3), weights, 1, u)[0] for u in np.linspace(0, 0.999, 1000)]
    np.testing.assert_allclose(np.bincount(first) / 1000, weights, atol=0.002)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"has shape \(1,\); pass one weight for each of the 2 chain"),
        ([1.5, -0.5], "negative or not finite"),
        ([np.nan, 1.0], "negative or not finite"),
        ([1.0, 1.0], "sum to 2; divide them"),
    ],
)
def test_wrong_weights_are_named(weights: Any, message: str, random_draws: Any) -> None:
    for likelihood in (Normal(), Categorical(num_classes=2)):
        model = Model(MLP((3,), num_outputs=2), likelihood)
        with pytest.raises(ValueError, match=message):
            make_predictive(model, random_draws(model, X), X, chain_weights=weights)
