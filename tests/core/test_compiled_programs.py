"""Compiled programs that outlive their process: who sets the folder, and who finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A program of the process comes first: JAX looks for its folder once.
SCRIPT = """
import jax, sys
import jax.numpy as jnp
from jax._src import monitoring
found = []
monitoring.register_event_listener(lambda name, **_: found.append(name.rpartition("/")[2]))
jax.config.update("jax_platforms", "cpu")
jnp.arange(3) + 1
from mirth.core import compiled_programs as c
c._MIN_SECONDS = 0.0
print(c.keep_compiled_programs(), c.keep_compiled_programs())
jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((30, 30))).block_until_ready()
print(found.count("cache_hits"), found.count("cache_misses"))
"""


def run(**environment: str) -> tuple[str, str, int, int]:
    """Folder of the first call and of the second one, programs found and written."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "MIRTH_"))}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, check=True
    )
    first, second, hits, misses = done.stdout.split()
    return first, second, int(hits), int(misses)


def test_a_second_process_finds_the_programs_of_the_first(tmp_path: Path) -> None:
    first, second, hits, misses = run(XDG_CACHE_HOME=str(tmp_path))
    assert first == second and Path(first).parent == tmp_path / "mirth" / "programs"
    assert hits == 0 and misses > 0
    _, _, hits, again = run(XDG_CACHE_HOME=str(tmp_path))
    assert hits == misses and again == 0


@pytest.mark.parametrize("name", ["off", pytest.param("user", marks=pytest.mark.slow)])
def test_whoever_has_chosen_is_left_alone(name: str, tmp_path: Path) -> None:
    environment = {
        "off": {"MIRTH_COMPILED_PROGRAMS": "off", "XDG_CACHE_HOME": str(tmp_path)},
        "user": {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "own")},
    }[name]
    first, second, hits, misses = run(**environment)
    assert (first, second) == ("None", "None")
    assert not (tmp_path / "mirth").exists()


def test_another_folder(tmp_path: Path) -> None:
    first, *_ = run(MIRTH_COMPILED_PROGRAMS=str(tmp_path / "elsewhere"))
    assert Path(first).parent == tmp_path / "elsewhere"


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run(XDG_CACHE_HOME=str(tmp_path / "file"))[:2] == ("None", "None")
