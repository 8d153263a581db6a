"""Health of chains while they run: what is done about those that are unhealthy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mirth.core.outcomes import ChainVerdict, Outcome, SamplingError
from mirth.evaluation import summarize_health
from mirth.inference.chains.chains import Chain, Chains

POLICIES = ("keep", "stop", "drop", "restart")
_MAX_RESTARTS = 3


@dataclasses.dataclass
class HealthRecord:
    """What was found and done; part of every checkpoint.

    Parameters
    ----------
    verdicts : list of str
        Name of the last verdict on each chain.
    at_cap : list of bool
        Whether the last review found each chain at its cap.
    restarts : list of int
        How often each chain was put back to its start.
    dropped : list of int
        Chains that are no longer part of the run.
    is_reviewed : bool
        Whether there has been a review; before it the verdicts mean nothing.
    """

    verdicts: list[str]
    at_cap: list[bool]
    restarts: list[int]
    dropped: list[int]
    is_reviewed: bool = False

    @classmethod
    def new(cls, num_chains: int) -> HealthRecord:
        """Begin with healthy chains."""
        return cls(["MOVED"] * num_chains, [False] * num_chains, [0] * num_chains, [])

    def said(self) -> tuple[ChainVerdict, ...]:
        """Give the verdict of the last review on each chain; none before the first one."""
        return tuple(ChainVerdict[name] for name in self.verdicts) if self.is_reviewed else ()

    def kept(self) -> np.ndarray:
        """Indices of the chains that are still part of the run."""
        return np.setdiff1d(np.arange(len(self.verdicts)), self.dropped)


class HealthPolicy:
    """What is done about unhealthy chains.

    Parameters
    ----------
    name : {"keep", "stop", "drop", "restart"}
        Name them only; end the run with an error; leave them out of the result; put them back to
        their start with the settings of the healthy ones (while the step size is tuned and at
        most three times each, else drop them).
    chains : Chains
        The programs of the chains.
    record : HealthRecord
        What was done before.
    """

    def __init__(self, name: str, chains: Chains, record: HealthRecord):
        self.name, self.chains, self.record = name, chains, record

    def apply(
        self, state: Chain, verdicts: Sequence[ChainVerdict], where: str, *, can_restart: bool
    ) -> tuple[Chain, list[str]]:
        """Deal with the unhealthy chains of a review.

        Parameters
        ----------
        state : Chain
            All chains.
        verdicts : sequence of ChainVerdict
            One per chain.
        where : str
            Phase and step, for people.
        can_restart : bool
            Whether a chain that begins anew would still be tuned.

        Returns
        -------
        state : Chain
            All chains, some of them back at their start.
        notes : list of str
            Sentences about what is new.

        Raises
        ------
        SamplingError
            If the policy is to stop, or no chain would be left.
        """
        record = self.record
        is_new = {
            k: verdict
            for k, verdict in enumerate(verdicts)
            if k not in record.dropped
            and verdict is not ChainVerdict.MOVED
            and (record.verdicts[k] == ChainVerdict.MOVED.name or self.name != "keep")
        }
        record.verdicts, record.is_reviewed = [verdict.name for verdict in verdicts], True
        if not is_new:
            return state, []
        named = [is_new.get(k, ChainVerdict.MOVED) for k in range(len(verdicts))]
        sentence = f"{where}: {summarize_health(named)}"
        if self.name == "keep":
            return state, [sentence]
        if self.name == "stop":
            raise SamplingError(
                Outcome.UNHEALTHY_CHAINS,
                f"{sentence} With a run directory the same call goes on under another policy, "
                "such as unhealthy_chains='drop'.",
            )
        again = [k for k in is_new if self._may_restart(k, can_restart)]
        gone = [k for k in is_new if k not in again]
        if again:
            state = self._restart(state, again, is_new)
            sentence += f" Put back to the start: {_listed(again)}."
        if gone:
            record.dropped = sorted({*record.dropped, *gone})
            if not len(record.kept()):
                raise SamplingError(Outcome.UNHEALTHY_CHAINS, f"{sentence} No chain is left.")
            sentence += f" Left out from now on: {_listed(gone)}."
        return state, [sentence]

    def _may_restart(self, chain: int, can_restart: bool) -> bool:
        is_left = self.record.restarts[chain] < _MAX_RESTARTS
        return self.name == "restart" and can_restart and is_left

    def _restart(self, state: Chain, again: Sequence[int], sick: Any) -> Chain:
        """Put chains back to their starts, with the median settings of the healthy ones."""
        for k in again:
            self.record.restarts[k] += 1
        fresh = self.chains.init(self.record.restarts)
        well = [k for k in self.record.kept() if k not in sick]
        adapted = fresh.adapted
        if well:
            tuned, num = self.chains.tuned(state), state.divergent.shape
            step_size, L = (
                jnp.full(num, np.median(values[well]), float)
                for values in (tuned.step_size, tuned.L)
            )
            adapted = self.chains.adaptation.with_numbers(adapted, step_size, L)
        mask = np.zeros(state.divergent.shape[0], dtype=bool)
        mask[list(again)] = True
        merged = jax.tree.map(
            lambda old, new: jnp.where(mask.reshape(-1, *(1,) * (old.ndim - 1)), new, old),
            state,
            fresh._replace(adapted=adapted),
        )
        return self.chains.problem.placement.put_chains(merged)


def _listed(chains: Sequence[int]) -> str:
    return ", ".join(map(str, chains))
