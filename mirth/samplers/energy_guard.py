r"""The energy-error tracker of SMILE: a Gamma fit of |Delta E|, resets, a step size by quantiles.

With a = |Delta E| of a step and Q(p) the quantiles of a Gamma distribution that has the running
mean and variance of a, a step is undone if a > Q(``reset_probability``); the step size shrinks by
``rate`` if a > Q(1 - 2 alpha / 3) and grows by it if a < Q(alpha / 3).

============================ ============================= ====================================
what                         as released                   here
============================ ============================= ====================================
energies are compared        across two batches            on one batch (the kernel does that)
an outlier that was undone   enters the statistics         enters as the quantile it has passed
running moments              corrected by 1 - 0.5^(t - 4)  plain at first, then a window
Q for small shapes           may be negative               at least its exact lower bound
============================ ============================= ====================================
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import gammaln, ndtri
from jaxtyping import Array, Bool, Float

from mirth.core.validation import Range, check_ranges

_MIN_COUNT = 10
_OPEN = Range(low=0, high=1, low_open=True, high_open=True)


class GuardState(NamedTuple):
    """Statistics of |Delta E|.

    Parameters
    ----------
    num_seen : scalar
        Energies seen.
    mean, deviation : scalar
        Running mean and standard deviation.
    """

    num_seen: Float[Array, ""]
    mean: Float[Array, ""]
    deviation: Float[Array, ""]


class GuardDecision(NamedTuple):
    """What follows from one energy error.

    Parameters
    ----------
    is_reset : bool scalar
        Whether the step is to be undone.
    factor : scalar
        Factor of the step size.
    """

    is_reset: Bool[Array, ""]
    factor: Float[Array, ""]


class EnergyGuard(eqx.Module):
    """Tracker of the energy error.

    Parameters
    ----------
    reset_probability : float, default=0.98
        Quantile above which a step is undone.
    alpha : float, default=0.1
        Share of the steps that change the step size.
    rate : float, default=0.02
        Relative change of the step size.
    beta : float, default=0.01
        Weight of the present energy in the running moments.

    Raises
    ------
    ValueError
        If a number is not between 0 and 1.

    References
    ----------
    .. [1] arXiv 2602.06500, the energy-error controller and its released code.

    Examples
    --------
    >>> import jax
    >>> guard = EnergyGuard()
    >>> state = guard.init()
    >>> update = jax.jit(guard.update)
    >>> for energy in [1.0, 1.2, 0.9, 1.1] * 5:
    ...     state, decision = update(state, energy)
    >>> state, decision = update(state, 50.0)
    >>> bool(decision.is_reset), float(decision.factor) < 1
    (True, True)
    """

    reset_probability: float = 0.98
    alpha: float = 0.1
    rate: float = 0.02
    beta: float = 0.01

    RANGES: ClassVar[dict[str, Range]] = dict.fromkeys(
        ("reset_probability", "alpha", "rate", "beta"), _OPEN
    )

    def __check_init__(self) -> None:
        check_ranges(self, self.RANGES)

    def init(self) -> GuardState:
        """Begin with nothing seen."""
        return GuardState(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))

    def update(
        self, state: GuardState, energy_change: Float[Array, ""]
    ) -> tuple[GuardState, GuardDecision]:
        """Judge an energy error by what came before it, then learn from it.

        Parameters
        ----------
        state : GuardState
            Statistics before the step.
        energy_change : scalar
            Delta E of the step.
        """
        energy = jnp.abs(energy_change)
        count = state.num_seen + 1
        is_ready = count >= _MIN_COUNT

        limit = self.quantile(state, self.reset_probability)
        is_reset = is_ready & (energy > limit)
        is_small = is_ready & ~(energy >= self.quantile(state, self.alpha / 3))
        is_large = is_ready & (energy > self.quantile(state, 1 - 2 * self.alpha / 3))
        factor = jnp.where(is_large, 1 - self.rate, jnp.where(is_small, 1 + self.rate, 1.0))
        # An outlier counts as the limit that it has passed: without any trace of it the fit would
        # become narrower with each reset.
        new = self._moments(count, state, energy, jnp.where(is_reset, limit, energy))
        return new, GuardDecision(is_reset, factor)

    def _moments(
        self,
        count: Float[Array, ""],
        state: GuardState,
        energy: Float[Array, ""],
        limited: Float[Array, ""],
    ) -> GuardState:
        """Plain moments of the first energies, limited, then a window that forgets."""
        weight = jnp.maximum(1 / count, self.beta)
        difference = limited - state.mean
        variance = (1 - weight) * (state.deviation**2 + weight * difference**2)
        return GuardState(count, state.mean + weight * difference, jnp.sqrt(variance))

    def quantile(self, state: GuardState, probability: float) -> Float[Array, ""]:
        r"""Give a quantile of the Gamma distribution with the running moments.

        .. math:: Q(p) = b k \left(1 - \frac{1}{9k} + \frac{z_p}{3 \sqrt k}\right)^3, \qquad
                  k = \frac{\mu^2}{s^2}, \quad b = \frac{s^2}{\mu}

        (Wilson and Hilferty), and at least :math:`b\,(p\,\Gamma(k + 1))^{1/k}`, a lower bound of
        every Gamma quantile, where the cube becomes small or negative for small shapes k.

        Parameters
        ----------
        state : GuardState
            Statistics.
        probability : float
            p, between 0 and 1.
        """
        mean = jnp.maximum(state.mean, 1e-30)
        variance = state.deviation**2 + 1e-6 * mean**2
        quantile = wilson_hilferty(mean, variance, probability)
        shape, scale = mean**2 / variance, variance / mean
        bound = scale * jnp.exp((jnp.log(probability) + gammaln(shape + 1)) / shape)
        return jnp.maximum(quantile, bound)


def wilson_hilferty(
    mean: Float[Array, ""], variance: Float[Array, ""], probability: float
) -> Float[Array, ""]:
    """Give a quantile of a Gamma distribution, by the cube of a Normal."""
    shape, scale = mean**2 / variance, variance / mean
    z = ndtri(jnp.asarray(probability))
    return scale * shape * (1 - 1 / (9 * shape) + z / (3 * jnp.sqrt(shape))) ** 3
