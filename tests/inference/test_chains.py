"""Runs as a whole: what the draws depend on, and what they do not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.core.outcomes import Outcome
from mirth.inference import Placement, Posterior

pytestmark = pytest.mark.usefixtures("unoptimised")

# A run of 15 epochs of 4 batches, 30 + 20 steps makes 110 updates of parameters up to 3. Each one
# commits at most a rounding of 1.2e-7 of that, 4e-5 in all; the runs are too short for the chaos of
# the dynamics to add more than as much again. The chains travel 0.1, a thousand times more.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def base(run: Any) -> Posterior:
    posterior = run(num_chains=3, num_devices=1)
    assert np.ptp(posterior.positions(), axis=1).max() > 500 * ROUNDING
    return posterior


def assert_same_draws(one: Posterior, two: Posterior) -> None:
    np.testing.assert_array_equal(one.positions(), two.positions())
    for name in ("logdensity", "energy_change", "step_size"):
        np.testing.assert_array_equal(one.sample_stats[name], two.sample_stats[name])


def test_shapes_and_reports(base: Posterior, data: mirth.Dataset) -> None:
    assert (base.num_chains, base.num_draws) == (3, 20)
    assert base.positions().shape == (3, 20, 1 * 4 + 4 + 4 * 2 + 2)
    assert {s.shape for s in base.sample_stats.values()} == {(3, 20)}
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((base.draws, base.start)))
    assert base.num_sampling_steps == 20
    assert base.num_gradients == 2 * (30 + 20)
    assert base.tuning is not None and base.tuning.num_steps == 30
    assert (base.sample_stats["step_size"] == base.tuning.step_size[:, None]).all()
    assert base.tuning.num_divergent.tolist() == [0, 0, 0]
    assert set(base.seconds) == {"warm_start", "tuning", "sampling"}


def test_statistics_belong_to_the_draws(base: Posterior, data: mirth.Dataset) -> None:
    # The chains condition on all 40 rows, whatever the order.
    batch = mirth.data.Batch(jnp.asarray(data.x), jnp.asarray(data.y))
    draws = jax.tree.map(lambda leaf: leaf[2, 7], base.draws)
    expected = float(base.model.log_density(draws, batch))
    # A sum of 40 terms of order 1 in float32: 40 roundings of 1e-7 of the result at most.
    assert base.sample_stats["logdensity"][2, 7] == pytest.approx(expected, rel=4e-6)


def test_another_seed_gives_other_draws(run: Any, base: Posterior) -> None:
    other = run(num_chains=3, num_devices=1, seed=1)
    assert (other.positions() != base.positions()).all(axis=(1, 2)).any()
    # Chains differ from each other, too: each has its own keys.
    assert np.ptp(base.positions()[:, -1], axis=0).min() > 0


@pytest.mark.parametrize("chunk_steps", [1, 7, 1000, None])
def test_draws_do_not_depend_on_the_chunks(
    run: Any, base: Posterior, chunk_steps: int | None
) -> None:
    assert_same_draws(run(num_chains=3, num_devices=1, chunk_steps=chunk_steps), base)


@pytest.mark.slow  # another number of devices, with another number of chains, always runs below
@pytest.mark.parametrize(("num_devices", "sequential"), [(2, True), (4, True), (2, False)])
def test_draws_do_not_depend_on_the_devices(
    run: Any, base: Posterior, num_devices: int, sequential: bool
) -> None:
    """Three chains do not divide into two devices, nor into four."""
    other = run(num_chains=3, num_devices=num_devices, sequential=sequential)
    assert other.positions().shape == base.positions().shape
    # Vectorised, sums run in another order at every step: 2.3e-4 was seen, of a path of 0.1.
    rounding = ROUNDING if sequential else 4 * ROUNDING
    np.testing.assert_allclose(other.positions(), base.positions(), rtol=0, atol=rounding)
    np.testing.assert_allclose(other.lppd_chain, base.lppd_chain, rtol=0, atol=10 * rounding)


@pytest.mark.parametrize(
    ("num_chains", "num_devices"),
    [(2, 2), *(pytest.param(*numbers, marks=pytest.mark.slow) for numbers in [(1, 4), (5, 1)])],
)
def test_a_chain_does_not_depend_on_the_number_of_chains(
    run: Any, base: Posterior, num_chains: int, num_devices: int
) -> None:
    other = run(num_chains=num_chains, num_devices=num_devices)
    assert other.num_chains == num_chains
    shared = min(3, num_chains)
    np.testing.assert_allclose(
        other.positions()[:shared], base.positions()[:shared], rtol=0, atol=ROUNDING
    )


def test_thinning_keeps_every_fifth_draw(run: Any, base: Posterior) -> None:
    thinned = run(num_chains=3, num_devices=1, n_samples=4, n_thinning=5)
    np.testing.assert_array_equal(thinned.positions(), base.positions()[:, 4::5])
    assert thinned.num_sampling_steps == 20


def test_a_small_buffer_gives_the_same_draws(
    run: Any, base: Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mirth.inference.engine.loop._MAX_BUFFER_BYTES", 1000
    )  # four draws of three chains
    assert_same_draws(run(num_chains=3, num_devices=1), base)


@pytest.mark.parametrize(
    "n_warmup", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5))]
)
def test_tiny_warmups(run: Any, n_warmup: int) -> None:
    posterior = run(num_devices=1, n_warmup=n_warmup, n_samples=3)
    assert posterior.tuning.num_steps == n_warmup
    assert np.isfinite(posterior.positions()).all()
    if n_warmup == 0:
        np.testing.assert_array_equal(posterior.tuning.step_size, np.float32([1e-3, 1e-3]))


def test_each_loop_compiles_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first step size or sum of weak type made the second chunk compile the loop again."""
    compiled: list[Any] = []
    original = Placement.compile

    def compile(self: Placement, *args: Any, **kwargs: Any) -> Any:
        compiled.append(original(self, *args, **kwargs))
        return compiled[-1]

    monkeypatch.setattr(Placement, "compile", compile)
    run(num_chains=3, num_devices=1, chunk_steps=7)
    assert len(compiled) == 3  # warm start, start of the chains, and one for tuning and sampling
    assert [function._cache_size() for function in compiled] == [1] * len(compiled)


def test_validation_rows_condition_the_chains_or_not(run: Any, data: mirth.Dataset) -> None:
    seen, unseen = (run(use_validation_rows=flag) for flag in (True, False))
    batch = mirth.data.Batch(jnp.asarray(data.x), jnp.asarray(data.y))
    all_rows = [
        float(p.model.log_density(jax.tree.map(lambda leaf: leaf[0, 0], p.draws), batch))
        for p in (seen, unseen)
    ]
    logdensity = [p.sample_stats["logdensity"][0, 0] for p in (seen, unseen)]
    assert logdensity[0] == pytest.approx(all_rows[0], rel=4e-6)
    assert abs(logdensity[1] - all_rows[1]) > 0.1  # twelve rows are missing
    # The optimisation never sees them, so both start from the same ensemble.
    np.testing.assert_array_equal(
        *(np.concatenate([w.ravel() for w in jax.tree.leaves(p.start)]) for p in (seen, unseen))
    )


def linear_network(num_outputs: int) -> mirth.networks.FunctionalNetwork:
    return mirth.networks.FunctionalNetwork(
        init=lambda key, x: {"w": 0.1 * jax.random.normal(key, (x.shape[1], num_outputs))},
        apply=lambda params, x: x @ params["w"],
    )


def small_run(
    model: mirth.Model, data: mirth.Dataset, start: Any = "prior", **options: Any
) -> Posterior:
    kernel = mirth.samplers.MCLMC(0.01, 1.0)
    method = mirth.Sampling(kernel=kernel, n_warmup=20, n_samples=5, n_thinning=1, start=start)
    placement = Placement(tuple(jax.local_devices()[:2]), sequential=True)
    options = {"validation": 0.3, "num_chains": 2} | options
    return mirth.infer(model, data, method, **in_groups(options, placement=placement))


@pytest.mark.slow
def test_any_network(data: mirth.Dataset) -> None:
    model = mirth.Model(linear_network(1), mirth.likelihoods.HomoscedasticNormal())
    posterior = small_run(model, data)
    assert posterior.draws["network"]["w"].shape == (2, 5, 1, 1)
    assert posterior.draws["shared"].shape == (2, 5, 1)
    predictive = mirth.make_predictive(model, posterior.draws, data.x)
    assert np.isfinite(predictive.log_prob(data.y.astype(float))).all()


def test_weights_count_as_repetitions(data: mirth.Dataset) -> None:
    """The log density with a weight of 3 is that of rows that stand there three times."""
    model = mirth.Model(linear_network(2), mirth.Normal())
    held = data.take(np.arange(0, 40, 4))
    weights = np.where(np.arange(40) < 10, 3.0, 1.0)
    weighted = mirth.Dataset(data.x, data.y, weights)
    posterior = small_run(model, weighted, validation=held)
    rows = np.repeat(np.arange(40), weights.astype(int))
    x, y = np.concatenate([data.x[rows], held.x]), np.concatenate([data.y[rows], held.y])
    draw = jax.tree.map(lambda leaf: leaf[1, -1], posterior.draws)
    expected = float(model.log_density(draw, mirth.data.Batch(jnp.asarray(x), jnp.asarray(y))))
    # 70 terms of order 1 in float32: 70 roundings of 1e-7 of the result at most.
    assert posterior.sample_stats["logdensity"][1, -1] == pytest.approx(expected, rel=7e-6)


def test_rows_of_weight_zero_do_not_exist(data: mirth.Dataset) -> None:
    """A mini-batch without weight was 0 / 0, and every member stopped in its first epoch."""
    model = mirth.Model(linear_network(2), mirth.Normal())
    weights = np.where(np.arange(40) % 4 == 0, 2.0, 0.0)
    with_them = mirth.Dataset(data.x, data.y, weights)
    without = with_them.take(np.arange(0, 40, 4))
    start = mirth.DeepEnsemble(max_epochs=2, batch_size=20)
    assert_same_draws(*(small_run(model, rows, start) for rows in (with_them, without)))


def test_a_network_with_wrong_outputs_is_refused(data: mirth.Dataset) -> None:
    model = mirth.Model(linear_network(3), mirth.Normal())
    with pytest.raises(ValueError, match=r"outputs of shape \(28, 3\).* needs \(28, 2\)"):
        small_run(model, data)


class BrokenPrior(mirth.priors.NormalPrior):
    def log_prob(self, params: Any) -> Any:
        return super().log_prob(params) * jnp.nan


class Cliff(mirth.Normal):
    """Impossible above 0.9, so the density is -inf wherever such a row is conditioned on."""

    def log_prob(self, outputs: Any, y: Any) -> Any:
        return jnp.where(y > 0.9, -jnp.inf, super().log_prob(outputs, y))


def test_a_broken_prior_is_named(data: mirth.Dataset) -> None:
    model = mirth.Model(linear_network(2), mirth.Normal(), BrokenPrior())
    with pytest.raises(mirth.SamplingError, match="log prior is not finite") as caught:
        small_run(model, data)
    assert caught.value.outcome is Outcome.NON_FINITE_TARGET


def test_impossible_rows_are_named(data: mirth.Dataset) -> None:
    possible = data.take(np.flatnonzero(data.y < 0.9))
    bad = np.flatnonzero(data.y > 0.9)
    assert 0 < len(bad) < 20
    model = mirth.Model(linear_network(2), Cliff())
    with pytest.raises(mirth.SamplingError, match="log likelihood is not finite in") as caught:
        small_run(model, data, validation=possible)
    assert f"({', '.join(map(str, bad[:5]))}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_chains": 0}, ValueError, "num_chains=0"),
        ({"num_chains": 2.0}, TypeError, "num_chains=2.0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"validation": 0.0}, ValueError, "validation=0.0"),
        ({"validation": 1.0}, ValueError, "validation=1.0"),
        ({"chunk_steps": 0}, ValueError, "chunk_steps=0"),
        ({"data_block_size": 0}, ValueError, "data_block_size=0"),
        ({"data_block_size": 2.0}, TypeError, "data_block_size=2.0"),
    ],
)
def test_bad_arguments_are_named(
    data: mirth.Dataset, model: mirth.Model, options: dict[str, Any], error: type, text: str
) -> None:
    with pytest.raises(error, match=text):
        small_run(model, data, **options)


def test_a_data_set_is_asked_for(data: mirth.Dataset, model: mirth.Model) -> None:
    with pytest.raises(TypeError, match=r"mirth\.Dataset\(x, y\), not tuple"):
        small_run(model, (data.x, data.y))  # type: ignore[arg-type]


def test_methods_by_name(data: mirth.Dataset, model: mirth.Model) -> None:
    with pytest.raises(ValueError, match="did you mean 'mile'"):
        mirth.infer(model, data, "mille")
    with pytest.raises(TypeError, match=r"method=3 .*mirth\.MILE"):
        mirth.infer(model, data, 3)
    with pytest.raises(TypeError, match=r"mirth\.MILE"):
        mirth.infer(model, data, mirth.MILE)  # the class instead of an object


@pytest.mark.parametrize("sequential", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_blocks_of_rows_change_the_draws_to_rounding_only(
    base: Posterior, run: Any, sequential: bool
) -> None:
    blocks = run(num_chains=3, num_devices=1, sequential=sequential, data_block_size=9)
    rounding = ROUNDING if sequential else 4 * ROUNDING  # 1.1e-4 was seen, vectorised
    np.testing.assert_allclose(blocks.positions(), base.positions(), rtol=0, atol=rounding)
    assert (blocks.sample_stats["logdensity"] != base.sample_stats["logdensity"]).any()
