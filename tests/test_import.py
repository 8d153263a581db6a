"""`import mirth` is quiet: no JAX backend, no heavy library, no changed setting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Needed by some users only, so each is imported where it is used.
UNWANTED = (
    "matplotlib", "pandas", "zarr", "skops", "typer", "rich", "pydantic", "yaml",
    "blackjax", "flax", "ray", "tensorboardX", "mlflow",
)  # fmt: skip

# Runs in a fresh interpreter, because this one has long imported and started everything.
PROBE = """
import json, sys
import jax
from jax._src import xla_bridge
before = dict(jax.config.values)
{statement}
after = dict(jax.config.values)
print(json.dumps({{
    "backend_started": xla_bridge.backends_are_initialized(),
    "imported": [name for name in {unwanted!r} if name in sys.modules],
    "changed": [name for name in after if name in before and after[name] != before[name]],
}}))
"""


def probe(statement: str) -> dict[str, Any]:
    """Run `statement` in a fresh interpreter and say what it did to the process."""
    code = PROBE.format(statement=statement, unwanted=UNWANTED)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, f"`{statement}` failed in a fresh interpreter:\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    return probe("import mirth")


def test_import_starts_no_backend(imported: dict[str, Any]) -> None:
    assert not imported["backend_started"], (
        "`import mirth` started a JAX backend, so a user can no longer choose the platform or the "
        "number of devices. Look for jnp or jax.random calls at module level or in a default value."
    )


def test_import_brings_no_heavy_library(imported: dict[str, Any]) -> None:
    assert imported["imported"] == [], (
        f"`import mirth` imports {imported['imported']}; move these imports into the functions "
        "that use them, or load the module lazily in mirth/__init__.py."
    )


def test_import_changes_no_jax_setting(imported: dict[str, Any]) -> None:
    assert imported["changed"] == [], (
        f"`import mirth` changed the JAX settings {imported['changed']}; settings are the user's."
    )


def test_probe_notices_all_three() -> None:
    seen = probe(
        "import rich, jax.numpy as jnp; jax.config.update('jax_enable_x64', True); jnp.zeros(1)"
    )
    assert seen["backend_started"]
    assert seen["imported"] == ["rich"]
    assert seen["changed"] == ["jax_enable_x64"]
