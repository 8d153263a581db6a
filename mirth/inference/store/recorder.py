"""What outlives a process: a recorder keeps snapshots and draws; the silent one keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mirth.core.snapshots import Snapshot
from mirth.inference.store.draws import DrawStore, MemoryDraws


class Recorder:
    """Silent base: a run that lives and dies with its process."""

    def restore(self) -> Snapshot | None:
        """Give the state to go on from; None for a new run."""
        return None

    def offer(self, make: Callable[[], Snapshot], *, is_due: bool = False) -> None:
        """Hear that the run is at a point where its state can be kept.

        Parameters
        ----------
        make : callable
            Makes the snapshot; called only if it is wanted.
        is_due : bool, default=False
            Whether this state must be kept, however short the time since the last one.
        """

    def decide(self, name: str, make: Callable[[], str]) -> str:
        """Make a decision once: whoever takes the run up gets the same.

        Parameters
        ----------
        name : str
            What is decided.
        make : callable
            Decides; called only if nobody has before.
        """
        return make()

    def draws(
        self, num_draws: int, tail: Mapping[str, np.ndarray], num_stored: int
    ) -> MemoryDraws | DrawStore:
        """Give a place for the draws.

        Parameters
        ----------
        num_draws : int
            Draws that the run will have.
        tail : mapping
            Draws of the snapshot that is taken up, if any.
        num_stored : int
            Draws before them, which are in the store already.
        """
        draws = MemoryDraws()
        if tail:
            draws.append(tail)
        return draws


class MemoryRecorder(Recorder):
    """Recorder that keeps the end of a run in memory, so that another run can go on from there.

    Parameters
    ----------
    snapshot : Snapshot, optional
        State to go on from.
    """

    def __init__(self, snapshot: Snapshot | None = None):
        self.snapshot = snapshot

    def restore(self) -> Snapshot | None:
        """Give the state to go on from."""
        return self.snapshot

    def offer(self, make: Callable[[], Snapshot], *, is_due: bool = False) -> None:
        """Keep the state if it is one that must be kept."""
        if is_due:
            self.snapshot = make()
