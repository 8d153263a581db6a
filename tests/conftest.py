"""What every test process does before JAX starts.

Four CPU devices, so that code which spreads chains over devices runs as it does on a machine with
several; the CPU unless JAX_PLATFORMS says otherwise, so that results do not depend on the machine.
Each worker of pytest-xdist is a process of its own and passes here too.

Nearly all of the time of a short run goes into compilation. A cache on disk serves programs that
are equal, also to the processes that tests start, and the next run of the tests
(``tests/compiled.py``), and XLA's older emitters halve the rest.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Iterator
from pathlib import Path

from tests import compiled, selection

CACHE = "JAX_COMPILATION_CACHE_DIR"
KEPT = None
if CACHE not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    KEPT = compiled.Kept(Path(__file__).parent.parent / ".pytest_cache/d/programs")
    os.environ[CACHE] = str(KEPT.own)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# A folder of XLA's own, inside the other one, would make the path a part of every program's key.
os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")

# The older emitters of XLA compile the programs of short runs in half the time. The slow tests run
# with those that users have (`make test-slow`), and so do tests of equal bits for which it matters.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false"

import jax  # noqa: E402
import pytest  # noqa: E402

if not os.environ.get("JAX_PLATFORMS"):
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
# A process of hundreds of tests holds gigabytes of traces and programs, and JAX looks through them
# at every collection: of a file that took 50 s they were 3 s, rarer ones are 0.6 s.
gc.set_threshold(100_000, 20, 50)
MAX_RESIDENT = 2.5e9


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: selection.rank(item.nodeid))
    for item in items:
        if selection.is_fast(item.nodeid):
            item.add_marker(pytest.mark.fast)
        if selection.is_long_example(item.nodeid):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """A worker may be ended at any time after this: later is too late."""
    if KEPT is not None:
        jax.config.update("jax_enable_compilation_cache", False)
        KEPT.close()


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """Let go of what was compiled once it takes much: a worker would hold gigabytes in the end.

    Not after every file: what the next one compiles again, small operations above all, would take
    longer than the tests.
    """
    yield
    from mirth.inference.engine.programs import PROGRAMS

    PROGRAMS.clear()
    if resident_bytes() > MAX_RESIDENT:
        jax.clear_caches()
        gc.collect()


def resident_bytes() -> float:
    """Memory of this process; infinite where it cannot be read."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return math.inf
    return pages * os.sysconf("SC_PAGE_SIZE")


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


@pytest.fixture
def host_patch() -> Iterator[pytest.MonkeyPatch]:
    """As ``monkeypatch``, for what is in no program: those of other tests are found again."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch
