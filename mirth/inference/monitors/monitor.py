"""What a display of the progress is told, and by which words it is said."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mirth.core.outcomes import ChainVerdict

if TYPE_CHECKING:
    from mirth.inference.engine.loop import ChunkReport


@dataclasses.dataclass(frozen=True)
class ChainsReport:
    """State of all chains after a chunk of steps.

    Parameters
    ----------
    phase : str
        Name of the phase: ``step size``, ``step size and spread``, ``decoherence length`` or
        ``sampling``.
    step, num_steps : int
        Steps done and steps to do in this phase.
    steps_per_second : float
        Rate of each chain since this process took the phase up.
    lppd : float
        LPPD of the validation rows in nats per row: by the present positions of all chains while
        tuning, by all draws so far while sampling.
    step_size, L : array of shape (chains,)
        Settings of the sampler.
    energy_error : array of shape (chains,)
        Root mean square of Delta E over the chunk.
    num_divergent : array of shape (chains,)
        Reverted steps of the chunk.
    num_effective : float
        Effective sample size of the draws so far in function space, all chains together; NaN
        while tuning.
    effective_per_second : float
        The same per second of sampling.
    first_step : int
        Steps of the phases before.
    seconds : float
        Time that the run has used, all processes that worked on it together.
    verdicts : tuple of ChainVerdict
        On each chain, by the last review; empty before the first one.

    Examples
    --------
    >>> one = np.ones(2)
    >>> str(ChainsReport("sampling", 10, 40, 5.0, 0.25, one, one, one, np.zeros(2)))
    '5 steps/s, 6 s left, step size 1, energy error 1, validation LPPD 0.250'
    """

    phase: str
    step: int
    num_steps: int
    steps_per_second: float
    lppd: float
    step_size: np.ndarray
    L: np.ndarray
    energy_error: np.ndarray
    num_divergent: np.ndarray
    num_effective: float = math.nan
    effective_per_second: float = math.nan
    first_step: int = 0
    seconds: float = math.nan
    verdicts: tuple[ChainVerdict, ...] = ()

    @classmethod
    def of(
        cls,
        chunk: ChunkReport,
        lppd: float,
        L: np.ndarray,
        num_effective: float = math.nan,
        sampling_seconds: float = math.nan,
        first_step: int = 0,
        seconds: float = math.nan,
        verdicts: tuple[ChainVerdict, ...] = (),
    ) -> ChainsReport:
        """Put together what the loop reports and what is known of the chains."""
        stats = chunk.stats
        return cls(
            phase=chunk.phase,
            step=chunk.step,
            num_steps=chunk.num_steps,
            steps_per_second=(chunk.step - chunk.first_step) / max(chunk.seconds, 1e-9),
            lppd=lppd,
            step_size=np.asarray(stats.step_size),
            L=L,
            energy_error=np.sqrt(np.asarray(stats.squared_energy_change)),
            num_divergent=np.asarray(stats.num_divergent),
            num_effective=num_effective,
            effective_per_second=num_effective / max(sampling_seconds, 1e-9),
            first_step=first_step,
            seconds=seconds,
            verdicts=verdicts,
        )

    @property
    def seconds_left(self) -> float:
        """Time that the rest of the phase will take."""
        return (self.num_steps - self.step) / max(self.steps_per_second, 1e-9)

    def __str__(self) -> str:
        """Put the state of the chains into words."""
        words = [
            f"{self.steps_per_second:.0f} steps/s",
            f"{self.seconds_left:.0f} s left",
            f"step size {np.median(self.step_size):.2g}",
            f"energy error {np.median(self.energy_error):.2g}",
            f"validation LPPD {self.lppd:.3f}",
        ]
        if math.isfinite(self.num_effective):
            words.append(f"{self.effective_per_second:.2g} effective draws/s")
        divergent = int(self.num_divergent.sum())
        return ", ".join(words + ([f"{divergent} divergent"] if divergent else []))


class Monitor:
    """Silent base: what a display is told. Every method may be left as it is.

    Pass instances as ``monitors`` to :func:`infer` or to an estimator. An error of a monitor ends
    the run.

    Examples
    --------
    >>> class Printer(Monitor):
    ...     def on_note(self, sentence):
    ...         print(sentence)
    >>> Printer().on_note("Chain 3 does not move.")
    Chain 3 does not move.
    """

    def on_start(self, sentence: str) -> None:
        """Hear what memory the run will need: at first, or once ``"auto"`` has chosen a method."""

    def on_note(self, sentence: str) -> None:
        """Hear what a person should know: a sick chain, an early end."""

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Hear of the optimisation: epochs and best validation losses of the members."""

    def on_chunk(self, report: ChainsReport) -> None:
        """Hear of a chunk of steps."""

    def on_end(self, lppd_chain: np.ndarray) -> None:
        """Hear that the run has succeeded, with the LPPD of each chain."""

    def close(self) -> None:
        """Hear that nothing follows; called after an error or an interrupt, too."""


class Monitors(Monitor):
    """Several monitors as one; each hears everything, in order.

    Parameters
    ----------
    monitors : sequence of Monitor
        Who listens.
    """

    def __init__(self, monitors: Sequence[Monitor]):
        self.monitors = tuple(monitors)

    def on_start(self, sentence: str) -> None:
        """Pass it on."""
        for monitor in self.monitors:
            monitor.on_start(sentence)

    def on_note(self, sentence: str) -> None:
        """Pass it on."""
        for monitor in self.monitors:
            monitor.on_note(sentence)

    def on_epochs(self, epochs: np.ndarray, losses: np.ndarray, seconds: float) -> None:
        """Pass it on."""
        for monitor in self.monitors:
            monitor.on_epochs(epochs, losses, seconds)

    def on_chunk(self, report: ChainsReport) -> None:
        """Pass it on."""
        for monitor in self.monitors:
            monitor.on_chunk(report)

    def on_end(self, lppd_chain: np.ndarray) -> None:
        """Pass it on."""
        for monitor in self.monitors:
            monitor.on_end(lppd_chain)

    def close(self) -> None:
        """Close all, even if one fails."""
        errors = []
        for monitor in self.monitors:
            try:
                monitor.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


def describe_epochs(epochs: np.ndarray, losses: np.ndarray) -> str:
    """Put the state of the optimisation into words."""
    return f"epoch {int(epochs.max())}, validation loss {np.nanmedian(losses):.3f} (median)"
