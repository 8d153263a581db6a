"""What a result was made with."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("mirth", "jax", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Describe the software and the devices.

    Returns
    -------
    dict
        ``python``, ``platform``, ``devices``, ``cpu_kernel`` (whether the compiled kernel is used),
        ``commit`` (of mirth, if it runs from a checkout) and the version of each of
        :data:`PACKAGES`.

    Examples
    --------
    >>> {"commit", "cpu_kernel", "devices", "jax", "mirth", "python"} <= environment().keys()
    True
    """
    import jax

    from mirth.model import cpu_kernel

    return {
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_kernel": cpu_kernel.status(),
        "commit": commit(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.local_devices()],
    }


def commit(root: Path = Path(__file__).parents[2]) -> str | None:
    """Give the commit of a checkout; None if the folder is none.

    Parameters
    ----------
    root : Path
        Top folder of the checkout. A folder inside of one does not count: an installed mirth may
        lie in the repository of somebody else.

    Returns
    -------
    str or None
        The commit's hash.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     commit(Path(folder)) is None
    True
    """
    command = ["git", "-C", str(root), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    top, _, name = found.stdout.strip().partition("\n")
    return name if Path(top) == root.resolve() else None


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
