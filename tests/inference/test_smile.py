"""SMILE and pSMILE: parameters, batches, resets, and that runs survive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.core.keys import Purpose
from mirth.core.random import fold_in
from mirth.inference import METHODS, Placement, Posterior, resolve_method
from mirth.inference.chains.chains import Chains
from mirth.inference.run.memory import estimate_memory
from mirth.inference.run.reviews import Reviews
from mirth.samplers import Moment, noise_level, whitened_level
from tests.cases import slow_but

pytestmark = pytest.mark.usefixtures("unoptimised")

START = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=15, batch_size=8)
BASE: dict[str, Any] = {
    "n_warmup": 60, "n_samples": 8, "n_thinning": 1, "batch_size": 10, "step_size": 0.01,
    "noise_memory": 20.0, "probe_every": 2, "start": START,
}  # fmt: skip


@pytest.fixture(scope="module")
def smile(model: mirth.Model, data: mirth.Dataset) -> Callable[..., Posterior]:
    done: dict[str, Posterior] = {}

    def run(num_devices: int = 1, **fields: Any) -> Posterior:
        options = {k: fields.pop(k) for k in ("out", "monitors", "chunk_steps") if k in fields}
        placement = Placement(tuple(jax.local_devices()[:num_devices]), sequential=True)
        name = repr((num_devices, sorted((BASE | fields).items())))
        if options or name not in done:
            found = mirth.infer(
                model,
                data,
                mirth.SMILE(**(BASE | fields)),
                num_chains=2,
                validation=0.3,
                **in_groups(options, placement=placement),
            )
            if options:
                return found
            done[name] = found
        return done[name]

    return run


QUANTILES = {"step_size_rule": "quantiles", "n_warmup": 150}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "n_warmup": (50, {}),
    "n_samples": (7, {}),
    "n_thinning": (2, {}),
    "batch_size": (5, {}),
    "step_size": (0.02, {}),
    "step_size_rule": ("fixed", {}),
    "energy_variance_start": (0.3, {}),
    "energy_variance_end": (0.01, {}),
    "guarded": (False, {"reset_probability": 0.5}),
    "reset_probability": (0.5, {}),
    "alpha": (0.5, QUANTILES),
    "rate": (0.1, QUANTILES),
    "beta": (0.5, QUANTILES),
    "preconditioned": (False, {}),
    "noise_memory": (5.0, {}),
    # Two blocks of 32 gradients before anything is whitened.
    "noise_rank": (3, {"n_warmup": 80}),
    "refreshed": (False, {}),
    "L": (1.0, {}),
    "L_factor": (0.1, {}),
    "max_turn": (0.01, {}),
    "batch_order": ("sweeps", {}),
    "integrator": ("mclachlan", {}),
    "probe_every": (3, {}),
    "published": (True, {}),
    "use_validation_rows": (False, {}),
    "start": (dataclasses.replace(START, learning_rate=0.02), {}),
}


ALWAYS = ["n_samples", "n_thinning", "step_size_rule", "integrator", "reset_probability"]


@pytest.mark.parametrize("name", slow_but(ALWAYS, CASES))
def test_every_parameter_changes_the_draws(smile: Callable[..., Posterior], name: str) -> None:
    value, shared = CASES[name]
    one, two = smile(**shared), smile(**(shared | {name: value}))
    last = [posterior.positions()[:, -1] for posterior in (one, two)]
    assert (last[0] != last[1]).any(axis=1).all(), f"{name}={value!r} changes nothing"


def test_no_parameter_is_forgotten() -> None:
    fields = {field.name for field in dataclasses.fields(mirth.SMILE)}
    assert set(CASES) | {"unhealthy_chains"} == fields


def test_what_the_reports_say(smile: Callable[..., Posterior]) -> None:
    base = smile()
    assert base.num_gradients == 68 and smile(integrator="velocity").num_gradients == 3 * 68
    assert base.tuning is not None and base.tuning.num_steps == 60
    assert np.isfinite(base.positions()).all() and (base.tuning.step_size != 0.01).all()
    fixed = smile(step_size_rule="fixed")
    assert fixed.tuning is not None
    np.testing.assert_array_equal(fixed.tuning.step_size, np.float32(0.01))


@pytest.mark.parametrize("integrator", slow_but(["leapfrog"], ["leapfrog", "velocity"]))
def test_kept_energies_equal_recomputed_ones(
    model: mirth.Model, data: mirth.Dataset, monkeypatch: pytest.MonkeyPatch, integrator: str
) -> None:
    """They were 0 but for every ``probe_every``-th step, and that one scaled."""
    seen: dict[str, Any] = {}
    begin = Reviews.begin_sampling

    def keep(self: Any, state: Any) -> Any:
        state = begin(self, state)
        seen.update(chains=self.chains, state=jax.tree.map(np.array, state))
        return state

    monkeypatch.setattr(Reviews, "begin_sampling", keep)
    settings = {"probe_every": 3, "guarded": False, "integrator": integrator}
    method = mirth.SMILE(**(BASE | settings))
    placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
    posterior = mirth.infer(model, data, method, num_chains=1, run=mirth.Run(placement=placement))
    chains = seen["chains"]
    chain = jax.tree.map(lambda leaf: leaf[0], seen["state"])
    key, step = chains.keys(Purpose.SAMPLING)[0], jax.jit(chains.programs.step)
    every = 3 if integrator == "leapfrog" else 1
    energies, logdensities = [], []

    @jax.jit
    def recomputed(key: Any, chain: Any, n: Any) -> Any:
        rows_key = jax.random.wrap_key_data(chain.rows_key)
        logdensity_fn = chains.programs.logdensity_fn(chains.shared, rows_key, chain.num_steps, n)
        moment = Moment(n, chain.num_steps, False, False, 0)
        sampler = chains.adaptation.sampler(chain.adapted, moment).kernel
        return sampler.step(key, chain.kernel, logdensity_fn)[1]

    for n in range(8):
        if int(chain.num_steps) % every == 0:  # the first step of the sampling is the 61st
            said = recomputed(fold_in(key, n), chain, n)
        chain, _ = step(fold_in(key, n), chain, n, chains.shared)
        np.testing.assert_allclose(posterior.positions()[0, n], chain.kernel.position, rtol=1e-4)
        energies.append(float(said.energy_change))
        logdensities.append(float(said.logdensity))
    # Sums of ten rows of order one, scaled by four: a few hundred roundings of them at most.
    stats = {name: values[0] for name, values in posterior.sample_stats.items()}
    np.testing.assert_allclose(stats["energy_change"], energies, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(stats["batch_logdensity"], logdensities, rtol=1e-4)
    assert len(set(energies)) == -(-8 // every) and np.abs(energies).max() > 0.01


@pytest.mark.slow  # that of MILE, in test_chains.py, always runs
def test_draws_do_not_depend_on_devices(smile: Callable[..., Posterior]) -> None:
    base, two = smile(), smile(num_devices=2)
    np.testing.assert_allclose(two.positions()[:, 0], base.positions()[:, 0], rtol=1e-3, atol=1e-3)


def test_every_row_is_used_and_the_scale_is_exact(model: mirth.Model, data: mirth.Dataset) -> None:
    """The log densities of the batches of an epoch, less their priors, sum to that of all rows."""
    weights = np.linspace(0.5, 2.0, len(data))
    weighted = mirth.Dataset(data.x, data.y, weights)
    chains = chains_of(model, weighted, validation=0.3, batch_size=9)
    flat, key = jax.numpy.asarray(chains.flat[0]), jax.random.key(3)
    prior = float(model.log_prior(chains.programs.unravel(flat)))
    source = chains.source.rows
    num = source.batches.num_batches
    density = jax.jit(
        lambda key, step: chains.programs.logdensity_fn(chains.shared, key, step, 0)(flat)
    )
    total = 0.0
    for step in range(num):
        _, weight = source.batches.rows(key, step)
        estimate = float(density(key, step)) - prior
        total += estimate * float(weight.sum()) / source.num_rows
    rows = chains.problem.rows.all
    expected = float(model.log_likelihood(chains.programs.unravel(flat), rows))
    assert total == pytest.approx(expected, rel=1e-5)


def test_names() -> None:
    methods = {name: resolve_method(name) for name in METHODS if "smile" in name}
    assert set(methods) == {"psmile", "smile", "psmile-naive", "smile-naive"}
    for name, method in methods.items():
        assert method.preconditioned == name.startswith("p")
        is_naive = "naive" in name
        assert method.guarded == (method.step_size_rule != "fixed") == (not is_naive)
        assert method.refreshed == (not is_naive)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_warmup", -1, ValueError),
        ("batch_size", 0, ValueError),
        ("batch_size", 2.5, TypeError),
        ("step_size", 0.0, ValueError),
        ("step_size_rule", "quantile", ValueError),
        ("reset_probability", 1.0, ValueError),
        ("L", 0.0, ValueError),
        ("L", "long", TypeError),
        ("integrator", "leap", ValueError),
        ("probe_every", 0, ValueError),
        ("noise_rank", -1, ValueError),
        ("noise_rank", 1.5, TypeError),
        ("guarded", 1.5, TypeError),
        ("published", "yes", TypeError),
        ("start", "ensemble", TypeError),
        ("unhealthy_chains", "dropped", ValueError),
    ],
)
def test_wrong_values(name: str, value: Any, error: type) -> None:
    with pytest.raises(error, match=name):
        mirth.SMILE(**{name: value})


def test_quantiles_need_the_guard() -> None:
    with pytest.raises(ValueError, match="needs guarded=True"):
        mirth.SMILE(step_size_rule="quantiles", guarded=False)


def test_the_released_rule_needs_its_scheme() -> None:
    with pytest.raises(ValueError, match="leave out integrator='velocity'"):
        mirth.SMILE(published=True, integrator="velocity")


@pytest.mark.parametrize("settings", [{"preconditioned": False}, {"published": True}])
def test_a_rank_needs_a_scale(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name}={value} .* leave out noise_rank=8"):
        mirth.SMILE(noise_rank=8, **settings)


def test_a_rank_is_less_than_the_parameters(model: mirth.Model, data: mirth.Dataset) -> None:
    """It says so before anything is optimised."""
    method = mirth.SMILE(**(BASE | {"noise_rank": 18}))
    with pytest.raises(ValueError, match="noise_rank=18 must be less than .* parameters, 18"):
        mirth.infer(model, data, method, num_chains=1)


def test_the_rank_reaches_the_chains_and_their_memory(
    model: mirth.Model, data: mirth.Dataset
) -> None:
    """Two vectors for each direction, in the state and in the estimate of a run; none for 0."""
    plain, whitened = (chains_of(model, data, noise_rank=rank) for rank in (0, 3))
    bytes_of = []
    for chains in (plain, whitened):
        shapes = jax.eval_shape(chains.adaptation.init, chains.programs.vector)
        state = sum(leaf.size * 4 for leaf in jax.tree.leaves(shapes))
        need = estimate_memory(chains.recipe, chains.problem).device["states of the chains"]
        bytes_of.append((state, need))
    (state, need), (larger, needed) = bytes_of
    # Two vectors of 18 numbers for each, its variance, and four numbers.
    added = (3 * (2 * 18 + 1) + 4) * 4
    assert larger - state == added
    assert needed - need == 2 * added  # one chain, and a working copy
    assert plain.init().adapted.sketch is None


def test_whitened_chains_are_bounded_by_the_noise_that_is_left(
    model: mirth.Model, data: mirth.Dataset
) -> None:
    """Step bound and L follow from the noise in the coordinates where the dynamics run."""
    chains = chains_of(model, data, noise_rank=3)
    step, moment = jax.jit(chains.programs.step), Moment(0, 0, True, False, 0)
    shared = chains.shared._replace(is_tuning=jax.numpy.array(True))
    chain = jax.tree.map(lambda leaf: leaf[0], chains.init())
    for i in range(96):
        chain, _ = step(jax.random.key(i), chain, i, shared)
    adapted, sketch = chain.adapted, chain.adapted.sketch
    assert int(sketch.num_blocks) == 3
    sampler = chains.adaptation.sampler(adapted, moment).kernel
    left = whitened_level(sketch, sampler.whitening)
    assert float(adapted.noise_level) == pytest.approx(float(left), rel=1e-6)
    assert left < 0.9 * noise_level(adapted.noise, sampler.scale)  # 18 parameters of one network
    num_params = chains.num_params
    assert float(sampler.step_size) <= 0.15 * np.sqrt(num_params) / left * (1 + 1e-6)
    expected = 2 * num_params / (float(sampler.step_size) * float(left) ** 2)
    assert float(sampler.L) == pytest.approx(expected, rel=1e-5)
    # Frozen with everything else.
    after, _ = step(jax.random.key(0), chain, 127, chains.shared)
    jax.tree.map(np.testing.assert_array_equal, after.adapted.sketch, sketch)
    assert after.adapted.noise_level == adapted.noise_level


def chains_of(
    model: mirth.Model, data: mirth.Dataset, validation: float = 0.1, **settings: Any
) -> Chains:
    """Give the chains of a run that is never started."""
    seen: list[Chains] = []

    class Seen(Exception):
        pass

    def keep(self: Any, chains: Any, report: Any) -> None:
        seen.append(chains)
        raise Seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirth.inference.run.stages.ChainRun.__init__", keep)
        with pytest.raises(Seen):
            method = mirth.SMILE(**(BASE | {"start": "prior"} | settings))
            mirth.infer(model, data, method, num_chains=1, validation=validation)
    return seen[0]


def test_the_released_step_state_by_state(model: mirth.Model, data: mirth.Dataset) -> None:
    """A reset keeps the rejected gradient and stops the momentum; all goes on while sampling."""
    chains = chains_of(model, data, published=True, reset_probability=0.5)
    chain = jax.tree.map(lambda leaf: leaf[0], chains.init())
    np.testing.assert_array_equal(chain.adapted.noise.variance, 1.0)
    step = jax.jit(chains.programs.step)  # is_tuning is False, as while sampling
    numbers = []
    guard = chain.adapted.guard
    for i in range(40):
        before = chain
        chain, info = step(jax.random.key(i), chain, i, chains.shared)
        # The statistics are those of the guard, fed by every step, and set the step size.
        gradient = np.asarray(chain.kernel.gradient)
        mean = 0.99 + 0.01 * gradient
        variance = 0.99 * before.adapted.noise.variance + 0.01 * (gradient - mean) ** 2
        np.testing.assert_allclose(chain.adapted.noise.variance, variance, rtol=1e-4)
        sigma = np.clip(np.sqrt(variance), 1e-2, 1e4)
        scale = np.sqrt(np.mean(sigma**2)) / sigma
        np.testing.assert_allclose(chain.adapted.tuner.sampler.scale, scale, rtol=1e-4)
        is_reset = bool((np.asarray(chain.kernel.momentum) == 0).all())
        if is_reset:
            np.testing.assert_array_equal(chain.kernel.position, before.kernel.position)
            assert chain.kernel.logdensity != before.kernel.logdensity
            assert (gradient != np.asarray(before.kernel.gradient)).any()
        assert chain.adapted.guard.num_seen == guard.num_seen + i + 1
        numbers.append((is_reset, float(chain.adapted.tuner.sampler.step_size)))
    resets, steps = map(np.array, zip(*numbers, strict=True))
    assert resets[:9].sum() == 0 and 0 < resets[9:].sum() < 31  # none before the tenth energy
    assert len(set(steps[9:])) > 1  # the step size is not frozen
