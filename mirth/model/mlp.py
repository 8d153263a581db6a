"""The built-in multi-layer perceptron, and its log likelihood as one function.

Public axes are (data, features). Inside, activations are stored as (features, data), so that the
long axis is contiguous: measured 1.7 times faster on CPUs (``docs/performance.md``).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from mirth.core.types import Key, Params, is_table
from mirth.core.validation import COUNT, Range, check_name, check_ranges
from mirth.model import cpu_kernel
from mirth.model.likelihoods import Likelihood
from mirth.model.terms import ROWS_PER_TERM, group_sums

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}
"""Activations by name."""

# Variance gain of the weights: 2 for relu (He et al. 2015) and its smooth relatives, 1 for those
# that are the identity around zero (LeCun et al. 1998), 16 for the sigmoid, whose slope at zero is
# 1/4. To keep the second moment silu would need 2.8 and tanh 2.5: their ensembles are worse with it
# (docs/performance.md).
_GAINS = {"tanh": 1.0, "identity": 1.0, "elu": 1.0, "sigmoid": 16.0}
_RECTIFIER_GAIN = 2.0


def weight_gain(activation: str) -> float:
    """Give the variance of weights before an activation, times the fan-in."""
    return _GAINS.get(activation, _RECTIFIER_GAIN)


@dataclasses.dataclass(frozen=True)
class MLP:
    r"""Multi-layer perceptron.

    .. math:: h_0 = x, \quad h_{l} = a(W_l h_{l-1} + b_l), \quad o = W_L h_{L-1} + b_L

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(16, 16, 16)
        Width of each hidden layer; an empty tuple makes a linear model.
    num_outputs : int, default=2
        Number of outputs; 2 for a Normal with a noise scale of its own for each row.
    activation : str, default="silu"
        Name of the activation :math:`a`, one of :data:`ACTIVATIONS`. The initialisation fits it:
        weights have variance gain / fan-in with gain 2 for rectifiers, smooth ones too, and 1 for
        tanh.

    Raises
    ------
    TypeError
        If ``hidden_layer_sizes`` is no tuple.
    ValueError
        If a size is not positive or the activation is unknown (the nearest name is suggested).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> net = MLP((16, 16), num_outputs=2)
    >>> x = jnp.ones((7, 5))
    >>> params = jax.jit(net.init)(jax.random.key(0), x)
    >>> net.apply(params, x).shape
    (7, 2)
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"hidden_layer_sizes": COUNT, "num_outputs": COUNT}

    hidden_layer_sizes: tuple[int, ...] = (16, 16, 16)
    num_outputs: int = 2
    activation: str = "silu"

    def __post_init__(self) -> None:
        sizes = self.hidden_layer_sizes
        if not isinstance(sizes, tuple | list):
            raise TypeError(
                f"hidden_layer_sizes={sizes!r} must be a tuple with the width of each hidden "
                "layer, such as (16, 16)."
            )
        object.__setattr__(self, "hidden_layer_sizes", tuple(sizes))
        check_ranges(self, self.RANGES)
        check_name("activation", self.activation, list(ACTIVATIONS))

    def init(self, key: Key, x: Float[Array, "data features"]) -> Params:
        """Draw first parameters: a tuple of ``{"weight": (out, in), "bias": (out,)}``."""
        if not is_table(x):
            shapes = jax.tree.map(jnp.shape, x)
            raise ValueError(
                f"MLP needs x of shape (data, features), got {shapes}; flatten each row with "
                "x.reshape(len(x), -1), or use a network for images such as mirth.networks.LeNet."
            )
        sizes = self.widths(x.shape[1])
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        gains = [weight_gain(self.activation)] * (len(shapes) - 1) + [1.0]
        # One draw for all weights and one for all biases: a draw per layer compiles for seconds.
        weight_key, bias_key = jax.random.split(key)
        normal = jax.random.normal(weight_key, (sum(out * fan_in for out, fan_in in shapes),))
        uniform = jax.random.uniform(bias_key, (sum(sizes[1:]),), minval=-1, maxval=1)
        layers = []
        for (fan_out, fan_in), gain in zip(shapes, gains, strict=True):
            weight, normal = jnp.split(normal, [fan_out * fan_in])
            bias, uniform = jnp.split(uniform, [fan_out])
            weight = math.sqrt(gain / fan_in) * weight.reshape(fan_out, fan_in)
            # Biases are spread so that the kinks of rectifiers do not all lie at the origin.
            layers.append({"weight": weight, "bias": bias / math.sqrt(fan_in)})
        return tuple(layers)

    def apply(
        self, params: Params, x: Float[Array, "data features"]
    ) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        return self._forward(params, x.T)[-1].T

    def widths(self, num_features: int) -> tuple[int, ...]:
        """Give the number of features and the units of each layer."""
        return (num_features, *self.hidden_layer_sizes, self.num_outputs)

    def sum_log_likelihood(
        self,
        likelihood: Likelihood,
        params: Params,
        shared: Float[Array, " shared"],
        x: Float[Array, "data features"],
        y: Shaped[Array, "data ..."],
        weights: Float[Array, " data"] | None,
        rows_per_term: int = ROWS_PER_TERM,
    ) -> tuple[Float[Array, ""], Float[Array, " terms"]]:
        """Sum over rows of the weighted log likelihood, and over groups of rows.

        The sum has a derivative rule of its own; no derivative passes through the groups.
        """
        return _sum_log_likelihood(self, likelihood, rows_per_term, params, shared, x, y, weights)

    def _forward(
        self, params: Params, h: Float[Array, "features data"]
    ) -> list[Float[Array, "units data"]]:
        """Give the pre-activations of all layers, axes (units, data)."""
        act = ACTIVATIONS[self.activation]
        pre_activations: list[Array] = []
        for i, layer in enumerate(params):
            h = act(pre_activations[-1]) if i else h
            pre_activations.append(layer["weight"] @ h + layer["bias"][:, None])
        return pre_activations


def _common_dtype(*trees: Any) -> Any:
    """Type of all leaves, or None if there are several."""
    types = {leaf.dtype for leaf in jax.tree.leaves(trees)}
    return types.pop() if len(types) == 1 else None


def _value_and_slope(act: Callable[[Array], Array], z: Array) -> tuple[Array, Array]:
    """Value and derivative of an elementwise function."""
    return jax.jvp(act, (z,), (jnp.ones_like(z),))


def _likelihood_of_outputs(
    likelihood: Likelihood,
    rows_per_term: int,
    outputs: tuple[Float[Array, " data"], ...],
    shared: Float[Array, " shared"],
    y: Shaped[Array, "data ..."],
    weights: Float[Array, " data"] | None,
) -> tuple[Float[Array, ""], Float[Array, " terms"]]:
    """Sum the log likelihood of outputs given one array per output, of all rows and of groups.

    XLA sees through the stack, so a likelihood that takes ``outputs[..., 0]`` reads one row of
    the last layer; a transposition of the whole array is carried out, and its gradient padded.
    """
    tiled = [jnp.broadcast_to(scalar, y.shape[:1]) for scalar in shared]
    log_prob = likelihood.log_prob(jnp.stack([*outputs, *tiled], axis=-1), y)
    weighted = log_prob if weights is None else weights * log_prob
    return jnp.sum(weighted), group_sums(weighted, rows_per_term)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _sum_log_likelihood(
    network: MLP,
    likelihood: Likelihood,
    rows_per_term: int,
    params: Params,
    shared: Float[Array, " shared"],
    x: Float[Array, "data features"],
    y: Shaped[Array, "data ..."],
    weights: Float[Array, " data"] | None,
) -> tuple[Float[Array, ""], Float[Array, " terms"]]:
    """Summed log likelihood: the seam for a compiled kernel. Nothing outside knows the inside."""
    outputs = tuple(network._forward(params, x.T)[-1])
    _, terms = _likelihood_of_outputs(likelihood, rows_per_term, outputs, shared, y, weights)
    return jnp.sum(terms), terms


def _value_and_gradient(
    network: MLP,
    likelihood: Likelihood,
    rows_per_term: int,
    params: Params,
    shared: Float[Array, " shared"],
    x: Float[Array, "data features"],
    y: Shaped[Array, "data ..."],
    weights: Float[Array, " data"] | None,
) -> tuple[tuple[Float[Array, ""], Float[Array, " terms"]], Any]:
    """Forward rule: the value and its terms, and the gradient as the only residual.

    The output is a scalar, so its gradient can be finished in the forward rule and the backward
    rule has only to scale it. On a CPU a compiled kernel does both passes, if it can.
    """
    inputs, activation = x.T, network.activation
    widths = network.widths(x.shape[1])
    if is_compiled := cpu_kernel.is_fit(activation, widths, _common_dtype(params, x)):
        flat = cpu_kernel.flatten(params)
        kept, outputs = cpu_kernel.forward(flat, inputs, widths, activation)
    else:
        pre_activations = network._forward(params, inputs)
        outputs = pre_activations[-1]
    # The gradient is that of one sum over all rows; the value is that of the groups, so that XLA
    # goes over the rows once.
    (_, terms), (deltas, shared_gradient) = jax.value_and_grad(
        _likelihood_of_outputs, argnums=(2, 3), has_aux=True
    )(likelihood, rows_per_term, tuple(outputs), shared, y, weights)
    delta = jnp.stack(deltas)
    if is_compiled:
        gradient = cpu_kernel.backward(flat, kept, delta, widths, activation)
        gradients = cpu_kernel.unflatten(gradient, widths)
    else:
        gradients = _backward(params, inputs, pre_activations, delta, ACTIVATIONS[activation])
    return (jnp.sum(terms), terms), (tuple(gradients), shared_gradient)


def _backward(
    params: Params,
    inputs: Float[Array, "features data"],
    pre_activations: list[Float[Array, "units data"]],
    delta: Float[Array, "outputs data"],
    act: Callable[[Array], Array],
) -> list[dict[str, Array]]:
    """Gradient with respect to the layers, given that with respect to the outputs."""
    gradients: list[dict[str, Array]] = []
    for i in reversed(range(len(params))):
        h, slope = _value_and_slope(act, pre_activations[i - 1]) if i else (inputs, None)
        # dW_l = delta_l h_{l-1}^T, contracted over the contiguous data axis; db_l = row sums.
        gradients.append(
            {"weight": delta @ h.T, "bias": delta @ jnp.ones(delta.shape[1], delta.dtype)}
        )
        if slope is not None:
            # Without the barrier XLA folds the transposition into the product, which costs more
            # than transposing the small weight matrix (docs/performance.md).
            transposed = jax.lax.optimization_barrier(params[i]["weight"].T)
            delta = (transposed @ delta) * slope
    return gradients[::-1]


def _scale_gradient(
    network: MLP, likelihood: Likelihood, rows_per_term: int, gradients: Any, cotangents: Any
) -> tuple[Any, Any, None, None, None]:
    """Backward rule. Data are constants here: their cotangents are zero."""
    params_bar, shared_bar = jax.tree.map(lambda g: cotangents[0] * g, gradients)
    return params_bar, shared_bar, None, None, None


_sum_log_likelihood.defvjp(_value_and_gradient, _scale_gradient)
