"""The predictive distribution as one program that runs without mirth."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Float, PyTree

from mirth.core.folders import replacing
from mirth.core.trees import leaf_name
from mirth.core.types import is_tree
from mirth.core.validation import check_int
from mirth.data import Standardizer
from mirth.inference import Posterior
from mirth.prediction.blocks import draw_weights
from mirth.prediction.checks import check_levels, check_units
from mirth.prediction.mixture import mixture_quantile, traced_mean
from mirth.prediction.units import original_lattice
from mirth.results._checks import check_posterior
from mirth.results.stacking import predict_dist

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
STABLEHLO, ONNX = ".stablehlo", ".onnx"
QUANTILES = (0.05, 0.5, 0.95)

Program = Callable[[PyTree[Float[Array, "data ..."]]], dict[str, Array]]


def export(
    posterior: Posterior,
    path: str | Path,
    x: Any,
    *,
    quantiles: Any = None,
    x_scaler: Standardizer | None = None,
    shift: Any = 0.0,
    scale: Any = 1.0,
) -> None:
    """Write the predictive distribution as one program that runs without mirth.

    The program takes inputs like ``x``, any number of rows, and gives a dictionary: of numbers
    ``mean`` and ``std`` of shape (rows,) and ``quantiles`` (rows, quantiles), with a last axis for
    several targets; of classes ``probabilities`` (rows, classes). It computes in float32 and
    holds the outputs of all draws for all rows at once: :func:`compress` first, and send large
    tables in parts.

    Parameters
    ----------
    posterior : Posterior
        What was sampled, of any network that JAX can trace with a free number of rows.
    path : str or path
        ``*.stablehlo`` for what ``jax.export.deserialize`` reads, for CPU, CUDA, ROCm and TPU;
        ``*.onnx`` for ONNX, of one array of real numbers, which needs ``mirth[onnx]``. An older
        file is replaced.
    x : int, array of shape (any, ...), or pytree of arrays
        What the inputs are like: the number of features of a table, or some rows. Of these only
        shape and type matter: whole numbers stay whole numbers, real ones become float32.
    quantiles : sequence of float, optional
        Probabilities below the values that the program gives, for numbers; None means
        (0.05, 0.5, 0.95).
    x_scaler : Standardizer, optional
        Scaling of the last axis of the inputs, which becomes a part of the program: it then takes
        them in their own units. None means that they come scaled as in the fit.
    shift, scale : float or array of shape (targets,), default=0.0, 1.0
        Units of the target, as for :class:`~mirth.prediction.Predictive`.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If the file name ends otherwise, ``x`` does not fit the network or the scaling, a quantile
        is outside (0, 1) or not in closed form (``quantiles=()`` exports the rest), or quantiles or
        units are given for classes.
    ModuleNotFoundError
        If the converter to ONNX is missing.
    OSError
        If the file cannot be written; an older one is still there.

    Examples
    --------
    >>> import tempfile
    >>> import jax, numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> posterior = mirth.infer(model, mirth.Dataset(x, x[:, 0]), "deep_ensemble", num_chains=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(posterior, f"{folder}/model.stablehlo", 1)
    ...     content = Path(f"{folder}/model.stablehlo").read_bytes()
    >>> found = jax.export.deserialize(bytearray(content)).call(x)
    >>> sorted(found), found["quantiles"].shape
    (['mean', 'quantiles', 'std'], (40, 3))
    """
    check_posterior(posterior)
    write = _writer(Path(path))
    x = _like(x, x_scaler)
    scaled = x if x_scaler is None else x_scaler.transform(x)
    model = posterior.model
    likelihood: Any = model.likelihood
    if likelihood.has_classes:
        units = {"shift": np.any(shift), "scale": np.any(np.not_equal(scale, 1.0))}
        given = {"quantiles": quantiles is not None} | units
        for name in (name for name, is_given in given.items() if is_given):
            raise ValueError(
                f"{name} is for numbers, but the likelihood is of classes; leave it out."
            )
        predict_dist(posterior, scaled)  # which checks them
        summarize: Callable[..., dict[str, Array]] = summarize_classes
    else:
        levels = check_levels("quantiles", QUANTILES if quantiles is None else quantiles)
        predict_dist(posterior, scaled, shift=shift, scale=scale)
        shift, scale = check_units(likelihood, shift, scale)
        summarize = functools.partial(
            summarize_target, shift=shift, scale=scale, levels=np.atleast_1d(levels).tolist()
        )
    write(Path(path), predictive_program(posterior, x_scaler, summarize), x)


def _like(x: Any, x_scaler: Any) -> PyTree[np.ndarray]:
    """Give one row of inputs like those that the program takes."""
    if x_scaler is not None and not isinstance(x_scaler, Standardizer):
        raise TypeError(
            f"x_scaler={x_scaler!r} must be a mirth.data.Standardizer(mean, scale), or None for "
            "inputs that come scaled."
        )
    if np.ndim(x) == 0 and not is_tree(x):
        x = np.zeros((1, check_int("x", x, minimum=1)), np.float32)
    if is_tree(x):
        if x_scaler is not None:
            raise ValueError(
                "x_scaler is for one array of inputs, and x has several; leave it out."
            )
    else:
        x = np.asarray(x)
        if x_scaler is not None and x.shape[-1:] != x_scaler.mean.shape:
            raise ValueError(
                f"x has shape {x.shape}, but x_scaler is of {x_scaler.mean.size} column(s); its "
                "last axis must have that length."
            )
    return jax.tree.map(lambda leaf: _one_row(np.asarray(leaf)), x)


def _one_row(leaf: np.ndarray) -> np.ndarray:
    row = leaf[:1] if leaf.ndim > 1 else leaf  # the latter is refused with its own shape
    if leaf.dtype.kind == "f":
        return row.astype(np.float32)
    return row.astype(jax.dtypes.canonicalize_dtype(leaf.dtype)) if leaf.dtype.kind in "iu" else row


def predictive_program(
    posterior: Posterior,
    x_scaler: Standardizer | None,
    summarize: Callable[..., dict[str, Array]],
) -> Program:
    """Make the function from inputs to summaries of the predictive distribution.

    Parameters
    ----------
    posterior : Posterior
        What was sampled; its draws become constants of the program, in their own type.
    x_scaler : Standardizer or None
        Scaling of the inputs, if they come in their own units.
    summarize : callable
        From the likelihood, the outputs of all draws, (draws, data, outputs), and their weights or
        None, to summaries.

    Returns
    -------
    callable
        From inputs of shape (data, ...) to a dictionary of arrays.
    """
    model = posterior.model
    weights = draw_weights(posterior.chain_weights, posterior.num_draws)
    joined = jax.tree.map(
        lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), posterior.draws
    )

    def program(x: PyTree[Float[Array, "data ..."]]) -> dict[str, Array]:
        full = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(jnp.float32), joined)
        if x_scaler is not None:
            if x_scaler.low is not None and x_scaler.high is not None:
                with np.errstate(over="ignore"):  # bounds beyond float32 bound nothing
                    x = jnp.clip(x, np.float32(x_scaler.low), np.float32(x_scaler.high))
            x = (x - np.float32(x_scaler.mean)) / np.float32(x_scaler.scale)
        outputs = jax.lax.map(lambda params: model.outputs(params, x), full)
        return summarize(model.likelihood, outputs, weights)

    return program


def summarize_target(
    likelihood: Any,
    outputs: Float[Array, "draws data outputs"],
    weights: np.ndarray | None,
    *,
    shift: np.ndarray,
    scale: np.ndarray,
    levels: Sequence[float],
) -> dict[str, Array]:
    """Mean, standard deviation and quantiles of each target, in its own units."""
    targets = [
        _summarize_one(one, part, weights, levels) for one, part in likelihood.marginals(outputs)
    ]  # means, standard deviations, quantiles
    shape = likelihood.target_shape
    mean, std, quantiles = (
        jnp.stack(parts, axis=-1) if shape else parts[0] for parts in zip(*targets, strict=True)
    )
    at, unit = (jnp.asarray(number.reshape(shape), jnp.float32) for number in (shift, scale))
    found = {"mean": at + unit * mean, "std": unit * std}
    if not levels:
        return found
    values = at + unit * quantiles
    units = zip(likelihood.lattices, shift.ravel(), scale.ravel(), strict=True)
    lattices = [original_lattice(*unit) for unit in units]
    if not shape:
        return found | {"quantiles": _on_lattice(values, lattices[0])}
    columns = [_on_lattice(values[..., k], lattice) for k, lattice in enumerate(lattices)]
    return found | {"quantiles": jnp.stack(columns, axis=-1)}


def _on_lattice(values: Array, lattice: tuple[float, float] | None) -> Array:
    """Give possible values as the data have them: 3, and not 2.9999998."""
    if lattice is None:
        return values
    origin, step = lattice
    return origin + step * jnp.round((values - origin) / step)


def _summarize_one(
    likelihood: Any,
    outputs: Float[Array, "draws data outputs"],
    weights: np.ndarray | None,
    levels: Sequence[float],
) -> tuple[Array, Array, Array]:
    """Mean, standard deviation and quantiles of one target, in units of the network."""
    means, variances = likelihood.mean(outputs), likelihood.variance(outputs)
    mean = traced_mean(means, weights)
    spread = jnp.var(means, axis=0)
    if weights is not None:
        spread = traced_mean((means - mean) ** 2, weights)
    std = jnp.sqrt(spread + traced_mean(variances, weights))
    roots = [mixture_quantile(likelihood, outputs, jnp.float32(p), weights) for p in levels]
    return mean, std, jnp.stack(roots, axis=1) if levels else mean


def summarize_classes(
    likelihood: Any, outputs: Float[Array, "draws data outputs"], weights: np.ndarray | None
) -> dict[str, Array]:
    """Probability of each class."""
    return {"probabilities": traced_mean(likelihood.probabilities(outputs), weights)}


def _writer(path: Path) -> Callable[[Path, Program, PyTree[np.ndarray]], None]:
    """Check the file's name and give what writes a program into it."""
    formats = {STABLEHLO: _stablehlo, ONNX: _onnx}
    if path.suffix not in formats:
        raise ValueError(
            f"path={str(path)!r} must end in {STABLEHLO} or {ONNX}, which says what is written."
        )
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it.")
    return functools.partial(_write, formats[path.suffix])


def _write(
    serialize: Callable[..., bytes], path: Path, program: Program, x: PyTree[np.ndarray]
) -> None:
    """Write a program whole, or leave the file as it was."""
    if "pure_callback" in str(jax.make_jaxpr(program)(x)):  # it would need Python, and mirth
        raise ValueError(
            "the quantiles of this likelihood need SciPy, which a program cannot call; give "
            "quantiles=() to export mean and standard deviation."
        )
    content = serialize(program, x)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, is_forced=True) as file:
        file.write(content)


def _stablehlo(program: Program, x: PyTree[np.ndarray]) -> bytes:
    inputs = jax_export.symbolic_args_specs(x, "data, ...")
    try:
        exported = jax_export.export(jax.jit(program), platforms=PLATFORMS)(inputs)
    except Exception as error:  # whatever the code of a network causes
        raise ValueError(
            "the network cannot be traced with a free number of rows; let apply take it from "
            f"x.shape[0] and compute nothing else with it. JAX says: {error}"
        ) from error
    return bytes(exported.serialize())


def _onnx(program: Program, x: PyTree[np.ndarray]) -> bytes:
    if is_tree(x) or x.dtype != np.float32:
        inputs = ", ".join(
            f"{leaf_name(path) or 'x'}: {leaf.dtype}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(x)
        )
        raise ValueError(
            f"a program of the inputs {inputs} is written as {STABLEHLO} only; {ONNX} is for one "
            "array of real numbers."
        )
    try:
        from jax2onnx import to_onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the converter to ONNX is not installed; install it by: pip install 'mirth[onnx]'"
        ) from error
    names = sorted(jax.eval_shape(program, x))

    def in_order(x: Array) -> tuple[Array, ...]:
        summaries = program(x)
        return tuple(summaries[name] for name in names)

    with warnings.catch_warnings():  # it asks JAX for float64, and JAX says that it has none
        warnings.simplefilter("ignore")
        model = to_onnx(
            in_order, [("data", *x.shape[1:])], model_name="mirth", input_names=["x"],
            output_names=names,
        )  # fmt: skip
    return bytes(model.SerializeToString())
