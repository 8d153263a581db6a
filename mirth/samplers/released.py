"""SMILE's adaptation exactly as in the released code, faults included, for comparison."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from mirth.core.trees import tree_size
from mirth.core.types import Key
from mirth.samplers.adaptation import Adaptation, Moment
from mirth.samplers.energy_guard import EnergyGuard, GuardState, wilson_hilferty
from mirth.samplers.noise_scale import NoiseScale, init_noise_scale
from mirth.samplers.noisy_energy import NoisyEnergy
from mirth.samplers.stochastic_mclmc import StochasticState

_CLIP = 1e6


class ReleasedGuard(EnergyGuard):
    """Tracker of the energy error with the released moments and quantiles.

    Parameters
    ----------
    reset_probability, alpha, rate, beta : float
        As for :class:`EnergyGuard`.

    References
    ----------
    .. [1] arXiv 2602.06500, the released code.

    Examples
    --------
    >>> guard = ReleasedGuard()
    >>> state, decision = guard.update(guard.init(), jnp.array(1.0))
    >>> bool(decision.is_reset)
    False
    """

    def _moments(
        self,
        count: Float[Array, ""],
        state: GuardState,
        energy: Float[Array, ""],
        limited: Float[Array, ""],
    ) -> GuardState:
        """Moments as the released code has them (its lines 363-443)."""
        smooth = (1 - self.beta) * state.mean + self.beta * energy
        mean = jnp.clip(jnp.where(count < 3, energy, smooth), 1e-6, 1e6)
        kept = jnp.where(count == 1, 0.0, (1 - self.beta) * state.deviation**2)
        variance = kept + self.beta * (energy - mean) ** 2
        correction = jnp.where(count < 5, 1.0, 1 - 0.5 ** (count - 4))
        deviation = jnp.clip(jnp.sqrt(variance / correction), 1e-6, 1e7)
        return GuardState(count, mean, deviation)

    def quantile(self, state: GuardState, probability: float) -> Float[Array, ""]:
        """Give a quantile with a constant that hides all energies far below 1e-3."""
        mean = jnp.maximum(state.mean, 1e-30)
        return wilson_hilferty(mean, state.deviation**2 + 1e-6, probability)


def update_released_noise_scale(state: NoiseScale, gradient: PyTree) -> NoiseScale:
    r"""Learn from the gradient of one batch as the released code does, for comparison.

    .. math:: m = 0.99 + 0.01 g, \qquad v \leftarrow 0.99 v + 0.01 (g - m)^2

    The mean begins anew at 1 with each gradient, so v is no variance but the second moment of
    :math:`0.99 (g - 1)`.

    Parameters
    ----------
    state : NoiseScale
        Moments before; the first variance is 1.
    gradient : pytree
        Gradient of the log density of a batch.

    Returns
    -------
    NoiseScale
        Moments after.

    References
    ----------
    .. [1] arXiv 2602.06500, the released code.

    Examples
    --------
    >>> state = NoiseScale(jnp.zeros(()), jnp.zeros(1), jnp.ones(1))
    >>> state = update_released_noise_scale(state, jnp.array([11.0]))
    >>> round(float(state.variance[0]), 4)  # 0.99 + 0.01 * 9.9^2
    1.9701
    """
    gradient = jax.tree.map(lambda g: jnp.clip(g, -_CLIP, _CLIP), gradient)
    mean = jax.tree.map(lambda g: 0.99 + 0.01 * g, gradient)
    variance = jax.tree.map(
        lambda v, g, m: 0.99 * v + 0.01 * (g - m) ** 2, state.variance, gradient, mean
    )
    return NoiseScale(state.num_seen + 1, mean, variance)


def released_preconditioner(state: NoiseScale) -> PyTree:
    r"""Give 1 / sigma as the released code has it: clipped first, then normalised.

    .. math:: s = \frac{\mathrm{RMS}(\sigma)}{\sigma}, \quad
              \sigma = \mathrm{clip}(\sqrt{v}, 10^{-2}, 10^4)

    Parameters
    ----------
    state : NoiseScale
        Of :func:`update_released_noise_scale`.

    Returns
    -------
    pytree
        Scale of each parameter.

    Examples
    --------
    >>> moments = NoiseScale(jnp.zeros(()), jnp.zeros(2), jnp.array([1.0, 49.0]))
    >>> released_preconditioner(moments).round(3).tolist()
    [5.0, 0.714]
    """
    sigma = jax.tree.map(lambda v: jnp.clip(jnp.sqrt(v), 1e-2, 1e4), state.variance)
    total = jnp.asarray(sum(jnp.sum(s**2) for s in jax.tree.leaves(sigma)))
    size = jnp.sqrt(total / tree_size(sigma))
    return jax.tree.map(lambda s: size / s, sigma)


class ReleasedNoisyEnergy(NoisyEnergy):
    """Resets, noise and step size as released: the adaptation never ends.

    Parameters
    ----------
    kernel, num_steps, tuner, step_size_rule, guard, preconditioned, noise_memory, probe_every
        As for :class:`NoisyEnergy`; the rule is "quantiles" or "fixed", the guard a
        :class:`ReleasedGuard`.

    Raises
    ------
    ValueError
        If a rank is given: the released code whitens nothing.

    Examples
    --------
    >>> from mirth.samplers import MILETuner, StochasticMCLMC
    >>> kernel, tuner = StochasticMCLMC(1e-3, integrator="stale"), MILETuner(num_steps=100)
    >>> rule, guard = "quantiles", ReleasedGuard()
    >>> ReleasedNoisyEnergy(kernel, 100, tuner, rule, guard, True, 100.0, 1).every
    1
    """

    def __check_init__(self) -> None:
        if self.rank:
            raise ValueError(f"The released code whitens nothing; leave out rank={self.rank}.")

    def _is_learning(self, moment: Moment) -> Bool[Array, ""]:
        return jnp.array(True)

    def _init_noise(self, position: Float[Array, " params"]) -> NoiseScale:
        """Begin with a variance of one."""
        noise = init_noise_scale(position)
        return noise._replace(variance=noise.variance + 1.0)

    def _learnt_noise(
        self, noise: NoiseScale, gradient: Array, scale: Array
    ) -> tuple[NoiseScale, Array, Float[Array, ""]]:
        noise = update_released_noise_scale(noise, gradient)
        return noise, released_preconditioner(noise), jnp.zeros(())

    def _undone(self, key: Key, before: StochasticState, after: StochasticState) -> StochasticState:
        """Undo the position alone: gradient and log density stay those of the rejected point."""
        zero = jnp.zeros_like(before.momentum)
        return after._replace(position=before.position, momentum=zero)

    def _slowed(
        self, step_size: Float[Array, ""], is_divergent: Bool[Array, ""]
    ) -> Float[Array, ""]:
        return step_size

    def halved(self, states: Any) -> tuple[Adaptation, Any] | None:
        """Say that no step size stays as it is set, because the adaptation never ends."""
        return None
