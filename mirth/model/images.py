"""Networks for images, axes (data, height, width, channels): LeNet, and what all of them share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mirth.core.types import Key, Params
from mirth.core.validation import COUNT, Range, check_name, check_ranges
from mirth.model.mlp import ACTIVATIONS, weight_gain

Images = Float[Array, "data height width channels"]
Layer = dict[str, Any]


def convolve(layer: Layer, x: Images, stride: int = 1, padding: str = "SAME") -> Images:
    """Convolve images and add the bias."""
    product = jax.lax.conv_general_dilated(
        x,
        layer["kernel"],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return product + layer["bias"]


def pool(x: Images, *, size: int = 2, by_mean: bool = False, padding: str = "VALID") -> Images:
    """Pool windows, two pixels apart."""
    window, strides = (1, size, size, 1), (1, 2, 2, 1)
    if by_mean:
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, padding) / size**2
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding)


def draw_layers(key: Key, shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float]) -> Any:
    """Draw weights of variance gain / fan-in, and biases of zero; the last axis is that of outputs.

    One draw for all: a draw per layer compiles for seconds.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    normal = jax.random.normal(key, (sum(sizes),))
    layers, start = {}, 0
    for (name, shape), size in zip(shapes.items(), sizes, strict=True):
        scale = math.sqrt(gains.get(name, 1.0) * shape[-1] / size)
        weight = scale * normal[start : start + size].reshape(*shape)
        layers[name] = {"kernel": weight, "bias": jnp.zeros(shape[-1])}
        start += size
    return layers


@dataclasses.dataclass(frozen=True)
class ImageNetwork:
    """What the networks share: outputs, and the normalisation of pixels."""

    RANGES: ClassVar[Mapping[str, Range]] = {"num_outputs": COUNT}

    num_outputs: int = 10
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, int | float):  # a list would not be hashable
                object.__setattr__(self, name, tuple(float(number) for number in value))
        if not all(s > 0 for s in (self.std if isinstance(self.std, tuple) else (self.std,))):
            raise ValueError(f"std={self.std!r} must be positive: the spread of the pixels.")

    def normalise(self, params: Params, x: Images) -> Images:
        """Scale pixels, per channel where mean and std are; give them the type of the weights."""
        dtype = jax.tree.leaves(params)[0].dtype
        return (x.astype(dtype) - jnp.asarray(self.mean, dtype)) / jnp.asarray(self.std, dtype)

    def check_images(self, x: Images, least: int) -> None:
        """Check the axes and the number of channels, and that pooling leaves something."""
        if x.ndim != 4:
            raise ValueError(
                f"{type(self).__name__} needs x of shape (data, height, width, channels), got "
                f"{x.shape}; grey images are x[..., None]."
            )
        if min(x.shape[1:3]) < least:
            raise ValueError(
                f"{type(self).__name__} with these settings needs images of at least {least} x "
                f"{least} pixels, got {x.shape[1]} x {x.shape[2]}."
            )
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) not in (1, x.shape[3]):
                raise ValueError(
                    f"{name} has {len(value)} numbers for images of {x.shape[3]} channels; pass "
                    "one number, or one for each channel."
                )


@dataclasses.dataclass(frozen=True)
class LeNet(ImageNetwork):
    """Convolutional network in the form of LeNet-5 (LeCun et al. 1998).

    Two convolutions, the first padded, each followed by the activation and 2 x 2 average pooling;
    then a multi-layer perceptron. With its defaults it has 61 706 parameters for images of
    28 x 28 x 1, as the network that the papers on microcanonical sampling use for Fashion-MNIST.

    Parameters
    ----------
    num_outputs : int, default=10
        Number of outputs: classes, for :class:`Categorical`.
    mean, std : float or tuple of float, default=0 and 1
        Mean and standard deviation of the pixels, one for all channels or one each; the network
        subtracts and divides itself.
    channels : tuple of int, default=(6, 16)
        Channels of the two convolutions.
    kernel_size : int, default=5
        Height and width of their kernels.
    hidden_layer_sizes : tuple of int, default=(120, 84)
        Width of each hidden layer after them.
    activation : str, default="gelu"
        Name of the activation, one of ``mirth.model.ACTIVATIONS``. The initialisation fits it.

    Raises
    ------
    ValueError
        If a size is not positive, the activation is unknown, or (from ``init``) images do not fit.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> network = LeNet(num_outputs=10, mean=0.29, std=0.35)
    >>> x = jnp.ones((2, 28, 28, 1))
    >>> params = jax.eval_shape(network.init, jax.random.key(0), x)
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    61706
    >>> jax.eval_shape(network.apply, params, x).shape
    (2, 10)
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "num_outputs": COUNT,
        "channels": COUNT,
        "kernel_size": COUNT,
        "hidden_layer_sizes": COUNT,
    }

    channels: tuple[int, int] = (6, 16)
    kernel_size: int = 5
    hidden_layer_sizes: tuple[int, ...] = (120, 84)
    activation: str = "gelu"

    def __post_init__(self) -> None:
        for name in ("channels", "hidden_layer_sizes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        super().__post_init__()
        check_name("activation", self.activation, list(ACTIVATIONS))
        if len(self.channels) != 2:
            raise ValueError(f"channels={self.channels!r} must have two numbers, such as (6, 16).")

    def init(self, key: Key, x: Images) -> Params:
        """Draw first parameters: ``{"conv_0": {"kernel": (h, w, in, out), "bias": (out,)}, ...}``.

        Dense layers have weights of shape (in, out).
        """
        self.check_images(x, 2 * (self.kernel_size + 1))
        first, second = self.channels
        pixels = math.prod((n // 2 - self.kernel_size + 1) // 2 for n in x.shape[1:3])
        sizes = (pixels * second, *self.hidden_layer_sizes, self.num_outputs)
        kernel = (self.kernel_size, self.kernel_size)
        shapes: dict[str, Sequence[int]] = {
            "conv_0": (*kernel, x.shape[3], first),
            "conv_1": (*kernel, first, second),
        }
        shapes |= {f"dense_{i}": sizes[i : i + 2] for i in range(len(sizes) - 1)}
        *hidden, _ = shapes
        return draw_layers(key, shapes, dict.fromkeys(hidden, weight_gain(self.activation)))

    def apply(self, params: Params, x: Images) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        act = ACTIVATIONS[self.activation]
        h = pool(act(convolve(params["conv_0"], self.normalise(params, x))), by_mean=True)
        h = pool(act(convolve(params["conv_1"], h, padding="VALID")), by_mean=True)
        h = h.reshape(h.shape[0], -1)
        for i in range(len(self.hidden_layer_sizes) + 1):
            layer = params[f"dense_{i}"]
            h = (act(h) if i else h) @ layer["kernel"] + layer["bias"]
        return h
