"""What a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

PACKAGES = ("mirth", "jax", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Describe the software and the devices.

    Returns
    -------
    dict
        ``python``, ``platform``, ``devices``, ``cpu_kernel`` (whether the compiled kernel is used)
        and the version of each of :data:`PACKAGES`.

    Examples
    --------
    >>> sorted(environment())
    ['cpu_kernel', 'devices', 'jax', 'mirth', 'numpy', 'platform', 'python', 'scikit-learn']
    """
    import jax

    from mirth.model import cpu_kernel

    return {
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_kernel": cpu_kernel.status(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.local_devices()],
    }


def describe(found: dict[str, Any]) -> str:
    """Put an environment into one sentence.

    Parameters
    ----------
    found : dict
        What ``environment`` has returned.

    Returns
    -------
    str
        The sentence.
    """
    versions = ", ".join(f"{name} {found[name]}" for name in PACKAGES)
    devices = found["devices"]
    return (
        f"Made with {versions}, Python {found['python']}, {found['platform']}, "
        f"{len(devices)} x {devices[0]}, CPU kernel {found['cpu_kernel']}."
    )
