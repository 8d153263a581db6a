"""What the parts of a run say of themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """What the optimisation of the members did.

    Parameters
    ----------
    epochs, best_epochs : array of shape (members,)
        Epochs run, and the epoch whose weights were kept.
    validation_loss : array of shape (members,)
        Mean negative log likelihood of the validation rows (scaled targets), in nats.
    seconds : float
        Time of the whole optimisation.
    """

    epochs: np.ndarray
    best_epochs: np.ndarray
    validation_loss: np.ndarray
    seconds: float

    def to_record(self) -> dict[str, Any]:
        """Give the report as JSON holds it."""
        return {
            "epochs": self.epochs.tolist(),
            "best_epochs": self.best_epochs.tolist(),
            "validation_loss": [float(loss) for loss in self.validation_loss],
            "seconds": self.seconds,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> WarmStartReport:
        """Undo :meth:`to_record`."""
        return cls(
            np.asarray(record["epochs"]),
            np.asarray(record["best_epochs"]),
            np.asarray(record["validation_loss"], dtype=np.float64),
            record["seconds"],
        )

    def __str__(self) -> str:
        """Tabulate the members."""
        lines = ["member  epochs  best epoch  validation loss"]
        rows = zip(self.epochs, self.best_epochs, self.validation_loss, strict=True)
        lines += [f"{k:6d}  {e:6d}  {b:10d}  {v:15.4f}" for k, (e, b, v) in enumerate(rows)]
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class TuningReport:
    """What the warm-up of the chains found.

    Parameters
    ----------
    step_size, L : array of shape (chains,)
        Step size and decoherence length that the draws were taken with.
    num_divergent : array of shape (chains,)
        Reverted steps during the warm-up.
    energy_variance : array of shape (chains,)
        Mean of Delta E^2 per dimension at the end of the warm-up.
    num_steps : int
        Steps of the warm-up per chain.
    seconds : float
        Time of the warm-up.
    """

    step_size: np.ndarray
    L: np.ndarray
    num_divergent: np.ndarray
    energy_variance: np.ndarray
    num_steps: int
    seconds: float
