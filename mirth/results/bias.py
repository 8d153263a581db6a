"""The bias of finite steps, measured without ground truth: chains go on at half their step size."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mirth.core.types import is_tree
from mirth.core.validation import Range, check_int
from mirth.data import Dataset, Stream
from mirth.evaluation import Change, effective_sample_size, lppd_change, mean_change
from mirth.inference import Posterior, continue_at_half
from mirth.model import Model
from mirth.prediction.blocks import DEFAULT_BUFFER_BYTES, prepare_blocks
from mirth.results._checks import check_posterior, check_rows
from mirth.results.diagnostics import some_rows

_MIN_DRAWS = 16
_SETTLING = 4  # draws that count for each one that does not
_MIN_EFFECTIVE = 20.0
_TOLERANCE = Range(low=0, high=1, low_open=True)


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
    lppd : Change or None
        Change of the LPPD in nats per row, positive where the shorter steps predict better; None
        without targets.
    energy_variance : array of shape (chains,)
        Mean of Delta E^2 per dimension at the draws of the run.
    energy_variance_half : array of shape (chains,)
        The same over the steps of half the size.
    step_size, L : array of shape (chains,)
        Settings of the run.
    num_draws, num_settling : int
        Draws per chain and step size that were compared, and those before them that were not.
    num_effective : float
        Effective number of pairs of draws, one of each step size: median over the rows, all
        chains together.
    tolerance : float
        Largest change that does not matter: of predictive deviations, of the variance and of nats
        per row.

    Examples
    --------
    >>> change, one = Change(0.0, 0.01, 0.0, 0.02, 0.6), np.ones(1)
    >>> verdict, numbers = BiasVerdict.NONE_SEEN, (0.02 * one, 0.0003 * one, one, one)
    >>> report = BiasReport(verdict, change, change, None, *numbers, 100, 25, 300.0, 0.05)
    >>> print(report.sentence)  # doctest: +NORMALIZE_WHITESPACE
    No bias of the step size is seen: half of it changes the predictive mean by at most 2 % of the
    predictive deviation and the predictive variance by at most 2 %.
    """

    verdict: BiasVerdict
    mean: Change
    variance: Change
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
        """The changes by name, those that were measured."""
        found = {"mean": self.mean, "variance": self.variance, "lppd": self.lppd}
        return {name: change for name, change in found.items() if change is not None}

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        seen = {name: change for name, change in self.changes.items() if change.is_seen}
        if self.verdict is BiasVerdict.TOO_LONG:
            seen = {name: c for name, c in seen.items() if c.low > self.tolerance}
            return (
                f"The steps are too long: half of them {_listed(seen, _found)}; sample with "
                "shorter ones, such as the halved, whose energy variance is "
                f"{np.median(self.energy_variance_half):.2g} per dimension."
            )
        if self.verdict is BiasVerdict.SMALL:
            return (
                f"The bias of the step size is small: half of it {_listed(seen, _found)}, and no "
                f"change is above {_size('mean', self.tolerance)}."
            )
        if self.verdict is BiasVerdict.UNCERTAIN:
            return (
                f"A bias of the step size is seen: half of it {_listed(seen, _found)}; more draws "
                f"would tell whether that is above {_size('mean', self.tolerance)}."
            )
        most = _listed(self.changes, _at_most)
        if self.verdict is BiasVerdict.NONE_SEEN:
            return f"No bias of the step size is seen: half of it {most}."
        if not self._has_settled:
            return (
                f"These chains are too slow for the check: {self.num_draws} draws of each, and "
                f"{self.num_settling} before them, have {self.num_effective:.0f} effective ones "
                "in all; take a larger num_draws."
            )
        return (
            f"These are too few draws to see a bias of {_size('mean', self.tolerance)}: half the "
            f"step size {most}, of which nothing is more than chance; take a larger num_draws."
        )

    @property
    def _has_settled(self) -> bool:
        return has_settled(
            self.num_effective, len(self.step_size), self.num_draws, self.num_settling
        )

    def __str__(self) -> str:
        """Tabulate the changes, say what they mean."""
        lines = ["at half the step size   change   error    5 %     95 %    chance alone"]
        units = {"mean": "mean / deviation", "variance": "variance, relative", "lppd": "LPPD, nats"}
        for name, change in self.changes.items():
            numbers = "".join(f"{number:9.4f}" for number in change[:4])
            lines.append(f"{units[name]:20s} {numbers} {change.p_value:12.2g}")
        lines.append(
            f"energy variance per dimension: {np.median(self.energy_variance):.2g}, "
            f"at half the step size {np.median(self.energy_variance_half):.2g} "
            f"(medians of {len(self.step_size)} chains)"
        )
        return "\n".join([*lines, self.sentence])


def bias_report(
    posterior: Posterior,
    dataset: Dataset | Stream,
    method: Any = "mile",
    *,
    x: Any = None,
    y: Any = None,
    validation: Dataset | None = None,
    directory: str | Path | None = None,
    num_draws: int = 100,
    tolerance: float = 0.05,
) -> BiasReport:
    r"""See if the steps of the chains were too long, from the run itself.

    Microcanonical chains are not corrected for their finite steps, so their draws have a bias that
    falls with the step size :math:`\epsilon`. All chains go on twice from where they stand: at
    :math:`\epsilon`, and at :math:`\epsilon / 2` with twice as many steps between two draws and L
    as it is. After a fifth of the draws, which are thrown away, the predictions of both are
    compared. A bias that grows with :math:`\epsilon^2` loses three quarters at half the step, so
    what changes is nearly all of it; one that grows with :math:`\epsilon`, as that of the noise of
    mini-batches, loses half. The check takes 3.75 ``num_draws`` times the steps between two draws,
    and sees what chains see: a mode that none of them visits is beyond it.

    Parameters
    ----------
    posterior : Posterior
        What :func:`mirth.infer` has returned.
    dataset : Dataset or Stream
        As given to :func:`mirth.infer`: a posterior keeps no rows.
    method : str or method object, default="mile"
        As given to it.
    x : array of shape (rows, features) or (rows, ...), or pytree of arrays, optional
        Inputs to predict for, scaled as in the fit; None means the rows that were held back. Of
        more than 200 rows as many are used, equally spaced.
    y : array of shape (rows, ...), optional
        Targets of ``x``, for the LPPD.
    validation : Dataset, optional
        As given to :func:`mirth.infer`, if it was a data set.
    directory : str or path, optional
        Run directory, if there was one.
    num_draws : int, default=100
        Draws of each chain, at either step size, that are compared.
    tolerance : float, default=0.05
        Largest change that does not matter: of the predictive mean in predictive standard
        deviations, of the predictive variance as a share of it, of the LPPD in nats per row.

    Returns
    -------
    BiasReport
        Changes with Monte-Carlo errors and a verdict; prints as a table and a sentence.

    Raises
    ------
    TypeError
        If ``posterior`` is none.
    ValueError
        If the posterior has no end to go on from, or none of this method on these data; if the
        method has no step size that can be halved, such as a deep ensemble; if a number or the
        rows are wrong.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> data, method = mirth.Dataset(x, x[:, 0]), mirth.MILE(n_warmup=100, n_samples=5)
    >>> posterior = mirth.infer(model, data, method, num_chains=2)
    >>> report = bias_report(posterior, data, method, num_draws=20)
    >>> sorted(report.changes), report.energy_variance.shape
    (['lppd', 'mean', 'variance'], (2,))
    """
    posterior = check_posterior(posterior)
    check_int("num_draws", num_draws, minimum=_MIN_DRAWS)
    _TOLERANCE.check("tolerance", tolerance)
    if posterior.tuning is None:
        raise ValueError(
            "posterior is a deep ensemble, which has no steps; bias_report is for chains."
        )
    if x is None and y is not None:
        raise ValueError("y has targets of rows that are not given; pass their inputs as x, too.")
    if x is not None:
        x, y = _checked(posterior, x, y)
    num_settling = num_draws // _SETTLING
    halving = continue_at_half(
        posterior,
        dataset,
        method,
        validation=validation,
        directory=directory,
        num_draws=num_draws,
        num_settling=num_settling,
    )
    if x is None:
        x, y = some_rows(halving.rows.x), some_rows(np.asarray(halving.rows.y))
    present, half = halving.present, halving.half
    mean, variance, lppd, num_effective = _compare(posterior.model, present, half, x, y)
    changes = [change for change in (mean, variance, lppd) if change is not None]
    settled = has_settled(num_effective, posterior.num_chains, num_draws, num_settling)
    return BiasReport(
        verdict=judge_changes(changes, tolerance, settled=settled),
        mean=mean,
        variance=variance,
        lppd=lppd,
        energy_variance=present.energy_variance,
        energy_variance_half=half.energy_variance,
        step_size=posterior.tuning.step_size,
        L=posterior.tuning.L,
        num_draws=num_draws,
        num_settling=num_settling,
        num_effective=num_effective,
        tolerance=tolerance,
    )


def judge_changes(changes: Sequence[Change], tolerance: float, *, settled: bool) -> BiasVerdict:
    """Say what follows from changes.

    Parameters
    ----------
    changes : sequence of Change
        What halving the step size has changed.
    tolerance : float
        Largest change that does not matter.
    settled : bool
        Whether the draws are enough for the chains to have got to where shorter steps lead. If not,
        a change that is seen is one all the same, but may be only the beginning of a larger one.

    Examples
    --------
    >>> judge_changes([Change(0.2, 0.01, 0.18, 0.22, 0.0)], 0.05, settled=True).name
    'TOO_LONG'
    >>> judge_changes([Change(0.0, 0.1, 0.0, 0.2, 0.5)], 0.05, settled=True).name
    'TOO_FEW_DRAWS'
    """
    seen = [change for change in changes if change.is_seen]
    if any(change.low > tolerance for change in seen):
        return BiasVerdict.TOO_LONG
    is_below = settled and all(change.high <= tolerance for change in changes)
    if seen:
        return BiasVerdict.SMALL if is_below else BiasVerdict.UNCERTAIN
    return BiasVerdict.NONE_SEEN if is_below else BiasVerdict.TOO_FEW_DRAWS


def has_settled(num_effective: float, num_chains: int, num_draws: int, num_settling: int) -> bool:
    """Tell whether chains were followed for long enough: they forget while they settle.

    Examples
    --------
    >>> has_settled(100.0, 4, 100, 25), has_settled(100.0, 40, 100, 25)
    (True, False)
    """
    is_enough = num_effective >= _MIN_EFFECTIVE
    return is_enough and num_chains * num_draws <= num_settling * num_effective


def _compare(
    model: Model, present: Any, half: Any, x: Any, y: Any
) -> tuple[Change, Change, Change | None, float]:
    """Compare the predictions of both sets of draws; also give the effective pairs of draws."""
    draws = jax.tree.map(lambda a, b: np.concatenate([a, b]), present.draws, half.draws)
    blocks, (chains, num_draws) = prepare_blocks(model, draws, x, DEFAULT_BUFFER_BYTES)

    def of_draws(method: str, *targets: np.ndarray) -> np.ndarray:
        parts = [np.asarray(v, np.float64) for _, v in blocks.components(method, *targets)]
        return np.concatenate(parts, axis=1).reshape(2, chains // 2, num_draws, -1)

    means, variances = of_draws("mean"), of_draws("variance")
    centres = means.mean(axis=(1, 2), keepdims=True)
    variances += (means - centres) ** 2  # the mean of these is the variance of the mixture
    scale = variances[0].mean(axis=(0, 1))
    if not np.isfinite(scale).all() or not (scale > 0).any():
        raise ValueError(
            f"x has {int((~np.isfinite(scale)).sum())} of {len(scale)} rows whose predictive "
            "variance is not finite, so that a change has no unit; leave them out."
        )
    if model.likelihood.has_classes:
        # A probability next to 0 has next to no variance, so no change of it is a large one.
        scale = scale.mean()
    means, variances = means / np.sqrt(scale), variances / scale
    effective = [effective_sample_size(v[1] - v[0]) for v in (means, variances)]
    found = [np.median(each[np.isfinite(each)]) for each in effective if np.isfinite(each).any()]
    lppd = None if y is None else lppd_change(*of_draws("log_prob", y))
    return mean_change(*means), mean_change(*variances), lppd, float(min(found, default=0.0))


def _checked(posterior: Posterior, x: Any, y: Any) -> tuple[Any, np.ndarray | None]:
    """Check the rows that are given, and take at most 200 of them."""
    num_rows = len(jax.tree.leaves(x)[0]) if is_tree(x) else len(np.asarray(x))
    if y is not None:
        y = np.asarray(y)
        if len(y) != num_rows:
            raise ValueError(f"y has {len(y)} targets, but x has {num_rows} rows.")
        posterior.model.likelihood.check_targets(y)
        y = some_rows(y)
    return check_rows(posterior, some_rows(x)), y


_WORDS = {"mean": "predictive mean", "variance": "predictive variance", "lppd": "LPPD"}


def _size(name: str, value: float) -> str:
    """Say a size of a change, with the unit of its quantity."""
    if name == "lppd":
        return f"{value:.2g} nats per row"
    return f"{100 * value:.2g} %"


def _found(name: str, change: Change) -> str:
    ends = f"{_size(name, change.low)} to {_size(name, change.high)}"
    return f"changes the {_WORDS[name]} by {_size(name, abs(change.size))} ({ends}){_of(name)}"


def _at_most(name: str, change: Change) -> str:
    return f"changes the {_WORDS[name]} by at most {_size(name, change.high)}{_of(name)}"


def _of(name: str) -> str:
    return " of the predictive deviation" if name == "mean" else ""


def _listed(changes: Mapping[str, Change], say: Callable[[str, Change], str]) -> str:
    """Join what is said of some changes by commas and a last "and"."""
    said = [say(name, change) for name, change in changes.items()]
    said = [said[0], *(part.removeprefix("changes ") for part in said[1:])]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
