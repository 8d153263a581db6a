"""The predictive distribution as one program that runs without mirth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Float

from mirth.core.folders import replacing
from mirth.core.types import Params
from mirth.data import Standardizer
from mirth.model import Model
from mirth.prediction.mixture import mixture_quantile

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
STABLEHLO, ONNX = ".stablehlo", ".onnx"

Program = Callable[[Float[Array, "data features"]], dict[str, Array]]


def predictive_program(
    model: Model, draws: Params, x_scaler: Standardizer, summarize: Callable[..., dict[str, Array]]
) -> Program:
    """Make the function from raw inputs to summaries of the predictive distribution.

    Parameters
    ----------
    model : Model
        What was sampled.
    draws : pytree of arrays of shape (chains, draws, ...)
        Parameters; they become constants of the program, in their own type.
    x_scaler : Standardizer
        Scaling of the inputs.
    summarize : callable
        From the likelihood and the outputs of all draws, (draws, data, outputs), to summaries.

    Returns
    -------
    callable
        From inputs of shape (data, features) in raw units, float32, to a dictionary of arrays.
    """
    joined = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), draws)
    shift, scale = np.float32(x_scaler.mean), np.float32(x_scaler.scale)

    def program(x: Float[Array, "data features"]) -> dict[str, Array]:
        full = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32), joined)
        scaled = (x - shift) / scale
        outputs = jax.lax.map(lambda params: model.outputs(params, scaled), full)
        return summarize(model.likelihood, outputs)

    return program


def summarize_target(
    likelihood: Any,
    outputs: Float[Array, "draws data outputs"],
    *,
    shift: np.ndarray,
    scale: np.ndarray,
    levels: Sequence[float],
) -> dict[str, Array]:
    """Mean, standard deviation and quantiles of each target, in its own units."""
    targets = [
        _summarize_one(one, part, levels) for one, part in likelihood.marginals(outputs)
    ]  # means, standard deviations, quantiles
    shape = likelihood.target_shape
    mean, std, quantiles = (
        jnp.stack(parts, axis=-1) if shape else parts[0] for parts in zip(*targets, strict=True)
    )
    at, unit = (jnp.asarray(number.reshape(shape), jnp.float32) for number in (shift, scale))
    found = {"mean": at + unit * mean, "std": unit * std}
    return found | ({"quantiles": at + unit * quantiles} if levels else {})


def _summarize_one(
    likelihood: Any, outputs: Float[Array, "draws data outputs"], levels: Sequence[float]
) -> tuple[Array, Array, Array]:
    """Mean, standard deviation and quantiles of one target, in units of the network."""
    means, variances = likelihood.mean(outputs), likelihood.variance(outputs)
    std = jnp.sqrt(jnp.var(means, axis=0) + jnp.mean(variances, axis=0))
    roots = [mixture_quantile(likelihood, outputs, jnp.float32(level)) for level in levels]
    mean = jnp.mean(means, axis=0)
    return mean, std, jnp.stack(roots, axis=1) if levels else mean


def summarize_classes(
    likelihood: Any, outputs: Float[Array, "draws data outputs"]
) -> dict[str, Array]:
    """Probability of each class."""
    return {"probabilities": jnp.mean(likelihood.probabilities(outputs), axis=0)}


def write_program(path: str | Path, program: Program, num_features: int) -> None:
    """Write a program in the format that the end of the file name says.

    Parameters
    ----------
    path : str or path
        The file, ``.stablehlo`` or ``.onnx``.
    program : callable
        From float32 of shape (data, features) to a dictionary of arrays.
    num_features : int
        Number of features.

    Raises
    ------
    IsADirectoryError
        If the path is a folder.
    ModuleNotFoundError
        If the converter to ONNX is missing.
    ValueError
        If the file name ends otherwise, or the program would need Python.
    """
    path = Path(path)
    writers = {STABLEHLO: _stablehlo, ONNX: _onnx}
    if path.suffix not in writers:
        raise ValueError(
            f"path={str(path)!r} must end in {STABLEHLO} or {ONNX}, which says what is written."
        )
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    _check_program(program, num_features)
    content = writers[path.suffix](program, num_features)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, is_forced=True) as file:
        file.write(content)


def _stablehlo(program: Program, num_features: int) -> bytes:
    shape = jax_export.symbolic_shape(f"data, {num_features}")
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    return bytes(jax_export.export(jax.jit(program), platforms=PLATFORMS)(inputs).serialize())


def _check_program(program: Program, num_features: int) -> None:
    """Refuse what calls back to Python: it would need mirth."""
    inputs = jax.ShapeDtypeStruct((1, num_features), jnp.float32)
    if "pure_callback" in str(jax.make_jaxpr(program)(inputs)):
        raise ValueError(
            "the quantiles of this likelihood need SciPy, which a program cannot call; give "
            "quantiles=() to export mean and standard deviation."
        )


def _onnx(program: Program, num_features: int) -> bytes:
    try:
        from jax2onnx import to_onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the converter to ONNX is not installed; install it by: pip install 'mirth[onnx]'"
        ) from error
    names = sorted(jax.eval_shape(program, jax.ShapeDtypeStruct((1, num_features), jnp.float32)))

    def in_order(x: Array) -> tuple[Array, ...]:
        summaries = program(x)
        return tuple(summaries[name] for name in names)

    with warnings.catch_warnings():  # it asks JAX for float64, and JAX says that it has none
        warnings.simplefilter("ignore")
        model = to_onnx(
            in_order, [("data", num_features)], model_name="mirth", input_names=["x"],
            output_names=names,
        )  # fmt: skip
    return bytes(model.SerializeToString())
