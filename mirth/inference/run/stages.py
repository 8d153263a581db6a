"""The stages of a run of chains: the phases of the tuning, then sampling.

Between two chunks of any stage the whole state can be kept as a snapshot and taken up by another
process. The draws are the same, because a step is a function of its key, its state and the data,
and what is decided on the way is decided after fixed numbers of steps (:mod:`.budget`).
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mirth.core.keys import Purpose
from mirth.core.snapshots import Snapshot, tree_from_arrays, tree_to_arrays
from mirth.inference.chains.chains import Chain, Chains, pooled
from mirth.inference.engine.loop import ChunkReport, Stretch
from mirth.inference.monitors.monitor import ChainsReport
from mirth.inference.posterior import Posterior
from mirth.inference.reports import TuningReport, WarmStartReport
from mirth.inference.run.budget import FIRST_DRAWS, FIRST_STEPS, FunctionTrace, next_review
from mirth.inference.run.reviews import SAMPLING, Reviews, RunRecord
from mirth.inference.store.draws import DrawStore, MemoryDraws

STAGE = "chains"
_SECONDS_BETWEEN_ESTIMATES = 2.0  # of the effective sample size: one takes some milliseconds
_MAX_WATCHING = 0.05  # share of the time of a warm-up that goes into the LPPD that is shown


class ChainRun:
    """Tune and sample the chains of an ensemble, from the beginning or from a snapshot.

    Parameters
    ----------
    chains : Chains
        The programs of the chains.
    warm_start : WarmStartReport
        What the optimisation did; part of the result.
    """

    def __init__(self, chains: Chains, warm_start: WarmStartReport):
        self.chains, self.warm_start = chains, warm_start
        self.problem, self.recipe = chains.problem, chains.recipe
        self.record = RunRecord.new(chains)
        self.trace = FunctionTrace()
        self.positions = chains.flat
        self._effective, self._estimated_at = np.nan, -np.inf
        self._lppd_now, self._watches_at = np.nan, -np.inf

    def run(self) -> Posterior:
        """Tune, sample, and put the result together."""
        state, tail = self._take_up()
        self.reviews = Reviews(self.chains, self.record, self.positions)
        while self.record.phase < len(self.record.steps):
            state = self._tune(state, tail)
            tail = {}
        state, kept = self._sample(state, tail)
        return self._posterior(state, kept)

    def _take_up(self) -> tuple[Chain, dict[str, np.ndarray]]:
        """Give the chains at their start, or as a snapshot has them with its unwritten draws."""
        snapshot = self.problem.recorder.restore()
        if snapshot is None or snapshot.record["stage"] != STAGE:
            return self.chains.init(), {}
        self.record = RunRecord.from_json(snapshot.record["run"])
        self.problem.deadline.go_on_from(snapshot.record["elapsed"])
        self.trace = FunctionTrace(snapshot.arrays.get("trace"), **snapshot.record["trace"])
        self.positions = snapshot.arrays["positions"]
        state = tree_from_arrays(self.chains.like(), snapshot.arrays, "chain")
        tail = {
            name.removeprefix("kept."): array
            for name, array in snapshot.arrays.items()
            if name.startswith("kept.")
        }
        return self.problem.placement.put_chains(state), tail

    def _offer(self, state: Chain, draws: MemoryDraws | DrawStore, *, is_due: bool = False) -> None:
        """Offer the present state to the recorder."""

        def make() -> Snapshot:
            draws.flush()
            num = self.problem.num_chains
            own = jax.tree.map(lambda leaf: np.asarray(leaf)[:num], state)
            arrays = tree_to_arrays(own, "chain") | tree_to_arrays(self.chains.start, "start")
            arrays |= {f"kept.{name}": array for name, array in draws.tail().items()}
            arrays |= self.warm_start.to_arrays()
            arrays["positions"] = self.reviews.positions
            if self.trace.values is not None:
                arrays["trace"] = self.trace.values
            record = {
                "stage": STAGE,
                "warm_start": self.warm_start.to_record(),
                "run": dataclasses.asdict(self.record),
                "trace": {"stride": self.trace.stride, "count": self.trace.count},
                "elapsed": self.problem.deadline.elapsed,
            }
            return Snapshot(record, arrays)

        self.problem.recorder.offer(make, is_due=is_due)

    def _tune(self, state: Chain, tail: dict[str, np.ndarray]) -> Chain:
        """Run one phase of the tuning, or the rest of it."""
        chains, record, reviews = self.chains, self.record, self.reviews
        index, draws = record.phase, MemoryDraws()
        if tail:
            draws.append(tail)
        # Draws are kept for the third phase; those of the others only sum up the validation rows.
        phase = reviews.phase()
        trajectory, sums_up = phase.thin, reviews.sums_up
        unit = trajectory or (self.recipe.n_thinning if sums_up else 1)
        clock = _Clock(record, "tuning")

        def on_chunk(report: ChunkReport) -> bool:
            record.done = report.step // unit
            reviews.hear(report)
            record.energy_variance = (
                np.asarray(report.stats.squared_energy_change) / chains.num_params
            ).tolist()
            clock.note()
            self._tell(report, self._watch(report.carry))
            self._offer(report.carry, draws)
            return reviews.is_late()

        loop = chains.fixed_loop() if trajectory else chains.main_loop
        while True:
            state = reviews.tuning(state, unit)
            end = record.steps[index] // unit
            if record.is_phase_over or record.done >= end:
                break
            stop = min(end, next_review(record.done, max(1, FIRST_STEPS // unit)))
            flags = (not trajectory, phase.measures_spread, reviews.horizon())
            is_tuning, spread, horizon = self.problem.placement.put_shared(
                jax.tree.map(jnp.array, flags)
            )
            stretch = Stretch(
                phase.name,
                num_steps=stop * unit,
                total_steps=end * unit,
                first_step=sum(record.steps[:index]),
                thin=unit,
                done=record.done,
                keep=bool(trajectory) or sums_up,
            )
            state, _ = loop.run(
                stretch,
                state,
                chains.keys(Purpose.TUNING),
                chains.shared._replace(
                    is_tuning=is_tuning, measures_spread=spread, horizon=horizon
                ),
                sink=draws.append if trajectory else lambda _: None,
                on_chunk=on_chunk,
                feed=chains.feed(Purpose.TUNING),
            )
        kept = draws.finish() if trajectory and record.done else None
        state = chains.end_phase(state, phase, kept)
        reviews.end_phase(unit)
        clock.note()
        return state

    def _sample(self, state: Chain, tail: dict[str, np.ndarray]) -> tuple[Chain, dict[str, Any]]:
        """Sample with fixed settings; gives the draws by name."""
        chains, record, reviews = self.chains, self.record, self.reviews
        unit, most = self.recipe.n_thinning, self.recipe.n_samples
        num_tail = next(iter(tail.values())).shape[1] if tail else 0
        draws = self.problem.recorder.draws(most, tail, record.done - num_tail)
        clock = _Clock(record, "sampling")
        if not record.done:
            state = reviews.begin_sampling(state)

        def sink(piece: dict[str, np.ndarray]) -> None:
            self.trace.append(piece.pop("log_prob"))
            draws.append(chains.named(piece))

        def on_chunk(report: ChunkReport) -> bool:
            record.done = report.step // unit
            reviews.hear(report)
            clock.note()
            lppd = pooled(self._log_prob(report.carry)[record.health.kept()])
            is_over = report.step >= report.num_steps
            if is_over or time.monotonic() - self._estimated_at >= _SECONDS_BETWEEN_ESTIMATES:
                self._effective = self.trace.num_effective(record.health.kept())
                self._estimated_at = time.monotonic()
            self._tell(report, lppd, self._effective)
            self._offer(report.carry, draws)
            return self.problem.deadline.has_passed()

        while True:
            state = reviews.sampling(state, self._log_prob(state), self.trace)
            if record.done >= most or record.ended_at == most:
                break
            if record.done and self.problem.deadline.has_passed():
                reviews.note_deadline()
                break
            most_now = min(most, next_review(record.done, FIRST_DRAWS))
            stretch = Stretch(SAMPLING, most_now * unit, most * unit, thin=unit, done=record.done)
            state, _ = chains.main_loop.run(
                stretch,
                state,
                chains.keys(Purpose.SAMPLING),
                chains.shared,
                sink=sink,
                on_chunk=on_chunk,
                feed=chains.feed(Purpose.SAMPLING),
            )
        clock.note()
        # Before the tail goes to the store: a longer run takes the chains up from here.
        self._offer(state, draws, is_due=True)
        return state, draws.finish()

    def _watch(self, state: Chain) -> float:
        """Give the LPPD of the present positions, or the last one where it would take too long."""
        began = time.monotonic()
        if began >= self._watches_at:
            has_compiled = not np.isnan(self._lppd_now)
            self._lppd_now = pooled(self.chains.log_prob_now(state)[self.record.health.kept()])
            ended = time.monotonic()
            if has_compiled:
                self._watches_at = ended + (ended - began) / _MAX_WATCHING
        return self._lppd_now

    def _tell(self, report: ChunkReport, lppd: float, num_effective: float = np.nan) -> None:
        """Tell the monitors of a chunk."""
        L, record = self.chains.tuned(report.carry).L, self.record
        said = ChainsReport.of(
            report,
            lppd,
            L,
            num_effective,
            sampling_seconds=record.seconds["sampling"],
            first_step=sum(record.steps[: record.phase]),
            seconds=self.problem.deadline.elapsed,
            verdicts=record.health.said(),
        )
        self.problem.monitor.on_chunk(said)

    def _log_prob(self, state: Chain) -> np.ndarray:
        """Log of each chain's average probability of each validation row, over its draws so far."""
        log_sum = np.asarray(state.log_sum, dtype=np.float64)[: self.problem.num_chains]
        return log_sum - np.log(max(1, self.record.done))

    def _posterior(self, state: Chain, kept: dict[str, Any]) -> Posterior:
        """Put the result together."""
        chains, problem, record = self.chains, self.problem, self.record
        num = problem.num_chains
        scores = self.reviews.scores(self._log_prob(state), self.trace)
        tuned = chains.tuned(state)
        tuning = TuningReport(
            step_size=tuned.step_size,
            L=tuned.L,
            num_divergent=np.asarray(record.num_divergent),
            energy_variance=np.asarray(record.energy_variance),
            num_steps=sum(record.steps),
            seconds=record.seconds["tuning"],
            L_from=tuned.L_from,
            ess_parameters=tuned.ess_parameters,
            ess_function=tuned.ess_function,
        )
        diverging = np.asarray(kept["diverging"]).astype(np.int32)
        num_steps = record.done * self.recipe.n_thinning
        statistic = chains.source.rows.statistic
        posterior = Posterior(
            model=problem.model,
            draws=chains.draws_tree(kept),
            sample_stats={
                statistic: np.asarray(kept[statistic]),
                "energy_change": np.asarray(kept["energy_change"]),
                "diverging": diverging,
                "step_size": np.broadcast_to(tuning.step_size[:, None], diverging.shape),
            },
            start=chains.start,
            warm_start=self.warm_start,
            tuning=tuning,
            lppd_start=scores.lppd_start,
            lppd_chain=scores.lppd_chain,
            lppd_se=scores.standard_error,
            scores=scores,
            num_sampling_steps=num_steps,
            num_gradients=chains.adaptation.gradients_per_step * (tuning.num_steps + num_steps),
            seconds={"warm_start": self.warm_start.seconds, **record.seconds},
            members=problem.first_chain + np.arange(num),
            notes=tuple(record.notes),
        )
        if record.health.dropped:
            posterior = posterior.take_chains(record.health.kept())
        problem.monitor.on_end(posterior.lppd_chain)
        return posterior


class _Clock:
    """Adds the time of this process to the time of a part of the run."""

    def __init__(self, record: RunRecord, part: str):
        self._record, self._part = record, part
        self._before, self._began = record.seconds[part], time.perf_counter()

    def note(self) -> None:
        self._record.seconds[self._part] = self._before + time.perf_counter() - self._began
