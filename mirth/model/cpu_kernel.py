"""The fused forward and backward pass of a small MLP on a CPU, compiled on the user's machine.

XLA runs a small network as a chain of small operations, each of which goes through memory. The
kernel in ``cpu_kernel.cc`` takes a block of rows through all layers while it is in the cache
(figures: ``docs/performance.md``). It is compiled at its first use, by whatever C++ compiler the
machine has, for the processor of that machine and the activation at hand, and kept in the user's
cache folder. Where there is no compiler everything works as before, by XLA.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mirth.core.compiled_programs import processor
from mirth.core.folders import user_cache
from mirth.core.validation import check_name

ACTIVATIONS = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "gelu": "Gelu",
    "silu": "Silu",
    "softplus": "Softplus",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "identity": "Identity",
}
"""Activations that the kernel knows, and what ``cpu_activations.h`` calls them."""
_KEEPS_SLOPE = ("gelu", "silu", "softplus")  # as kKeepsSlope there
MAX_WIDTH = 128
"""Widest layer: the lead over XLA shrinks with the width; beyond this it is unmeasured."""

_SOURCES = [
    Path(__file__).with_name(name)
    for name in ("cpu_kernel.cc", "cpu_activations.h", "cpu_vectors.h")
]
_VARIABLE = "MIRTH_CPU_KERNEL"
_BLOCK = 384  # rows; 4 x 96, the columns of a tile
_SYMBOLS = {"forward": "MirthMlpForward", "backward": "MirthMlpBackward"}
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w")

Layers = Sequence[dict[str, Array]]


class KernelError(RuntimeError):
    """The kernel is required but cannot be had."""


def setting() -> str:
    """Give what ``MIRTH_CPU_KERNEL`` asks for, unchecked: a program is traced for one setting.

    Examples
    --------
    >>> setting() in ("auto", "off", "required")
    True
    """
    return os.environ.get(_VARIABLE) or "auto"


def status(activation: str = "silu") -> str:
    """Say whether the compiled kernel is in use, and if not, why.

    Parameters
    ----------
    activation : str, default="silu"
        One of :data:`ACTIVATIONS`; each has a library of its own, compiled when it is asked for.

    Returns
    -------
    str
        ``"compiled"``, or ``"not used: "`` and the reason.

    Raises
    ------
    KernelError
        If ``MIRTH_CPU_KERNEL`` says ``required`` and the kernel cannot be had.
    ValueError
        If the variable has another value.

    Notes
    -----
    ``MIRTH_CPU_KERNEL`` chooses: ``auto`` (use it if it can be had, the default), ``off``, or
    ``required`` (an error if it cannot be had).

    Examples
    --------
    >>> status().startswith(("compiled", "not used"))
    True
    """
    wish = setting()
    check_name(_VARIABLE, wish, ("auto", "off", "required"))
    if wish == "off":
        return f"not used: {_VARIABLE}=off"
    reason = _load(activation)
    if reason and wish == "required":
        raise KernelError(f"{_VARIABLE}=required, but the kernel cannot be had: {reason}")
    return f"not used: {reason}" if reason else "compiled"


def is_fit(activation: str, widths: Sequence[int], dtype: Any) -> bool:
    """Tell whether the kernel can, and should, run a network.

    Parameters
    ----------
    activation : str
        Name of the activation.
    widths : sequence of int
        Features of the inputs and units of each layer.
    dtype : dtype or None
        Type of the parameters and the inputs; None if they differ.

    Returns
    -------
    bool
        Whether the kernel knows the activation and the type, is fast for the widths, and is there.
    """
    return (
        jax.default_backend() == "cpu"
        and activation in ACTIVATIONS
        and max(widths) <= MAX_WIDTH
        and dtype in (jnp.float32, jnp.float64)
        and status(activation) == "compiled"
    )


def kept_numbers(activation: str, widths: Sequence[int]) -> int:
    """Give how many numbers the backward pass needs of a row: inputs, hidden units, their slopes.

    Examples
    --------
    >>> kept_numbers("relu", (5, 16, 2)), kept_numbers("silu", (5, 16, 2))
    (21, 37)
    """
    return widths[0] + (1 + (activation in _KEEPS_SLOPE)) * sum(widths[1:-1])


def flatten(layers: Layers) -> Float[Array, " parameters"]:
    """Put the parameters into one vector: of each layer the biases, then the weights.

    That is the order in which a sampler keeps them, so XLA finds that nothing is to be done.
    """
    return jnp.concatenate(
        [leaf.ravel() for layer in layers for leaf in (layer["bias"], layer["weight"])]
    )


def unflatten(flat: Float[Array, " parameters"], widths: Sequence[int]) -> list[dict[str, Array]]:
    """Undo :func:`flatten`."""
    layers, start = [], 0
    for inputs, units in zip(widths[:-1], widths[1:], strict=True):
        middle = start + units
        end = middle + units * inputs
        weight = flat[middle:end].reshape(units, inputs)
        layers.append({"weight": weight, "bias": flat[start:middle]})
        start = end
    return layers


def forward(
    flat: Float[Array, " parameters"],
    x: Float[Array, "features data"],
    widths: Sequence[int],
    activation: str,
) -> tuple[Float[Array, " buffer"], Float[Array, "outputs data"]]:
    """Compute the outputs, and the activations that the backward pass needs.

    Parameters
    ----------
    flat : array, shape (parameters,)
        Parameters, see :func:`flatten`.
    x : array, shape (features, data)
        Inputs.
    widths : sequence of int
        Features of the inputs and units of each layer.
    activation : str
        One of :data:`ACTIVATIONS`.

    Returns
    -------
    tuple
        Buffer for :func:`backward`, and the outputs of the last layer, shape (outputs, data).
    """
    data = x.shape[1]
    padded = -(-data // _BLOCK) * _BLOCK
    shapes = ((padded * kept_numbers(activation, widths),), (widths[-1], data))
    kept, outputs = _call("forward", shapes, widths, activation, flat, x)
    return kept, outputs


def backward(
    flat: Float[Array, " parameters"],
    activations: Float[Array, " buffer"],
    delta: Float[Array, "outputs data"],
    widths: Sequence[int],
    activation: str,
) -> Float[Array, " parameters"]:
    """Compute the gradient with respect to the parameters.

    Parameters
    ----------
    flat, widths, activation
        As in :func:`forward`.
    activations : array
        The buffer of :func:`forward`.
    delta : array, shape (outputs, data)
        Derivative with respect to the outputs.

    Returns
    -------
    array, shape (parameters,)
        The gradient, in the order of ``flat``.
    """
    (gradient,) = _call("backward", (flat.shape,), widths, activation, flat, activations, delta)
    return gradient


def _target(name: str, activation: str) -> str:
    return f"mirth_mlp_{name}_{activation}"


def _call(
    name: str,
    shapes: Sequence[tuple[int, ...]],
    widths: Sequence[int],
    activation: str,
    *args: Array,
) -> Sequence[Array]:
    results = [jax.ShapeDtypeStruct(shape, args[0].dtype) for shape in shapes]
    target = _target(name, activation)
    call = jax.ffi.ffi_call(target, results, vmap_method="sequential")
    return call(*args, sizes=np.asarray(widths, np.int64), block=np.int64(_BLOCK))


@functools.cache
def _load(activation: str) -> str:
    """Make a kernel known to XLA, once per process; gives the reason if it cannot be had."""
    compiler = next(filter(None, map(shutil.which, _chosen_compilers())), None)
    if compiler is None:
        return "no C++ compiler was found (c++, g++ or clang++)"
    try:
        library = ctypes.CDLL(str(_built(compiler, activation)))
        for name, symbol in _SYMBOLS.items():
            capsule = jax.ffi.pycapsule(getattr(library, symbol))
            jax.ffi.register_ffi_target(_target(name, activation), capsule, platform="cpu")
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        return f"{compiler} failed: {lines[0]}"
    except (OSError, AttributeError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _chosen_compilers() -> tuple[str, ...]:
    return (os.environ["CXX"],) if os.environ.get("CXX") else _COMPILERS


def _built(compiler: str, activation: str) -> Path:
    """Compile unless there is a library for these sources, compiler, JAX and processor."""
    flags = [*_FLAGS, f"-DMIRTH_ACTIVATION={ACTIVATIONS[activation]}"]
    texts = [source.read_text() for source in _SOURCES]
    identity = [*texts, compiler, *flags, jax.__version__, processor()]
    digest = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    folder = user_cache("kernels")
    library = folder / f"mlp-{activation}-{digest}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    # Under another name first: a second process must never load half a library.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        output = Path(scratch, library.name)
        include = f"-I{jax.ffi.include_dir()}"
        command = [compiler, *flags, include, str(_SOURCES[0]), "-o", str(output)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        os.replace(output, library)
    return library
