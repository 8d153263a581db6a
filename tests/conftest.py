"""What every test process does before JAX starts.

Four CPU devices, so that code which spreads chains over devices runs as it does on a machine with
several; the CPU unless JAX_PLATFORMS says otherwise, so that results do not depend on the machine.
Each worker of pytest-xdist is a process of its own and passes here too.
"""

from __future__ import annotations

import os

import jax

if not os.environ.get("JAX_PLATFORMS"):
    jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
