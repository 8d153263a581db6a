"""The chains of one run: their programs, what they see, and what is kept of a draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mirth.core.keys import Purpose, purpose_key
from mirth.core.outcomes import Outcome, SamplingError
from mirth.core.programs import Shapes
from mirth.core.stored import StoredArray
from mirth.core.trees import leaf_name
from mirth.core.types import Key
from mirth.inference.chains.programs import Chain, ChainPrograms, ChainSettings, Shared
from mirth.inference.chains.sources import choose_source
from mirth.inference.engine.loop import ChainLoop, ChunkProgram
from mirth.inference.engine.programs import PROGRAMS
from mirth.inference.rows import features_first
from mirth.samplers import Adaptation, Phase, Tuned

if TYPE_CHECKING:
    from mirth.inference.engine.feed import Feed
    from mirth.inference.problem import Problem


_BFLOAT16 = np.dtype(jnp.bfloat16)


class Recipe(NamedTuple):
    """What a method asks of its chains.

    Parameters
    ----------
    adaptation : Adaptation
        What is learnt in the warm-up; it has the kernel.
    n_samples, n_thinning : int
        Draws kept per chain, and steps between two of them.
    batch_size : int or None
        Most rows of a step; None means all rows.
    use_validation_rows : bool
        Whether the chains condition on the validation rows too.
    batch_order : str
        Order of the batches, one of :data:`~mirth.data.BATCH_ORDERS`.
    unhealthy_chains : str
        Policy for chains that are unhealthy while they run.
    budget : str
        ``"auto"`` lets the run end when it no longer pays.
    min_gain, min_effective : float
        When it no longer pays: LPPD per doubling, effective draws.
    """

    adaptation: Adaptation
    n_samples: int
    n_thinning: int
    batch_size: int | None
    use_validation_rows: bool
    batch_order: str = "epochs"
    unhealthy_chains: str = "keep"
    budget: str = "fixed"
    min_gain: float = 0.02
    min_effective: float = 400.0


class Chains:
    """One run: the members of an ensemble, or other starts, each continued as a chain.

    Parameters
    ----------
    recipe : Recipe
        What the method asks for.
    problem : Problem
        Model, rows, seed, devices, monitor.
    params : pytree
        Starts, leading axis (chains,).
    """

    def __init__(self, recipe: Recipe, problem: Problem, params: Any):
        self.recipe, self.problem = recipe, problem
        self.adaptation = recipe.adaptation
        self.source = choose_source(
            problem, recipe.batch_size, recipe.use_validation_rows, recipe.batch_order
        )
        self.start = jax.tree.map(np.asarray, params)
        rows = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(self.start)]
        subset_key = purpose_key(problem.seed, Purpose.SUBSET)
        self.num_params = sum(part.shape[1] for part in rows)
        shared = Shared(
            self.source.stored,
            features_first(self.source.rows.watched(problem.rows.validation)),
            jnp.array(False),
            jnp.array(False),
            jnp.array(self.adaptation.horizon),
            self.adaptation.subset(subset_key, self.num_params),
        )
        self.shared = problem.placement.put_shared(shared)
        settings = ChainSettings(
            model=problem.model,
            adaptation=recipe.adaptation,
            rows=self.source.rows,
            keep=problem.keep,
            draws_dtype=problem.draws_dtype,
            placement=problem.placement,
            start=Shapes.of(self.start),
            shared=Shapes.of(shared),
        )
        self.programs = PROGRAMS.find(ChainPrograms, settings)
        self.flat = np.concatenate(rows, axis=1, dtype=self.programs.vector.dtype)
        self.main_loop = self._loop(self.programs.main)

    def fixed_loop(self) -> ChainLoop:
        """Loop of a phase with a trajectory."""
        programs = self.programs
        return self.main_loop if programs.fixed is programs.main else self._loop(programs.fixed)

    def _loop(self, program: ChunkProgram) -> ChainLoop:
        return ChainLoop(program, self.problem.num_chains, chunk_steps=self.problem.chunk_steps)

    def init(self, restarts: Sequence[int] | None = None) -> Chain:
        """Start all chains from the ensemble, each in a random direction.

        Parameters
        ----------
        restarts : sequence of int, optional
            How often each chain has been put back, this time included: each time it has keys of its
            own. None starts them for the first time.
        """
        placement = self.problem.placement
        if restarts is None:
            keys = self.keys(Purpose.MOMENTUM)
        else:
            own = self.problem.keys(Purpose.RESTART)
            keys = placement.put_chains(jax.vmap(jax.random.fold_in)(own, jnp.array(restarts)))
        chains = self.programs.init(placement.put_chains(self.flat), keys, self.shared)
        if not np.isfinite(np.asarray(chains.kernel.logdensity)).any():
            problem, params = self.problem, self.programs.unravel(self.flat[0])
            reason = problem.model.explain_non_finite(params, problem.rows.all)
            raise SamplingError(
                Outcome.NON_FINITE_TARGET, reason or "Its terms are finite, their sum is not."
            )
        return chains

    def like(self) -> Chain:
        """Shapes and types of the state of all chains, without the padding."""
        keys = jax.eval_shape(lambda: self.problem.keys(Purpose.MOMENTUM))
        one = jax.vmap(self.programs.init_one, (0, 0, None))
        return jax.eval_shape(one, self.flat, keys, self.shared)

    def keys(self, purpose: Purpose) -> Key:
        """One key per chain for a purpose, on the devices."""
        return self.problem.placement.put_chains(self.problem.keys(purpose))

    def feed(self, purpose: Purpose) -> Feed | None:
        """Give the batches of a part of the run, if they come from a stream."""
        return self.source.feed(purpose)

    def tuned(self, chains: Chain) -> Tuned:
        """Say what is known of the adaptation, arrays of shape (chains,)."""
        num = self.problem.num_chains
        own = jax.tree.map(lambda leaf: np.asarray(leaf)[:num], chains.adapted)
        return Tuned(*(np.broadcast_to(x, num) for x in self.adaptation.tuned(own)))

    def end_phase(self, chains: Chain, phase: Phase, kept: Any) -> Chain:
        """Conclude a phase of all chains."""
        adapted = chains.adapted
        if kept is not None:
            missing = chains.divergent.shape[0] - self.problem.num_chains
            path, log_prob = (
                np.concatenate([kept[name], np.repeat(kept[name][-1:], missing, axis=0)])
                for name in ("position", "log_prob")
            )
            adapted = self.adaptation.end_trajectory(adapted, path, phase.thin, log_prob)
        elif jax.tree.leaves(adapted):
            adapted = self.programs.end_phase(phase)(adapted)
        return self.problem.placement.put_chains(chains._replace(adapted=adapted))

    def log_prob_now(self, chains: Chain) -> np.ndarray:
        """Log probability of each validation row by each chain's present position."""
        positions = np.asarray(chains.kernel.position)[: self.problem.num_chains]
        return np.asarray(self.programs.log_prob_of_each(positions, self.shared), dtype=np.float64)

    def log_prob_of_start(self) -> np.ndarray:
        """Log probability of each validation row by each chain's start."""
        return np.asarray(self.programs.log_prob_of_each(self.flat, self.shared), dtype=np.float64)

    def named(self, piece: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Cut kept positions into the leaves of the parameters, each under its own name."""
        piece = dict(piece)
        position = piece.pop("position")
        if position.dtype == np.float16 and not np.isfinite(position).all():
            raise SamplingError(
                Outcome.UNKEEPABLE_DRAW,
                "dtype='float16' ends at 65504; take 'bfloat16', which has fewer digits.",
            )
        if position.dtype == _BFLOAT16:
            position = position.view(np.uint16)  # neither NumPy's files nor Zarr know the type
        tree = _unravel_draws(self.programs.unravel_kept, position, self.flat.dtype)
        flat = jax.tree_util.tree_flatten_with_path(tree)[0]
        return piece | {leaf_name(path): leaf for path, leaf in flat}

    def draws_tree(self, kept: dict[str, Any]) -> Any:
        """Undo :meth:`named`: the parameters as a tree, left on the disk where they are there."""
        flat, treedef = jax.tree_util.tree_flatten_with_path(self.programs.kept)
        dtype = np.dtype(self.problem.draws_dtype)
        leaves = [kept[leaf_name(path)] for path, _ in flat]
        return jax.tree.unflatten(
            treedef,
            [
                leaf.view(dtype) if isinstance(leaf, np.ndarray) else StoredArray(leaf, dtype)
                for leaf in leaves
            ],
        )


def pooled(log_prob: np.ndarray) -> float:
    """LPPD of rows by all chains together, from the log probability of each chain and row."""
    return float(np.mean(np.logaddexp.reduce(log_prob, axis=0) - np.log(len(log_prob))))


def _unravel_draws(unravel: Callable[[Array], Any], positions: np.ndarray, dtype: Any) -> Any:
    """Cut flat draws (chains, draws, params) into leaves without copying them to a device."""
    shapes = jax.eval_shape(unravel, jax.ShapeDtypeStruct(positions.shape[2:], dtype))
    leaves, treedef = jax.tree.flatten(shapes)
    ends = np.cumsum([leaf.size for leaf in leaves])
    return jax.tree.unflatten(
        treedef,
        [
            positions[:, :, end - leaf.size : end].reshape(*positions.shape[:2], *leaf.shape)
            for leaf, end in zip(leaves, ends, strict=True)
        ],
    )
