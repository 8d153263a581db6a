from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

from mirth.core.types import Batch
from mirth.model import (
    MLP,
    Categorical,
    FunctionalNetwork,
    HomoscedasticNormal,
    Model,
    Normal,
    NormalPrior,
)

pytestmark = pytest.mark.usefixtures("unoptimised")

RNG = np.random.default_rng(0)
BATCH = Batch(
    jnp.asarray(RNG.normal(size=(8, 3)), jnp.float32), jnp.asarray(RNG.normal(size=8), jnp.float32)
)


def build(likelihood=None, **kwargs):
    likelihood = likelihood or Normal()
    model = Model(MLP((5,), num_outputs=likelihood.num_outputs), likelihood, **kwargs)
    # Parameters like those of ``init``, without compiling its random numbers.
    rng = np.random.default_rng(3)
    like = jax.eval_shape(model.init, jax.random.key(0), BATCH.x)
    return model, jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype) / 2, like)


def test_log_density_is_prior_plus_likelihood_by_hand():
    model, params = build(HomoscedasticNormal(raw_scale_prior=2.0), prior=NormalPrior(scale=0.5))
    params["shared"] = jnp.array([0.4])
    network = np.asarray(ravel_pytree(params["network"])[0], np.float64)
    scale = np.log1p(np.exp(0.4)) + 1e-3
    mean = np.asarray(model.network.apply(params["network"], BATCH.x))[:, 0]
    expected = (
        scipy.stats.norm(scale=0.5).logpdf(network).sum()
        + scipy.stats.norm(scale=2.0).logpdf(0.4)
        + scipy.stats.norm(mean, scale).logpdf(BATCH.y).sum()
    )
    np.testing.assert_allclose(model.log_density(params, BATCH), expected, rtol=1e-5)
    assert model.outputs(params, BATCH.x).shape == (8, 2)
    np.testing.assert_allclose(model.outputs(params, BATCH.x)[:, 1], 0.4)


@pytest.mark.parametrize("likelihood", [Normal(), HomoscedasticNormal()])
def test_two_plain_functions_give_the_same_density_as_the_built_in_network(likelihood):
    model, params = build(likelihood)
    other = Model(FunctionalNetwork(model.network.init, model.network.apply), likelihood)
    batch = BATCH._replace(weights=jnp.linspace(0, 1, 8))
    ours, theirs = (
        jax.jit(jax.value_and_grad(m.log_density), static_argnums=2)(params, batch, 100)
        for m in (model, other)
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    ours, theirs = ravel_pytree(ours[1])[0], ravel_pytree(theirs[1])[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_data_size_scales_the_likelihood_by_the_exact_ratio():
    model, params = build()
    prior, likelihood = model.log_prior(params), model.log_likelihood(params, BATCH)
    for data_size in (8, 20, 1003):
        expected = prior + data_size / 8 * likelihood
        np.testing.assert_allclose(model.log_density(params, BATCH, data_size), expected, rtol=1e-6)
    np.testing.assert_allclose(model.log_density(params, BATCH), prior + likelihood, rtol=1e-6)


def test_padded_rows_count_nothing():
    model, params = build()
    padded = Batch(
        jnp.concatenate([BATCH.x, jnp.zeros((4, 3))]),
        jnp.concatenate([BATCH.y, jnp.full(4, 77.0)]),
        jnp.concatenate([jnp.ones(8), jnp.zeros(4)]),
        num_rows=8,
    )
    for data_size in (None, 100):
        np.testing.assert_allclose(
            model.log_density(params, padded, data_size),
            model.log_density(params, BATCH, data_size),
            rtol=1e-5,
        )
    np.testing.assert_array_equal(BATCH.weighted().weights, np.ones(8))
    assert padded.weighted() is padded


def test_a_row_of_weight_two_counts_like_two_rows():
    model, params = build()
    doubled = Batch(*(jnp.concatenate([leaf, leaf[:3]]) for leaf in BATCH[:2]))
    weighted = BATCH._replace(weights=jnp.ones(8).at[:3].set(2.0))
    np.testing.assert_allclose(
        model.log_density(params, weighted), model.log_density(params, doubled), rtol=1e-5
    )


def test_parameters_without_shared_scalars_have_no_place_for_them():
    for likelihood, expected in (
        (Normal(), {"network"}),
        (HomoscedasticNormal(), {"network", "shared"}),
    ):
        network = MLP((5,), num_outputs=likelihood.num_outputs)
        params = Model(network, likelihood).init(jax.random.key(0), BATCH.x)
        assert set(params) == expected
        if "shared" in expected:
            np.testing.assert_array_equal(params["shared"], likelihood.init_shared())


@pytest.mark.parametrize(
    "likelihood", [Normal(), HomoscedasticNormal(), Categorical(num_classes=3)]
)
def test_a_network_with_the_wrong_number_of_outputs_is_refused(likelihood):
    model = Model(MLP((4,), num_outputs=5), likelihood)
    expected = (
        rf"shape \(8, 5\) .* {type(likelihood).__name__} needs \(8, {likelihood.num_outputs}\)"
    )
    with pytest.raises(ValueError, match=expected):
        model.init(jax.random.key(0), BATCH.x)


def test_a_network_that_drops_the_axis_of_outputs_is_refused():
    network = FunctionalNetwork(lambda key, x: jnp.zeros(3), lambda params, x: x @ params)
    with pytest.raises(ValueError, match=r"shape \(8,\) .* needs \(8, 1\)"):
        Model(network, HomoscedasticNormal()).init(jax.random.key(0), BATCH.x)


def test_an_object_that_is_no_network_is_refused():
    with pytest.raises(TypeError, match="methods init.* mirth.networks.FunctionalNetwork"):
        Model(lambda x: x, Normal())


def test_every_part_changes_the_density():
    params = build()[1]
    models = [
        build()[0],
        build(Normal(link="exp"))[0],
        build(prior=NormalPrior(scale=2.0))[0],
        Model(MLP((5,), activation="tanh"), Normal()),
    ]
    densities = [float(model.log_density(params, BATCH)) for model in models]
    assert len(np.unique(densities)) == len(models)
