"""What the optimisation of an ensemble needs of memory, from shapes alone."""

from __future__ import annotations

import jax

from mirth.core.keys import Purpose, purpose_key
from mirth.inference.engine.feed import stack_steps
from mirth.inference.memory import MemoryNeed, tree_bytes
from mirth.inference.problem import Problem
from mirth.inference.start.epochs import Optimisation, make_optimiser
from mirth.model import activation_bytes

# The state before and after a batch; the gradient and the update are as large as the weights.
_COPIES_OF_STATE = 2
# The members as they come from the devices, and as the draws of the result.
_COPIES_OF_MEMBERS = 2
# The stack that the devices work on, and the next one.
_STACKS = 2


def estimate_ensemble_memory(settings: Optimisation, problem: Problem) -> MemoryNeed:
    """Estimate what an ensemble needs.

    Compiled programs, and what the process has in memory already, are not counted.

    Parameters
    ----------
    settings : Optimisation
        Numbers of the optimiser.
    problem : Problem
        Model, rows, number of members, devices.

    Returns
    -------
    MemoryNeed
        Bytes on the host and on each device.
    """
    placement, num_members = problem.placement, problem.num_chains
    params, key = problem.params, purpose_key(problem.seed, Purpose.NETWORK_INIT)
    weights = jax.eval_shape(problem.model.init_weights, key, problem.rows.train.x)
    moments = jax.eval_shape(make_optimiser(settings).init, weights)
    state = 2 * tree_bytes(weights) + tree_bytes(moments)  # the present and the best weights
    data = tree_bytes((problem.rows.train, problem.rows.validation))
    batch, stream = settings.batch_size, problem.stream
    if stream is not None:
        batch = stream.size(settings.batch_size)
        row = tree_bytes((stream.example.x, stream.example.y)) // len(stream.example.y)
        data += _STACKS * stack_steps(stream, settings.batch_size) * batch * row
    at_once = problem.chains_at_once()
    per_device = placement.padded(num_members) // len(placement.devices)
    # Validation rows go through the network at once, but nothing is kept for a gradient.
    active = max(batch, problem.rows.validation.y.shape[0] // 2)
    device = {
        "data": data,
        "states of the members": (per_device + at_once * (_COPIES_OF_STATE - 1)) * state,
        "activations of a batch": at_once
        * active
        * activation_bytes(problem.model, params, problem.rows.train),
    }
    host = {"data": data, "draws": _COPIES_OF_MEMBERS * num_members * tree_bytes(params)}
    return MemoryNeed(host, device, len(placement.devices), placement.devices[0].platform == "cpu")
