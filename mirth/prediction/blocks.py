"""Outputs of all draws, row block by row block, in buffers of bounded size.

A mixture over draws needs the outputs of *all* S draws for a row at once, but never those of all
rows. So rows are cut into blocks, and inside a block the draws into chunks. All blocks have one
shape (the last is padded and cut afterwards), so one compilation serves all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import Array, Float, PyTree, Shaped

from mirth.core.programs import ProgramCache, Shapes
from mirth.core.stored import StoredArray
from mirth.core.trees import full_precision
from mirth.core.types import Params
from mirth.core.validation import check_int
from mirth.core.weights import check_weights
from mirth.model import Likelihood, Model
from mirth.prediction.inputs import all_finite, check_inputs

DEFAULT_BUFFER_BYTES = 64 << 20
"""Largest buffer of a prediction, unless the caller says otherwise."""

# On a CPU, networks of several draws are evaluated together only while their activations fit in
# the cache: measured 0.2 to 0.4 times the time of all draws at once for 1000 rows and more.
_CPU_CACHE_BYTES = 1 << 20

# Draws in a store are read once into the memory unless they are more than that; then a chunk of
# them is read for each block of rows.
_MAX_BYTES_IN_MEMORY = 1 << 28
_DRAWS_PER_READ = 1024

# Not by jax.jit with the model as a static argument, which keeps thousands of models alive.
_PROGRAMS = ProgramCache(max_kept=16)

# Number of rows of the abstract inputs by which values that grow with the rows are recognised:
# a prime, so that the size of no weight matrix is a multiple of it by accident.
_MARKER_ROWS = 10_007


@dataclasses.dataclass(frozen=True)
class BlockPlan:
    """How rows and draws are cut.

    Parameters
    ----------
    rows : int
        Rows per block.
    draws : int
        Draws per chunk, the unit that is copied to the device.
    vectorised : int
        Draws inside a chunk that are evaluated together.
    """

    rows: int
    draws: int
    vectorised: int


def plan_blocks(
    num_draws: int,
    num_rows: int,
    *,
    output_bytes: int,
    activation_bytes: int,
    draw_bytes: int,
    max_buffer_bytes: int,
    cache_bytes: int | None = None,
) -> BlockPlan:
    """Choose block sizes so that no buffer exceeds the limit, with at least one row and one draw.

    Parameters
    ----------
    num_draws : int
        Number of draws S.
    num_rows : int
        Number of rows N.
    output_bytes : int
        Bytes of the outputs of one draw for one row; a block holds ``num_draws * rows`` of them.
    activation_bytes : int
        Bytes per row of the largest value inside the network of one draw.
    draw_bytes : int
        Bytes of the parameters of one draw.
    max_buffer_bytes : int
        Largest allowed buffer.
    cache_bytes : int, optional
        Limit for the activations of draws that are evaluated together; None means
        ``max_buffer_bytes``.

    Returns
    -------
    BlockPlan
        Sizes that divide rows and draws as evenly as possible.

    Examples
    --------
    >>> plan_blocks(100, 1000, output_bytes=8, activation_bytes=64, draw_bytes=4000,
    ...             max_buffer_bytes=200_000)
    BlockPlan(rows=250, draws=50, vectorised=12)
    """
    rows = even_share(num_rows, max_buffer_bytes // max(num_draws * output_bytes, activation_bytes))
    draws = even_share(num_draws, max_buffer_bytes // draw_bytes)
    together = min(max_buffer_bytes, cache_bytes or max_buffer_bytes) // (rows * activation_bytes)
    return BlockPlan(rows, draws, max(1, min(together, draws)))


def even_share(total: int, limit: int) -> int:
    """Size of the parts when ``total`` is cut into as few near-equal parts as ``limit`` allows."""
    return math.ceil(total / math.ceil(total / max(1, min(limit, total))))


class OutputBlocks:
    """Outputs of every draw for every row, computed block by block.

    Parameters
    ----------
    model : Model
        The model that the draws belong to.
    draws : pytree of numpy arrays of shape (draws, ...)
        Parameters, one leading axis.
    x : array of shape (rows, features) or (rows, ...), or pytree of arrays
        Inputs, scaled.
    max_buffer_bytes : int
        Largest buffer; see :func:`plan_blocks`.
    weights : array of shape (draws,), optional
        Weights of the draws with the sum 1; None means equal ones.

    Raises
    ------
    ValueError
        If the network cannot be applied to ``x``.
    """

    def __init__(
        self,
        model: Model,
        draws: Params,
        x: PyTree[np.ndarray],
        max_buffer_bytes: int,
        weights: Float[np.ndarray, " draws"] | None = None,
    ) -> None:
        self.model = model
        self.weights = weights
        self.draws = draws
        self.x = x
        self.max_buffer_bytes = max_buffer_bytes
        leaves = jax.tree.leaves(draws)
        self.num_draws: int = leaves[0].shape[0]
        self.num_rows: int = jax.tree.leaves(x)[0].shape[0]
        width, activation_bytes = trace_network(model, draws, x)
        on_cpu = jax.default_backend() == "cpu"
        itemsize = leaves[0].dtype.itemsize
        # Two numbers per draw and row at least: the key of a sample, or one float64 result.
        self.output_bytes = max(width * itemsize, 8)
        self.plan = plan_blocks(
            self.num_draws,
            self.num_rows,
            output_bytes=self.output_bytes,
            activation_bytes=max(activation_bytes, width * itemsize),
            draw_bytes=sum(leaf[0].nbytes for leaf in leaves),
            max_buffer_bytes=max_buffer_bytes,
            cache_bytes=_CPU_CACHE_BYTES if on_cpu else None,
        )
        self._only_block: Float[Array, "draws data outputs"] | None = None

    @property
    def likelihood(self) -> Any:
        """The likelihood that reads the outputs."""
        return self.model.likelihood

    def select(self, indices: Shaped[np.ndarray, " draws"]) -> OutputBlocks:
        """Give the blocks of some draws only, all with the same weight."""
        chosen = jax.tree.map(lambda leaf: leaf[indices], self.draws)
        return OutputBlocks(self.model, chosen, self.x, self.max_buffer_bytes)

    def pad(self, values: Shaped[np.ndarray, "data ..."], rows: slice) -> np.ndarray:
        """Cut the rows of one block out of ``values`` and repeat the last up to the block size."""
        return _pad(values[rows], self.plan.rows)

    def __iter__(self) -> Iterator[tuple[slice, Float[Array, "draws data outputs"]]]:
        """Yield the slice of real rows and the outputs of the block, (draws, plan.rows, outputs).

        Outputs are kept for the next use only when one block, so one buffer, holds all of them.
        """
        for start in range(0, self.num_rows, self.plan.rows):
            rows = slice(start, min(start + self.plan.rows, self.num_rows))
            if self._only_block is not None:
                outputs = self._only_block
            else:
                outputs = self._evaluate(
                    jax.tree.map(lambda leaf, r=rows: self.pad(leaf, r), self.x)
                )
            if self.plan.rows == self.num_rows and outputs.nbytes <= self.max_buffer_bytes:
                self._only_block = outputs
            yield rows, outputs

    def components(
        self, method: str, *row_arguments: Shaped[np.ndarray, "data ..."]
    ) -> Iterator[tuple[slice, Shaped[np.ndarray, "draws data ..."]]]:
        """Yield a likelihood method's value for each draw and real row, block by block.

        Parameters
        ----------
        method : str
            Name of a method of the likelihood that is elementwise over draws and rows.
        *row_arguments : array of shape (rows, ...)
            Further arguments, row by row.
        """
        for rows, outputs in self:
            padded = [self.pad(values, rows) for values in row_arguments]
            yield rows, apply_likelihood(self.likelihood, method, outputs, rows, *padded)

    def _evaluate(self, x: PyTree[np.ndarray]) -> Float[Array, "draws data outputs"]:
        """Outputs of all draws for one padded block of rows."""
        size = self.plan.draws
        chunks = []
        for start in range(0, self.num_draws, size):
            count = min(size, self.num_draws - start)
            chunk = jax.tree.map(
                lambda leaf, at=start: _pad(leaf[at : at + size], size), self.draws
            )
            outputs = _evaluate_chunk(self.model, self.plan.vectorised, chunk, x)
            chunks.append(outputs if count == size else outputs[:count])
        return chunks[0] if len(chunks) == 1 else jnp.concatenate(chunks)


def apply_likelihood(
    likelihood: Likelihood,
    method: str,
    outputs: Float[Array, "draws data outputs"],
    rows: slice,
    *arguments: Shaped[np.ndarray, "..."],
) -> Shaped[np.ndarray, "draws data ..."]:
    """Evaluate a likelihood method on a block and cut the padding off."""
    values = _call_likelihood(likelihood, method, outputs, *arguments)
    return np.asarray(values)[:, : rows.stop - rows.start]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _call_likelihood(likelihood: Likelihood, method: str, *arguments: Any) -> Array:
    return getattr(likelihood, method)(*arguments)


def _evaluate_chunk(
    model: Model, vectorised: int, draws: Params, x: PyTree[np.ndarray]
) -> Float[Array, "draws data outputs"]:
    return _PROGRAMS.find(_outputs, model, vectorised, Shapes.of((draws, x)))(draws, x)


def _outputs(model: Model, vectorised: int, shapes: Shapes) -> Callable[[Params, Any], Array]:
    """Give the program of the outputs of some draws, a few at a time, for arrays of some shapes."""
    return jax.jit(
        lambda draws, x: jax.lax.map(
            lambda params: model.outputs(params, x), draws, batch_size=vectorised
        )
    )


def _pad(values: Shaped[np.ndarray, "..."], size: int) -> np.ndarray:
    """Repeat the last entry until the first axis has ``size`` entries."""
    missing = size - values.shape[0]
    if not missing:
        return values
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def trace_network(model: Model, draws: Params, x: PyTree[np.ndarray]) -> tuple[int, int]:
    """Trace one draw's outputs without computing them; give their width and bytes per row."""
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), draws)
    inputs = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((_MARKER_ROWS, *leaf.shape[1:]), leaf.dtype), x
    )
    try:
        traced = jax.make_jaxpr(model.outputs)(params, inputs)
    except (TypeError, ValueError, KeyError) as error:
        shapes = jax.tree.map(lambda leaf: leaf.shape[1:], x)
        raise ValueError(
            f"x with {shapes} features per row, or the structure of draws, does not fit the "
            "network; pass scaled inputs like those of the fit. The network, traced with "
            f"{_MARKER_ROWS} rows, says: {error}"
        ) from error
    return traced.out_avals[0].shape[1], _row_bytes(traced.jaxpr)


def _row_bytes(jaxpr: Jaxpr) -> int:
    """Bytes per row of the largest value in a program traced with ``_MARKER_ROWS`` rows."""
    largest = 0
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            aval: Any = variable.aval
            size = getattr(aval, "size", 0)
            if size % _MARKER_ROWS == 0:
                largest = max(largest, size // _MARKER_ROWS * aval.dtype.itemsize)
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = value.jaxpr if isinstance(value, ClosedJaxpr) else value
            if isinstance(inner, Jaxpr):
                largest = max(largest, _row_bytes(inner))
    return largest


def check_draws(draws: Params) -> tuple[Params, tuple[int, int]]:
    """Check the draws of all chains and join their two leading axes.

    Parameters
    ----------
    draws : pytree of arrays of shape (chains, draws, ...)
        Parameters of all draws.

    Returns
    -------
    flat : pytree of numpy arrays of shape (chains * draws, ...)
        The same numbers, as views where the memory layout allows; draws in a store that are too
        many for the memory stay there.
    shape : tuple of int
        (chains, draws).

    Raises
    ------
    ValueError
        If there is no leaf or no draw, the leading axes of the leaves differ, or a number is not
        finite.
    """
    flat, tree = jax.tree_util.tree_flatten_with_path(draws)
    is_large = sum(getattr(leaf, "nbytes", 0) for _, leaf in flat) > _MAX_BYTES_IN_MEMORY
    leaves = {
        jax.tree_util.keystr(path): leaf.full_precision()
        if is_large and isinstance(leaf, StoredArray)
        else full_precision(leaf)
        for path, leaf in flat
    }
    if not leaves:
        raise ValueError("draws has no arrays; pass the parameters of at least one draw.")
    shapes = {name: leaf.shape[:2] for name, leaf in leaves.items()}
    first, shape = next(iter(shapes.items()))
    for name, other in shapes.items():
        if len(other) < 2 or other != shape or 0 in other:
            raise ValueError(
                f"draws{name} has the leading axes {other} and draws{first} {shape}; every leaf "
                "needs the same (chains, draws, ...) with at least one draw. For one draw add both "
                "axes with leaf[None, None]."
            )
    bad = [k for k in range(shape[0]) if not _is_finite_chain(list(leaves.values()), k)]
    if bad:
        raise ValueError(
            f"draws has numbers that are not finite in chain(s) {bad}; leave these chains out."
        )
    joined = [
        leaf.joined() if isinstance(leaf, StoredArray) else leaf.reshape(-1, *leaf.shape[2:])
        for leaf in leaves.values()
    ]
    return jax.tree.unflatten(tree, joined), (shape[0], shape[1])


def _is_finite_chain(leaves: list[Any], chain: int) -> bool:
    """Tell whether all draws of a chain are finite, reading some of them at a time."""
    num_draws = leaves[0].shape[1]
    return all(
        all_finite([leaf[chain, at : at + _DRAWS_PER_READ] for leaf in leaves])
        for at in range(0, num_draws, _DRAWS_PER_READ)
    )


def draw_weights(chain_weights: np.ndarray | None, num_draws: int) -> np.ndarray | None:
    """Give the weight of each draw, chain by chain; all draws of a chain have the same."""
    return None if chain_weights is None else np.repeat(chain_weights / num_draws, num_draws)


def prepare_blocks(
    model: Model, draws: Params, x: Any, max_buffer_bytes: int, chain_weights: Any = None
) -> tuple[OutputBlocks, tuple[int, int]]:
    """Check what a predictive distribution is made from; give its blocks and (chains, draws)."""
    check_int("max_buffer_bytes", max_buffer_bytes, minimum=1)
    flat, shape = check_draws(draws)
    weights = draw_weights(check_weights(chain_weights, shape[0]), shape[1])
    return OutputBlocks(model, flat, check_inputs(x, flat), max_buffer_bytes, weights), shape
