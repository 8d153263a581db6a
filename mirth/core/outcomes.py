"""Outcomes of runs and verdicts on chains, as full sentences."""

from __future__ import annotations

import enum
import sys
import warnings


class MirthWarning(UserWarning):
    """Something that a user should know; the result is valid."""


def warn_user(message: str) -> None:
    """Give a :class:`MirthWarning` that points at the line by which mirth was called.

    It is for what is called from several depths; elsewhere a ``stacklevel`` does.

    Parameters
    ----------
    message : str
        What the user should know.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_user("Look at row 17.")
    >>> print(caught[0].message)
    Look at row 17.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("mirth."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, MirthWarning, stacklevel=level)


class ChainVerdict(enum.Enum):
    """What became of one chain. The value is a sentence about it."""

    MOVED = "The chain moved and predicts at least as well as its start."
    FROZEN = "The chain did not move from its start; its draws are copies of one network."
    DIVERGING = "The chain kept proposing non-finite points; its steps were reverted."
    AT_CAP = "The step size is held down by its cap, because longer steps kept diverging."
    WORSE_THAN_START = "The chain predicts held-back rows worse than the network it started from."
    NOT_CONVERGED = "The chain has not settled: its predictions still drift, or are few in effect."


class Outcome(enum.Enum):
    """How a run ended. The value is a sentence about it."""

    FINISHED = "The run finished its budget."
    NON_FINITE_TARGET = "The log density is not finite at the start of every chain."
    UNKEEPABLE_DRAW = "A draw does not fit the type in which it is to be kept."
    UNHEALTHY_CHAINS = "The run was stopped because of unhealthy chains."


class SamplingError(RuntimeError):
    """A run that cannot give a valid result.

    Parameters
    ----------
    outcome : Outcome
        How the run ended.
    detail : str
        What was seen, and what to do.
    """

    def __init__(self, outcome: Outcome, detail: str):
        super().__init__(f"{outcome.value} {detail}")
        self.outcome = outcome


class RunInterrupted(KeyboardInterrupt):
    """A run that was asked to stop and has kept its state; it can be taken up again.

    Parameters
    ----------
    reason : str
        What asked, such as ``"SIGINT"``.
    folder : path
        The run directory.

    Examples
    --------
    >>> error = RunInterrupted("SIGTERM", "runs/houses")
    >>> print(error)
    The run in runs/houses was stopped by SIGTERM; its state is kept. The same call ...
    """

    def __init__(self, reason: str, folder: object):
        super().__init__(
            f"The run in {folder} was stopped by {reason}; its state is kept. The same call "
            "goes on from there."
        )
        self.reason, self.folder = reason, folder
