"""What every test process does before JAX starts.

Four CPU devices, so that code which spreads chains over devices runs as it does on a machine with
several; the CPU unless JAX_PLATFORMS says otherwise, so that results do not depend on the machine.
Each worker of pytest-xdist is a process of its own and passes here too.

Nearly all of the time of a short run goes into compilation. A cache on disk serves programs that
are equal, also to the processes that tests start; where the numbers are not the point,
``unoptimised`` halves the rest.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

CACHE = "JAX_COMPILATION_CACHE_DIR"
if CACHE not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    # One for each worker and the processes that it starts: JAX reads without a lock what another
    # process may have written by half.
    os.environ[CACHE] = tempfile.mkdtemp(prefix="mirth-tests-")
    atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax  # noqa: E402
import pytest  # noqa: E402

if not os.environ.get("JAX_PLATFORMS"):
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="module")
def unoptimised() -> Iterator[None]:
    """Compile with few optimisations."""
    from mirth.inference.engine.programs import PROGRAMS

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    PROGRAMS.clear()
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    PROGRAMS.clear()


@pytest.fixture(autouse=True)
def own_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test that changes the library find no program from before, and leave none."""
    if "monkeypatch" not in request.fixturenames:
        yield
        return
    from mirth.inference.engine.programs import PROGRAMS

    PROGRAMS.clear()
    yield
    PROGRAMS.clear()
