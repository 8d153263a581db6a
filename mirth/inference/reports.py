"""What the parts of a run say of themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp

from mirth.evaluation.loo import MIN_DRAWS, RELIABLE_K, leave_one_out

_CURVES = ("training_curve", "validation_curve")


def _no_curve() -> np.ndarray:
    return np.zeros((0, 0), np.float32)


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
    training_curve, validation_curve : array of shape (members, points)
        Loss of the training rows during each epoch, and of the validation rows at its end, in
        nats; NaN after a member has stopped. The training loss is the mean over the batches of the
        epoch, each with the weights (and the transformed inputs) of its step. Empty where nothing
        was optimised.
    curve_stride : int
        Epochs between two points: point i is that of epoch (i + 1) x stride. It is 1 for up to
        1000 epochs, then 2, 4, ..., so a curve has 1000 points at most.

    Examples
    --------
    >>> two = np.ones(2)
    >>> report = WarmStartReport(np.array([3, 3]), np.array([2, 1]), two, 0.1, np.ones((2, 3)))
    >>> report.curve_epochs
    array([1, 2, 3])
    """

    epochs: np.ndarray
    best_epochs: np.ndarray
    validation_loss: np.ndarray
    seconds: float
    training_curve: np.ndarray = dataclasses.field(default_factory=_no_curve)
    validation_curve: np.ndarray = dataclasses.field(default_factory=_no_curve)
    curve_stride: int = 1

    def __post_init__(self) -> None:
        for name in _CURVES:
            if not getattr(self, name).size:
                object.__setattr__(self, name, np.zeros((len(self.epochs), 0), np.float32))

    @property
    def curve_epochs(self) -> np.ndarray:
        """Epoch of each point of the curves."""
        return self.curve_stride * np.arange(1, self.training_curve.shape[1] + 1)

    def to_record(self) -> dict[str, Any]:
        """Give the report as JSON holds it, without the curves."""
        return {
            "curve_stride": self.curve_stride,
            "epochs": self.epochs.tolist(),
            "best_epochs": self.best_epochs.tolist(),
            "validation_loss": [float(loss) for loss in self.validation_loss],
            "seconds": self.seconds,
        }

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Give the curves by name."""
        return {f"warm_start.{name}": getattr(self, name) for name in _CURVES}

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> WarmStartReport:
        """Undo :meth:`to_record` and :meth:`to_arrays`."""
        return cls(
            np.asarray(record["epochs"]),
            np.asarray(record["best_epochs"]),
            np.asarray(record["validation_loss"], dtype=np.float64),
            record["seconds"],
            training_curve=arrays["warm_start.training_curve"],
            validation_curve=arrays["warm_start.validation_curve"],
            curve_stride=record["curve_stride"],
        )

    def with_curves(self, stride: int, num_points: int) -> WarmStartReport:
        """Give the report with every second, fourth, ... point of its curves, filled up by NaN.

        Parameters
        ----------
        stride : int
            Epochs between two points, a multiple of the present number.
        num_points : int
            Points, at least as many as are left.
        """
        each = stride // self.curve_stride

        def thinned(curve: np.ndarray) -> np.ndarray:
            kept = curve[:, each - 1 :: each]
            missing = num_points - kept.shape[1]
            return np.pad(kept, ((0, 0), (0, missing)), constant_values=np.nan)

        return dataclasses.replace(
            self,
            training_curve=thinned(self.training_curve),
            validation_curve=thinned(self.validation_curve),
            curve_stride=stride,
        )

    def __str__(self) -> str:
        """Tabulate the members."""
        lines = ["member  epochs  best epoch  validation loss"]
        rows = zip(self.epochs, self.best_epochs, self.validation_loss, strict=True)
        lines += [f"{k:6d}  {e:6d}  {b:10d}  {v:15.4f}" for k, (e, b, v) in enumerate(rows)]
        return "\n".join(lines)


def with_equal_curves(reports: Sequence[WarmStartReport]) -> list[WarmStartReport]:
    """Give reports whose curves have the same points, so that they can be joined."""
    stride = max(report.curve_stride for report in reports)
    num_points = max(
        report.training_curve.shape[1] // (stride // report.curve_stride) for report in reports
    )
    return [report.with_curves(stride, num_points) for report in reports]


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
    L_from : array of text of shape (chains,)
        What L follows from: the effective sample size of the ``"parameters"``; where these have
        not decorrelated that of ``"function values"``, or the ``"spread"`` of the parameters, which
        is the least; empty where no phase looked for it.
    ess_parameters, ess_function : array of shape (chains,)
        Effective sample sizes of the phase that looked: n over the mean n / ESS of the parameters,
        and the least of the log probabilities of some rows; NaN where there was no such phase.

    Examples
    --------
    >>> two = np.array([0.1, 0.2])
    >>> print(TuningReport(two, 10 * two, np.zeros(2, int), two, 100, 1.0))
    chain  step size         L  L from           ESS w  ESS f  reverted
        0        0.1         1                     nan    nan         0
        1        0.2         2                     nan    nan         0
    """

    step_size: np.ndarray
    L: np.ndarray
    num_divergent: np.ndarray
    energy_variance: np.ndarray
    num_steps: int
    seconds: float
    L_from: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, str))
    ess_parameters: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    ess_function: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        # Reports that were saved before these were found have none of them.
        for name, unknown in (("L_from", ""), ("ess_parameters", np.nan), ("ess_function", np.nan)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.L), unknown))

    def to_record(self) -> dict[str, Any]:
        """Give the report as JSON holds it; NaN is among the numbers."""
        return {
            field.name: value.tolist() if isinstance(value, np.ndarray) else value
            for field in dataclasses.fields(self)
            for value in (getattr(self, field.name),)
        }

    def __str__(self) -> str:
        """Tabulate the chains."""
        lines = ["chain  step size         L  L from           ESS w  ESS f  reverted"]
        numbers = (self.step_size, self.L, self.L_from, self.ess_parameters, self.ess_function)
        rows = zip(*numbers, self.num_divergent, strict=True)
        lines += [
            f"{k:5d}  {eps:9.3g}  {L:8.3g}  {source:15s}  {w:5.0f}  {f:5.0f}  {reverted:8.0f}"
            for k, (eps, L, source, w, f, reverted) in enumerate(rows)
        ]
        return "\n".join(lines)


HELD_OUT, LEFT_OUT, FITTED = "held out", "left out", "fitted"
_WORDS = {
    HELD_OUT: "validation rows (those that stop an optimisation), to which no chain was fitted",
    LEFT_OUT: "validation rows (those that stop an optimisation), each left out of the chains",
    FITTED: "validation rows, which the chains were fitted to as well",
}


@dataclasses.dataclass(frozen=True)
class ValidationScores:
    r"""How chains and their starts predict the validation rows, row by row.

    Where the chains were fitted to these rows, the density of a row is that of the chain without
    it, by importance sampling: otherwise the chains would be judged by what they have seen. The
    starts were not fitted to them, but one that was optimised is the epoch that predicted them
    best, so its LPPD is too good by about its own standard error. The standard errors of
    differences have that in them:

    .. math:: \text{SE}^2 = \frac1N \left( \operatorname{Var}_n (c_n - s_n)
              + \operatorname{Var}_n s_n \right)

    with the log densities :math:`c_n` of the chain and :math:`s_n` of the start.

    Parameters
    ----------
    start : array of shape (chains, rows)
        Log density of each row by each chain's start, scaled targets.
    chain : array of shape (chains, rows)
        Log of each chain's average density of each row.
    kind : {"held out", "left out", "fitted"}
        Whether the chains were not fitted to the rows; or were, and each row is left out of them;
        or were, with too few draws to leave a row out (25 are needed).
    unreliable : float
        Share of the densities whose Pareto k is above 0.7, so that they are a guess, as a rule too
        high; 0 where no row is left out.

    Examples
    --------
    >>> scores = ValidationScores(np.zeros((2, 9)), np.ones((2, 9)), "held out")
    >>> scores.gain()
    (1.0, 0.0)
    """

    start: np.ndarray
    chain: np.ndarray
    kind: str
    unreliable: float = 0.0

    @classmethod
    def of(
        cls, start: np.ndarray, draws: np.ndarray, weights: np.ndarray | None = None
    ) -> ValidationScores:
        """Leave each row out of the chains that were fitted to it.

        Parameters
        ----------
        start : array of shape (chains, rows)
            Log density by the starts.
        draws : array of shape (chains, draws, rows)
            Log density by each draw. What is NaN or infinite counts as ``-inf``: it has overflowed.
        weights : array of shape (rows,), optional
            How often each row counted in the fit.
        """
        draws = np.where(np.isfinite(draws), draws, -np.inf).astype(np.float64)
        if draws.shape[1] < MIN_DRAWS:
            return cls(start, logsumexp(draws, axis=1) - np.log(draws.shape[1]), FITTED)
        found = leave_one_out(draws, weights)
        # A chain whose draws are one and the same, or rule a row out, has nothing to smooth.
        is_known = np.isfinite(found.pareto_k) | np.isneginf(found.pareto_k)
        share = (found.pareto_k[is_known] > RELIABLE_K).mean() if is_known.any() else 0.0
        return cls(start, found.pointwise, LEFT_OUT, float(share))

    @property
    def lppd_start(self) -> np.ndarray:
        """LPPD of each chain's start in nats per row, array (chains,)."""
        return self.start.mean(axis=1)

    @property
    def lppd_chain(self) -> np.ndarray:
        """LPPD of each chain in nats per row, array (chains,)."""
        return self.chain.mean(axis=1)

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of their difference; NaN if one has overflowed."""
        return _error_of_difference(self.chain, self.start)

    def gain(self, chain_weights: np.ndarray | None = None) -> tuple[float, float]:
        """Compare all chains together with the ensemble that they started from.

        Parameters
        ----------
        chain_weights : array of shape (chains,), optional
            Weights of the chains; the members of the ensemble weigh the same.

        Returns
        -------
        gain, standard_error : float
            Difference of the two LPPDs in nats per row, and its standard error.
        """
        weights = np.ones(len(self.chain)) if chain_weights is None else chain_weights
        with np.errstate(invalid="ignore"):
            pooled = logsumexp(self.chain, axis=0, b=(weights / weights.sum())[:, None])
            ensemble = logsumexp(self.start, axis=0) - np.log(len(self.start))
            gain = float((pooled - ensemble).mean())
        return gain, float(_error_of_difference(pooled, ensemble))

    @property
    def rows(self) -> str:
        """Which rows these are, for people."""
        return f"{self.chain.shape[1]} {_WORDS[self.kind]}"

    def take_chains(self, chains: np.ndarray) -> ValidationScores:
        """Give the scores of some chains."""
        return dataclasses.replace(self, start=self.start[chains], chain=self.chain[chains])


def _error_of_difference(chain: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Standard error of the mean difference over rows by which the start was chosen."""
    with np.errstate(invalid="ignore"):
        variance = (chain - start).var(axis=-1) + start.var(axis=-1)
        return np.asarray(np.sqrt(variance / start.shape[-1]))


def joined_scores(scores: Sequence[ValidationScores | None]) -> ValidationScores | None:
    """Join the scores of several runs; None if they are not of the same rows."""
    known = [one for one in scores if one is not None]
    alike = {(one.kind, one.chain.shape[1]) for one in known}
    if len(known) < len(scores) or len(alike) > 1:
        return None
    return dataclasses.replace(
        known[0],
        start=np.concatenate([one.start for one in known]),
        chain=np.concatenate([one.chain for one in known]),
        unreliable=float(
            np.average([s.unreliable for s in known], weights=[len(s.chain) for s in known])
        ),
    )
