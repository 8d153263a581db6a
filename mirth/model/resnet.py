"""Residual networks for images, with filter response normalisation.

Batch normalisation ties the rows of a batch together, so a log likelihood would be no sum over rows
any more; filter response normalisation looks at one image at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mirth.core.types import Key, Params
from mirth.core.validation import COUNT, POSITIVE, Range
from mirth.model.images import ImageNetwork, Images, Layer, convolve, draw_layers, pool

_RECTIFIER_GAIN = 2.0


def filter_response_norm(
    x: Images,
    gamma: Float[Array, " channels"],
    beta: Float[Array, " channels"],
    epsilon: Float[Array, ""] | float,
) -> Images:
    r"""Normalise every channel of every image by its own mean square.

    .. math:: \nu^2 = \frac{1}{HW} \sum_{h, w} x_{hw}^2, \quad
              y_{hw} = \gamma \frac{x_{hw}}{\sqrt{\nu^2 + |\epsilon|}} + \beta

    Singh and Krishnan (2020), "Filter response normalization layer", equations 1 to 3.

    Parameters
    ----------
    x : array of shape (data, height, width, channels)
        What a convolution gives.
    gamma, beta : array of shape (channels,)
        Scale and shift.
    epsilon : scalar
        Keeps channels that are nearly zero from being blown up.

    Returns
    -------
    array of shape (data, height, width, channels)
        Normalised channels.

    Examples
    --------
    >>> x = jnp.array([3.0, 4.0]).reshape(1, 2, 1, 1)
    >>> filter_response_norm(x, jnp.ones(1), jnp.zeros(1), 0.0).ravel() * 12.5**0.5
    Array([3., 4.], dtype=float32)
    """
    mean_square = jnp.mean(x**2, axis=(1, 2), keepdims=True)
    return gamma * x * jax.lax.rsqrt(mean_square + jnp.abs(epsilon)) + beta


@dataclasses.dataclass(frozen=True)
class ResidualNetwork(ImageNetwork):
    """What the residual networks share: units of convolution and normalisation.

    A unit is a convolution with bias, a filter response normalisation, and the thresholded linear
    unit max(y, tau). Its parameters are ``kernel``, ``bias``, ``gamma``, ``beta``, ``tau``, and
    ``epsilon`` if that is sampled.
    """

    RANGES: ClassVar[Mapping[str, Range]] = {"num_outputs": COUNT, "epsilon": POSITIVE}

    epsilon: float = 1e-6
    sample_epsilon: bool = False

    def draw(
        self,
        key: Key,
        convolutions: Mapping[str, tuple[int, int, int]],
        without_threshold: tuple[str, ...] = (),
    ) -> Params:
        """Draw convolutions, given kernel size and channels of each, and a dense layer."""
        shapes: dict[str, tuple[int, ...]] = {
            name: (size, size, before, after)
            for name, (size, before, after) in convolutions.items()
        }
        width = list(convolutions.values())[-1][2]
        shapes["dense"] = (width, self.num_outputs)
        layers = draw_layers(key, shapes, dict.fromkeys(convolutions, _RECTIFIER_GAIN))
        for name, (_, _, channels) in convolutions.items():
            layers[name] |= {"gamma": jnp.ones(channels), "beta": jnp.zeros(channels)}
            if name not in without_threshold:
                layers[name]["tau"] = jnp.zeros(channels)
            if self.sample_epsilon:
                layers[name]["epsilon"] = jnp.full((), self.epsilon)
        return layers

    def normalised(self, layer: Layer, x: Images, stride: int = 1) -> Images:
        """Convolve and normalise."""
        epsilon = layer["epsilon"] if self.sample_epsilon else self.epsilon
        return filter_response_norm(
            convolve(layer, x, stride), layer["gamma"], layer["beta"], epsilon
        )

    def unit(self, layer: Layer, x: Images, stride: int = 1) -> Images:
        """Convolve, normalise, and cut off below the threshold."""
        return jnp.maximum(self.normalised(layer, x, stride), layer["tau"])

    def block(self, params: Params, name: str, x: Images, stride: int = 1) -> Images:
        """Add two units to their input; the second threshold comes after the sum."""
        first, second = params[f"{name}_conv_0"], params[f"{name}_conv_1"]
        h = self.normalised(second, self.unit(first, x, stride))
        if f"{name}_shortcut" in params:
            x = self.normalised(params[f"{name}_shortcut"], x, stride)
        return jnp.maximum(x + h, second["tau"])

    def finish(self, params: Params, h: Images) -> Float[Array, "data outputs"]:
        """Average over pixels; the last layer."""
        return jnp.mean(h, axis=(1, 2)) @ params["dense"]["kernel"] + params["dense"]["bias"]


@dataclasses.dataclass(frozen=True)
class ResNet7(ResidualNetwork):
    """Residual network of six convolutions and a dense layer, 428 266 parameters for CIFAR-10.

    Convolutions of 3 x 3 with 32, 64 (pool), 64 (pool), 128 (pool), then a residual block of two
    with 128 channels; the mean over pixels; a dense layer. Pools are 2 x 2, by maximum. Sizes are
    those of the network that the papers on stochastic microcanonical sampling use; they leave open
    which layers are pooled, which is a choice made here.

    Parameters
    ----------
    num_outputs : int, default=10
        Number of outputs: classes, for :class:`Categorical`.
    mean, std : float or tuple of float, default=0 and 1
        Mean and standard deviation of the pixels, one for all channels or one each; the network
        subtracts and divides itself.
    epsilon : float, default=1e-6
        What is added to the mean square in the normalisation.
    sample_epsilon : bool, default=False
        Whether every normalisation samples an epsilon of its own, which starts at ``epsilon`` and
        enters as its absolute value: 428 272 parameters, as the papers have it. A fixed one is the
        default: the prior N(0, 1) is 10^6 times wider than where the start is, and the density has
        a kink at 0, which a sampler with gradients does not expect.

    Raises
    ------
    ValueError
        If a number is out of its range, or (from ``init``) images have fewer than 16 x 16 pixels:
        the normalisation of a single pixel would only keep its sign.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> network, x = ResNet7(), jnp.ones((2, 32, 32, 3))
    >>> params = jax.eval_shape(network.init, jax.random.key(0), x)
    >>> sum(leaf.size for leaf in jax.tree.leaves(params))
    428266
    """

    def init(self, key: Key, x: Images) -> Params:
        """Draw first parameters: a dict of layers."""
        self.check_images(x, 16)
        channels = (x.shape[3], 32, 64, 64, 128)
        pairs = zip(channels[:-1], channels[1:], strict=True)
        convolutions = {f"conv_{i}": (3, *pair) for i, pair in enumerate(pairs)}
        convolutions |= {f"block_conv_{i}": (3, 128, 128) for i in range(2)}
        return self.draw(key, convolutions)

    def apply(self, params: Params, x: Images) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        h = self.unit(params["conv_0"], self.normalise(params, x))
        for i in (1, 2, 3):
            h = pool(self.unit(params[f"conv_{i}"], h))
        return self.finish(params, self.block(params, "block", h))


@dataclasses.dataclass(frozen=True)
class ResNet18(ResidualNetwork):
    """Residual network of 18 layers (He et al. 2016), 11.2 million parameters for CIFAR-10.

    A convolution of 3 x 3 and a 3 x 3 pool with stride 2, as the papers on stochastic
    microcanonical sampling have it for images of 32 x 32; four stages of two residual blocks with
    64, 128, 256 and 512 channels; the mean over pixels; a dense layer. Where a block changes the
    shape, its input goes through a 1 x 1 convolution and a normalisation.

    Parameters
    ----------
    num_outputs : int, default=10
        Number of outputs: classes, for :class:`Categorical`.
    mean, std : float or tuple of float, default=0 and 1
        Mean and standard deviation of the pixels, one for all channels or one each; the network
        subtracts and divides itself.
    epsilon : float, default=1e-6
        What is added to the mean square in the normalisation.
    sample_epsilon : bool, default=False
        Whether every normalisation samples an epsilon of its own; see :class:`ResNet7`.

    Raises
    ------
    ValueError
        If a number is out of its range, or (from ``init``) images have fewer than 17 x 17 pixels.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> network, x = ResNet18(num_outputs=10), jnp.ones((2, 32, 32, 3))
    >>> params = jax.eval_shape(network.init, jax.random.key(0), x)
    >>> round(sum(leaf.size for leaf in jax.tree.leaves(params)) / 1e6, 1)
    11.2
    """

    def init(self, key: Key, x: Images) -> Params:
        """Draw first parameters: a dict of layers."""
        self.check_images(x, 17)
        convolutions = {"conv": (3, x.shape[3], 64)}
        before = 64
        for name, after, stride in _blocks():
            convolutions[f"{name}_conv_0"] = (3, before, after)
            convolutions[f"{name}_conv_1"] = (3, after, after)
            if stride > 1:
                convolutions[f"{name}_shortcut"] = (1, before, after)
            before = after
        shortcuts = tuple(name for name in convolutions if name.endswith("shortcut"))
        return self.draw(key, convolutions, without_threshold=shortcuts)

    def apply(self, params: Params, x: Images) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        h = pool(self.unit(params["conv"], self.normalise(params, x)), size=3, padding="SAME")
        for name, _, stride in _blocks():
            h = self.block(params, name, h, stride)
        return self.finish(params, h)


def _blocks() -> list[tuple[str, int, int]]:
    """Name, channels and stride of the blocks of ResNet-18."""
    return [
        (f"stage_{stage}_{i}", 64 * 2**stage, 2 if stage and not i else 1)
        for stage in range(4)
        for i in range(2)
    ]
