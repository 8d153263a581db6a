"""When a run ends: automatic budgets, limits of the time, and that both survive a kill."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import numpy as np
import pytest

import mirth
from mirth.inference import Monitor
from mirth.inference.engine.deadline import Deadline
from mirth.inference.run import budget, reviews
from mirth.inference.run.budget import Allowance, FunctionTrace
from mirth.samplers import MILETuner
from tests.inference.test_run_folder import Stop, assert_same

pytestmark = pytest.mark.usefixtures("unoptimised")


class Heard(Monitor):
    """Keep what is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.reports: list[Any] = []

    def on_note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def on_chunk(self, report: Any) -> None:
        self.reports.append(report)


@pytest.fixture
def early(host_patch: pytest.MonkeyPatch) -> None:
    """Rounds short enough for short runs."""
    host_patch.setattr(reviews, "FIRST_STEPS", 8)
    host_patch.setattr(reviews, "FIRST_DRAWS", 4)
    host_patch.setattr("mirth.inference.run.stages.FIRST_STEPS", 8)
    host_patch.setattr("mirth.inference.run.stages.FIRST_DRAWS", 4)


def test_reviews_do_not_depend_on_where_one_stands() -> None:
    lengths = [n for n in range(1, 2000) if budget.is_review(n, 25)]
    assert lengths == [25, 50, 100, 200, 400, 800, 1600]
    assert all(budget.next_review(n - 1, 25) == n for n in lengths)


def test_a_trace_is_thinned_in_the_same_way_whatever_the_pieces() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3000, 5))
    whole, pieces = FunctionTrace(), FunctionTrace()
    whole.append(values)
    for begin, end in itertools.pairwise([0, 1, 700, 701, 1500, 3000]):
        pieces.append(values[:, begin:end])
        restored = FunctionTrace(pieces.values, pieces.stride, pieces.count)
        assert restored.num_effective() == pieces.num_effective() or end < 4
    assert pieces.stride == whole.stride == 8 and pieces.count == 3000
    np.testing.assert_array_equal(pieces.values, whole.values)
    np.testing.assert_array_equal(pieces.values, values[:, ::8])


def test_effective_draws_of_a_trace() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 500, 8))
    slow = np.zeros_like(noise)
    for t in range(1, 500):  # an AR(1) process with 0.9 has an effective size of n / 19
        slow[:, t] = 0.9 * slow[:, t - 1] + noise[:, t]
    independent, correlated, frozen = FunctionTrace(), FunctionTrace(), FunctionTrace()
    independent.append(noise)
    correlated.append(slow)
    frozen.append(np.ones((2, 500, 8)))
    # Medians over 8 rows of estimates that scatter by about a quarter each.
    assert 700 < independent.num_effective() < 1300
    assert 0.6 < correlated.num_effective() / (1000 / 19) < 1.7
    assert frozen.num_effective() == 0.0
    assert independent.num_effective([0]) < 0.7 * independent.num_effective()


def test_an_automatic_budget_ends_early(run: Any, early: None) -> None:
    heard = Heard()
    options: dict[str, Any] = {"budget": "auto", "n_warmup": 400, "n_samples": 100}
    posterior = run(**options, min_gain=1e3, min_effective=0, monitors=[heard])
    # The first gain is known after 16 steps, the second after 32; then the phases in proportion.
    assert posterior.tuning.num_steps == 40
    assert posterior.num_draws == 8 and posterior.num_sampling_steps == 8
    assert posterior.num_gradients == 2 * 48
    assert len(heard.notes) == 2 and posterior.notes == tuple(heard.notes)
    assert heard.notes[0].startswith("The warm-up ended after 40 of 400 steps")
    assert heard.notes[1].startswith("Sampling ended after 8 of 100 draws")


def test_an_automatic_budget_goes_on_while_it_pays(run: Any, early: None) -> None:
    options: dict[str, Any] = {"budget": "auto", "n_warmup": 50, "n_samples": 20}
    whole = run(**options, min_gain=0, min_effective=1e9)
    assert whole.num_draws == 20
    cut = run(**options, min_gain=1e3, min_effective=1e9)  # too few effective draws
    assert cut.num_draws == 20 and cut.tuning.num_steps == 40


def test_an_automatic_budget_is_judged_by_rows_that_the_chains_do_not_see(run: Any) -> None:
    with pytest.raises(ValueError, match="judged by the validation rows"):
        mirth.MILE(budget="auto", use_validation_rows=True)
    unseen = run(use_validation_rows=False)
    auto = run(budget="auto")
    # No round ends in so short a run: the budget changes nothing but the rows.
    np.testing.assert_array_equal(unseen.positions(), auto.positions())
    assert (run().positions() != auto.positions()).any()


@pytest.mark.parametrize("chunk_steps", [3, 7, pytest.param(None, marks=pytest.mark.slow)])
def test_decisions_do_not_depend_on_chunks(run: Any, early: None, chunk_steps: int | None) -> None:
    options: dict[str, Any] = {"budget": "auto", "n_warmup": 400, "n_samples": 100}
    options |= {"min_gain": 1e3, "min_effective": 0}
    assert_same(run(**options, chunk_steps=chunk_steps), run(**options))


@pytest.mark.parametrize(("phase", "count"), [("step size", 3), ("sampling", 2)])
def test_an_automatic_run_goes_on_after_a_stop(
    run: Any, early: None, tmp_path: Any, phase: str, count: int
) -> None:
    options: dict[str, Any] = {"budget": "auto", "n_warmup": 400, "n_samples": 100}
    options |= {"min_gain": 1e3, "min_effective": 0, "chunk_steps": 3}
    base = run(**options)
    with pytest.raises(mirth.RunInterrupted):
        run(**options, out=tmp_path, monitors=[Stop(phase, count, signal.SIGTERM)])
    assert_same(run(**options, out=tmp_path), base)
    again = run(**options, out=tmp_path)  # what has ended stays ended
    assert_same(again, base)
    assert again.notes == base.notes


def test_a_longer_limit_goes_on_from_an_early_end(run: Any, early: None, tmp_path: Any) -> None:
    options: dict[str, Any] = {"budget": "auto", "n_warmup": 50, "min_gain": 1e3}
    options |= {"min_effective": 0, "out": tmp_path}
    assert run(**options, n_samples=20).num_draws == 8
    assert run(**options, n_samples=30).num_draws == 16


class Clock:
    """A clock that every look moves on."""

    def __init__(self, seconds: float):
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


@pytest.fixture
def clock(host_patch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(0.0)
    defaults = (None, clock)
    host_patch.setattr(Deadline.__init__, "__defaults__", defaults)
    return clock


@pytest.mark.parametrize("seconds", [0.0, 0.05, pytest.param(0.5, marks=pytest.mark.slow), 20.0])
def test_a_limit_of_time_gives_valid_results(run: Any, clock: Clock, seconds: float) -> None:
    clock.seconds = seconds
    posterior = run(n_warmup=600, n_samples=100, chunk_steps=10, max_time=10)
    # Late by a chunk of each part at most, and a chunk looks at the clock a few times.
    assert clock.now <= 10 + 18 * seconds
    full = run(n_warmup=600, n_samples=100, chunk_steps=10)
    if not seconds:
        assert_same(posterior, full)
        assert posterior.notes == ()
        return
    assert 1 <= posterior.num_draws <= 100
    assert posterior.tuning.num_steps < 600
    assert len(posterior.positions()) == 2 and np.isfinite(posterior.positions()).all()
    assert np.isfinite(posterior.lppd_chain).all()
    assert posterior.notes[0] == f"The warm-up had {posterior.tuning.num_steps} of 600 steps."
    if posterior.num_draws < 100:
        assert posterior.notes[1] == f"Sampling had time for {posterior.num_draws} of 100 draws."


def test_the_phases_share_the_time_that_is_left() -> None:
    times = iter([0.0, 40.0])
    deadline = Deadline(100.0, clock=lambda: next(times))
    allowance = Allowance(MILETuner(num_steps=10_000), 2_000, deadline)
    # 60 s are left, a step takes 0.01 s, 400 are done: nine tenths of 6400 of the 12 000 steps.
    assert allowance.steps(400, 0.01) == [3840, 480, 480]
    assert allowance.tuning_share() == pytest.approx(1 - 0.5 * 2 / 12)


def test_the_time_of_earlier_processes_counts(run: Any, tmp_path: Any, clock: Clock) -> None:
    clock.seconds = 0.1
    options: dict[str, Any] = {"n_warmup": 10, "n_samples": 1000, "chunk_steps": 10}
    with pytest.raises(mirth.RunInterrupted):
        run(**options, out=tmp_path, max_time=10, monitors=[Stop("sampling", 3)])
    used = clock.now
    posterior = run(**options, out=tmp_path, max_time=10)
    assert 30 <= posterior.num_draws < 1000
    assert clock.now < 10 + 1 and used > 1
    # No time is left, so the same call reads what there is; with more it goes on.
    assert_same(run(**options, out=tmp_path, max_time=10), posterior)
    more = run(**options, out=tmp_path, max_time=20)
    assert more.num_draws > posterior.num_draws
    draws = posterior.num_draws
    np.testing.assert_array_equal(more.positions()[:, :draws], posterior.positions())


def test_a_limit_ends_the_warm_start(run: Any, clock: Clock) -> None:
    clock.seconds = 3.0
    heard = Heard()
    start = mirth.DeepEnsemble(max_epochs=500, patience=500, batch_size=8)
    posterior = run(start=start, max_time=10, monitors=[heard])
    assert posterior.warm_start.epochs.max() < 500
    assert heard.notes[0].startswith("The warm start ended after")


@pytest.mark.parametrize("value", ["soon", 0, -1.0, "0s", float("nan"), [1]])
def test_wrong_limits(run: Any, value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="max_time="):
        run(max_time=value)


@pytest.mark.parametrize("monitors", [Monitor(), ["tensorboard"]])
def test_wrong_monitors(run: Any, monitors: Any) -> None:
    with pytest.raises(TypeError, match="list of mirth.Monitor"):
        run(monitors=monitors)
