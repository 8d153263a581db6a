r"""How long a chain remembers, from what it went through at fixed settings.

The estimate :math:`n / \mathrm{ESS}` holds where n is many times as much. The parameters of a
network drift for as long as anybody looks: their effective sample size is 3 to 6 whatever n is, and
the estimate is the length of the phase in other words. So it counts from ``MIN_EFFECTIVE`` on only.

Function values are asked where the parameters fail, the slowest of them, and may lengthen L only.
They have a fast part, the stiff directions, and a slow one, the drift. An L of the size of the
fast part (their median n / ESS) is a tenth of what the chain has seen of the posterior: it walks
where it could travel, and predicts worse (``docs/tuning.md``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float

from mirth.evaluation.autocorrelation import effective_sample_size

L_SOURCES = ("", "parameters", "function values", "spread")
"""What a decoherence length follows from; the first where no phase looked for it."""

_PARAMETERS, _FUNCTION_VALUES, _SPREAD = 1, 2, 3
MIN_EFFECTIVE = 20.0
"""Effective sample size from which on values count as decorrelated."""


class Memory(NamedTuple):
    """What a phase at fixed settings says of the L of one chain.

    Parameters
    ----------
    L : float
        Decoherence length.
    source : int
        What it follows from, a place in :data:`L_SOURCES`.
    ess_parameters : float
        n over the mean of n / ESS of the parameters; NaN where none moves.
    ess_function : float
        Least effective sample size of a function value; NaN where there is none.
    """

    L: float
    source: int
    ess_parameters: float
    ess_function: float


def look_back(state: Any, kept: np.ndarray, log_prob: np.ndarray | None, factor: float) -> Any:
    """Set L of all chains by what they went through.

    Parameters
    ----------
    state : TunerState
        States with a leading axis (chains,); their L is by the spread of the parameters.
    kept : array of shape (chains, kept, params)
        Parameters.
    log_prob : array of shape (chains, kept, rows) or None
        Function values of the same states.
    factor : float
        L of a chain that forgets everything from one kept state to the next, in steps.

    Returns
    -------
    TunerState
        With L, what it follows from and the effective sample sizes.
    """
    step_size, spread = np.asarray(state.sampler.step_size), np.asarray(state.sampler.L)
    rows = kept[:, :, :0] if log_prob is None else log_prob
    found = [
        memory_of(*chain) for chain in zip(kept, rows, factor * step_size, spread, strict=True)
    ]
    L, source, ess_parameters, ess_function = (
        np.array(column, step_size.dtype) for column in zip(*found, strict=True)
    )
    # Without a phase that measures the spread, L is still the first guess.
    has_no_source = (source == _SPREAD) & (np.asarray(state.moments.weight) == 0)
    return state._replace(
        sampler=eqx.tree_at(lambda s: s.L, state.sampler, L),
        L_from=np.where(has_no_source, 0, source).astype(np.int32),
        ess_parameters=ess_parameters,
        ess_function=ess_function,
    )


def memory_of(
    path: Float[np.ndarray, "kept params"],
    log_prob: Float[np.ndarray, "kept rows"],
    unit: float,
    spread: float,
) -> Memory:
    """Find L of one chain, as :func:`look_back` does of all."""
    parameters, functions = _distances(path), _distances(log_prob)
    mean = parameters.mean() if parameters.size else np.nan
    slowest = functions.max() if functions.size else np.nan
    ess = len(path) / mean, len(path) / slowest
    if ess[0] >= MIN_EFFECTIVE:
        return Memory(unit * mean, _PARAMETERS, *ess)
    if ess[1] >= MIN_EFFECTIVE and unit * slowest > spread:
        return Memory(unit * slowest, _FUNCTION_VALUES, *ess)
    return Memory(spread, _SPREAD, *ess)


def _distances(values: Float[np.ndarray, "kept values"]) -> Float[np.ndarray, " moving"]:
    """Kept states between two that are effectively independent, of each value that moves."""
    ess = effective_sample_size(values[None])
    return np.asarray(len(values) / ess[np.isfinite(ess) & (ess > 0)])
