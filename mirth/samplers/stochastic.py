"""What the stochastic-gradient samplers share: their numbers, and what becomes of a proposal.

These samplers see the log density of the present mini-batch, scaled to the whole data set; the
caller binds a new batch before each step. A step takes its gradient from that density alone, so no
gradient is older than its step. No gradient is clipped or repaired.
"""

from __future__ import annotations

import numbers
from typing import Any, Protocol, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from mirth.core.trees import tree_all_finite, tree_select
from mirth.core.validation import Range
from mirth.samplers.adaptation import StepInfo


class _HasLogdensity(Protocol):
    @property
    def logdensity(self) -> Float[Array, ""]: ...


_State = TypeVar("_State", bound=_HasLogdensity)


def as_leaf(name: str, value: float | Float[Array, ""], allowed: Range) -> Float[Array, ""]:
    """Turn a setting into a leaf; a number is checked, an array may be traced and is not.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : float or scalar array
        The setting.
    allowed : Range
        What a number may be.

    Returns
    -------
    scalar array
        The setting.

    Raises
    ------
    ValueError
        If a number is outside ``allowed``.

    Examples
    --------
    >>> from mirth.core.validation import POSITIVE
    >>> float(as_leaf("step_size", 0.5, POSITIVE))
    0.5
    """
    if isinstance(value, numbers.Real):
        allowed.check(name, value)
    return jnp.asarray(value, dtype=float)


def keep_if_finite(
    proposal: _State, fallback: _State, step_size: Float[Array, ""], *computed: Any
) -> tuple[_State, StepInfo]:
    """Take the proposal if all of it is finite, the fallback as a whole if not.

    Parameters
    ----------
    proposal, fallback : State
        State after the step, and the one to revert to.
    step_size : scalar
        Step size of the step, for the diagnostics.
    *computed : pytree
        What else must be finite, such as the gradient.

    Returns
    -------
    tuple of (State, StepInfo)
        The chosen state and the diagnostics, with an energy change of 0: these samplers keep no
        energy.

    Examples
    --------
    >>> from mirth.samplers.sgld import SGLDState
    >>> start = SGLDState(jnp.zeros(2), jnp.zeros(2), jnp.zeros(()), None)
    >>> broken = start._replace(position=jnp.array([1.0, jnp.nan]))
    >>> state, info = keep_if_finite(broken, start, jnp.asarray(0.1))
    >>> state.position.tolist(), bool(info.is_divergent)
    ([0.0, 0.0], True)
    """
    is_finite = tree_all_finite(proposal, computed)
    state = tree_select(is_finite, proposal, fallback)
    info = StepInfo(
        logdensity=state.logdensity,
        energy_change=jnp.zeros_like(state.logdensity),
        step_size=step_size,
        is_divergent=~is_finite,
    )
    return state, info
