"""How long a run goes on: reviews at doubling lengths, a rule that stops it, a limit of time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mirth.evaluation.autocorrelation import effective_sample_size
from mirth.inference.chains.programs import NUM_TRACED
from mirth.inference.engine.deadline import Deadline
from mirth.samplers import Adaptation, Phase

BUDGETS = ("fixed", "auto")
FIRST_STEPS = 500
FIRST_DRAWS = 25
_MAX_POINTS = 512
_MIN_DRAWS = 4  # that an effective sample size needs
_SAFETY = 0.9
_LEAST_SAMPLING = 0.5


def next_review(done: int, first: int) -> int:
    """Give the next of the lengths first, 2 first, 4 first, ... at which a run is looked at.

    They do not depend on where a run is interrupted, how long its chunks are or where it ends, so
    neither do its draws.

    Examples
    --------
    >>> [next_review(done, first=500) for done in (0, 499, 500, 1700)]
    [500, 500, 1000, 2000]
    """
    review = first
    while review <= done:
        review *= 2
    return review


def is_review(done: int, first: int) -> bool:
    """Whether a length is one of first, 2 first, 4 first, ...

    Examples
    --------
    >>> [is_review(done, first=25) for done in (0, 25, 75, 100)]
    [False, True, False, True]
    """
    return done >= first and next_review(done - 1, first) == done


def shortened(phases: Sequence[Phase], num_first: int) -> list[int]:
    """Give the steps of all phases if the first one has another length, in the same shares.

    Examples
    --------
    >>> from mirth.samplers import MILETuner
    >>> shortened(MILETuner(num_steps=10_000).phases(), 400)
    [400, 50, 50]
    """
    scale = num_first / phases[0].num_steps
    return [num_first, *(round(scale * phase.num_steps) for phase in phases[1:])]


@dataclasses.dataclass(frozen=True)
class Allowance:
    """Steps of a run, and how they are cut to the time that is left.

    Parameters
    ----------
    adaptation : Adaptation
        What warms up, at full length.
    sampling_steps : int
        Most steps of sampling.
    deadline : Deadline
        Limit of the time.
    """

    adaptation: Adaptation
    sampling_steps: int
    deadline: Deadline

    def tuning_share(self) -> float:
        """Share of the time after which a warm-up ends in any case: sampling needs some, too."""
        total = self.adaptation.num_steps + self.sampling_steps
        return 1 - _LEAST_SAMPLING * self.sampling_steps / total

    def steps(self, done: int, seconds_per_step: float) -> list[int]:
        """Give the steps of the phases with which the run fits, given that it is in the first one.

        Parameters
        ----------
        done : int
            Steps of the first phase that are behind it.
        seconds_per_step : float
            Time of a step of all chains.
        """
        assert self.deadline.limit is not None
        left = max(0.0, self.deadline.limit - self.deadline.elapsed)
        total = self.adaptation.num_steps + self.sampling_steps
        share = _SAFETY * (done + left / max(seconds_per_step, 1e-12)) / total
        phases = self.adaptation.phases()
        num_first = min(1.0, share) * phases[0].num_steps
        return shortened(phases, max(done, 1, round(num_first)))


class FunctionTrace:
    """The log probability of some rows at each draw, thinned to a bounded length.

    Parameters
    ----------
    values : array of shape (chains, points, rows), optional
        Points of an earlier process.
    stride, count : int
        Draws from one point to the next, and draws seen.

    Examples
    --------
    >>> trace = FunctionTrace()
    >>> trace.append(np.random.default_rng(0).normal(size=(2, 100, 3)))
    >>> bool(100 < trace.num_effective() < 400)
    True
    """

    def __init__(self, values: np.ndarray | None = None, stride: int = 1, count: int = 0):
        self.values, self.stride, self.count = values, stride, count

    def append(self, piece: np.ndarray) -> None:
        """Take draws, shape (chains, draws, rows)."""
        first = -self.count % self.stride
        self.count += piece.shape[1]
        points = piece[:, first :: self.stride]
        if self.values is not None:
            points = np.concatenate([self.values, points], axis=1)
        while points.shape[1] > _MAX_POINTS:
            points, self.stride = points[:, ::2], 2 * self.stride
        self.values = points

    def num_effective(self, chains: Any = slice(None)) -> float:
        """Give the effective sample size, the median over rows, summed over chains."""
        if self.values is None or self.values.shape[1] < _MIN_DRAWS:
            return math.nan
        traced = self.values[chains, :, :NUM_TRACED]
        each = [effective_sample_size(chain[None]) for chain in traced]
        # A row whose value never changes has none: neither has its chain then.
        return float(sum(np.nan_to_num(np.median(np.nan_to_num(ess))) for ess in each))
