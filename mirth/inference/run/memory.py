"""What a run of chains needs of memory, from shapes alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mirth.inference.chains.chains import Recipe
from mirth.inference.chains.programs import NUM_TRACED
from mirth.inference.engine.loop import kept_per_chunk
from mirth.inference.memory import MemoryNeed, tree_bytes
from mirth.inference.problem import Problem
from mirth.model import activation_bytes
from mirth.samplers import Moment

# Log density, energy change and divergences of a draw, beside its position.
_STATISTICS_BYTES = 3 * 4
# Pieces in memory and the array that they are joined to.
_COPIES_OF_DRAWS = 2
# The same, and the copy that fills up the devices.
_COPIES_OF_TRAJECTORY = 3
# Chunks of draws on their way to the disk: one being filled, two waiting, one being cut.
_CHUNKS_TO_DISK = 4
# The state at the begin and at the end of a step; a step needs some noise as well.
_COPIES_OF_STATE = 2


def estimate_memory(recipe: Recipe, problem: Problem) -> MemoryNeed:
    """Estimate what a run of chains needs, from shapes alone.

    Compiled programs, and what the process has in memory already, are not counted.

    Parameters
    ----------
    recipe : Recipe
        What the method asks of its chains.
    problem : Problem
        Model, rows, number of chains, devices.

    Returns
    -------
    MemoryNeed
        Bytes on the host and on each device.
    """
    placement, num_chains = problem.placement, problem.num_chains
    params, num_params = problem.params, problem.num_params
    rows = problem.rows.all if recipe.use_validation_rows else problem.rows.train
    num_padded = placement.padded(num_chains)
    per_device = num_padded // len(placement.devices)
    draw = num_params * jnp.dtype(problem.draws_dtype).itemsize + _STATISTICS_BYTES
    buffer = kept_per_chunk(draw * num_padded) * draw
    state = _state_bytes(recipe, num_params, problem.rows.validation.y.shape[0])
    at_once = problem.chains_at_once()
    num_rows = rows.y.shape[0]
    block = recipe.batch_size or problem.choose_block_size(params, rows) or num_rows
    block = min(block, num_rows)
    # Validation rows go through the network at once, but nothing is kept for a gradient.
    active = max(block, problem.rows.validation.y.shape[0] // 2)
    held = tree_bytes((problem.rows.train, problem.rows.validation))
    device = {
        "data": tree_bytes((rows, problem.rows.validation)),
        "states of the chains": (per_device + at_once * (_COPIES_OF_STATE - 1)) * state
        + (per_device + at_once) * buffer,
        "activations": at_once * active * activation_bytes(problem.model, params, rows),
    }
    host = {"data": held, "positions of the tuning": 0}
    kept = [phase.num_steps // phase.thin for phase in recipe.adaptation.phases() if phase.thin]
    values = min(num_params, recipe.adaptation.max_params)
    values += min(NUM_TRACED, problem.rows.validation.y.shape[0])
    path = sum(kept) * values * 4 * num_chains
    host["positions of the tuning"] = _COPIES_OF_TRAJECTORY * path
    # The tuning is over when the draws come: the larger of the two counts.
    if problem.draws_on_disk:
        draws, name = _CHUNKS_TO_DISK * buffer * num_padded, "draws on their way to the disk"
    else:
        draws, name = _COPIES_OF_DRAWS * recipe.n_samples * draw * num_chains, "draws"
    if draws > host["positions of the tuning"]:
        del host["positions of the tuning"]
        host[name] = draws
    return MemoryNeed(host, device, len(placement.devices), placement.devices[0].platform == "cpu")


def _state_bytes(recipe: Recipe, num_params: int, num_validation: int) -> int:
    """Bytes of the state of one chain."""
    adaptation, zero = recipe.adaptation, jnp.zeros((), jnp.int32)
    moment = Moment(zero, zero, jnp.array(True), jnp.array(False), zero)

    def start(flat: Any, key: Any) -> Any:
        adapted = adaptation.init(flat)
        sampler = adaptation.sampler(adapted, moment)
        kernel = sampler.init(flat, lambda position: jnp.sum(position), key)
        return kernel, adapted, jnp.zeros(num_validation), jnp.zeros(())

    key = jax.eval_shape(lambda: jax.random.key(0))
    return tree_bytes(jax.eval_shape(start, jax.ShapeDtypeStruct((num_params,), float), key))
