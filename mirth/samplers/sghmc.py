r"""Stochastic-gradient Hamiltonian Monte Carlo (SGHMC), plain and scale-adapted.

One step moves along the momentum, takes one gradient at the new position, and turns and refreshes
the momentum with it. Nothing is accepted or rejected.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from mirth.core.trees import tree_normal, tree_select
from mirth.core.types import Key, LogDensityFn
from mirth.core.validation import NON_NEGATIVE, POSITIVE, Range
from mirth.samplers.adaptation import StepInfo
from mirth.samplers.stochastic import as_leaf, keep_if_finite


class GradientMoments(NamedTuple):
    """Running moments of the gradient, each like the position.

    Parameters
    ----------
    window : pytree
        Length tau of the memory, in steps.
    mean : pytree
        Mean of the gradient.
    square : pytree
        Mean V of the squared gradient.
    """

    window: PyTree
    mean: PyTree
    square: PyTree


class SGHMCState(NamedTuple):
    """What the next step needs.

    Parameters
    ----------
    position : pytree
        Position theta.
    momentum : pytree
        Momentum u in units of the square root of the mass: N(0, T) for small steps.
    logdensity : scalar
        Log density at the position, of the mini-batch of the last step.
    moments : GradientMoments or None
        Running moments of the gradient; None without adaptation.
    """

    position: PyTree
    momentum: PyTree
    logdensity: Float[Array, ""]
    moments: GradientMoments | None


class SGHMC(eqx.Module):
    r"""Stochastic-gradient Hamiltonian Monte Carlo.

    With the gradient g of the log density of a mini-batch, scaled to the whole data set, and
    elementwise in all variables,

    .. math::
        \theta' = \theta + \epsilon M^{-1/2} u, \qquad
        u' = (1 - \alpha) u + \epsilon M^{-1/2} g(\theta') + \sigma z, \qquad
        \sigma^2 = \max(0,\; 2 \alpha T - \epsilon^2 M^{-1} B), \qquad z \sim N(0, I)

    where :math:`\epsilon` is ``step_size``, :math:`\alpha` is ``friction``, T is ``temperature``
    and B is the variance of the gradient noise. This is [1]_, algorithm 2, with friction matrix
    :math:`C = \alpha M / \epsilon` and noise estimate :math:`\hat B = \epsilon B / 2`. Plain
    SGHMC has M = 1 and B = ``noise_variance``. Scale-adapted SGHMC [2]_ has :math:`M = V^{1/2}`,
    B = V and

    .. math:: \tau' = 1 + \tau (1 - m^2 / V), \quad
              m' = m + (g - m) / (\tau + 1), \quad V' = V + (g^2 - V) / (\tau + 1)

    from 1, 1 and 1, until :meth:`frozen` ends the adaptation; new moments serve from the next step
    on. The momentum is [2]_'s times :math:`M^{1/2} / \epsilon`, so it keeps its scale when the step
    size changes.

    Where the gradient noise alone is more than the friction takes out,
    :math:`\epsilon^2 M^{-1} B > 2 \alpha T`, the variance :math:`\sigma^2` is 0 and the chain is
    too hot there. For plain SGHMC with numbers as arguments this is an error.

    Bias. For plain SGHMC, a Normal target of variance :math:`s^2` and gradient noise of variance
    :math:`B_0`, the stationary variance is

    .. math:: s^2\, \frac{T + \epsilon^2 (B_0 - B) / (2 \alpha)}
                         {1 - \epsilon^2 / (2 s^2 (2 - \alpha))}

    and the chain is stable for :math:`\epsilon^2 < 2 s^2 (2 - \alpha)`. With adaptation, as in
    [2]_, V is the mean square of the gradient, so that the signal in it counts as noise: the chain
    is too cold by a factor of about :math:`1 - \epsilon^2 (V - B_0) V^{-1/2} / (2 \alpha T)`.

    A step costs one gradient, taken where the step ends.

    Parameters
    ----------
    step_size : scalar
        Step size :math:`\epsilon`. With friction 1 the chain is SGLD with step size
        :math:`\epsilon^2`.
    friction : scalar, default=0.05
        Share :math:`\alpha` of the momentum that a step takes away, in (0, 1].
    temperature : scalar, default=1.0
        T: the target is the density to the power of 1 / T. At 0 the step is gradient ascent with
        momentum.
    noise_variance : scalar, default=0.0
        Variance B of one coordinate of the gradient noise; plain SGHMC only.
    adaptive : bool, default=False
        Scale-adapted SGHMC.

    Raises
    ------
    ValueError
        If a number is outside its range, if the variance of the noise would be negative, or if
        ``noise_variance`` is given with ``adaptive``.

    References
    ----------
    .. [1] Chen, Fox and Guestrin, "Stochastic gradient Hamiltonian Monte Carlo", ICML 2014, arXiv
       1402.4102.
    .. [2] Springenberg et al., "Bayesian optimization with robust Bayesian neural networks",
       NeurIPS 2016, equations 7 to 10.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> logdensity = lambda x: -0.5 * jnp.sum(x**2)
    >>> sampler = SGHMC(step_size=0.1, adaptive=True)
    >>> state = sampler.init(jnp.ones(10), logdensity, jax.random.key(0))
    >>> state, info = sampler.step(jax.random.key(1), state, logdensity)
    >>> bool(info.is_divergent)
    False
    >>> after, _ = sampler.frozen().step(jax.random.key(2), state, logdensity)
    >>> bool(jnp.all(after.moments.square == state.moments.square))
    True
    """

    step_size: Float[Array, ""]
    friction: Float[Array, ""]
    temperature: Float[Array, ""]
    noise_variance: Float[Array, ""]
    is_adapting: Bool[Array, ""]
    adaptive: bool = eqx.field(static=True)

    def __init__(
        self,
        step_size: float | Float[Array, ""],
        friction: float | Float[Array, ""] = 0.05,
        temperature: float | Float[Array, ""] = 1.0,
        noise_variance: float | Float[Array, ""] = 0.0,
        adaptive: bool = False,
    ):
        self.step_size = as_leaf("step_size", step_size, POSITIVE)
        self.friction = as_leaf("friction", friction, Range(low=0, high=1, low_open=True))
        self.temperature = as_leaf("temperature", temperature, NON_NEGATIVE)
        self.noise_variance = as_leaf("noise_variance", noise_variance, NON_NEGATIVE)
        given = (step_size, friction, temperature, noise_variance)
        if all(isinstance(value, int | float) for value in given):
            if adaptive and noise_variance != 0:
                raise ValueError(
                    f"noise_variance={noise_variance} has no meaning with adaptive=True, which "
                    "estimates it; leave it at 0."
                )
            if step_size**2 * noise_variance > 2 * friction * temperature:
                raise ValueError(
                    f"noise_variance={noise_variance} with step_size={step_size} is more than the "
                    "friction takes out: step_size**2 * noise_variance may be at most 2 * friction "
                    f"* temperature = {2 * friction * temperature:g}. Use a smaller step_size."
                )
        self.is_adapting = jnp.asarray(adaptive)
        self.adaptive = adaptive

    def init(self, position: PyTree, logdensity_fn: LogDensityFn, key: Key) -> SGHMCState:
        """Start at a position with a random momentum; adaptation has seen the gradient there."""
        logdensity, gradient = jax.value_and_grad(logdensity_fn)(position)
        moments = None
        if self.adaptive:
            ones = jax.tree.map(jnp.ones_like, position)
            moments = _update(GradientMoments(ones, ones, ones), gradient)
        state = SGHMCState(position, position, logdensity, moments)
        return self.resample_momentum(key, state)

    def resample_momentum(self, key: Key, state: SGHMCState) -> SGHMCState:
        """Draw the momentum anew from N(0, T), as [1]_ allows between steps."""
        (noise,) = tree_normal(key, state.position, 1)
        return state._replace(momentum=self._momentum(noise))

    def frozen(self) -> SGHMC:
        """End the adaptation: the same sampler, whose steps leave the moments as they are."""
        return eqx.tree_at(lambda s: s.is_adapting, self, jnp.zeros_like(self.is_adapting))

    def step(
        self, key: Key, state: SGHMCState, logdensity_fn: LogDensityFn
    ) -> tuple[SGHMCState, StepInfo]:
        """Take one step; a proposal that is not finite anywhere is reverted as a whole."""
        noise, fresh = tree_normal(key, state.momentum, 2)
        root_mass, noise_variance = self._mass(state)
        position = jax.tree.map(
            lambda x, u, r: x + self.step_size / r * u, state.position, state.momentum, root_mass
        )
        logdensity, gradient = jax.value_and_grad(logdensity_fn)(position)

        def turn(u: Array, g: Array, z: Array, r: Array, b: Array) -> Array:
            rate = self.step_size / r
            variance = 2 * self.friction * self.temperature - rate**2 * b
            return (1 - self.friction) * u + rate * g + jnp.sqrt(jnp.maximum(variance, 0)) * z

        momentum = jax.tree.map(turn, state.momentum, gradient, noise, root_mass, noise_variance)
        moments = state.moments
        if moments is not None:
            moments = tree_select(self.is_adapting, _update(moments, gradient), moments)
        # The momentum led to where the density has no value: another one is drawn.
        fallback = state._replace(momentum=self._momentum(fresh))
        proposal = SGHMCState(position, momentum, logdensity, moments)
        return keep_if_finite(proposal, fallback, self.step_size, gradient)

    def _momentum(self, noise: PyTree) -> PyTree:
        """Scale standard Normal numbers to the temperature."""
        return jax.tree.map(lambda z: jnp.sqrt(self.temperature) * z, noise)

    def _mass(self, state: SGHMCState) -> tuple[PyTree, PyTree]:
        """Give the square root of the mass M and the variance B of the gradient noise."""
        if state.moments is None:
            ones = jax.tree.map(jnp.ones_like, state.position)
            return ones, jax.tree.map(lambda one: self.noise_variance * one, ones)
        # A parameter without any gradient would have no mass; the root of the smallest number has.
        root = jax.tree.map(
            lambda v: jnp.maximum(v, jnp.finfo(v.dtype).tiny) ** 0.25, state.moments.square
        )
        return root, state.moments.square


def _update(moments: GradientMoments, gradient: PyTree) -> GradientMoments:
    """Add one gradient to the running moments."""
    window, mean, square = moments
    return GradientMoments(
        window=jax.tree.map(
            # V becomes 0 by underflow only, where all gradients are 0; m is 0 there too.
            lambda t, m, v: 1 + t * (1 - m**2 / jnp.where(v > 0, v, 1)),
            window,
            mean,
            square,
        ),
        mean=jax.tree.map(lambda t, m, g: m + (g - m) / (t + 1), window, mean, gradient),
        square=jax.tree.map(lambda t, v, g: v + (g**2 - v) / (t + 1), window, square, gradient),
    )
