r"""Step-size schedules: functions of the step and of the number of steps.

All start at their first value in step 0, and are usable inside compiled code: the step, the number
of steps and the schedule itself may be traced. Their values are positive by construction.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from mirth.core.validation import COUNT, POSITIVE, Range, check_int, check_ranges


class Constant(eqx.Module):
    r"""The same step size in every step.

    .. math:: \epsilon(t) = \text{value}

    Parameters
    ----------
    value : float
        The step size.

    Raises
    ------
    ValueError
        If ``value`` is not positive.

    Examples
    --------
    >>> float(Constant(0.25)(step=3, num_steps=10))
    0.25
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"value": POSITIVE}

    value: float

    def __check_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def __call__(self, step: ArrayLike, num_steps: ArrayLike) -> Float[Array, ""]:
        """Give the step size of a step."""
        return jnp.asarray(self.value, float)


class _Fall(eqx.Module):
    """From one value to another; ``_share`` says how far it is at each time."""

    RANGES: ClassVar[Mapping[str, Range]] = {"start": POSITIVE, "end": POSITIVE}

    start: float
    end: float

    def __check_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def __call__(self, step: ArrayLike, num_steps: ArrayLike) -> Float[Array, ""]:
        """Give the step size of a step."""
        return _between(self.start, self.end, self._share(_elapsed(step, num_steps)))

    @abc.abstractmethod
    def _share(self, elapsed: Float[Array, ""]) -> Float[Array, ""]:
        """Give the share of the way from start to end at a share of the time."""


class Linear(_Fall):
    r"""A straight line from the first step to the last.

    .. math:: \epsilon(t) = \text{start} + (\text{end} - \text{start})\, r, \qquad r = t / (n - 1)

    for step t = 0, ..., n - 1 of n = ``num_steps``; later steps have the last value.

    Parameters
    ----------
    start, end : float
        Step sizes of the first and of the last step.

    Raises
    ------
    ValueError
        If ``start`` or ``end`` is not positive.

    Examples
    --------
    >>> schedule = Linear(start=1.0, end=0.5)
    >>> [float(schedule(step, num_steps=3)) for step in range(3)]
    [1.0, 0.75, 0.5]
    """

    def _share(self, elapsed: Float[Array, ""]) -> Float[Array, ""]:
        return elapsed


class Cosine(_Fall):
    r"""Half a cosine wave from the first step to the last: flat at both ends.

    .. math:: \epsilon(t) = \text{end} + (\text{start} - \text{end})\, \frac{1 + \cos(\pi r)}{2},
              \qquad r = t / (n - 1)

    for step t = 0, ..., n - 1 of n = ``num_steps``; later steps have the last value.

    Parameters
    ----------
    start, end : float
        Step sizes of the first and of the last step.

    Raises
    ------
    ValueError
        If ``start`` or ``end`` is not positive.

    Examples
    --------
    >>> schedule = Cosine(start=1.0, end=0.5)
    >>> [float(schedule(step, num_steps=3)) for step in range(3)]
    [1.0, 0.75, 0.5]
    """

    def _share(self, elapsed: Float[Array, ""]) -> Float[Array, ""]:
        return _half_wave(elapsed)


class Cyclical(eqx.Module):
    r"""Half cosine waves, one after the other; each explores first and samples then.

    With M = ``num_cycles`` cycles of :math:`c = \lceil n / M \rceil` steps in n = ``num_steps``,

    .. math:: \epsilon(t) = \text{end} + (\text{start} - \text{end})\, \frac{1 + \cos(\pi r)}{2},
              \qquad r = (t \bmod c) / c

    and a step samples where :math:`r \ge` ``exploration_fraction``. In the paper end = 0, which no
    step reaches. If M does not divide n, the last cycle is cut short, by fewer than M steps.

    Parameters
    ----------
    start : float
        Step size at the start of each cycle.
    end : float
        Step size that the end of each cycle comes close to.
    num_cycles : int, default=4
        Number of cycles, at most the number of steps.
    exploration_fraction : float, default=0.33
        Share of each cycle that explores, in [0, 1).

    Raises
    ------
    ValueError
        If a number is outside its range, or when called if there are fewer steps than cycles.

    References
    ----------
    .. [1] Zhang et al., "Cyclical stochastic gradient MCMC for Bayesian deep learning", ICLR 2020,
       arXiv 1902.03932, equation 1 and algorithm 1.

    Examples
    --------
    >>> schedule = Cyclical(start=1.0, end=0.5, num_cycles=2, exploration_fraction=0.5)
    >>> [float(schedule(step, num_steps=4)) for step in range(4)]
    [1.0, 0.75, 1.0, 0.75]
    >>> [bool(schedule.is_sampling(step, num_steps=4)) for step in range(4)]
    [False, True, False, True]
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "start": POSITIVE,
        "end": POSITIVE,
        "num_cycles": COUNT,
        "exploration_fraction": Range(low=0, high=1, high_open=True),
    }

    start: float
    end: float
    num_cycles: int = 4
    exploration_fraction: float = 0.33

    def __check_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def __call__(self, step: ArrayLike, num_steps: ArrayLike) -> Float[Array, ""]:
        """Give the step size of a step."""
        return _between(self.start, self.end, _half_wave(self._elapsed(step, num_steps)))

    def is_sampling(self, step: ArrayLike, num_steps: ArrayLike) -> Bool[Array, ""]:
        """Tell whether a step is one of those whose positions are draws."""
        return self._elapsed(step, num_steps) >= self.exploration_fraction

    def _elapsed(self, step: ArrayLike, num_steps: ArrayLike) -> Float[Array, ""]:
        """Share of the present cycle before a step."""
        if isinstance(num_steps, int) and isinstance(self.num_cycles, int):
            check_int("num_steps", num_steps, minimum=self.num_cycles)
        length = -(-jnp.asarray(num_steps) // self.num_cycles)
        return jnp.asarray(step) % length / length


def _elapsed(step: ArrayLike, num_steps: ArrayLike) -> Float[Array, ""]:
    """Share of the way from the first step to the last."""
    if isinstance(num_steps, int):
        check_int("num_steps", num_steps, minimum=1)
    return jnp.clip(jnp.asarray(step) / jnp.maximum(jnp.asarray(num_steps) - 1, 1), 0.0, 1.0)


def _half_wave(share: Float[Array, ""]) -> Float[Array, ""]:
    """Go from 0 to 1, flat at both ends."""
    return 0.5 * (1 - jnp.cos(jnp.pi * share))


def _between(start: float, end: float, share: Float[Array, ""]) -> Float[Array, ""]:
    """Go from the start to the end; a mean of both, so that rounding does not leave their range."""
    return (1 - share) * start + share * end
