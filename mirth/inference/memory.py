"""What a run needs of memory and what there is, as it is said before it begins."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mirth.core.outcomes import MirthWarning
from mirth.inference.problem import Problem

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

_ADVICE = {
    "draws": "give infer a run directory (run=FOLDER), so that the draws go to the disk, or take "
    "fewer of them (n_samples, with a larger n_thinning)",
    "draws on their way to the disk": "take fewer chains at once (num_chains)",
    "positions of the tuning": "lower max_kept or max_params of the tuner",
    "activations": "give a smaller data_block_size",
    "states of the chains": "take fewer chains at once (num_chains)",
    "activations of a batch": "give the ensemble a smaller batch_size, or fewer validation rows",
    "states of the members": "take fewer members at once (num_chains)",
    "data": "take fewer rows, or fewer devices (placement)",
}


@dataclasses.dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a run needs, by what they are for.

    Parameters
    ----------
    host : dict
        On the host.
    device : dict
        On each device.
    num_devices : int
        Devices.
    on_host : bool
        Whether the devices' memory is the host's (CPU).

    Examples
    --------
    >>> need = MemoryNeed({"draws": 2**30}, {"states of the chains": 2**28}, 2, on_host=True)
    >>> need.sentence(host_free=20 * 2**30, device_free=None)
    'This run needs about 1 GiB of memory on the host (1 GiB draws) and 256 MiB on each of 2 devices; 20 GiB are free.'
    >>> need.advice(host_free=2**30, device_free=None)
    'Most of it is draws: give infer a run directory ...'
    """  # noqa: E501

    host: dict[str, int]
    device: dict[str, int]
    num_devices: int
    on_host: bool

    def sentence(self, host_free: int | None, device_free: int | None) -> str:
        """Say what is needed and what is free, in one sentence."""
        largest = max(self.host, key=lambda name: self.host[name])
        each = f"each of {self.num_devices} devices" if self.num_devices > 1 else "the device"
        words = (
            f"This run needs about {in_words(sum(self.host.values()))} of memory on the host "
            f"({in_words(self.host[largest])} {largest}) and "
            f"{in_words(sum(self.device.values()))} on {each}"
        )
        places = [("", host_free)]
        if not self.on_host:
            places = [(" on the host", host_free), (" on a device", device_free)]
        free = [f"{in_words(size)}{place}" for place, size in places if size is not None]
        return f"{words}; {' and '.join(free)} are free." if free else f"{words}."

    def advice(self, host_free: int | None, device_free: int | None) -> str | None:
        """Say what to change if it does not fit; None if it fits or nothing is known."""
        host, devices = self.host, {k: v * self.num_devices for k, v in self.device.items()}
        if self.on_host:
            host = {k: host.get(k, 0) + devices.get(k, 0) for k in host | devices}
        parts: dict[str, int] = {}
        if host_free is not None and sum(host.values()) > host_free:
            parts = host
        elif not self.on_host and device_free is not None:
            parts = self.device if sum(self.device.values()) > device_free else {}
        if not parts:
            return None
        largest = max(parts, key=lambda name: parts[name])
        return f"Most of it is {largest}: {_ADVICE[largest]}."


def in_words(num_bytes: int) -> str:
    """Give a number of bytes with two digits and a unit.

    Examples
    --------
    >>> in_words(1288490189), in_words(21 * 2**30), in_words(300 * 2**20), in_words(10)
    ('1.2 GiB', '21 GiB', '300 MiB', '1 MiB')
    """
    if num_bytes < 0.5 * 2**30:
        return f"{max(1, round(num_bytes / 2**20))} MiB"
    size = num_bytes / 2**30
    return f"{size:.0f} GiB" if size >= 10 else f"{round(size, 1):g} GiB"


def tree_bytes(tree: Any) -> int:
    """Bytes of all leaves, or of arrays of their shapes."""
    return sum(leaf.size * jnp.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree))


def free_host_bytes() -> int | None:
    """Bytes that a process may still take on the host; None where the system does not say."""
    known = [size for size in (_free_by_system(), _free_by_container()) if size is not None]
    return min(known, default=None)


def _free_by_container() -> int | None:
    """What the limit of a container (control group, version 2) leaves; None without a limit."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())  # the word "max" where there is none
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    # Files that were read count as used, but give way.
    return max(0, limit - used + int(stat.get("inactive_file", 0)))


def _free_by_system() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def free_device_bytes(device: jax.Device) -> int | None:
    """Bytes that are free on a device; None where it does not say."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))


def announce(need: MemoryNeed, problem: Problem, stacklevel: int) -> None:
    """Tell the monitors what the run will need, and warn if it does not fit."""
    free = (free_host_bytes(), free_device_bytes(problem.placement.devices[0]))
    sentence, advice = need.sentence(*free), need.advice(*free)
    problem.monitor.on_start(sentence)
    if advice is not None:
        warnings.warn(f"{sentence} {advice}", MirthWarning, stacklevel=stacklevel + 1)
