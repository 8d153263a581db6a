"""Sums over many rows, block by block, so that the activations of one block are alive at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Var
from jaxtyping import Array, Float

from mirth.core.types import Batch, Params, is_table
from mirth.model import cpu_kernel
from mirth.model.mlp import MLP
from mirth.model.model import Model

Split = tuple[Float[Array, ""], Float[Array, " terms"]]
LogLikelihood = Callable[[Params, Batch], Split]

# Rows of a block are a multiple of this where there are enough: whole vector registers.
_ALIGNMENT = 16
_PRODUCTS = ("dot_general", "conv_general_dilated")


def in_row_blocks(
    log_likelihood: LogLikelihood, params: Params, batch: Batch, block_size: int | None
) -> Split:
    r"""Sum a log likelihood over blocks of rows.

    .. math:: \ell(\theta) = \sum_b \ell_b(\theta), \quad
              \nabla \ell(\theta) = \sum_b \nabla \ell_b(\theta)

    The value and the gradient of a block are computed together and added up, so only the gradient
    outlives the block. The result is that of all rows at once, to rounding. The sum has a
    derivative rule of its own: it can be differentiated once, with respect to ``params``; no
    derivative passes through the terms.

    Parameters
    ----------
    log_likelihood : callable
        ``log_likelihood(params, batch)``: the weighted sum over the rows of a batch, and a vector
        of the terms that it is the sum of, as :meth:`Model.split_log_likelihood` gives them.
    params : pytree
        Parameters.
    batch : Batch
        All rows.
    block_size : int or None
        Most rows of a block; None, or not less than there are rows, takes all rows at once.

    Returns
    -------
    sum : scalar array
        The sum.
    terms : array of shape (terms,)
        The terms of all blocks, in their order.

    Examples
    --------
    >>> def square_loss(slope, batch):
    ...     weights = 1.0 if batch.weights is None else batch.weights
    ...     terms = -weights * (batch.y - slope * batch.x[:, 0]) ** 2
    ...     return jnp.sum(terms), terms
    >>> batch = Batch(jnp.arange(5.0)[:, None], jnp.ones(5))
    >>> value = lambda slope, size: in_row_blocks(square_loss, slope, batch, size)[0]
    >>> both = jax.jit(jax.value_and_grad(value), static_argnums=1)
    >>> [tuple(map(float, both(2.0, size))) for size in (None, 2)]
    [(-85.0, -100.0), (-85.0, -100.0)]
    """
    if block_size is None or block_size >= batch.y.shape[0]:
        return log_likelihood(params, batch)
    return _sum_of_blocks(log_likelihood, block_size, params, batch)


def activation_bytes(model: Model, params: Params, batch: Batch) -> int:
    """Estimate the memory that the activations of one row take in a gradient.

    What products of matrices (and convolutions) read and write is kept for the backward pass;
    everything between them is fused. The compiled kernel keeps the inputs of each layer, and the
    slopes of some activations.

    Parameters
    ----------
    model : Model
        What is differentiated.
    params : pytree of arrays, or of their shapes
        Parameters.
    batch : Batch of arrays, or of their shapes
        Rows.

    Returns
    -------
    int
        Bytes per row, at least 1.

    Examples
    --------
    >>> from mirth.model import FunctionalNetwork, Normal
    >>> linear = FunctionalNetwork(lambda key, x: jnp.zeros((5, 2)), lambda w, x: x @ w)
    >>> batch = Batch(jnp.zeros((7, 5)), jnp.zeros(7))
    >>> activation_bytes(Model(linear, Normal()), {"network": jnp.zeros((5, 2))}, batch)
    28
    """
    network, x = model.network, batch.x
    if isinstance(network, MLP) and is_table(x):
        widths = network.widths(x.shape[1])
        if cpu_kernel.is_fit(network.activation, widths, x.dtype):
            kept = cpu_kernel.kept_numbers(network.activation, widths)
            return (kept + 2 * widths[-1]) * x.dtype.itemsize  # outputs and their derivative

    def traced_bytes(num_rows: int) -> int:
        rows = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((num_rows, *leaf.shape[1:]), leaf.dtype), x
        )
        return _product_bytes(jax.make_jaxpr(model.outputs)(params, rows).jaxpr)

    return max(1, traced_bytes(3) - traced_bytes(2))


def _product_bytes(jaxpr: Jaxpr) -> int:
    """Bytes of all different values that products read or write."""
    total = 0
    seen: set[Any] = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name in _PRODUCTS:
            seen |= {v for v in (*equation.invars, *equation.outvars) if isinstance(v, Var)}
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = value.jaxpr if isinstance(value, ClosedJaxpr) else value
            total += _product_bytes(inner) if isinstance(inner, Jaxpr) else 0
    return total + sum(v.aval.size * v.aval.dtype.itemsize for v in seen)


def equal_blocks(num_rows: int, block_size: int) -> tuple[int, int]:
    """Cut rows into the fewest blocks, all of one size.

    Parameters
    ----------
    num_rows : int
        Rows to cut.
    block_size : int
        Most rows of a block, less than ``num_rows``.

    Returns
    -------
    tuple of int
        Number of blocks, and rows of each; together at least ``num_rows``.

    Examples
    --------
    >>> equal_blocks(1000, 300)
    (4, 256)
    """
    rows = math.ceil(num_rows / math.ceil(num_rows / block_size))
    rows = min(block_size, math.ceil(rows / _ALIGNMENT) * _ALIGNMENT)
    return math.ceil(num_rows / rows), rows


def _cutter(batch: Batch, rows: int) -> Callable[[Array], Batch]:
    """Give the function that cuts out a block by its number.

    Where a block would pass the end, it starts earlier, and the rows that the block before it has
    counted get weight 0: every block has the same shape, so the network is compiled once.
    """
    # Chains keep the data axis of tables contiguous. Transposed out here, the two transpositions
    # cancel; in the loop, XLA would copy all rows first.
    num_rows, transposes = batch.y.shape[0], is_table(batch.x)
    stored = batch.x.T if transposes else batch.x

    def block(i: Array) -> Batch:
        wanted = i * rows
        start = jnp.minimum(wanted, num_rows - rows)

        def cut(leaf: Array, axis: int = 0) -> Array:
            return jax.lax.dynamic_slice_in_dim(leaf, start, rows, axis)

        is_new = start + jnp.arange(rows) >= wanted
        weights = 1.0 if batch.weights is None else cut(batch.weights)
        weights = jnp.where(is_new, weights, 0).astype(float)
        x = cut(stored, axis=1).T if transposes else jax.tree.map(cut, stored)
        return Batch(x, cut(batch.y), weights)

    return block


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _sum_of_blocks(
    log_likelihood: LogLikelihood, block_size: int, params: Params, batch: Batch
) -> Split:
    num_blocks, rows = equal_blocks(batch.y.shape[0], block_size)
    block = _cutter(batch, rows)
    terms = jax.lax.map(lambda i: log_likelihood(params, block(i))[1], jnp.arange(num_blocks))
    return jnp.sum(terms), terms.ravel()


def _value_and_gradient(
    log_likelihood: LogLikelihood, block_size: int, params: Params, batch: Batch
) -> tuple[Split, Params]:
    """Forward rule: the output is a scalar, so its gradient is finished here, block by block."""
    num_blocks, rows = equal_blocks(batch.y.shape[0], block_size)
    block = _cutter(batch, rows)
    value_and_grad = jax.value_and_grad(log_likelihood, has_aux=True)

    def add(total: Params, i: Array) -> tuple[Params, Array]:
        (_, terms), gradient = value_and_grad(params, block(i))
        return jax.tree.map(jnp.add, total, gradient), terms

    like = jax.eval_shape(lambda i: value_and_grad(params, block(i))[1], 0)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    gradient, terms = jax.lax.scan(add, zeros, jnp.arange(num_blocks))
    return (jnp.sum(terms), terms.ravel()), gradient


def _scale_gradient(
    log_likelihood: LogLikelihood, block_size: int, gradient: Params, cotangents: Any
) -> tuple[Params, None]:
    """Backward rule. Data are constants here: their cotangents are zero."""
    return jax.tree.map(lambda g: cotangents[0] * g, gradient), None


_sum_of_blocks.defvjp(_value_and_gradient, _scale_gradient)
