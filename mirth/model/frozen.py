"""State that a network reads and nobody samples, for the adapters of other libraries."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

STATISTICS_ADVICE = (
    "Such values are frozen at what a trained network had, while the weights around them are "
    "sampled; where you can, take a layer without statistics, such as layer or group "
    "normalisation."
)
"""Said wherever a network with running statistics is refused."""


class FrozenState:
    """Values that a network reads and nobody samples: one copy for all chains, never updated.

    Its representation has a checksum of the numbers, so that a run directory notices other values.

    Parameters
    ----------
    tree : pytree of arrays
        The values; held as NumPy arrays, so on no device.

    Examples
    --------
    >>> import numpy as np
    >>> FrozenState({"mean": np.zeros(3)})
    FrozenState(1 array, sha256 d407cea5...)
    """

    def __init__(self, tree: Any) -> None:
        self.tree = jax.tree.map(_on_host, tree)

    def __repr__(self) -> str:
        arrays = jax.tree.leaves(self.tree)
        digest = hashlib.sha256()
        for leaf in arrays:
            array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
            digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
        plural = "" if len(arrays) == 1 else "s"
        return f"FrozenState({len(arrays)} array{plural}, sha256 {digest.hexdigest()[:8]}...)"


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _on_host(leaf: Any) -> Any:
    return leaf if _is_key(leaf) or not isinstance(leaf, jax.Array) else np.asarray(leaf)
