"""Random keys as functions of (seed, purpose, chain, step).

A draw must not depend on the chunk size, the length of the run or the number of devices, so no key
is ever split sequentially: each one is folded in from what it is for.
"""

from __future__ import annotations

import enum
import functools

import jax

from mirth.core.types import Key


class Purpose(enum.IntEnum):
    """What a random number is for; no two purposes share a key."""

    NETWORK_INIT = 0
    WARM_START = 1
    MOMENTUM = 2
    TUNING = 3
    SAMPLING = 4
    SUBSET = 5
    PREDICTION = 6
    SPLIT = 7
    RESTART = 8
    BATCHES = 9
    HALVING = 10


def purpose_key(seed: int, purpose: Purpose) -> Key:
    """Give the root key of one purpose.

    Parameters
    ----------
    seed : int
        The seed of the run.
    purpose : Purpose
        What the random numbers are for.

    Returns
    -------
    Key
        ``fold_in(key(seed), purpose)``.

    Examples
    --------
    >>> purpose_key(0, Purpose.TUNING) == purpose_key(0, Purpose.SAMPLING)
    Array(False, dtype=bool)
    """
    return jax.random.fold_in(jax.random.key(seed), int(purpose))


def chain_keys(seed: int, purpose: Purpose, num_chains: int, first_chain: int = 0) -> Key:
    """Give one key per chain, shape (chains,); the key of a chain depends on its number only.

    Parameters
    ----------
    seed : int
        The seed of the run.
    purpose : Purpose
        What the random numbers are for.
    num_chains : int
        Number of chains.
    first_chain : int, default=0
        Number of the first one.

    Examples
    --------
    >>> few, many = (chain_keys(0, Purpose.TUNING, n) for n in (2, 5))
    >>> bool((few == many[:2]).all())
    True
    """
    return _chain_keys(jax.random.key(seed), int(purpose), num_chains, first_chain)


# One program for all purposes: step by step they would be compiled for a second.
@functools.partial(jax.jit, static_argnames="num_chains")
def _chain_keys(root: Key, purpose: int, num_chains: int, first_chain: int) -> Key:
    root = jax.random.fold_in(root, purpose)
    chains = first_chain + jax.numpy.arange(num_chains)
    return jax.vmap(lambda chain: jax.random.fold_in(root, chain))(chains)
