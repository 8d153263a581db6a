"""Unhealthy chains are named while they run, and dealt with as asked."""

from __future__ import annotations

import warnings
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
from mirth.inference.engine.programs import PROGRAMS
from mirth.inference.run import reviews, stages
from mirth.inference.run.health import HealthPolicy, HealthRecord
from mirth.results import diagnostics
from mirth.samplers import MCLMC, MILETuner, ThreePhases
from tests.inference.test_budget import Heard
from tests.inference.test_run_folder import Stop, assert_same

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(autouse=True)
def early(host_patch: pytest.MonkeyPatch) -> None:
    """Rounds short enough for short runs."""
    for module in (reviews, stages):
        host_patch.setattr(module, "FIRST_STEPS", 8)
        host_patch.setattr(module, "FIRST_DRAWS", 4)


@pytest.fixture
def sick(host_patch: pytest.MonkeyPatch) -> None:
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

    host_patch.setattr(Chains, "__init__", marked)
    host_patch.setattr(ChainPrograms, "logdensity_fn", walled)
    # Programs of its own, which its tests share.
    context = PROGRAMS._context
    host_patch.setattr(PROGRAMS, "_context", lambda: (context(), "walled"))


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
    run: Any, sick: None, host_patch: pytest.MonkeyPatch
) -> None:
    """The second time its start is a good one: the chain is taken, the others are as before."""
    init = Chains.init

    def cured(self: Any, restarts: Any = None) -> Any:
        if restarts is not None:
            self.flat[1] = self.flat[0]
        return init(self, restarts)

    host_patch.setattr(Chains, "init", cured)
    posterior = run(**OPTIONS | {"n_warmup": 400}, unhealthy_chains="restart")
    assert posterior.num_chains == 3 and len(posterior.notes) == 1
    assert (np.ptp(posterior.positions()[1], axis=0) > 0).all()
    # The others have not noticed, and chain 1 has its own random numbers.
    host_patch.setattr(Chains, "init", init)
    kept = run(**OPTIONS | {"n_warmup": 400})
    for k in (0, 2):
        np.testing.assert_array_equal(posterior.positions()[k], kept.positions()[k])
    assert (posterior.positions()[1] != posterior.positions()[0]).any()


def test_every_restart_of_a_chain_has_keys_of_its_own(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had the number of restarts of whichever chain had most: two of one chain could agree."""
    seen: list[Chains] = []
    init = stages.ChainRun.__init__
    monkeypatch.setattr(
        stages.ChainRun,
        "__init__",
        lambda self, c, report: (seen.append(c), init(self, c, report))[0],
    )
    run(**OPTIONS)
    (chains,) = seen
    chains.flat = np.repeat(chains.flat[:1], 3, axis=0)  # so that only keys tell chains apart

    def follow(*restarted: tuple[int, ...]) -> list[tuple[Any, Any]]:
        """Give momenta and keys of the rows after each review that puts chains back."""
        policy = HealthPolicy("restart", chains, HealthRecord.new(3))
        state, found = chains.init(), []
        for sick in restarted:
            verdicts = [ChainVerdict.FROZEN if k in sick else ChainVerdict.MOVED for k in range(3)]
            state, _ = policy.apply(state, verdicts, "here", can_restart=True)
            found.append((np.asarray(state.kernel.momentum)[:3], np.asarray(state.rows_key)[:3]))
        return found

    steps = follow((0, 1), (0,), (0,), (1,), (1,))
    for part in (0, 1):
        values = [step[part] for step in steps]
        fresh = [values[n][0] for n in (0, 1, 2)] + [values[n][1] for n in (0, 3, 4)]
        assert len(np.unique(fresh, axis=0)) == len(fresh)
        # The first time is the first time, whatever has become of the others.
        np.testing.assert_array_equal(follow((0,), (0,), (1,))[2][part][1], values[0][1])


@pytest.mark.parametrize("policy", ["drop", "restart"])
@pytest.mark.parametrize("phase", ["step size", "sampling"])
def test_what_was_done_survives_a_stop(
    run: Any, sick: None, tmp_path: Any, policy: str, phase: str
) -> None:
    options = OPTIONS | {"n_warmup": 400, "unhealthy_chains": policy, "chunk_steps": 5}
    base = run(**options)
    with pytest.raises(mirth.RunInterrupted):
        run(**options, out=tmp_path, monitors=[Stop(phase, 2)])
    again = run(**options, out=tmp_path)
    assert again.notes == base.notes and again.members.tolist() == base.members.tolist()
    assert_same(again, base)


def test_a_run_without_a_healthy_chain_ends(run: Any, host_patch: pytest.MonkeyPatch) -> None:
    def all_frozen(distance: Any, *_: Any, **__: Any) -> Any:
        return [ChainVerdict.FROZEN] * len(distance)

    host_patch.setattr(reviews, "judge_chains", all_frozen)
    with pytest.raises(SamplingError, match="No chain is left"):
        run(**OPTIONS, unhealthy_chains="drop")


def reviewed(run: Any, host_patch: pytest.MonkeyPatch, **options: Any) -> list[dict[str, Any]]:
    """Run, and give the facts and verdicts of every review."""
    seen: list[dict[str, Any]] = []
    judge = reviews.judge_chains

    def hear(distance: Any, rate: Any, **facts: Any) -> Any:
        verdicts = judge(distance, rate, **facts)
        seen.append(facts | {"distance": distance, "rate": rate, "verdicts": verdicts})
        return verdicts

    host_patch.setattr(reviews, "judge_chains", hear)
    run(**options)
    return seen


def test_what_the_reviews_judge_by(run: Any, sick: None, host_patch: pytest.MonkeyPatch) -> None:
    host_patch.setattr(reviews, "_MIN_DRAWS_TO_COMPARE", 8)
    seen = reviewed(run, host_patch, **OPTIONS)
    base = {"distance", "rate", "verdicts"}
    predictions = {"lppd_chain", "lppd_start", "lppd_standard_error"}
    tuning = [facts for facts in seen if "is_at_cap" in facts]
    few, enough = seen[len(tuning) :]  # after 4 draws and after 8
    assert tuning and all(facts.keys() == base | {"is_at_cap"} for facts in tuning)
    assert few.keys() == base and enough.keys() == base | predictions
    # Later its steps are so short that its first parameter, by which it fails, is rounded away.
    assert seen[0]["rate"][1] > 0.5 and seen[0]["distance"][1] == 0
    assert seen[0]["verdicts"][1] is ChainVerdict.FROZEN
    for facts in seen:
        assert (facts["rate"][[0, 2]] == 0).all() and (facts["distance"][[0, 2]] > 0).all()


def test_the_last_review_and_the_final_judgement_see_the_same(
    run: Any, host_patch: pytest.MonkeyPatch
) -> None:
    """One review, after all draws: its facts are those of the posterior."""
    host_patch.setattr(reviews, "_MIN_DRAWS_TO_COMPARE", 8)
    host_patch.setattr(reviews, "FIRST_DRAWS", 8)
    host_patch.setattr(stages, "FIRST_DRAWS", 8)
    posteriors = []
    options = OPTIONS | {"n_warmup": 0, "n_samples": 8}
    (facts,) = reviewed(lambda **o: posteriors.append(run(**o)), host_patch, **options)
    (posterior,) = posteriors
    np.testing.assert_array_equal(facts["distance"], diagnostics._distance(posterior))
    np.testing.assert_array_equal(facts["rate"], diagnostics.divergence_rate(posterior))
    np.testing.assert_array_equal(facts["lppd_chain"], posterior.lppd_chain)
    np.testing.assert_array_equal(facts["lppd_start"], posterior.lppd_start)
    np.testing.assert_array_equal(facts["lppd_standard_error"], posterior.lppd_se)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mirth.MirthWarning)
        assert facts["verdicts"] == diagnostics.judge(posterior)


def test_a_step_size_is_held_the_second_time(run: Any, host_patch: pytest.MonkeyPatch) -> None:
    """Being at the cap in one review may be the work of a single divergence."""
    tuned = Chains.tuned
    at_cap = {"is_at_cap": np.array([True, False, False])}
    host_patch.setattr(Chains, "tuned", lambda self, c: tuned(self, c)._replace(**at_cap))
    options = OPTIONS | {"unhealthy_chains": "keep"}
    facts = reviewed(run, host_patch, **options)
    seen = [one["is_at_cap"].tolist() for one in facts if "is_at_cap" in one]
    assert seen[0] == [False] * 3 and len(seen) > 1
    assert all(held == [True, False, False] for held in seen[1:])


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
