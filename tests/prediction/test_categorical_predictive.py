"""The mixture of class probabilities against a brute-force reference in float64."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from mirth.model import MLP, Categorical, FunctionalNetwork, Model, Normal
from mirth.prediction import CategoricalPredictive

pytestmark = pytest.mark.usefixtures("unoptimised")

METHODS = {
    "probabilities": lambda p, y: p.probabilities(),
    "mode": lambda p, y: p.mode(),
    "entropy": lambda p, y: p.entropy(),
    "aleatoric": lambda p, y: p.aleatoric(),
    "epistemic": lambda p, y: p.epistemic(),
    "log_prob": lambda p, y: p.log_prob(y),
    "log_prob_per_draw": lambda p, y: p.log_prob_per_draw(y),
}


LOOK_UP = FunctionalNetwork(init=lambda key, x: None, apply=lambda params, x: x @ params["table"])


def make_mixture(logits, **options) -> CategoricalPredictive:
    """Make a mixture with the given logits, shape (chains, draws, rows, classes)."""
    model = Model(LOOK_UP, Categorical(num_classes=logits.shape[-1]))
    draws = {"network": {"table": logits.astype(np.float32)}}
    return CategoricalPredictive(model, draws, np.eye(logits.shape[-2]), **options)


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    values = np.random.default_rng(0).normal(scale=2, size=(2, 6, 9, 4))
    return values.astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def predictive(logits) -> CategoricalPredictive:
    return make_mixture(logits)


Y = np.arange(9) % 4


def test_probabilities_and_mode(predictive, logits):
    exact = softmax(logits, axis=-1).mean((0, 1))
    result = predictive.probabilities()
    np.testing.assert_allclose(result, exact, rtol=1e-6)
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-14)
    np.testing.assert_array_equal(predictive.mode(), exact.argmax(1))


def test_entropies(predictive, logits):
    each = softmax(logits, axis=-1)
    total, aleatoric = entropy(each.mean((0, 1)), axis=-1), entropy(each, axis=-1).mean((0, 1))
    np.testing.assert_allclose(predictive.entropy(), total, rtol=1e-6)
    np.testing.assert_allclose(predictive.aleatoric(), aleatoric, rtol=1e-6)
    np.testing.assert_allclose(predictive.epistemic(), total - aleatoric, atol=1e-6)
    parts = predictive.aleatoric() + predictive.epistemic()
    np.testing.assert_allclose(parts, predictive.entropy(), rtol=1e-14)


def test_mutual_information_is_never_negative_and_zero_for_one_draw():
    logits = np.random.default_rng(0).normal(size=(1, 1, 200, 3))
    epistemic = make_mixture(logits).epistemic()
    assert epistemic.min() == 0.0
    assert epistemic.max() < 1e-6


def test_certain_classes_have_no_entropy():
    logits = np.zeros((1, 2, 2, 2))
    logits[0, :, 0, 0] = 1e4  # both draws agree in row 0, and contradict each other in row 1
    logits[0, 0, 1, 0] = logits[0, 1, 1, 1] = 1e4
    predictive = make_mixture(logits)
    np.testing.assert_array_equal(predictive.aleatoric(), [0, 0])
    np.testing.assert_allclose(predictive.epistemic(), [0, np.log(2)])


def test_log_prob(predictive, logits):
    per_draw = np.take_along_axis(log_softmax(logits, -1), Y[None, None, :, None], -1)[..., 0]
    result = predictive.log_prob_per_draw(Y)
    assert result.shape == (2, 6, 9)
    np.testing.assert_allclose(result, per_draw, rtol=1e-5, atol=1e-6)
    exact = np.log(np.exp(per_draw).mean((0, 1)))
    np.testing.assert_allclose(predictive.log_prob(Y), exact, rtol=1e-5, atol=1e-6)


def test_samples_have_the_probabilities_of_the_mixture(predictive):
    n = 20_000
    samples = predictive.sample(n)
    assert samples.shape == (n, 9)
    assert samples.dtype == np.int64
    shares = (samples[:, :, None] == np.arange(4)).mean(0)
    exact = predictive.probabilities()
    assert np.all(np.abs(shares - exact) < 5 * np.sqrt(exact * (1 - exact) / n))


def test_seed(predictive, logits):
    other = make_mixture(logits, seed=1)
    assert np.array_equal(other.sample(20_000), predictive.sample(20_000, seed=1))
    assert not np.array_equal(other.sample(20_000), predictive.sample(20_000))


def test_results_can_be_changed_without_changing_the_distribution(predictive):
    for method in ("probabilities", "aleatoric", "epistemic", "entropy"):
        before = getattr(predictive, method)()
        before += 1
        np.testing.assert_allclose(getattr(predictive, method)(), before - 1, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_change_nothing(method, random_draws):
    model = Model(MLP((8,), num_outputs=3, activation="tanh"), Categorical(num_classes=3))
    x = np.random.default_rng(0).normal(size=(23, 2))
    y = np.arange(23) % 3
    draws = random_draws(model, x)
    whole = METHODS[method](CategoricalPredictive(model, draws, x), y)
    blocks = METHODS[method](CategoricalPredictive(model, draws, x, max_buffer_bytes=800), y)
    assert whole.dtype == blocks.dtype
    np.testing.assert_allclose(blocks, whole, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(8, int), r"y has shape \(8,\), but x has 9 rows"),
        (np.zeros(9), "y has the type float64"),
        (np.full(9, -1), "y has classes from -1 to -1"),
        (np.full(9, 4), "y has classes from 4 to 4"),
    ],
)
def test_errors_of_targets(y, message, predictive):
    for method in (predictive.log_prob, predictive.log_prob_per_draw):
        with pytest.raises(ValueError, match=message):
            method(y)


def test_other_errors(predictive, random_draws):
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        predictive.sample(0)
    with pytest.raises(ValueError, match="seed=-1"):
        predictive.sample(1, seed=-1)
    model = Model(MLP((), num_outputs=2), Normal())
    with pytest.raises(ValueError, match="use Predictive"):
        CategoricalPredictive(model, random_draws(model, np.ones((3, 1))), np.ones((3, 1)))
