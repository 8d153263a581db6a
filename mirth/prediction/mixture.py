"""What mixtures of any likelihood share: log probabilities per draw, quantiles, samples."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from scipy.special import logsumexp

from mirth.core.keys import Purpose, purpose_key
from mirth.core.types import Key
from mirth.model import Likelihood, NumericLikelihood
from mirth.prediction.blocks import OutputBlocks, apply_likelihood, even_share

_ORDER, _NOISE = 0, 1  # what the keys of a sample are for
_START = 0  # the key of the order also gives where weighted draws begin
_GOLDEN = (np.sqrt(5.0) - 1) / 2


def log_prob_per_draw(
    blocks: OutputBlocks, y: Shaped[np.ndarray, "data ..."]
) -> Float[np.ndarray, "draws data"]:
    """Log probability (density) of each row's ``y`` under each draw, in units of the network."""
    result = np.empty((blocks.num_draws, blocks.num_rows))
    for rows, values in blocks.components("log_prob", y):
        result[:, rows] = values
    return result


def log_prob(blocks: OutputBlocks, y: Shaped[np.ndarray, "data ..."]) -> Float[np.ndarray, " data"]:
    r"""Log probability (density) of the mixture, :math:`\log \frac1S \sum_s p(y | \theta_s)`."""
    result = np.empty(blocks.num_rows)
    weights = None if blocks.weights is None else blocks.weights[:, None]
    for rows, values in blocks.components("log_prob", y):
        result[rows] = logsumexp(values.astype(np.float64), axis=0, b=weights)
    return result - np.log(blocks.num_draws) if weights is None else result


def probability(
    blocks: OutputBlocks,
    method: str,
    rows: slice,
    likelihood: NumericLikelihood,
    outputs: Float[Array, "draws data outputs"],
    y: Shaped[np.ndarray, " data"],
) -> Float[np.ndarray, " block"]:
    """Mean over draws of a probability of ``y``, such as ``"cdf"``, for the rows of one block."""
    shares = apply_likelihood(likelihood, method, outputs, rows, blocks.pad(y, rows))
    return mean_of_draws(shares, blocks.weights)


def mean_of_draws(
    values: Shaped[np.ndarray, "draws ..."], weights: Float[np.ndarray, " draws"] | None
) -> Float[np.ndarray, "..."]:
    """Mean over the first axis in float64, by weights with the sum 1 or all alike."""
    if weights is None:
        return np.asarray(np.mean(values, axis=0, dtype=np.float64))
    return np.tensordot(weights, values.astype(np.float64), axes=1)


def traced_mean(values: Array, weights: Array | np.ndarray | None) -> Array:
    """Mean over the first axis of what JAX traces, by weights with the sum 1 or all alike."""
    if weights is None:
        return jnp.mean(values, axis=0)
    # A plain sum: a matrix product may be rounded to fewer bits on an accelerator.
    shape = (-1,) + (1,) * (values.ndim - 1)
    return jnp.sum(jnp.asarray(weights, values.dtype).reshape(shape) * values, axis=0)


def moments(
    blocks: OutputBlocks, target_shape: tuple[int, ...]
) -> Float[np.ndarray, "3 data *targets"]:
    """Mean, variance of the draws' means and mean of their variances, in units of the network."""
    result = np.empty((3, blocks.num_rows, *target_shape))
    for rows, outputs in blocks:
        means, variances = (
            apply_likelihood(blocks.likelihood, method, outputs, rows)
            for method in ("mean", "variance")
        )
        # NumPy subtracts the mean before it squares, so nothing cancels.
        result[0, rows] = mean_of_draws(means, blocks.weights)
        if blocks.weights is None:
            result[1, rows] = np.var(means, axis=0, dtype=np.float64)
        else:
            result[1, rows] = mean_of_draws((means - result[0, rows]) ** 2, blocks.weights)
        result[2, rows] = mean_of_draws(variances, blocks.weights)
    return result


@functools.partial(jax.jit, static_argnums=0)
def mixture_quantile(
    likelihood: NumericLikelihood,
    outputs: Float[Array, "draws data outputs"],
    level: Float[Array, ""],
    weights: Float[Array, " draws"] | None = None,
) -> Float[Array, " data"]:
    r"""Solve :math:`\sum_s w_s F_s(q) = p` for each row.

    The smallest lower and the largest upper end of the components' brackets bracket the root.

    Parameters
    ----------
    likelihood : NumericLikelihood
        Likelihood of one target.
    outputs : array of shape (draws, rows, outputs)
        Outputs of all draws.
    level : scalar
        Level p, in (0, 1).
    weights : array of shape (draws,), optional
        Weights w of the draws with the sum 1; None means equal ones.

    Returns
    -------
    array of shape (rows,)
        Quantiles q in units of the network, to the resolution of the floating point numbers; of
        counts the smallest one with a probability of at least p up to it.
    """
    low, high = likelihood.bracket(outputs, level)
    return likelihood.invert(
        lambda y: traced_mean(likelihood.cdf(outputs, y), weights),
        level,
        jnp.min(low, axis=0),
        jnp.max(high, axis=0),
    )


def sample(
    blocks: OutputBlocks, num_samples: int, seed: int
) -> Shaped[np.ndarray, "samples data ..."]:
    """Sample the mixture: one draw of the parameters per sample, the same for all rows.

    Draws are taken in random order, each again only after all others, so any number of samples
    uses as many different draws as it can; with weights that holds among draws of one weight, and
    each weight has its share of the samples. The key of a number is a function of (seed, sample,
    row): neither the block sizes nor ``num_samples`` change it.

    Parameters
    ----------
    blocks : OutputBlocks
        Outputs of all draws.
    num_samples : int
        Number of samples.
    seed : int
        Seed of the order and the noise.

    Returns
    -------
    array of shape (num_samples, rows) or (num_samples, rows, targets)
        Values in units of the network, or class indices.
    """
    order_key, noise_key = _sample_keys(seed)
    order = np.argsort(np.asarray(jax.random.bits(order_key, (blocks.num_draws,))), stable=True)
    if blocks.weights is None:
        picks = order[np.arange(num_samples) % blocks.num_draws]
    else:
        start = float(jax.random.uniform(jax.random.fold_in(order_key, _START)))
        picks = weighted_picks(order, blocks.weights, num_samples, start)
    if num_samples < blocks.num_draws:  # the other draws need not be evaluated
        blocks, picks = blocks.select(picks), np.arange(num_samples)
    return _sample(blocks, picks, noise_key)


def weighted_picks(
    order: Int[np.ndarray, " draws"],
    weights: Float[np.ndarray, " draws"],
    num_samples: int,
    start: float,
) -> Int[np.ndarray, " samples"]:
    """Choose a draw for each sample by its weight, as evenly as the number of samples allows.

    The places start + i * (golden ratio), without their whole parts, fill the unit interval evenly
    from the first on, and each is uniform if ``start`` is. They fall into parts of the lengths of
    the weights, one part for all draws of a weight, which take turns.

    Parameters
    ----------
    order : int array of shape (draws,)
        The draws in random order.
    weights : array of shape (draws,)
        Their weights, with the sum 1.
    num_samples : int
        Number of samples.
    start : float
        A random number from 0 to 1.

    Returns
    -------
    int array of shape (num_samples,)
        A draw for each sample.

    Examples
    --------
    >>> picks = weighted_picks(np.arange(3), np.array([0.4, 0.4, 0.2]), 10, start=0.5)
    >>> np.bincount(picks).tolist()
    [4, 4, 2]
    """
    values, group = np.unique(weights, return_inverse=True)
    ends = np.cumsum(values * np.bincount(group))
    places = (start + np.arange(num_samples) * _GOLDEN) % 1.0
    # Rounding must not reach beyond the last part, nor into one of no length.
    part = np.minimum(np.searchsorted(ends, places * ends[-1], side="right"), len(ends) - 1)
    picks = np.empty(num_samples, dtype=np.intp)
    for k in range(len(values)):
        members, at = order[group[order] == k], np.flatnonzero(part == k)
        picks[at] = members[np.arange(len(at)) % len(members)]
    return picks


def sample_per_draw(blocks: OutputBlocks, seed: int) -> Shaped[np.ndarray, "draws data ..."]:
    """Sample once from each draw, in the order of the draws; otherwise as :func:`sample`."""
    return _sample(blocks, np.arange(blocks.num_draws), _sample_keys(seed)[1])


def _sample_keys(seed: int) -> tuple[Key, Key]:
    """Keys of the order of the draws and of the noise."""
    root = purpose_key(seed, Purpose.PREDICTION)
    return jax.random.fold_in(root, _ORDER), jax.random.fold_in(root, _NOISE)


def _sample(
    blocks: OutputBlocks, picks: Int[np.ndarray, " samples"], noise_key: Key
) -> Shaped[np.ndarray, "samples data ..."]:
    """Sample once from each of the draws that are named, block by block."""
    num_samples, likelihood = len(picks), blocks.likelihood
    shape = () if likelihood.has_classes else likelihood.target_shape
    dtype = np.int64 if likelihood.has_classes else np.float64
    result = np.empty((num_samples, blocks.num_rows, *shape), dtype)
    limit = blocks.max_buffer_bytes // (blocks.output_bytes * blocks.plan.rows)
    size = even_share(num_samples, limit)
    for rows, outputs in blocks:
        for first in range(0, num_samples, size):
            count = min(size, num_samples - first)
            # All passes have one shape, for one compilation; the last one is cut.
            chosen = np.resize(picks[first : first + count], size)
            values = _sample_block(likelihood, noise_key, outputs, chosen, first, rows.start)
            kept = np.asarray(values)[:count, : rows.stop - rows.start]
            result[first : first + count, rows] = kept
    return result


@functools.partial(jax.jit, static_argnums=0)
def _sample_block(
    likelihood: Likelihood,
    key: Key,
    outputs: Float[Array, "draws data outputs"],
    picks: Int[Array, " samples"],
    first_sample: Int[Array, ""],
    first_row: Int[Array, ""],
) -> Shaped[Array, "samples data ..."]:
    """Sample once per pick and row."""
    rows = first_row + jnp.arange(outputs.shape[1])

    def sample_row(key: Key, row: Array, outputs: Array) -> Array:
        return likelihood.sample(jax.random.fold_in(key, row), outputs[None])[0]

    def sample_all_rows(index: Array, pick: Array) -> Array:
        keys = jax.random.fold_in(key, index)
        return jax.vmap(sample_row, in_axes=(None, 0, 0))(keys, rows, outputs[pick])

    return jax.vmap(sample_all_rows)(first_sample + jnp.arange(picks.shape[0]), picks)
