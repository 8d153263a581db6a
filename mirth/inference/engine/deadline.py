"""A limit of the time of a run."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """A limit of the time of a run, all processes that worked on it together.

    Parameters
    ----------
    limit : float or None
        Seconds; None is no limit.
    clock : callable, optional
        Gives the time in seconds.

    Examples
    --------
    >>> times = iter([0.0, 2.0, 9.0])
    >>> deadline = Deadline(10.0, clock=lambda: next(times))
    >>> deadline.has_passed(), deadline.has_passed(0.5)
    (False, True)
    """

    def __init__(self, limit: float | None = None, clock: Callable[[], float] = time.monotonic):
        self.limit = limit
        self._clock = clock
        self._began = clock()

    def go_on_from(self, elapsed: float) -> None:
        """Count the time that earlier processes have used."""
        self._began = self._clock() - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds that the run has used."""
        return self._clock() - self._began

    def has_passed(self, share: float = 1.0) -> bool:
        """Whether a share of the time is used up."""
        return self.limit is not None and self.elapsed >= share * self.limit
