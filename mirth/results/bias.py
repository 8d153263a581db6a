"""What a step-halving check has found: the numbers, a verdict and a sentence."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping

import numpy as np

from mirth.evaluation import Change

_MIN_EFFECTIVE = 20.0


class BiasVerdict(enum.Enum):
    """What halving the step size has shown. The value is a sentence about it."""

    NONE_SEEN = "No change at half the step size is above the tolerance."
    SMALL = "A change is seen at half the step size, and none is above the tolerance."
    UNCERTAIN = "A change is seen at half the step size; it may be above the tolerance or below."
    TOO_FEW_DRAWS = "The draws are too few to see a change of the size of the tolerance."
    TOO_LONG = "A change at half the step size is above the tolerance: the steps were too long."


@dataclasses.dataclass(frozen=True)
class BiasReport:
    """What halving the step size changes in the predictions.

    Parameters
    ----------
    verdict : BiasVerdict
        What follows from the numbers.
    mean : Change
        Root mean square over the rows of the change of the predictive mean, in units of the
        predictive standard deviation of each row.
    variance : Change
        The same of the predictive variance, relative to it.
    epistemic : Change
        The same of the epistemic variance, relative to it. It is a small part of the predictive
        variance where there is much noise, and tells more of the draws; the verdict is on the
        predictions.
    lppd : Change or None
        Change of the LPPD in nats per row, positive where the shorter steps predict better; None
        without targets.
    energy_variance, energy_variance_half : array of shape (chains,)
        Mean of Delta E^2 per dimension over the steps of the check, at the step size of the run
        and at half of it.
    step_size, L : array of shape (chains,)
        Settings of the run.
    num_draws, num_settling : int
        Draws per chain and step size that were compared, and those before them that were not.
    num_effective : float
        Effective number of pairs of draws, one of each step size: median over the rows, all
        chains together.
    tolerance : float
        Largest change that does not matter: of the mean in predictive deviations, of the deviation
        as a share of it (so of the variance twice as much), and of the LPPD in nats per row.

    Examples
    --------
    >>> change, one = Change(0.0, 0.01, 0.0, 0.02, 0.6), np.ones(1)
    >>> verdict, numbers = BiasVerdict.NONE_SEEN, (0.02 * one, 0.0003 * one, one, one)
    >>> report = BiasReport(verdict, change, change, change, None, *numbers, 100, 25, 300.0, 0.05)
    >>> print(report.sentence)  # doctest: +NORMALIZE_WHITESPACE
    No bias of the step size is seen: half of it changes the predictive mean by at most 2 % of the
    predictive deviation and the predictive variance by at most 2 %; the energy variance is 0.02 per
    dimension, 0.0003 at half the step.
    """

    verdict: BiasVerdict
    mean: Change
    variance: Change
    epistemic: Change
    lppd: Change | None
    energy_variance: np.ndarray
    energy_variance_half: np.ndarray
    step_size: np.ndarray
    L: np.ndarray
    num_draws: int
    num_settling: int
    num_effective: float
    tolerance: float

    @property
    def changes(self) -> dict[str, Change]:
        """The changes of the predictions by name, those that were measured."""
        found = {"mean": self.mean, "variance": self.variance, "lppd": self.lppd}
        return {name: change for name, change in found.items() if change is not None}

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        own, half = (np.median(v) for v in (self.energy_variance, self.energy_variance_half))
        parts = [self._predictions()]
        if self.epistemic.is_seen:
            parts.append(f"it {_found('epistemic', self.epistemic)}")
        parts.append(f"the energy variance is {own:.2g} per dimension, {half:.2g} at half the step")
        return f"{'; '.join(parts)}."

    def _predictions(self) -> str:
        """Say what the predictions show."""
        percent = 100 * self.tolerance
        tolerance = f"the tolerance of {percent:.2g} % ({2 * percent:.2g} % of the variance)"
        seen = {name: change for name, change in self.changes.items() if change.is_seen}
        if self.verdict is BiasVerdict.TOO_LONG:
            seen = {n: c for n, c in seen.items() if c.low > limit_of(n, self.tolerance)}
            return (
                f"The steps are too long: half of their size {_listed(seen, _found)}, so sample "
                "again with a smaller energy_variance_end, or a smaller step_size if that is given"
            )
        if self.verdict is BiasVerdict.SMALL:
            return (
                f"The bias of the step size is small: half of it {_listed(seen, _found)}, and no "
                f"change is above {tolerance}"
            )
        if self.verdict is BiasVerdict.UNCERTAIN:
            return (
                f"A bias of the step size is seen: half of it {_listed(seen, _found)}; more draws "
                f"would tell whether that is above {tolerance}"
            )
        most = _listed(self.changes, _at_most)
        if self.verdict is BiasVerdict.NONE_SEEN:
            return f"No bias of the step size is seen: half of it {most}"
        if not self.num_effective:
            return "These chains do not move, so their step size cannot be judged"
        if not self._has_settled:
            return (
                f"These chains are too slow for the check: {self.num_draws} draws of each, and "
                f"{self.num_settling} before them, have {self.num_effective:.0f} effective ones "
                "in all; take a larger num_draws"
            )
        return (
            f"These are too few draws to see a bias as large as {tolerance}: half the step size "
            f"{most}, of which nothing is more than chance; take num_draws={self._enough()} or more"
        )

    def _enough(self) -> int:
        """Estimate the draws that show as much as the tolerance: errors fall with their root."""
        excess = max(c.high / limit_of(n, self.tolerance) for n, c in self.changes.items())
        needed = self.num_draws * max(excess, 1.0) ** 2
        return round_up(needed)

    @property
    def _has_settled(self) -> bool:
        return has_settled(
            self.num_effective, len(self.step_size), self.num_draws, self.num_settling
        )

    def table(self) -> dict[str, Change]:
        """Give all changes, that of the epistemic variance too, by words with their units."""
        found = self.changes | {"epistemic": self.epistemic}
        return {_LABELS[name]: change for name, change in found.items()}

    def __str__(self) -> str:
        """Tabulate the changes, say what they mean."""
        lines = ["at half the step size   change   error    5 %     95 %    chance alone"]
        for name, change in self.table().items():
            numbers = "".join(f"{number:9.4f}" for number in change[:4])
            lines.append(f"{name:20s} {numbers} {change.p_value:12.2g}")
        return "\n".join([*lines, self.sentence])


def judge_changes(changes: Mapping[str, Change], tolerance: float, *, settled: bool) -> BiasVerdict:
    """Say what follows from changes.

    Parameters
    ----------
    changes : mapping of str to Change
        What halving the step size has changed: ``mean``, ``variance``, ``lppd``.
    tolerance : float
        Largest change that does not matter; of the variance twice as much, because that is a change
        of the deviation of the tolerance.
    settled : bool
        Whether the draws are enough for the chains to have got to where shorter steps lead. If not,
        a change that is seen is one all the same, but may be only the beginning of a larger one.

    Examples
    --------
    >>> judge_changes({"mean": Change(0.2, 0.01, 0.18, 0.22, 0.0)}, 0.05, settled=True).name
    'TOO_LONG'
    >>> judge_changes({"mean": Change(0.0, 0.1, 0.0, 0.2, 0.5)}, 0.05, settled=True).name
    'TOO_FEW_DRAWS'
    """
    limits = {name: limit_of(name, tolerance) for name in changes}
    seen = {name: change for name, change in changes.items() if change.is_seen}
    if any(change.low > limits[name] for name, change in seen.items()):
        return BiasVerdict.TOO_LONG
    is_below = settled and all(c.high <= limits[name] for name, c in changes.items())
    if seen:
        return BiasVerdict.SMALL if is_below else BiasVerdict.UNCERTAIN
    return BiasVerdict.NONE_SEEN if is_below else BiasVerdict.TOO_FEW_DRAWS


def limit_of(name: str, tolerance: float) -> float:
    """Give the largest change of a quantity that does not matter."""
    return 2 * tolerance if name == "variance" else tolerance


def round_up(number: float) -> int:
    """Round up to one digit.

    Examples
    --------
    >>> round_up(312.0), round_up(40.0)
    (400, 40)
    """
    unit = 10 ** math.floor(math.log10(number))
    return math.ceil(number / unit) * unit


def has_settled(num_effective: float, num_chains: int, num_draws: int, num_settling: int) -> bool:
    """Tell whether chains were followed for long enough: they forget while they settle.

    Examples
    --------
    >>> has_settled(100.0, 4, 100, 25), has_settled(100.0, 40, 100, 25)
    (True, False)
    """
    is_enough = num_effective >= _MIN_EFFECTIVE
    return is_enough and num_chains * num_draws <= num_settling * num_effective


_WORDS = {
    "mean": "predictive mean",
    "variance": "predictive variance",
    "epistemic": "epistemic variance",
    "lppd": "LPPD",
}
_LABELS = {
    "mean": "mean / deviation",
    "variance": "variance, relative",
    "epistemic": "epistemic, relative",
    "lppd": "LPPD, nats",
}


def _found(name: str, change: Change) -> str:
    ends = f"{_number(name, change.low)} to {_number(name, change.high)}"
    return f"changes the {_WORDS[name]} by {_number(name, abs(change.size))} ({ends}){_unit(name)}"


def _at_most(name: str, change: Change) -> str:
    return f"changes the {_WORDS[name]} by at most {_number(name, change.high)}{_unit(name)}"


def _number(name: str, value: float) -> str:
    return f"{value:.2g}" if name == "lppd" else f"{100 * value:.2g}"


def _unit(name: str) -> str:
    units = {"mean": " % of the predictive deviation", "lppd": " nats per row"}
    return units.get(name, " %")


def _listed(changes: Mapping[str, Change], say: Callable[[str, Change], str]) -> str:
    """Join what is said of some changes by commas and a last "and"."""
    said = [say(name, change) for name, change in changes.items()]
    said = [said[0], *(part.removeprefix("changes ") for part in said[1:])]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
