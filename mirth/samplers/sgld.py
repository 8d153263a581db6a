r"""Stochastic-gradient Langevin dynamics (SGLD), plain and with an RMSprop preconditioner.

One step moves along the gradient of the present mini-batch and adds Normal noise. Nothing is
accepted or rejected, so the stationary density depends on the step size and on the gradient noise:
see :class:`SGLD`.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mirth.core.trees import tree_all_finite, tree_normal, tree_select
from mirth.core.types import Key, LogDensityFn
from mirth.core.validation import NON_NEGATIVE, POSITIVE, Range, check_name
from mirth.samplers.adaptation import StepInfo
from mirth.samplers.stochastic import as_leaf, keep_if_finite

_PRECONDITIONERS = ("rmsprop",)


class SGLDState(NamedTuple):
    """What the next step needs.

    Parameters
    ----------
    position : pytree
        Position theta.
    origin : pytree
        Position at which the last finite gradient was taken. Whether the density at ``position`` is
        finite is known only when the next step takes its gradient there; if it is not, the chain
        goes back to here.
    logdensity : scalar
        Log density at the origin, of the mini-batch of that gradient.
    second_moment : pytree or None
        Running second moment V of the gradient; None without a preconditioner.
    """

    position: PyTree
    origin: PyTree
    logdensity: Float[Array, ""]
    second_moment: PyTree


class SGLD(eqx.Module):
    r"""Stochastic-gradient Langevin dynamics.

    With the gradient g of the log density of a mini-batch, scaled to the whole data set,

    .. math:: \theta' = \theta + \epsilon\, G g + \sqrt{2 \epsilon T}\, G^{1/2} z,
              \qquad z \sim N(0, I)

    where :math:`\epsilon` is ``step_size``, T is ``temperature``, and G = I, or with RMSprop [2]_,
    elementwise,

    .. math:: V' = \beta V + (1 - \beta)\, g^2, \qquad G = 1 / (\lambda + \sqrt{V'})

    with :math:`\beta` = ``decay`` and :math:`\lambda` = ``damping``. V starts at the square of the
    gradient at ``init``. Half of the :math:`\epsilon` in [1]_ and [2]_ is the one here. The g in V
    of [2]_ is a mean over rows, not their sum: its G is larger by the number of rows.

    Bias. For G = I, a Normal target of variance :math:`s^2` and gradient noise of variance
    :math:`\sigma^2`, the stationary variance is

    .. math:: s^2\, \frac{T + \epsilon \sigma^2 / 2}{1 - \epsilon / (2 s^2)}

    and the chain is stable for :math:`\epsilon < 2 s^2`. With RMSprop the term
    :math:`\Gamma_i = \sum_j \partial G_{ij} / \partial \theta_j` of the exact dynamics is left out,
    as [2]_ does in practice, and G depends on the gradient that it multiplies. The bias is small
    where the memory of V, :math:`1 / (1 - \beta)` steps, is long against the autocorrelation time
    of the chain, so it grows when the step size falls: for small steps at a fixed :math:`\beta` the
    stationary density tends to p / G with G of the local gradient, which on a Normal target with
    exact gradients and small :math:`\lambda` has twice the variance.

    ``temperature=0`` gives gradient ascent, the exploration of cyclical SGLD [3]_. A step costs one
    gradient, taken where the step starts; the log density in Info is the one there.

    Parameters
    ----------
    step_size : scalar
        Step size :math:`\epsilon`.
    temperature : scalar, default=1.0
        T: the target is the density to the power of 1 / T.
    preconditioner : {None, "rmsprop"}, default=None
        None for G = I.
    decay : scalar, default=0.99
        :math:`\beta` in [0, 1); only with RMSprop.
    damping : scalar, default=1e-5
        :math:`\lambda`, in units of the gradient of the whole data set; only with RMSprop.

    Raises
    ------
    ValueError
        If a number is outside its range, or the preconditioner is unknown.

    References
    ----------
    .. [1] Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics",
       ICML 2011, equation 4.
    .. [2] Li et al., "Preconditioned stochastic gradient Langevin dynamics for deep neural
       networks", AAAI 2016, arXiv 1512.07666, algorithm 1.
    .. [3] Zhang et al., "Cyclical stochastic gradient MCMC for Bayesian deep learning", ICLR 2020,
       arXiv 1902.03932.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> logdensity = lambda x: -0.5 * jnp.sum(x**2)
    >>> sampler = SGLD(step_size=0.1)
    >>> state = sampler.init(jnp.ones(10), logdensity, jax.random.key(0))
    >>> state, info = sampler.step(jax.random.key(1), state, logdensity)
    >>> float(info.logdensity), bool(info.is_divergent)
    (-5.0, False)
    """

    step_size: Float[Array, ""]
    temperature: Float[Array, ""]
    decay: Float[Array, ""]
    damping: Float[Array, ""]
    preconditioner: str | None = eqx.field(static=True)

    def __init__(
        self,
        step_size: float | Float[Array, ""],
        temperature: float | Float[Array, ""] = 1.0,
        preconditioner: str | None = None,
        decay: float | Float[Array, ""] = 0.99,
        damping: float | Float[Array, ""] = 1e-5,
    ):
        if preconditioner is not None:
            check_name("preconditioner", preconditioner, _PRECONDITIONERS)
        self.step_size = as_leaf("step_size", step_size, POSITIVE)
        self.temperature = as_leaf("temperature", temperature, NON_NEGATIVE)
        self.decay = as_leaf("decay", decay, Range(low=0, high=1, high_open=True))
        self.damping = as_leaf("damping", damping, POSITIVE)
        self.preconditioner = preconditioner

    def init(self, position: PyTree, logdensity_fn: LogDensityFn, key: Key) -> SGLDState:
        """Start at a position; nothing is drawn, so the key, which all samplers take, is unused."""
        logdensity, gradient = jax.value_and_grad(logdensity_fn)(position)
        squares = None if self.preconditioner is None else jax.tree.map(jnp.square, gradient)
        return SGLDState(position, position, logdensity, squares)

    def step(
        self, key: Key, state: SGLDState, logdensity_fn: LogDensityFn
    ) -> tuple[SGLDState, StepInfo]:
        """Take one step; what is not finite anywhere is reverted as a whole."""
        here = state.position
        logdensity, gradient = jax.value_and_grad(logdensity_fn)(here)
        (noise,) = tree_normal(key, here, 1)
        drift, second_moment = gradient, state.second_moment
        if self.preconditioner is not None:
            second_moment = jax.tree.map(
                lambda v, g: self.decay * v + (1 - self.decay) * g**2, second_moment, gradient
            )
            metric = jax.tree.map(lambda v: 1 / (self.damping + jnp.sqrt(v)), second_moment)
            drift = jax.tree.map(jnp.multiply, metric, gradient)
            noise = jax.tree.map(lambda m, z: jnp.sqrt(m) * z, metric, noise)
        amplitude = jnp.sqrt(2 * self.temperature * self.step_size)
        there = jax.tree.map(
            lambda x, d, z: x + self.step_size * d + amplitude * z, here, drift, noise
        )
        # If the gradient is finite, it is the move from here that failed; if not, the one to here.
        fallback = tree_select(
            tree_all_finite(logdensity, gradient),
            state._replace(origin=here, logdensity=logdensity),
            state._replace(position=state.origin),
        )
        proposal = SGLDState(there, here, logdensity, second_moment)
        return keep_if_finite(proposal, fallback, self.step_size, gradient)
