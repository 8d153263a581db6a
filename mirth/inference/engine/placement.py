"""Where chains run: which devices, and how the chains of one device share it.

On CPUs one XLA device per core, with the chains of a device one after another, is the fastest
(``docs/performance.md``): small operations do not pay for threads. On an accelerator all chains of
a device are one vectorised program.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mirth.core.outcomes import MirthWarning

_AXIS = "chains"
# XLA's default order of independent operations aims at running them concurrently; inside one
# single-threaded device the order that reuses its cache is the faster one.
_CPU_COMPILER_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}

_has_noted_single_device = False


def num_cores() -> int:
    """Give the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def configure_cpu_devices(num_devices: int | None = None) -> bool:
    """Give JAX one CPU device per core, if it has not started yet.

    Estimators and the command line call this before their first use of JAX. A number of devices
    that the user has chosen (``jax_num_cpu_devices`` or ``XLA_FLAGS``) is left alone.

    Parameters
    ----------
    num_devices : int, optional
        Number of CPU devices; None means one per core.

    Returns
    -------
    bool
        Whether JAX will have, or already has, that many.

    Examples
    --------
    >>> isinstance(configure_cpu_devices(), bool)
    True
    """
    wanted = num_cores() if num_devices is None else num_devices
    is_chosen = jax.config.values["jax_num_cpu_devices"] >= 0
    if not is_chosen and "xla_force_host_platform_device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):
        try:
            jax.config.update("jax_num_cpu_devices", wanted)
            return True
        except RuntimeError:
            pass  # JAX has started already: its number of devices is fixed
    return jax.default_backend() != "cpu" or len(jax.local_devices()) >= wanted


def note_single_device() -> None:
    """Warn once per process that JAX was started with a single CPU device."""
    global _has_noted_single_device
    if _has_noted_single_device:
        return
    _has_noted_single_device = True
    warnings.warn(
        f"JAX was started with {len(jax.local_devices())} CPU device(s) on {num_cores()} cores, so "
        "chains will not use all cores. For full speed call "
        "mirth.configure_cpu_devices() before anything else uses JAX.",
        MirthWarning,
        stacklevel=3,
    )


@dataclasses.dataclass(frozen=True)
class Placement:
    """Devices for a number of chains, and how the chains of one device are run.

    Parameters
    ----------
    devices : sequence of jax.Device
        Devices to spread the chains over.
    sequential : bool
        Run the chains of a device one after another (CPU) instead of as one vectorised program.

    Examples
    --------
    >>> placement = Placement.automatic(num_chains=3)
    >>> len(placement.devices) <= 3
    True
    """

    devices: Sequence[jax.Device]
    sequential: bool

    @classmethod
    def automatic(cls, num_chains: int) -> Placement:
        """Choose devices and mode by platform: at most one device per chain."""
        devices = jax.local_devices()
        is_cpu = devices[0].platform == "cpu"
        if is_cpu and len(devices) < min(num_cores(), num_chains):
            note_single_device()
        return cls(tuple(devices[:num_chains]), sequential=is_cpu)

    @property
    def mesh(self) -> Mesh:
        """Mesh of the devices along the axis of chains."""
        return Mesh(np.asarray(self.devices), (_AXIS,))

    def padded(self, num_chains: int) -> int:
        """Give the number of chains after filling up every device equally."""
        return -(-num_chains // len(self.devices)) * len(self.devices)

    def put_chains(self, tree: Any) -> Any:
        """Spread a tree with a leading axis of chains; the last chain fills up the devices.

        The copies cost no time, because their device would wait for the others anyway.
        """
        sharding = NamedSharding(self.mesh, PartitionSpec(_AXIS))

        def put(leaf: Any) -> jax.Array:
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                kind = jax.random.key_impl(leaf)
                return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=kind)
            missing = self.padded(leaf.shape[0]) - leaf.shape[0]
            if not missing and getattr(leaf, "sharding", None) == sharding:
                return leaf
            # By the host: on the device each shape would be a program to compile.
            host = np.asarray(leaf)
            if missing:
                host = np.concatenate([host, np.repeat(host[-1:], missing, axis=0)])
            return jax.device_put(host, sharding)

        return jax.tree.map(put, tree)

    def put_shared(self, tree: Any) -> Any:
        """Copy a tree to every device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def compile(self, function: Callable[..., Any], donate: bool = True) -> Callable[..., Any]:
        """Compile a function of one chain for all chains.

        Parameters
        ----------
        function : callable
            ``function(carry, key, shared) -> result`` for one chain.
        donate : bool, default=True
            Give the memory of ``carry`` to the result.

        Returns
        -------
        callable
            The same with a leading axis of chains on ``carry``, ``key`` and the result.
        """

        def local(carry: Any, keys: Any, shared: Any) -> Any:
            if self.sequential:
                return jax.lax.map(lambda args: function(*args, shared), (carry, keys))
            return jax.vmap(lambda carry, key: function(carry, key, shared))(carry, keys)

        chains, everywhere = PartitionSpec(_AXIS), PartitionSpec()
        mapped = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(chains, chains, everywhere),
            out_specs=chains,
            check_vma=False,
        )
        return jax.jit(
            mapped,
            # On a single device JAX would give back vectors as if they were on all of them, and
            # compile once more for arrays that differ in this alone.
            out_shardings=NamedSharding(self.mesh, chains),
            donate_argnums=0 if donate else (),
            compiler_options=_CPU_COMPILER_OPTIONS if self.sequential else None,
        )
