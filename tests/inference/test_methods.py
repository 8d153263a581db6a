"""The method objects: every parameter changes something, and wrong values say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mirth
from mirth.inference import Placement, Posterior
from mirth.samplers import MILETuner
from tests.cases import slow_but

pytestmark = pytest.mark.usefixtures("unoptimised")

START = {"learning_rate": 0.03, "max_epochs": 15, "batch_size": 8}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fenced(mirth.Normal):
    """Not a number outside of a region, so that long steps diverge."""

    def log_prob(self, outputs: Any, y: Any) -> Any:
        inside = abs(self.location(outputs)) < 30
        return jnp.where(inside, 1.0, jnp.nan) * super().log_prob(outputs, y)


# The first step leaves the region; the cap then brings the second one to 0.01, where it would grow.
DIVERGING = {"likelihood": Fenced(), "step_size_init": 1e3, "cap_shrink": 1e-5}

# A linear model and a third phase of 300 steps, whose effective draws suffice to set L by.
DECORRELATING = {
    "network": mirth.MLP((), num_outputs=2),
    "n_warmup": 800,
    "phase_fractions": (0.5, 0.125, 0.375),
}

# Parameter: value that differs from the default, and settings that both runs share.
MILE_CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "n_warmup": (50, {}),
    "n_samples": (7, {}),
    "n_thinning": (2, {}),
    "energy_variance_start": (0.3, {}),
    "energy_variance_end": (0.01, {}),
    "phase_fractions": ((0.5, 0.2, 0.3), {}),
    "step_size_init": (2e-3, {}),
    "trust": (0.7, {}),
    "num_effective": (10, {}),
    "L_factor": (1.0, DECORRELATING),
    "max_params": (3, DECORRELATING),
    "max_kept": (50, DECORRELATING),
    "cap_shrink": (2e-5, DIVERGING),
    "cap_growth": (1.5, DIVERGING),
    "diagonal_preconditioning": (True, {}),
    "integrator": ("leapfrog", {}),
    "use_validation_rows": (False, {}),
    "start": (mirth.DeepEnsemble(**(START | {"learning_rate": 0.02})), {}),
}

DEEP_ENSEMBLE_CASES = {
    "learning_rate": 0.02,
    "weight_decay": 0.1,
    "batch_size": 9,
    "max_epochs": 3,
    "patience": 1,
}


@pytest.fixture(scope="module")
def mile(run: Any) -> Callable[..., Posterior]:
    """Run with one device, each setting once."""
    done: dict[str, Posterior] = {}

    def infer(**fields: Any) -> Posterior:
        settings = {"n_warmup": 60, "n_samples": 5, "start": mirth.DeepEnsemble(**START)} | fields
        name = repr(sorted(settings.items()))
        if name not in done:
            done[name] = run(num_devices=1, **settings)
        return done[name]

    return infer


# The reports below have these and what diverges; the doubled L and the halved gradients are theirs.
ALWAYS = ["n_samples", "n_thinning", "integrator", "L_factor", "max_kept", "phase_fractions"]


@pytest.mark.parametrize("name", slow_but(ALWAYS, MILE_CASES))
def test_every_parameter_of_mile_changes_the_draws(
    mile: Callable[..., Posterior], name: str
) -> None:
    value, shared = MILE_CASES[name]
    one, two = mile(**shared), mile(**(shared | {name: value}))
    last = [posterior.positions()[:, -1] for posterior in (one, two)]
    assert (last[0] != last[1]).any(axis=1).all(), f"{name}={value!r} changes nothing"


def test_no_parameter_is_forgotten() -> None:
    # They act on longer runs and on sick chains: test_budget.py, test_health_policy.py.
    elsewhere = {"budget", "min_gain", "min_effective", "unhealthy_chains"}
    own, tuner = ({f.name for f in dataclasses.fields(c)} for c in (mirth.MILE, MILETuner))
    assert set(MILE_CASES) | elsewhere == (own - {"tuner"}) | (tuner - {"num_steps"})
    fields = {f.name for f in dataclasses.fields(mirth.DeepEnsemble)}
    assert set(DEEP_ENSEMBLE_CASES) | {"transform"} == fields  # in test_streams.py


def test_what_the_reports_say_of_the_parameters(mile: Callable[..., Posterior]) -> None:
    base = mile()
    assert mile(n_thinning=2).num_sampling_steps == 10
    assert mile(n_samples=7).num_draws == 7
    assert mile(integrator="leapfrog").num_gradients * 2 == base.num_gradients == 2 * 65
    # L is the last thing that is tuned: twice and a half the factor, twice and a half the length.
    one, other = (mile(**DECORRELATING, **more).tuning for more in ({}, {"L_factor": 1.0}))
    assert one is not None and other is not None
    np.testing.assert_allclose(other.L, 2.5 * one.L, rtol=1e-6)
    assert (mile(**DIVERGING).tuning.num_divergent > 0).all()


@pytest.fixture(scope="module")
def ensemble(model: mirth.Model, data: mirth.Dataset) -> Callable[..., Posterior]:
    def infer(**fields: Any) -> Posterior:
        return mirth.infer(
            model,
            data,
            mirth.DeepEnsemble(**(START | fields)),
            num_chains=2,
            run=mirth.Run(placement=Placement(tuple(jax.local_devices()[:1]), sequential=True)),
            validation=0.3,
        )

    return infer


@pytest.fixture(scope="module")
def base_ensemble(ensemble: Callable[..., Posterior]) -> Posterior:
    return ensemble()


@pytest.mark.parametrize("name", slow_but(["learning_rate", "patience"], DEEP_ENSEMBLE_CASES))
def test_every_parameter_of_the_deep_ensemble_changes_the_members(
    ensemble: Callable[..., Posterior], base_ensemble: Posterior, name: str
) -> None:
    other = ensemble(**{name: DEEP_ENSEMBLE_CASES[name]})
    assert (other.positions() != base_ensemble.positions()).any(), f"{name} changes nothing"


def test_a_deep_ensemble_is_a_posterior_with_one_draw(base_ensemble: Posterior) -> None:
    assert (base_ensemble.num_chains, base_ensemble.num_draws) == (2, 1)
    assert base_ensemble.tuning is None and base_ensemble.sample_stats == {}
    assert base_ensemble.num_gradients == base_ensemble.num_sampling_steps == 0
    np.testing.assert_array_equal(
        base_ensemble.lppd_chain, -base_ensemble.warm_start.validation_loss
    )


def test_mile_starts_from_the_deep_ensemble(
    mile: Callable[..., Posterior], base_ensemble: Posterior
) -> None:
    start = mile().start_as_posterior()
    np.testing.assert_array_equal(start.positions(), base_ensemble.positions())
    # One is a mean of log probabilities, the other that of the loss: rounding of a few 1e-7.
    np.testing.assert_allclose(start.lppd_chain, base_ensemble.lppd_chain, rtol=1e-5)
    assert start.tuning is None and set(start.seconds) == {"warm_start"}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_warmup", -1, ValueError),
        ("n_warmup", 100.0, TypeError),
        ("n_warmup", "many", TypeError),
        ("n_samples", 0, ValueError),
        ("n_samples", 1e3, TypeError),
        ("n_thinning", 0, ValueError),
        ("n_thinning", True, TypeError),
        ("step_size_init", 0.0, ValueError),
        ("step_size_init", np.nan, ValueError),
        ("budget", "automatic", ValueError),
        ("min_gain", -0.1, ValueError),
        ("min_effective", np.inf, ValueError),
        ("unhealthy_chains", "dropped", ValueError),
        ("integrator", "mclachlen", ValueError),
        ("use_validation_rows", "no", TypeError),
        ("tuner", "mile", TypeError),
        ("start", "deep_ensemble", TypeError),
        ("start", mirth.DeepEnsemble, TypeError),
    ],
)
def test_wrong_values_of_mile_are_named(name: str, value: Any, error: type) -> None:
    with pytest.raises(error, match=f"^{name}="):
        mirth.MILE(**{name: value})
    with pytest.raises(error, match=f"^{name}="):
        mirth.MILE().set_params(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("num_steps", -1, ValueError),
        ("energy_variance_start", 0.0, ValueError),
        ("energy_variance_end", -0.1, ValueError),
        ("phase_fractions", (0.8, 0.1), ValueError),
        ("phase_fractions", (0.8, 0.1, 0.2), ValueError),
        ("phase_fractions", (1.2, -0.1, -0.1), ValueError),
        ("trust", 0.0, ValueError),
        ("L_factor", -1.0, ValueError),
        ("max_params", 0, ValueError),
        ("max_kept", 3, ValueError),
        ("cap_shrink", 1.0, ValueError),
        ("cap_growth", 0.9, ValueError),
        ("diagonal_preconditioning", "no", TypeError),
        ("num_effective", 1.0, ValueError),
    ],
)
def test_wrong_values_of_the_tuner_are_named(name: str, value: Any, error: type) -> None:
    with pytest.raises(error, match=f"^{name}="):
        mirth.MILE(tuner=MILETuner(**{name: value}))
    with pytest.raises(error, match=f"^{name}="):
        mirth.MILE().set_params(**{f"tuner__{name}": value})


@pytest.mark.parametrize("name", mirth.MILE.MOVED)
def test_old_names_of_the_tuner_work_and_name_the_new(name: str) -> None:
    new = mirth.MILE.MOVED[name][2]
    value = MILE_CASES[new][0]
    expected = mirth.MILE(tuner=MILETuner(**{new: value}))
    match = rf"^MILE\({name}=...\) is now MILE\(tuner=MILETuner\({new}=...\)\)"
    with pytest.warns(FutureWarning, match=match):
        assert mirth.MILE(**{name: value}) == expected
    with pytest.warns(FutureWarning, match=match):
        assert mirth.MILE().set_params(**{name: value}) == expected


def test_the_length_of_the_warmup_is_given_once() -> None:
    tuner = MILETuner(num_steps=70)
    assert mirth.MILE(tuner=tuner).lengths(10**6).n_warmup == 70
    problem: Any = SimpleNamespace(num_params=1)
    assert mirth.MILE(n_warmup=70, tuner=tuner).recipe(problem).adaptation.tuner == tuner
    with pytest.raises(ValueError, match="n_warmup=60 and num_steps=70 of the tuner are the same"):
        mirth.MILE(n_warmup=60, tuner=tuner)
    with pytest.raises(ValueError, match=r"MILETuner\(num_steps=None\) takes its length from"):
        MILETuner().phases()


def test_settings_of_the_tuner_can_be_searched() -> None:
    reg = mirth.BNNRegressor(method=mirth.MILE())
    before = reg.method.tuner
    assert reg.set_params(method__tuner__trust=2.0).method.tuner == MILETuner(trust=2.0)
    assert before == MILETuner() and "method__tuner__trust" in reg.get_params()
    with pytest.raises(ValueError, match="no parameter 'trusst'; did you mean 'trust'"):
        reg.set_params(method__tuner__trusst=2.0)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("learning_rate", 0.0, ValueError),
        ("learning_rate", "fast", TypeError),
        ("weight_decay", -1e-3, ValueError),
        ("batch_size", 0, ValueError),
        ("batch_size", 32.0, TypeError),
        ("max_epochs", 0, ValueError),
        ("patience", -1, ValueError),
    ],
)
def test_wrong_values_of_the_deep_ensemble_are_named(name: str, value: Any, error: type) -> None:
    with pytest.raises(error, match=f"^{name}="):
        mirth.DeepEnsemble(**{name: value})


def test_the_nearest_integrator_is_suggested() -> None:
    with pytest.raises(ValueError, match="did you mean 'mclachlan'"):
        mirth.MILE(integrator="mclachlen")


def test_parameters_can_be_read_and_set() -> None:
    method = mirth.MILE(n_warmup=100, start=mirth.DeepEnsemble(patience=7))
    params = method.get_params()
    assert params["n_warmup"] == 100 and params["start__patience"] == 7
    assert "start__patience" not in method.get_params(deep=False)
    assert method.set_params(n_warmup=200, start__learning_rate=0.5) is method
    assert method.n_warmup == 200
    assert method.start is not None and method.start.learning_rate == 0.5
    with pytest.raises(ValueError, match="did you mean 'n_warmup'"):
        method.set_params(n_warmups=3)
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        method.set_params(start__learning_rat=3)


def test_methods_do_not_share_their_start() -> None:
    mirth.MILE().set_params(start__patience=3)
    start = mirth.MILE().start
    assert start is not None and start.patience == mirth.DeepEnsemble().patience


def test_scikit_learn_can_clone_them() -> None:
    clone = pytest.importorskip("sklearn.base").clone
    method = mirth.MILE(n_warmup=100, start=mirth.DeepEnsemble(patience=7))
    twin = clone(method, safe=False)
    assert twin == method and twin is not method and twin.start is not method.start


def test_lengths_grow_with_the_network_unless_they_are_given() -> None:
    small, large = (mirth.MILE().lengths(n) for n in (1000, 9000))
    assert small == (10_000, 10, 1e-3)
    assert large == pytest.approx((30_000, 30, 3e-3))
    # Never more than the paper's warm-up; the first step size goes on.
    assert mirth.MILE().lengths(10**6)[:2] == (50_000, 50)
    assert mirth.MILE().lengths(10**6).step_size_init == pytest.approx(1e-3 * 1000**0.5)
    given = mirth.MILE(n_warmup=70, n_thinning=3, step_size_init=0.2)
    assert given.lengths(10**6) == (70, 3, 0.2)
    assert mirth.MILE(n_warmup=70).lengths(10**6).n_thinning == 10


def test_chains_have_the_lengths_that_fit_their_network(
    run: Callable[..., Posterior], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_PARAMS": 4, "_WARMUP": 20, "_THINNING": 2}.items():
        monkeypatch.setattr(f"mirth.inference.methods.mile.{name}", value)
    options = {"n_samples": 3, "start": "prior"}
    posterior = run(n_warmup=None, n_thinning=None, step_size_init=None, **options)
    num_params = sum(leaf[0].size for leaf in jax.tree.leaves(posterior.start))
    lengths = mirth.MILE().lengths(num_params)
    assert posterior.tuning is not None and lengths.n_warmup > 20
    assert posterior.tuning.num_steps == lengths.n_warmup
    # The same by numbers.
    again = run(**lengths._asdict(), **options)
    jax.tree.map(np.testing.assert_array_equal, posterior.draws, again.draws)
