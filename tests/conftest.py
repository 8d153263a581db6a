"""What every test process does before JAX starts.

Four CPU devices, so that code which spreads chains over devices runs as it does on a machine with
several; the CPU unless JAX_PLATFORMS says otherwise, so that results do not depend on the machine.
Each worker of pytest-xdist is a process of its own and passes here too.

Nearly all of the time of a short run goes into compilation. A cache on disk serves programs that
are equal; where the numbers are not the point, ``unoptimised`` halves the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import jax
import pytest

if not os.environ.get("JAX_PLATFORMS"):
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled programs for the session."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="module")
def unoptimised(compilation_cache: None) -> Iterator[None]:
    """Compile with few optimisations."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
