"""The programs of chains: kernel, adaptation and source put together; what is kept of a draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from mirth.core.keys import Purpose, purpose_key
from mirth.core.outcomes import Outcome, SamplingError
from mirth.core.stored import StoredArray
from mirth.core.trees import leaf_name, unraveller
from mirth.core.types import Key
from mirth.inference.chains.sources import Step, choose_source
from mirth.inference.engine.loop import ChainLoop
from mirth.inference.problem import features_first, rows_first
from mirth.samplers import Adaptation, Moment, Phase, StepInfo, Tuned

if TYPE_CHECKING:
    from mirth.inference.engine.feed import Feed
    from mirth.inference.problem import Problem


_BFLOAT16 = np.dtype(jnp.bfloat16)
NUM_TRACED = 16
"""Validation rows whose log probability is kept at each draw: how effective are the draws?"""


class Chain(NamedTuple):
    """State of one chain in the loop.

    Parameters
    ----------
    kernel : pytree
        State of the sampler.
    adapted : pytree
        State of the adaptation.
    log_sum : array of shape (validation rows,)
        Running log of the summed probabilities of the validation rows over the kept draws.
    divergent : scalar
        Reverted steps since the last kept draw.
    rows_key : array of uint32
        Key of the chain's order of the rows.
    num_steps : int scalar
        Steps since the start; with the key it chooses the rows of a step.
    """

    kernel: Any
    adapted: Any
    log_sum: Float[Array, " validation"]
    divergent: Float[Array, ""]
    rows_key: Array
    num_steps: Int[Array, ""]


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
    unhealthy_chains: str = "keep"
    budget: str = "fixed"
    min_gain: float = 0.02
    min_effective: float = 400.0


class Shared(NamedTuple):
    """What all chains see.

    Parameters
    ----------
    stored : tuple of arrays, or Batch
        What the source has on the devices: all rows, features first, or a stack of batches.
    validation : tuple of arrays
        Rows to watch, features first.
    is_tuning, measures_spread : bool scalar
        Whether the adaptation learns from the steps, and measures the spread of the position.
    horizon : scalar
        Step of the warm-up at which what is scheduled is at its end.
    subset : array of int
        Parameters that a phase with a trajectory keeps.
    """

    stored: Any
    validation: Any
    is_tuning: Array
    measures_spread: Array
    horizon: Array
    subset: Array


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
        self.source = choose_source(problem, recipe.batch_size, recipe.use_validation_rows)
        self.start = jax.tree.map(np.asarray, params)
        one = jax.tree.map(lambda leaf: leaf[0], self.start)
        self.unravel, like = unraveller(one)
        rows = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(self.start)]
        self.flat = np.concatenate(rows, axis=1, dtype=like.dtype)
        self.num_params = like.size
        self.kept, self.unravel_kept = self._kept_of(one)
        subset_key = purpose_key(problem.seed, Purpose.SUBSET)
        self.shared = problem.placement.put_shared(
            Shared(
                self.source.stored,
                features_first(self.source.watched(problem.validation)),
                jnp.array(False),
                jnp.array(False),
                jnp.array(self.adaptation.horizon),
                self.adaptation.subset(subset_key, self.num_params),
            )
        )
        # One program for tuning and sampling: compiling a second one takes longer than the branch
        # of the adaptation costs.
        self.main_loop = self._loop(self._step, self._keep_draw)
        self._log_prob_of_each = jax.jit(
            lambda positions, shared: jax.lax.map(
                lambda flat: self.validation_log_prob(flat, shared), positions
            )
        )

    def init(self, purpose: Purpose = Purpose.MOMENTUM, number: int = 0) -> Chain:
        """Start all chains from the ensemble, each in a random direction."""
        placement = self.problem.placement
        start = placement.compile(self._init_one, donate=False)
        keys = self.keys(purpose)
        if number:
            keys = placement.put_chains(jax.vmap(lambda key: jax.random.fold_in(key, number))(keys))
        chains = start(placement.put_chains(self.flat), keys, self.shared)
        if not np.isfinite(np.asarray(chains.kernel.logdensity)).any():
            problem, params = self.problem, self.unravel(self.flat[0])
            reason = problem.model.explain_non_finite(params, problem.all_rows())
            raise SamplingError(
                Outcome.NON_FINITE_TARGET, reason or "Its terms are finite, their sum is not."
            )
        return chains

    def like(self) -> Chain:
        """Shapes and types of the state of all chains, without the padding."""
        keys = jax.eval_shape(lambda: self.problem.keys(Purpose.MOMENTUM))
        return jax.eval_shape(jax.vmap(self._init_one, (0, 0, None)), self.flat, keys, self.shared)

    def _init_one(self, flat: Array, key: Key, shared: Shared) -> Chain:
        """Start one chain."""
        rows_key, zero = jax.random.fold_in(key, 1), jnp.zeros((), jnp.int32)
        adapted = self.adaptation.init(flat)
        moment = Moment(zero, zero, jnp.array(True), jnp.array(False), shared.horizon)
        sampler = self.adaptation.sampler(adapted, moment)
        kernel = sampler.init(flat, self.logdensity_fn(shared, rows_key, 0, 0), key)
        log_sum = jnp.full(shared.validation[1].shape[0], -jnp.inf, float)
        stored = jax.random.key_data(rows_key)
        return Chain(kernel, adapted, log_sum, jnp.zeros(()), stored, zero)

    def validation_log_prob(self, flat: Array, shared: Shared) -> Float[Array, " validation"]:
        """Log probability of each validation row at a position."""
        return self.problem.model.log_prob(self.unravel(flat), rows_first(shared.validation))

    def logdensity_fn(
        self, shared: Shared, rows_key: Key, count: Step, i: Step
    ) -> Callable[[Array], Array]:
        """Log posterior of a flat position, by the rows of a step."""
        model = self.problem.model
        log_likelihood = self.source.log_likelihood(model, shared.stored, rows_key, count, i)

        def logdensity(flat: Array) -> Array:
            # The sum that Model.log_density is, but with parameters of its own for each term: so
            # each gradient is put together as one vector, not added leaf by leaf.
            log_prior = model.log_prior(self.unravel(flat))
            return log_prior + log_likelihood(self.unravel(flat))

        return logdensity

    def _step(self, key: Key, chain: Chain, i: Array, shared: Shared) -> tuple[Chain, StepInfo]:
        """Take one step with the present numbers; while tuning, the adaptation learns from it."""
        adaptation, kernel = self.adaptation, chain.kernel
        rows_key = jax.random.wrap_key_data(chain.rows_key)
        moment = Moment(
            i, chain.num_steps, shared.is_tuning, shared.measures_spread, shared.horizon
        )
        excursion = adaptation.excursion(chain.adapted, moment)
        if excursion is not None:
            length, sampler_of = excursion
            first = chain.num_steps

            def one(n: Array, kernel: Any) -> Any:
                logdensity_fn = self.logdensity_fn(shared, rows_key, first + n, i)
                return sampler_of(n).step(key, kernel, logdensity_fn)[0]

            kernel = jax.lax.fori_loop(0, length, one, kernel)
            moment = moment._replace(num_steps=first + length)
        sampler = adaptation.sampler(chain.adapted, moment)
        logdensity_fn = self.logdensity_fn(shared, rows_key, moment.num_steps, i)
        after, said = sampler.step(key, kernel, logdensity_fn)
        adapted, after, info = adaptation.learn(
            key, chain.adapted, kernel, after, _as_step_info(said), moment
        )
        chain = chain._replace(
            kernel=after,
            adapted=adapted,
            divergent=chain.divergent + info.is_divergent,
            num_steps=moment.num_steps + 1,
        )
        return chain, info

    def _keep_draw(self, chain: Chain, info: StepInfo, shared: Shared) -> tuple[Chain, Any]:
        """Keep a draw and its statistics; add it to the sum over the validation rows."""
        position = kept = chain.kernel.position
        log_prob = self.validation_log_prob(position, shared)
        if self.problem.keep is not None:
            kept = ravel_pytree(self.problem.keep(self.unravel(position)))[0]
        draw = {
            "position": kept.astype(self.problem.draws_dtype),
            "log_prob": log_prob[:NUM_TRACED],
            "logdensity": info.logdensity,
            "energy_change": info.energy_change,
            "diverging": chain.divergent,
        }
        log_sum = jnp.logaddexp(chain.log_sum, log_prob)
        return chain._replace(log_sum=log_sum, divergent=jnp.zeros(())), draw

    def _keep_subset(self, chain: Chain, info: StepInfo, shared: Shared) -> tuple[Chain, Any]:
        """Keep some parameters only."""
        return chain, {"position": chain.kernel.position[shared.subset]}

    def fixed_loop(self) -> ChainLoop:
        """Loop of a phase with a trajectory; if it keeps all, the program of sampling does."""
        problem = self.problem
        is_whole = problem.keep is None and problem.draws_dtype == "float32"
        if is_whole and self.num_params <= self.adaptation.max_params:
            return self.main_loop
        return self._loop(self._step, self._keep_subset)

    def _loop(self, step_fn: Any, keep_fn: Any) -> ChainLoop:
        problem = self.problem
        return ChainLoop(
            step_fn,
            keep_fn,
            problem.placement,
            problem.num_chains,
            chunk_steps=problem.chunk_steps,
        )

    def keys(self, purpose: Purpose) -> Key:
        """One key per chain for a purpose, on the devices."""
        return self.problem.placement.put_chains(self.problem.keys(purpose))

    def feed(self, purpose: Purpose) -> Feed | None:
        """Give what reads the stream for a part of the run, if there is one."""
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
            path = kept["position"]
            padded = np.concatenate([path, np.repeat(path[-1:], missing, axis=0)])
            adapted = self.adaptation.end_trajectory(adapted, padded, phase.thin)
        elif jax.tree.leaves(adapted):
            end = jax.jit(jax.vmap(lambda state: self.adaptation.end_phase(state, phase)))
            adapted = end(adapted)
        return self.problem.placement.put_chains(chains._replace(adapted=adapted))

    def log_prob_now(self, chains: Chain) -> np.ndarray:
        """Log probability of each validation row by each chain's present position."""
        positions = np.asarray(chains.kernel.position)[: self.problem.num_chains]
        return np.asarray(self._log_prob_of_each(positions, self.shared), dtype=np.float64)

    def log_prob_of_start(self) -> np.ndarray:
        """Log probability of each validation row by each chain's start."""
        return np.asarray(self._log_prob_of_each(self.flat, self.shared), dtype=np.float64)

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
        tree = _unravel_draws(self.unravel_kept, position, self.flat.dtype)
        flat = jax.tree_util.tree_flatten_with_path(tree)[0]
        return piece | {leaf_name(path): leaf for path, leaf in flat}

    def draws_tree(self, kept: dict[str, Any]) -> Any:
        """Undo :meth:`named`: the parameters as a tree, left on the disk where they are there."""
        flat, treedef = jax.tree_util.tree_flatten_with_path(self.kept)
        dtype = np.dtype(self.problem.draws_dtype)
        leaves = [kept[leaf_name(path)] for path, _ in flat]
        return jax.tree.unflatten(
            treedef,
            [
                leaf.view(dtype) if isinstance(leaf, np.ndarray) else StoredArray(leaf, dtype)
                for leaf in leaves
            ],
        )

    def _kept_of(self, params: Any) -> tuple[Any, Callable[[Array], Any]]:
        """Give the shapes of what is kept of a draw, and the way back from a flat one."""
        keep = self.problem.keep
        if keep is None:
            return params, self.unravel
        shapes = jax.eval_shape(keep, params)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            if leaf.dtype != self.flat.dtype:
                raise TypeError(
                    f"keep must give arrays of type {self.flat.dtype}, but "
                    f"{leaf_name(path) or 'its result'} is {leaf.dtype}; convert it."
                )
        return shapes, unraveller(shapes)[0]


def _as_step_info(info: Any) -> StepInfo:
    """Give the report of any kernel the form of ours."""
    return StepInfo(
        info.logdensity,
        jnp.asarray(getattr(info, "energy_change", 0.0), float),
        jnp.asarray(getattr(info, "step_size", jnp.nan), float),
        jnp.asarray(getattr(info, "is_divergent", False)),
    )


def pooled(log_prob: np.ndarray) -> float:
    """LPPD of rows by all chains together, from the log probability of each chain and row."""
    return float(np.mean(np.logaddexp.reduce(log_prob, axis=0) - np.log(len(log_prob))))


def standard_error(log_prob: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Give the standard error of the mean difference over rows, array (chains,).

    NaN if a difference is infinite or unknown, because a log probability has overflowed.
    """
    with np.errstate(invalid="ignore"):
        gain = log_prob - start
        return np.asarray(gain.std(axis=1) / np.sqrt(gain.shape[1]))


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
