"""What is looked at between the rounds of a run: the health of the chains, and whether to go on.

A round ends when a phase has 500, 1000, 2000, ... steps, or 25, 50, 100, ... draws behind it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from mirth.core.outcomes import ChainVerdict
from mirth.evaluation import distance_between, judge_chains
from mirth.inference.chains.chains import Chain, Chains, pooled
from mirth.inference.engine.loop import ChunkReport
from mirth.inference.reports import HELD_OUT, ValidationScores
from mirth.inference.run.budget import (
    FIRST_DRAWS,
    FIRST_STEPS,
    Allowance,
    FunctionTrace,
    is_review,
    shortened,
)
from mirth.inference.run.health import HealthPolicy, HealthRecord
from mirth.samplers import Phase

SAMPLING = "sampling"
_MIN_DRAWS_TO_COMPARE = 100
_PATIENCE = 2
_SLICE = 0.02  # of the allowed time, after which the steps that fit are counted anew


@dataclasses.dataclass
class RunRecord:
    """How far a run of chains has come; part of every checkpoint.

    Parameters
    ----------
    phase : int
        Phases of the tuning that are over; all of them while sampling.
    done : int
        Kept states (steps, where nothing is kept) of the present phase.
    steps : list of int
        Steps of the phases of the tuning: done where they are over, else to do.
    is_phase_over : bool
        Whether the present phase of the tuning has been ended early.
    num_divergent, energy_variance : list
        Of each chain: reverted steps of the tuning, Delta E^2 per dimension in its last chunk.
    seconds : dict
        Time spent on ``tuning`` and ``sampling``, by all processes together.
    reviewed : int
        ``done`` of the last review in this phase.
    round_steps, round_divergent : int, list of int
        Steps since the last review, and the reverted ones of each chain.
    lppd, small_gains : float or None, int
        LPPD of the last round, and how many gains in a row were too small.
    ended_at : int
        The ``n_samples`` under which sampling has been ended early; 0 if it has not.
    health : HealthRecord
        Verdicts on chains and what was done.
    notes : list of str
        Sentences for people.
    """

    phase: int
    done: int
    steps: list[int]
    is_phase_over: bool
    num_divergent: list[int]
    energy_variance: list[float]
    seconds: dict[str, float]
    reviewed: int
    round_steps: int
    round_divergent: list[int]
    lppd: float | None
    small_gains: int
    ended_at: int
    health: HealthRecord
    notes: list[str]

    @classmethod
    def new(cls, chains: Chains) -> RunRecord:
        """Begin a run."""
        num = chains.problem.num_chains
        return cls(
            phase=0,
            done=0,
            steps=[phase.num_steps for phase in chains.adaptation.phases()],
            is_phase_over=False,
            num_divergent=[0] * num,
            energy_variance=[np.nan] * num,
            seconds={"tuning": 0.0, "sampling": 0.0},
            reviewed=0,
            round_steps=0,
            round_divergent=[0] * num,
            lppd=None,
            small_gains=0,
            ended_at=0,
            health=HealthRecord.new(num),
            notes=[],
        )

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> RunRecord:
        """Undo :func:`dataclasses.asdict`."""
        return cls(**kept | {"health": HealthRecord(**kept["health"])})


class Reviews:
    """Looks at the chains between rounds, and decides how the run goes on.

    Parameters
    ----------
    chains : Chains
        The programs of the chains.
    record : RunRecord
        How far the run is; changed here.
    positions : array of shape (chains, params)
        Where the chains were at the last review.
    """

    def __init__(self, chains: Chains, record: RunRecord, positions: np.ndarray):
        self.chains, self.record, self.positions = chains, record, positions
        self.recipe, self.problem = chains.recipe, chains.problem
        self.policy = HealthPolicy(self.recipe.unhealthy_chains, chains, record.health)
        steps = self.recipe.n_samples * self.recipe.n_thinning
        self.allowance = Allowance(chains.adaptation, steps, self.problem.deadline)
        self._seconds_per_step = 0.0  # not known before the second chunk: the first one compiles
        self._last_time: float | None = None
        self._call: tuple[str, int] | None = None
        self._last_step = 0
        self._planned_at = 0.0
        self._start: np.ndarray | None = None

    def phase(self) -> Phase:
        """Give the present phase of the tuning with its present length."""
        index, adaptation = self.record.phase, self.chains.adaptation
        phase, num_steps = adaptation.phases()[index], self.record.steps[index]
        thin = max(1, -(-num_steps // adaptation.max_kept)) if phase.thin else 0
        return phase._replace(num_steps=num_steps, thin=thin)

    @property
    def is_in_first_phase(self) -> bool:
        """Whether this is the phase whose length is free: that of the others follows from it."""
        phase = self.phase()
        return self.record.phase == 0 and not phase.thin and not phase.measures_spread

    @property
    def sums_up(self) -> bool:
        """Whether the validation rows are summed up in this phase, to see if it pays."""
        return self.recipe.budget == "auto" and self.is_in_first_phase

    def horizon(self) -> int:
        """Give the step of the warm-up at which the energy target is at its end."""
        total = 0
        for phase, num_steps in zip(
            self.chains.adaptation.phases(), self.record.steps, strict=True
        ):
            if phase.thin:
                break
            total += num_steps
            if phase.measures_spread:
                break
        return total + 1

    def hear(self, report: ChunkReport) -> None:
        """Count the steps of a chunk and its reverted ones, and see how long a step takes."""
        record, divergent = self.record, np.asarray(report.stats.num_divergent)
        call = (report.phase, report.first_step)
        num_steps = report.step - (self._last_step if call == self._call else report.first_step)
        self._call, self._last_step = call, report.step
        now = self.problem.deadline.elapsed
        if self._last_time is not None:
            self._seconds_per_step = (now - self._last_time) / num_steps
        self._last_time = now
        record.round_steps += num_steps
        record.round_divergent = (divergent + record.round_divergent).tolist()
        if report.phase != SAMPLING:
            record.num_divergent = (divergent + record.num_divergent).tolist()

    def is_late(self) -> bool:
        """Whether the steps that fit into the time have to be counted anew."""
        deadline = self.problem.deadline
        if deadline.limit is None:
            return False
        return deadline.elapsed - self._planned_at >= _SLICE * deadline.limit

    def tuning(self, state: Chain, unit: int) -> Chain:
        """Look at the chains of a phase of the tuning, if a round has ended.

        Parameters
        ----------
        state : Chain
            All chains.
        unit : int
            Steps that ``record.done`` counts as one.

        Returns
        -------
        Chain
            All chains, some of them maybe back at their start.
        """
        record, phase = self.record, self.phase()
        if self._is_due(max(1, FIRST_STEPS // unit)):
            # A step size that is at its cap once may just have met a single divergence.
            is_at_cap = self.chains.tuned(state).is_at_cap
            is_held = is_at_cap & np.asarray(record.health.at_cap)
            verdicts = judge_chains(*self._movement(state), is_at_cap=is_held)
            record.health.at_cap = is_at_cap.tolist()
            where = f"After {record.done * unit} steps of the phase {phase.name!r}"
            state = self._apply(state, verdicts, where, can_restart=not phase.thin)
            if self.sums_up:
                self._judge_gain(state, unit)
                state = state._replace(log_sum=jnp.full_like(state.log_sum, -jnp.inf))
            self._begin_round(state)
        if self.problem.deadline.limit is not None:
            self._fit_to_time(unit)
        return state

    def end_phase(self, unit: int) -> None:
        """Go on to the next phase of the tuning."""
        record = self.record
        record.steps[record.phase] = record.done * unit
        record.phase += 1
        record.done = record.reviewed = record.small_gains = 0
        record.is_phase_over, record.lppd = False, None

    def begin_sampling(self, state: Chain) -> Chain:
        """Forget what was summed up in the warm-up."""
        planned = self.chains.adaptation.num_steps
        if self.problem.deadline.limit is not None and sum(self.record.steps) < planned:
            self._note(f"The warm-up had {sum(self.record.steps)} of {planned} steps.")
        return state._replace(
            divergent=jnp.zeros_like(state.divergent),
            log_sum=jnp.full_like(state.log_sum, -jnp.inf),
        )

    def sampling(self, state: Chain, log_prob: np.ndarray, trace: FunctionTrace) -> Chain:
        """Look at the chains while sampling, if a round has ended.

        Parameters
        ----------
        state : Chain
            All chains.
        log_prob : array of shape (chains, rows)
            Log of each chain's average probability of the validation rows.
        trace : FunctionTrace
            Their log probabilities by draw.
        """
        record = self.record
        if not self._is_due(FIRST_DRAWS):
            return state
        facts: dict[str, Any] = {}
        if record.done >= _MIN_DRAWS_TO_COMPARE:  # fewer say little about a chain's predictions
            scores = self.scores(log_prob, trace)
            facts = {
                "lppd_chain": scores.lppd_chain,
                "lppd_start": scores.lppd_start,
                "lppd_standard_error": scores.standard_error,
            }
        verdicts = judge_chains(*self._movement(state), **facts)
        where = f"After {record.done} draws"
        state = self._apply(state, verdicts, where, can_restart=False)
        if self.recipe.budget == "auto":
            effective = trace.num_effective(record.health.kept())
            gained = self._gain(log_prob)
            if gained < self.recipe.min_gain and effective >= self.recipe.min_effective:
                record.ended_at = self.recipe.n_samples
                self._note(
                    f"Sampling ended after {record.done} of {self.recipe.n_samples} draws: the "
                    f"second half has gained {gained:.3f} nats per row, and all chains have "
                    f"{effective:.0f} effective draws."
                )
        self._begin_round(state)
        return state

    def note_deadline(self) -> None:
        """Say that the time has ended the sampling."""
        most = self.recipe.n_samples
        self._note(f"Sampling had time for {self.record.done} of {most} draws.")

    def scores(self, log_prob: np.ndarray, trace: FunctionTrace) -> ValidationScores:
        """Score chains and starts by the validation rows.

        Parameters
        ----------
        log_prob : array of shape (chains, rows)
            Log of each chain's average probability of the validation rows.
        trace : FunctionTrace
            Their log probabilities by draw.
        """
        if self._start is None:
            self._start = self.chains.log_prob_of_start()
        if not self.recipe.use_validation_rows or trace.values is None:
            return ValidationScores(self._start, log_prob, HELD_OUT)
        num = trace.values.shape[-1]
        given = self.problem.rows.validation.weights
        weights = None if given is None else np.asarray(given)[:num]
        return ValidationScores.of(self._start[:, :num], trace.values, weights)

    def _is_due(self, first: int) -> bool:
        record = self.record
        return record.done > record.reviewed and is_review(record.done, first)

    def _positions_of(self, state: Chain) -> np.ndarray:
        return np.asarray(state.kernel.position)[: self.problem.num_chains]

    def _movement(self, state: Chain) -> tuple[np.ndarray, np.ndarray]:
        """Give how far each chain went since the last review, and its share of reverted steps."""
        distance = distance_between(self.positions, self._positions_of(state))
        return distance, np.asarray(self.record.round_divergent) / self.record.round_steps

    def _begin_round(self, state: Chain) -> None:
        record, num = self.record, self.problem.num_chains
        self.positions = self._positions_of(state).copy()
        record.reviewed, record.round_steps = record.done, 0
        record.round_divergent = [0] * num

    def _apply(
        self, state: Chain, verdicts: list[ChainVerdict], where: str, *, can_restart: bool
    ) -> Chain:
        state, notes = self.policy.apply(state, verdicts, where, can_restart=can_restart)
        for note in notes:
            self._note(note)
        return state

    def _note(self, sentence: str) -> None:
        if sentence not in self.record.notes:
            self.record.notes.append(sentence)
            self.problem.monitor.on_note(sentence)

    def _gain(self, log_prob: np.ndarray) -> float:
        """Give the gain of the pooled LPPD since the last round; infinite in the first one."""
        before = self.record.lppd
        self.record.lppd = pooled(log_prob[self.record.health.kept()])
        return np.inf if before is None else float(self.record.lppd - before)

    def _judge_gain(self, state: Chain, unit: int) -> None:
        """End the first phase if twice as many steps have gained too little, twice in a row."""
        record = self.record
        log_sum = np.asarray(state.log_sum, dtype=np.float64)[: self.problem.num_chains]
        gained = self._gain(log_sum - np.log(record.done - record.reviewed))
        record.small_gains = 0 if gained >= self.recipe.min_gain else record.small_gains + 1
        if record.small_gains < _PATIENCE:
            return
        num_steps = record.done * unit
        record.steps = shortened(self.chains.adaptation.phases(), num_steps)
        self._note(
            f"The warm-up ended after {sum(record.steps)} of {self.chains.adaptation.num_steps} "
            f"steps: twice as many have gained less than {self.recipe.min_gain:g} nats per row, "
            "twice in a row."
        )

    def _fit_to_time(self, unit: int) -> None:
        """Cut the phases of the tuning to the time that is left."""
        record, done = self.record, self.record.done * unit
        self._planned_at = self.problem.deadline.elapsed
        if not done and record.phase == 0:
            return  # a chunk at least, however short the time
        if self.problem.deadline.has_passed(self.allowance.tuning_share()):
            record.is_phase_over = True
        elif self.is_in_first_phase and not record.small_gains >= _PATIENCE:
            record.steps = self.allowance.steps(done, self._seconds_per_step)
