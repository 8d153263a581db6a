"""Mini-batches as a pure function of key and step: nothing is stored that grows with the steps.

Within an epoch every row is used once, but for draws with replacement; each chain and each epoch
has an order of its own. The order is a permutation of the numbers 0 ... N - 1 that can be computed
for single numbers: a Feistel network over a grid of a x b >= N cells, whose rounds add a hash of
one coordinate to the other; numbers that land outside of 0 ... N - 1 go through the network again
until they land inside.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mirth.core.types import Key
from mirth.core.validation import COUNT, check_name, check_ranges

_NUM_ROUNDS = 8

BATCH_ORDERS = ("epochs", "sweeps", "replacement")
"""Orders of the rows: a new one each epoch, each once forwards and once backwards, or drawn."""


@dataclasses.dataclass(frozen=True)
class EpochBatches:
    """Batches of rows that are on the device.

    The rows of an epoch are spread evenly: N rows in n batches make batches of
    ceil(N / n) or floor(N / n) rows, so the last one is no remainder with a huge weight.

    Parameters
    ----------
    num_rows : int
        Rows N of the data set.
    batch_size : int
        Most rows B of a batch.
    order : {"epochs", "sweeps", "replacement"}, default="epochs"
        ``epochs``: every row once an epoch, in a new order each. ``sweeps``: the batches of an
        epoch, then the same ones backwards; so the noise of the gradients is symmetric in time.
        ``replacement``: the rows of each batch are drawn anew, so the noise of the gradients is
        independent from step to step, and a row may come twice.

    Raises
    ------
    TypeError, ValueError
        If a number is no integer, below 1, there are fewer rows than a batch has, or the order is
        unknown.

    Examples
    --------
    >>> import jax
    >>> batches = EpochBatches(num_rows=10, batch_size=4)
    >>> batches.num_batches, batches.size
    (3, 4)
    >>> rows = [batches.rows(jax.random.key(0), step) for step in range(3)]
    >>> sorted(int(i) for index, weight in rows for i, w in zip(index, weight) if w)
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    num_rows: int
    batch_size: int
    order: str = "epochs"

    RANGES = {"num_rows": COUNT, "batch_size": COUNT}

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        check_name("order", self.order, BATCH_ORDERS)
        if self.batch_size > self.num_rows:
            raise ValueError(
                f"batch_size={self.batch_size} must be at most the number of rows, "
                f"{self.num_rows}; for all rows at once take MILE."
            )

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.num_rows // self.batch_size)

    @property
    def size(self) -> int:
        """Rows of the largest batch; smaller ones have a row of weight 0."""
        return -(-self.num_rows // self.num_batches)

    def rows(
        self, key: Key, step: int | Int[Array, ""]
    ) -> tuple[Int[Array, " batch"], Float[Array, " batch"]]:
        """Give the rows of a step.

        Parameters
        ----------
        key : Key
            Key of the chain.
        step : int scalar
            Number of the step.

        Returns
        -------
        index : array of shape (size,)
            Row numbers.
        weight : array of shape (size,)
            1, or 0 for a row that only fills up the array.
        """
        if self.order == "replacement":
            bits = jax.random.bits(jax.random.fold_in(key, step), (self.size,), jnp.uint32)
            # The remainder favours no row by more than num_rows / 2^32.
            return (bits % jnp.uint32(self.num_rows)).astype(jnp.int32), jnp.ones(self.size)
        epoch, batch = jnp.divmod(jnp.asarray(step, jnp.int32), self.num_batches)
        if self.order == "sweeps":
            batch = jnp.where(epoch % 2 == 1, self.num_batches - 1 - batch, batch)
            epoch = epoch // 2
        least, num_larger = divmod(self.num_rows, self.num_batches)
        first = batch * least + jnp.minimum(batch, num_larger)
        count = least + (batch < num_larger)
        place = jnp.arange(self.size)
        index = permuted(
            jax.random.fold_in(key, epoch), (first + place) % self.num_rows, self.num_rows
        )
        return index, (place < count).astype(float)


def permuted(key: Key, numbers: Int[Array, " numbers"], size: int) -> Int[Array, " numbers"]:
    """Apply a random permutation of 0 ... size - 1 to some numbers.

    Parameters
    ----------
    key : Key
        Chooses the permutation.
    numbers : array of int
        Numbers from 0 to size - 1.
    size : int
        How many numbers are permuted.

    Examples
    --------
    >>> import jax
    >>> sorted(permuted(jax.random.key(0), jnp.arange(5), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    width = max(1, math.isqrt(size - 1) + 1)  # at most 2^16, as _shifted needs
    height = -(-size // width)
    rounds = jax.random.bits(key, (_NUM_ROUNDS,), jnp.uint32)

    def cipher(number: Int[Array, " numbers"]) -> Int[Array, " numbers"]:
        left, right = jnp.divmod(number.astype(jnp.uint32), jnp.uint32(width))
        for i in range(_NUM_ROUNDS):
            if i % 2:
                right = _shifted(right, _hash(left ^ rounds[i]), width)
            else:
                left = _shifted(left, _hash(right ^ rounds[i]), height)
        return (left * width + right).astype(jnp.int32)

    # Fewer than `width` of the cells lie outside, so this hardly ever goes round a second time.
    return jax.lax.while_loop(
        lambda number: jnp.any(number >= size),
        lambda number: jnp.where(number >= size, cipher(number), number),
        cipher(numbers),
    )


def _shifted(number: Array, bits: Array, size: int) -> Array:
    """Add a number below ``size`` that is made of random bits, modulo ``size``.

    The upper 16 bits times the size, shifted: divisions would take longer than a small gradient.
    """
    total = number + (((bits >> 16) * jnp.uint32(size)) >> 16)
    return jnp.where(total >= size, total - size, total)


def _hash(bits: Array) -> Array:
    """Mix 32 bits so that each one depends on all (the finaliser of MurmurHash3)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
