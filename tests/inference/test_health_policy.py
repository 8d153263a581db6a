"""Unhealthy chains are named while they run, and dealt with as asked."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mirth
from mirth.core.outcomes import ChainVerdict, SamplingError
from mirth.core.stored import StoredArray
from mirth.inference.chains.chains import Chains
from mirth.inference.chains.programs import ChainPrograms
from mirth.inference.run import reviews, stages
from mirth.inference.run.health import Round, judge_round
from mirth.samplers import MCLMC, MILETuner, ThreePhases
from tests.inference.test_budget import Heard
from tests.inference.test_run_folder import Stop, assert_same

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds short enough for short runs."""
    for module in (reviews, stages):
        monkeypatch.setattr(module, "FIRST_STEPS", 8)
        monkeypatch.setattr(module, "FIRST_DRAWS", 4)


@pytest.fixture
def sick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the target of chain 1 flat and infinite beyond its start, so that each step fails.

    Its start is marked by its first parameter, which is beyond what the others reach.
    """
    init = Chains.__init__
    logdensity_fn = ChainPrograms.logdensity_fn

    def marked(self: Any, recipe: Any, problem: Any, params: Any) -> None:
        init(self, recipe, problem, params)
        self.flat = self.flat.copy()
        self.flat[1, 0] = 100.0

    def walled(self: Any, *step: Any) -> Any:
        logdensity = logdensity_fn(self, *step)

        def walled_logdensity(flat: Any) -> Any:
            is_sick = flat[0] > 50
            is_away = flat[0] != 100.0
            return jnp.where(is_sick & is_away, jnp.nan, logdensity(flat))

        return walled_logdensity

    monkeypatch.setattr(Chains, "__init__", marked)
    monkeypatch.setattr(ChainPrograms, "logdensity_fn", walled)


OPTIONS: dict[str, Any] = {"num_chains": 3, "n_warmup": 40, "n_samples": 10}


def test_an_unhealthy_chain_is_named_once(run: Any, sick: None) -> None:
    heard = Heard()
    posterior = run(**OPTIONS, monitors=[heard])
    assert heard.notes[0] == (
        "After 8 steps of the phase 'step size': Of 3 chains (numbered from 0), chain 1 did not "
        "move."
    )
    assert len(heard.notes) == 1 and posterior.notes == tuple(heard.notes)
    assert posterior.num_chains == 3


def test_a_chain_is_dropped(run: Any, sick: None, tmp_path: Any) -> None:
    kept, dropped = run(**OPTIONS), run(**OPTIONS, unhealthy_chains="drop")
    assert dropped.num_chains == 2 and dropped.members.tolist() == [0, 2]
    assert dropped.notes[0].endswith("chain 1 did not move. Left out from now on: 1.")
    assert_same(dropped, kept.take_chains([0, 2]))
    stored = run(**OPTIONS, unhealthy_chains="drop", out=tmp_path)
    assert all(isinstance(leaf, StoredArray) for leaf in jax.tree.leaves(stored.draws))
    assert_same(stored, dropped)
    x = np.zeros((3, 1))
    one, two = (mirth.make_predictive(p.model, p.draws, x) for p in (stored, dropped))
    np.testing.assert_array_equal(one.mean(), two.mean())


def test_a_run_is_stopped_and_goes_on_under_another_policy(
    run: Any, sick: None, tmp_path: Any
) -> None:
    with pytest.raises(SamplingError, match=r"chain 1 did not move\. With a run directory"):
        run(**OPTIONS, unhealthy_chains="stop", out=tmp_path)
    dropped = run(**OPTIONS, unhealthy_chains="drop", out=tmp_path)
    assert dropped.members.tolist() == [0, 2]


def test_a_chain_begins_anew_three_times_and_is_dropped(run: Any, sick: None) -> None:
    posterior = run(**OPTIONS | {"n_warmup": 400}, unhealthy_chains="restart")
    assert [note.rpartition(". ")[2] for note in posterior.notes] == [
        "Put back to the start: 1.",
        "Put back to the start: 1.",
        "Put back to the start: 1.",
        "Left out from now on: 1.",
    ]
    assert posterior.members.tolist() == [0, 2]


def test_a_chain_that_begins_anew_recovers(
    run: Any, sick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time its start is a good one: the chain is taken, the others are as before."""
    init = Chains.init

    def cured(self: Any, purpose: Any = None, number: int = 0) -> Any:
        if number:
            self.flat[1] = self.flat[0]
            return init(self, purpose, number)
        return init(self)

    monkeypatch.setattr(Chains, "init", cured)
    posterior = run(**OPTIONS | {"n_warmup": 100}, unhealthy_chains="restart")
    assert posterior.num_chains == 3 and len(posterior.notes) == 1
    assert (np.ptp(posterior.positions()[1], axis=0) > 0).all()
    # The others have not noticed, and chain 1 has its own random numbers.
    monkeypatch.setattr(Chains, "init", init)
    kept = run(**OPTIONS | {"n_warmup": 100})
    for k in (0, 2):
        np.testing.assert_array_equal(posterior.positions()[k], kept.positions()[k])
    assert (posterior.positions()[1] != posterior.positions()[0]).any()


@pytest.mark.parametrize("policy", ["drop", "restart"])
@pytest.mark.parametrize("phase", ["step size", "sampling"])
def test_what_was_done_survives_a_stop(
    run: Any, sick: None, tmp_path: Any, policy: str, phase: str
) -> None:
    options = OPTIONS | {"n_warmup": 100, "unhealthy_chains": policy, "chunk_steps": 5}
    base = run(**options)
    with pytest.raises(mirth.RunInterrupted):
        run(**options, out=tmp_path, monitors=[Stop(phase, 2)])
    again = run(**options, out=tmp_path)
    assert again.notes == base.notes and again.members.tolist() == base.members.tolist()
    assert_same(again, base)


def test_a_run_without_a_healthy_chain_ends(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_frozen(this: Round, *_: Any) -> Any:
        return [ChainVerdict.FROZEN] * len(this.divergent)

    monkeypatch.setattr(reviews, "judge_round", all_frozen)
    with pytest.raises(SamplingError, match="No chain is left"):
        run(**OPTIONS, unhealthy_chains="drop")


GOOD = np.zeros((1, 50))


@pytest.mark.parametrize(
    ("moved", "divergent", "is_held", "gain", "expected"),
    [
        (1.0, 0, False, None, "MOVED"),
        (1e-7, 0, False, None, "FROZEN"),
        (1.0, 5, False, None, "MOVED"),
        (1.0, 6, False, None, "DIVERGING"),
        (1.0, 1, True, None, "AT_CAP"),
        (1.0, 1, True, GOOD, "MOVED"),  # while sampling the step size is fixed
        (1.0, 0, False, GOOD - 0.04, "MOVED"),
        (1.0, 0, False, GOOD - 0.06, "WORSE_THAN_START"),
        (1.0, 0, False, GOOD + np.nan, "WORSE_THAN_START"),
        (1.0, 0, False, GOOD - np.inf, "WORSE_THAN_START"),
        # 0.06 nats less, but rows differ by 1: a standard error of 0.14.
        (1.0, 0, False, GOOD - 0.06 + np.tile([1.0, -1.0], 25), "MOVED"),
    ],
)
def test_the_rules(moved: float, divergent: int, is_held: bool, gain: Any, expected: str) -> None:
    this = Round(100, np.array([divergent]), np.array([[3.0, 4.0]]))
    position = np.array([[3.0 + moved, 4.0]])
    (verdict,) = judge_round(this, position, np.array([is_held]), gain)
    assert verdict.name == expected


def test_a_step_size_is_held_the_second_time(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Being at the cap in one review may be the work of a single divergence."""
    seen: list[list[bool]] = []
    judge = reviews.judge_round

    def hear(this: Round, position: Any, is_held: Any, *rest: Any) -> Any:
        seen.append(is_held.tolist())
        return judge(this, position, is_held, *rest)

    monkeypatch.setattr(reviews, "judge_round", hear)
    tuned = Chains.tuned
    at_cap = {"is_at_cap": np.array([True, False])}
    monkeypatch.setattr(Chains, "tuned", lambda self, c: tuned(self, c)._replace(**at_cap))
    run(num_chains=2, n_warmup=1300, n_samples=2, unhealthy_chains="keep")
    assert seen[0] == [False, False] and len(seen) > 1
    assert all(held == [True, False] for held in seen[1:])


@pytest.mark.parametrize("step_size", [0.0999, 0.09])
def test_at_the_cap(step_size: float) -> None:
    adaptation = ThreePhases.of(MCLMC(step_size, 1.0), MILETuner(100))
    state = adaptation.init(jnp.zeros(2))._replace(cap=jnp.array(0.1))
    assert bool(adaptation.tuned(state).is_at_cap) == (step_size > 0.0999 - 1e-6)


def test_taking_chains(run: Any, tmp_path: Any) -> None:
    posterior = run(num_chains=3)
    some = posterior.take_chains([2, 0])
    np.testing.assert_array_equal(some.positions(), posterior.positions()[[2, 0]])
    for name in ("lppd_start", "lppd_chain", "lppd_se", "members"):
        np.testing.assert_array_equal(getattr(some, name), getattr(posterior, name)[[2, 0]])
    np.testing.assert_array_equal(some.tuning.L, posterior.tuning.L[[2, 0]])
    np.testing.assert_array_equal(some.warm_start.epochs, posterior.warm_start.epochs[[2, 0]])
    assert some.tuning.num_steps == posterior.tuning.num_steps
    assert_same(run(num_chains=3, out=tmp_path).take_chains([2, 0]), some)
    with pytest.raises(IndexError):
        posterior.take_chains([3])
