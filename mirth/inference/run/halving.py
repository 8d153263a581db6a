"""A step-size check: the chains of a run that is over go on at its step size and at half of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from mirth.core.keys import Purpose
from mirth.core.snapshots import Snapshot, tree_from_arrays
from mirth.core.types import Batch, Params
from mirth.inference.chains.chains import Chain, Chains, Recipe
from mirth.inference.engine.loop import ChunkReport, Stretch

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

_NO_STEP = (
    "chains have a step size that stays as it is set with MILE, SMILE (but for published=True) and "
    "Sampling of a microcanonical kernel"
)
_HALF = 1e-3  # how far from a half of the step size its half may be


class Continued(NamedTuple):
    """Draws at one step size.

    Parameters
    ----------
    draws : pytree of arrays of shape (chains, draws, ...)
        Parameters.
    step_size : array of shape (chains,)
        Step size of the last step.
    energy_variance : array of shape (chains,)
        Mean of Delta E^2 per dimension over all steps.
    """

    draws: Params
    step_size: np.ndarray
    energy_variance: np.ndarray


class Halving(NamedTuple):
    """Chains of a run that have gone on twice from where they stood.

    Parameters
    ----------
    present, half : Continued
        At the step size of the run and at half of it, with twice as many steps between two draws.
    rows : Batch
        Rows held back in the run, which its chains are watched by.
    """

    present: Continued
    half: Continued
    rows: Batch

    def of_chains(self, chains: np.ndarray) -> Halving:
        """Give some chains only."""
        two = (self.present, self.half)
        present, half = jax.tree.map(lambda leaf: np.asarray(leaf)[chains], two)
        return Halving(present, half, self.rows)


def halve_steps(
    recipe: Recipe, problem: Problem, snapshot: Snapshot, num_draws: int, num_settling: int
) -> Halving:
    """Let all chains of a run go on, at its step size and at half of it.

    Both cover the same length of trajectory between two draws, and the same before the first one
    that counts. The programs are those of the run where the step size is a number of its state.

    Parameters
    ----------
    recipe : Recipe
        What the method has asked of the chains.
    problem : Problem
        The run.
    snapshot : Snapshot
        Its end.
    num_draws, num_settling : int
        Draws that count, and those before them that do not.

    Raises
    ------
    ValueError
        If there is no step size to halve.
    """
    num = problem.num_chains
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((num, *leaf.shape), leaf.dtype), problem.params
    )
    chains = Chains(recipe, problem, tree_from_arrays(like, snapshot.arrays, "start"))
    state = tree_from_arrays(chains.like(), snapshot.arrays, "chain")
    found = recipe.adaptation.halved(state.adapted)
    if found is None:
        raise ValueError(f"The steps of this method cannot be halved; {_NO_STEP}.")
    adaptation, adapted = found
    other = chains
    if adaptation is not recipe.adaptation:
        other = Chains(recipe._replace(adaptation=adaptation), problem, chains.start)
    thin, counts = recipe.n_thinning, (num_draws, num_settling)
    present = _go_on(chains, state, 0, thin, *counts)
    # Other steps than those before: a step's number is in its key, and chooses a stream's batch.
    first = sum(counts) * thin
    half = _go_on(other, state._replace(adapted=adapted), first, 2 * thin, *counts)
    if not np.allclose(half.step_size, present.step_size / 2, rtol=_HALF):
        raise ValueError(
            f"The step sizes are {present.step_size.tolist()} and, halved, "
            f"{half.step_size.tolist()}: the adaptation of this method has its own; {_NO_STEP}."
        )
    return Halving(present, half, problem.rows.validation)


def _go_on(
    chains: Chains, state: Chain, first: int, thin: int, num_draws: int, num_settling: int
) -> Continued:
    """Run all chains with fixed settings."""
    num_steps = (num_settling + num_draws) * thin
    squares = np.zeros(chains.problem.num_chains)
    step_size, done = squares, 0

    def on_chunk(report: ChunkReport) -> None:
        nonlocal squares, step_size, done
        squares = squares + (report.step - done) * np.asarray(report.stats.squared_energy_change)
        step_size, done = np.asarray(report.stats.step_size), report.step

    _, kept = chains.main_loop.run(
        Stretch("step-size check", num_steps, first_step=first, thin=thin),
        chains.problem.placement.put_chains(state),
        chains.keys(Purpose.HALVING),
        chains.shared,
        on_chunk=on_chunk,
        feed=chains.feed(Purpose.HALVING),
    )
    counting: dict[str, Any] = {name: values[:, num_settling:] for name, values in kept.items()}
    draws = chains.draws_tree(chains.named(counting))
    return Continued(draws, step_size, squares / (num_steps * chains.num_params))
