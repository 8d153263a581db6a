"""The stages of a run of chains: the phases of the tuning, then sampling.

Between two chunks of any stage the whole state can be kept as a snapshot and taken up by another
process. The draws are the same, because a step is a function of its key, its state and the data.
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
from mirth.inference.chains import Chain, EnsembleChains
from mirth.inference.draws import DrawStore, MemoryDraws
from mirth.inference.loop import ChunkReport
from mirth.inference.posterior import Posterior, TuningReport
from mirth.inference.warm_start import WarmStartReport
from mirth.samplers import gradients_per_step

STAGE = "chains"


@dataclasses.dataclass
class Progress:
    """How far a run of chains has come.

    Parameters
    ----------
    phase : int
        Phases of the tuning that are over; all of them while sampling.
    done : int
        Kept states (steps, where nothing is kept) of the present phase.
    num_divergent, energy_variance : list
        Of each chain: reverted steps of the tuning, Delta E^2 per dimension in its last chunk.
    seconds : dict
        Time spent on ``tuning`` and ``sampling``, by all processes together.
    """

    phase: int
    done: int
    num_divergent: list[int]
    energy_variance: list[float]
    seconds: dict[str, float]


class ChainRun:
    """Tune and sample the chains of an ensemble, from the beginning or from a snapshot.

    Parameters
    ----------
    chains : EnsembleChains
        The programs of the chains.
    warm_start : WarmStartReport
        What the optimisation did; part of the result.
    """

    def __init__(self, chains: EnsembleChains, warm_start: WarmStartReport):
        self.chains, self.warm_start = chains, warm_start
        self.problem = chains.problem
        self.phases = chains.tuner.phases()
        num = self.problem.num_chains
        self.progress = Progress(0, 0, [0] * num, [np.nan] * num, {"tuning": 0.0, "sampling": 0.0})

    def run(self) -> Posterior:
        """Tune, sample, and put the result together."""
        state, tail = self._take_up()
        for phase in range(self.progress.phase, len(self.phases)):
            state = self._tune(state, phase, tail)
            tail = {}
        state, kept = self._sample(state, tail)
        return self._posterior(state, kept)

    def _take_up(self) -> tuple[Chain, dict[str, np.ndarray]]:
        """Give the chains at their start, or as a snapshot has them with its unwritten draws."""
        snapshot = self.problem.recorder.restore()
        if snapshot is None or snapshot.record["stage"] != STAGE:
            return self.chains.init(), {}
        self.progress = Progress(**snapshot.record["progress"])
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
            record = {
                "stage": STAGE,
                "warm_start": self.warm_start.to_record(),
                "progress": dataclasses.asdict(self.progress),
            }
            return Snapshot(record, arrays)

        self.problem.recorder.offer(make, is_due=is_due)

    def _tune(self, state: Chain, index: int, tail: dict[str, np.ndarray]) -> Chain:
        """Run one phase of the tuning, or the rest of it."""
        chains, progress, problem = self.chains, self.progress, self.problem
        phase, draws = self.phases[index], MemoryDraws()
        if tail:
            draws.append(tail)
        began, before = time.perf_counter(), progress.seconds["tuning"]
        divergent = np.asarray(progress.num_divergent)

        def on_chunk(report: ChunkReport) -> None:
            nonlocal divergent
            divergent = divergent + report.stats.num_divergent
            progress.phase, progress.done = index, report.step // max(1, phase.thin)
            progress.num_divergent = divergent.tolist()
            energy = np.asarray(report.stats.squared_energy_change) / chains.num_params
            progress.energy_variance = energy.tolist()
            progress.seconds["tuning"] = before + time.perf_counter() - began
            lppd = chains.pooled_lppd_now(report.carry)
            problem.monitor.on_chunk(report, lppd)
            problem.recorder.on_chunk(report, lppd)
            self._offer(report.carry, draws)

        flags = (jnp.array(not phase.thin), jnp.array(phase.measures_spread))
        is_tuning, measures_spread = problem.placement.put_shared(flags)
        loop = chains.fixed_loop() if phase.thin else chains.main_loop
        state, _ = loop.run(
            phase.name,
            state,
            chains.keys(Purpose.TUNING),
            chains.shared._replace(is_tuning=is_tuning, measures_spread=measures_spread),
            num_steps=phase.num_steps,
            first_step=sum(p.num_steps for p in self.phases[:index]),
            thin=max(1, phase.thin),
            done=progress.done,
            keep=phase.thin > 0,
            sink=draws.append,
            on_chunk=on_chunk,
        )
        state = chains.end_phase(state, phase, draws.finish() if phase.thin else None)
        progress.phase, progress.done = index + 1, 0
        progress.seconds["tuning"] = before + time.perf_counter() - began
        return state

    def _sample(self, state: Chain, tail: dict[str, np.ndarray]) -> tuple[Chain, dict[str, Any]]:
        """Sample with fixed settings; gives the draws by name."""
        chains, progress, problem = self.chains, self.progress, self.problem
        settings = chains.settings
        num_tail = next(iter(tail.values())).shape[1] if tail else 0
        draws = problem.recorder.draws(settings.n_samples, tail, progress.done - num_tail)
        began, before = time.perf_counter(), progress.seconds["sampling"]
        if not progress.done:
            state = state._replace(
                divergent=jnp.zeros_like(state.divergent),
                log_sum=jnp.full_like(state.log_sum, -jnp.inf),
            )

        def on_chunk(report: ChunkReport) -> None:
            progress.done = report.step // settings.n_thinning
            progress.seconds["sampling"] = before + time.perf_counter() - began
            log_prob = self._log_prob(report.carry)
            lppd = float(np.mean(np.logaddexp.reduce(log_prob, axis=0) - np.log(len(log_prob))))
            problem.monitor.on_chunk(report, lppd)
            problem.recorder.on_chunk(report, lppd)
            self._offer(report.carry, draws)

        state, _ = chains.main_loop.run(
            "sampling",
            state,
            chains.keys(Purpose.SAMPLING),
            chains.shared,
            num_steps=settings.n_samples * settings.n_thinning,
            thin=settings.n_thinning,
            done=progress.done,
            sink=lambda piece: draws.append(chains.named(piece)),
            on_chunk=on_chunk,
        )
        progress.seconds["sampling"] = before + time.perf_counter() - began
        # Before the tail goes to the store: a longer run takes the chains up from here.
        self._offer(state, draws, is_due=True)
        return state, draws.finish()

    def _log_prob(self, state: Chain) -> np.ndarray:
        """Log of each chain's average probability of each validation row, over its draws so far."""
        log_sum = np.asarray(state.log_sum, dtype=np.float64)[: self.problem.num_chains]
        return log_sum - np.log(max(1, self.progress.done))

    def _posterior(self, state: Chain, kept: dict[str, Any]) -> Posterior:
        """Put the result together."""
        chains, problem, progress = self.chains, self.problem, self.progress
        settings, num = chains.settings, problem.num_chains
        log_prob, start = self._log_prob(state), chains.log_prob_of_start()
        gain = log_prob - start
        problem.monitor.on_end(log_prob.mean(axis=1))
        sampler = state.tuner.sampler
        tuning = TuningReport(
            step_size=np.asarray(sampler.step_size)[:num],
            L=np.asarray(sampler.L)[:num],
            num_divergent=np.asarray(progress.num_divergent),
            energy_variance=np.asarray(progress.energy_variance),
            num_steps=sum(phase.num_steps for phase in self.phases),
            seconds=progress.seconds["tuning"],
        )
        diverging = np.asarray(kept["diverging"]).astype(np.int32)
        num_steps = settings.n_samples * settings.n_thinning
        num_gradients = gradients_per_step(settings.integrator) * (tuning.num_steps + num_steps)
        return Posterior(
            model=problem.model,
            draws=chains.draws_tree(kept),
            sample_stats={
                "logdensity": np.asarray(kept["logdensity"]),
                "energy_change": np.asarray(kept["energy_change"]),
                "diverging": diverging,
                "step_size": np.broadcast_to(tuning.step_size[:, None], diverging.shape),
            },
            start=chains.start,
            warm_start=self.warm_start,
            tuning=tuning,
            lppd_start=start.mean(axis=1),
            lppd_chain=log_prob.mean(axis=1),
            lppd_se=gain.std(axis=1) / np.sqrt(gain.shape[1]),
            num_sampling_steps=num_steps,
            num_gradients=num_gradients,
            seconds={"warm_start": self.warm_start.seconds, **progress.seconds},
        )
