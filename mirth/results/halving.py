"""The step-halving check: chains go on at their step size and at half of it, and are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mirth.core.types import is_tree
from mirth.core.validation import Range, check_int
from mirth.data import Dataset, Stream
from mirth.evaluation import Change, effective_sample_size, lppd_change, mean_change
from mirth.inference import Posterior, continue_at_half
from mirth.model import Model
from mirth.prediction.blocks import DEFAULT_BUFFER_BYTES, prepare_blocks, trace_network
from mirth.prediction.inputs import check_inputs
from mirth.results._checks import check_posterior
from mirth.results.bias import BiasReport, has_settled, judge_changes
from mirth.results.diagnostics import some_rows

_MIN_DRAWS = 16
_SETTLING = 4  # draws that count for each one that does not
_TOLERANCE = Range(low=0, high=1, low_open=True)


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
        deviations, of that deviation as a share of it (so of the variance twice as much), of
        the LPPD in nats per row.

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
    found = _compare(posterior.model, present, half, x, y)
    changes = {"mean": found.mean, "variance": found.variance}
    if found.lppd is not None:
        changes["lppd"] = found.lppd
    settled = has_settled(found.num_effective, posterior.num_chains, num_draws, num_settling)
    return BiasReport(
        verdict=judge_changes(changes, tolerance, settled=settled),
        **found._asdict(),
        energy_variance=present.energy_variance,
        energy_variance_half=half.energy_variance,
        step_size=posterior.tuning.step_size,
        L=posterior.tuning.L,
        num_draws=num_draws,
        num_settling=num_settling,
        tolerance=tolerance,
    )


class _Compared(NamedTuple):
    mean: Change
    variance: Change
    epistemic: Change
    lppd: Change | None
    num_effective: float


def _compare(model: Model, present: Any, half: Any, x: Any, y: Any) -> _Compared:
    """Compare the predictions of both sets of draws."""
    draws = jax.tree.map(lambda a, b: np.concatenate([a, b]), present.draws, half.draws)
    blocks, (chains, num_draws) = prepare_blocks(model, draws, x, DEFAULT_BUFFER_BYTES)

    def of_draws(method: str, *targets: np.ndarray) -> np.ndarray:
        parts = [np.asarray(v, np.float64) for _, v in blocks.components(method, *targets)]
        return np.concatenate(parts, axis=1).reshape(2, chains // 2, num_draws, -1)

    means, variances = of_draws("mean"), of_draws("variance")
    centres = means.mean(axis=(1, 2), keepdims=True)
    squares = (means - centres) ** 2
    variances += squares  # the mean of these is the variance of the mixture
    scale, epistemic = (values[0].mean(axis=(0, 1)) for values in (variances, squares))
    if not np.isfinite(scale).all() or not (scale > 0).any():
        raise ValueError(
            f"x has {int((~np.isfinite(scale)).sum())} of {len(scale)} rows whose predictive "
            "variance is not finite, so that a change has no unit; leave them out."
        )
    if model.likelihood.has_classes:
        # A probability next to 0 has next to no variance, so no change of it is a large one.
        scale, epistemic = scale.mean(), epistemic.mean()
    squares = np.divide(squares, epistemic, out=np.zeros_like(squares), where=epistemic > 0)
    means, variances = means / np.sqrt(scale), variances / scale
    effective = [effective_sample_size(v[1] - v[0]) for v in (means, variances)]
    found = [np.median(each[np.isfinite(each)]) for each in effective if np.isfinite(each).any()]
    lppd = None if y is None else lppd_change(*of_draws("log_prob", y))
    mean, variance, parts = (mean_change(*values) for values in (means, variances, squares))
    return _Compared(mean, variance, parts, lppd, float(min(found, default=0.0)))


def _checked(posterior: Posterior, x: Any, y: Any) -> tuple[Any, np.ndarray | None]:
    """Check the rows that are given, and take at most 200 of them."""
    num_rows = len(jax.tree.leaves(x)[0]) if is_tree(x) else len(np.asarray(x))
    if y is not None:
        y = np.asarray(y)
        if len(y) != num_rows:
            raise ValueError(f"y has {len(y)} targets, but x has {num_rows} rows.")
        posterior.model.likelihood.check_targets(y)
        y = some_rows(y)
    x = check_inputs(some_rows(x), posterior.start)  # draws may be a function of the parameters
    trace_network(posterior.model, posterior.start, x)
    return x, y
