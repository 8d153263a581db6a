"""Standard Normal numbers and keys as ``jax.random`` makes them, in one pass over the memory.

On CPUs JAX runs the rounds of its counter-based generator (threefry 2x32, twenty rounds) as a loop
that writes every intermediate word to memory, and uses one of each two words that come out. In a
sampler of small networks that is an eighth of a step. Here the rounds are written out, so that XLA
fuses them with what follows, and both words are used (``docs/performance.md``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from mirth.core.types import Key

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_IMPLEMENTATION = "threefry2x32"


def threefry(
    key: UInt32[Array, "2"], x0: UInt32[Array, "..."], x1: UInt32[Array, "..."]
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Encrypt counters.

    Parameters
    ----------
    key : array of shape (2,)
        Two words of the key.
    x0, x1 : array
        The two words of each counter.

    Returns
    -------
    tuple of arrays
        The two words of each block.

    References
    ----------
    .. [1] Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def fold_in(key: Key, data: int | Array) -> Key:
    """Derive a key from a key and a number below 2^32; the same as ``jax.random.fold_in``.

    Parameters
    ----------
    key : Key
        A key.
    data : int or int scalar
        The number.

    Returns
    -------
    Key
        The new key.

    Examples
    --------
    >>> import jax
    >>> key = jax.random.key(0)
    >>> bool(fold_in(key, 3) == jax.random.fold_in(key, 3))
    True
    """
    if str(jax.random.key_impl(key)) != _IMPLEMENTATION:
        return jax.random.fold_in(key, data)
    number = jnp.asarray(data).astype(jnp.uint32)
    words = threefry(jax.random.key_data(key), jnp.zeros_like(number), number)
    return jax.random.wrap_key_data(jnp.stack(words), impl=_IMPLEMENTATION)


def standard_normals(
    key: Key, num: int, shape: Sequence[int], dtype: jax.typing.DTypeLike = jnp.float32
) -> list[Float[Array, "..."]]:
    r"""Draw arrays of standard Normal numbers, :math:`\sqrt 2\, \mathrm{erf}^{-1}(2 v - 1)`.

    Parameters
    ----------
    key : Key
        A key.
    num : int
        Number of arrays. Two cost hardly more than one, because the generator gives pairs of words;
        as one array they would have to be put together.
    shape : sequence of int
        Shape of each.
    dtype : dtype, default=float32
        Type of each; other types than float32 are drawn by ``jax.random.normal``.

    Returns
    -------
    list of arrays
        The numbers. They lie within 5.5 of zero, as those of ``jax.random.normal`` do, and differ
        from them.

    Examples
    --------
    >>> import jax
    >>> [array.shape for array in standard_normals(jax.random.key(0), 2, (3, 4))]
    [(3, 4), (3, 4)]
    """
    shape = tuple(shape)
    if dtype != jnp.float32 or str(jax.random.key_impl(key)) != _IMPLEMENTATION:
        return list(jax.random.normal(key, (num, *shape), dtype))
    words: list[Array] = []
    counter = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    while len(words) < num:
        words += threefry(jax.random.key_data(key), jnp.full_like(counter, len(words)), counter)
    return [_to_normal(word) for word in words[:num]]


def _to_normal(word: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """Turn words into Normal numbers, with 23 bits each."""
    # The bits of a number in [1, 2); then (-1, 1), open below so that the result is finite.
    bits = (word >> np.uint32(9)) | np.uint32(0x3F800000)
    fraction = jax.lax.bitcast_convert_type(bits, jnp.float32) - 1
    below = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(below, fraction * (1 - below) + below)
    return np.float32(math.sqrt(2)) * jax.lax.erf_inv(uniform)
