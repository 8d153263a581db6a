"""Compiled programs that outlive their process: most of the time of a small fit is compilation."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from mirth.core.folders import user_cache

SWITCH = "MIRTH_COMPILED_PROGRAMS"
_MAX_BYTES = 2**30
_MIN_SECONDS = 0.1


def keep_compiled_programs() -> Path | None:
    """Let JAX keep compiled programs in mirth's cache folder, unless somebody has said otherwise.

    JAX then also keeps the other programs of the process that took a tenth of a second to compile.
    The folder holds 1 GiB at most, the programs that were used last, and is safe for several
    processes. Nothing happens if JAX has a folder already (``JAX_COMPILATION_CACHE_DIR``), or if
    the environment variable ``MIRTH_COMPILED_PROGRAMS`` is ``off``; any other value of it is the
    folder.

    Returns
    -------
    Path or None
        The folder, if this call or an earlier one has set it.

    Examples
    --------
    >>> import os
    >>> os.environ["MIRTH_COMPILED_PROGRAMS"] = "off"
    >>> keep_compiled_programs() is None
    True
    >>> del os.environ["MIRTH_COMPILED_PROGRAMS"]
    """
    chosen = os.environ.get(SWITCH, "")
    if chosen.lower() == "off":
        return None
    folder = (Path(chosen) if chosen else user_cache("programs")) / instruction_set()
    known = jax.config.values["jax_compilation_cache_dir"]
    if known is not None:
        return folder if known == str(folder) else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a home that cannot be written: it only takes longer
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # With a limit JAX takes a lock, so that no process reads what another has written by half.
    jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS)
    compilation_cache.reset_cache()  # JAX asks for the folder once, at its first compilation
    return folder


def instruction_set() -> str:
    """Name the instruction set of the processor: a home may be shared by different machines.

    Examples
    --------
    >>> len(instruction_set())
    16
    """
    return hashlib.sha256(processor().encode()).hexdigest()[:16]


def processor() -> str:
    """Give what the system says of the instructions of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
