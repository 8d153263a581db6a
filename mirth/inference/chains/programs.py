"""The programs of chains: a kernel, an adaptation and rows put together.

They see data as arguments only, so that equal runs of a process share them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from mirth.core.programs import Shapes
from mirth.core.trees import leaf_name, unraveller
from mirth.core.types import Key, Params
from mirth.inference.chains.log_density import LogDensity
from mirth.inference.chains.sources import Rows, Step
from mirth.inference.engine.loop import ChunkProgram
from mirth.inference.engine.placement import Placement
from mirth.inference.rows import rows_first
from mirth.model import Model
from mirth.samplers import Adaptation, Moment, Phase, StepInfo

NUM_TRACED = 16
"""Validation rows whose log probability says how effective draws are: of sampling, and of a phase
with a trajectory, of which it is kept."""

NUM_JUDGED = 256
"""Validation rows whose log probability is kept at each draw, so that rows can be left out."""

_MAX_PHASES = (
    8  # programs of ends of phases; a limit of time makes lengths that are never met again
)


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


@dataclasses.dataclass(frozen=True)
class ChainSettings:
    """What the programs of chains follow from, beside their arguments.

    Parameters
    ----------
    model : Model
        What is sampled.
    adaptation : Adaptation
        What is learnt in the warm-up; it has the kernel.
    rows : AllRows, ResidentBatches or StreamedBatches
        How the rows of a step are taken from those that a chain sees.
    keep : callable or None
        What is kept of a draw, a function of the parameters.
    draws_dtype : str
        Type in which draws are kept.
    placement : Placement
        Devices.
    start : Shapes
        Shapes of the starts: the parameters with a leading axis (chains,).
    shared : Shapes
        Shapes of what all chains see. So no entry holds programs of two shapes, and their number
        has a bound.
    """

    model: Model
    adaptation: Adaptation
    rows: Rows
    keep: Callable[[Params], Any] | None
    draws_dtype: str
    placement: Placement
    start: Shapes
    shared: Shapes


class ChainPrograms:
    """The programs; each is traced at its first use.

    Parameters
    ----------
    settings : ChainSettings
        What they follow from.

    Raises
    ------
    TypeError
        If ``keep`` gives arrays of another type than the parameters have.
    """

    def __init__(self, settings: ChainSettings):
        self.settings = settings
        self.model, self.adaptation = settings.model, settings.adaptation
        one = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), settings.start.tree()
        )
        self.unravel, self.vector = unraveller(one)
        self.kept, self.unravel_kept = self._kept_of(one)
        self.end_phase = functools.lru_cache(_MAX_PHASES)(self._end_phase)

    @functools.cached_property
    def init(self) -> Callable[..., Chain]:
        """Start all chains: ``init(flat, keys, shared)``."""
        return self.settings.placement.compile(self.init_one, donate=False)

    @functools.cached_property
    def main(self) -> ChunkProgram:
        """Steps of tuning and sampling: to compile two takes longer than the branch costs."""
        return ChunkProgram(self.step, self._keep_draw, self.settings.placement)

    @functools.cached_property
    def fixed(self) -> ChunkProgram:
        """Steps of a phase with a trajectory; if it keeps all, the program of sampling does."""
        is_whole = self.settings.keep is None and self.settings.draws_dtype == "float32"
        if is_whole and self.vector.size <= self.adaptation.max_params:
            return self.main
        return ChunkProgram(self.step, self._keep_subset, self.settings.placement)

    @functools.cached_property
    def log_prob_of_each(self) -> Callable[[Any, Shared], Array]:
        """Log probability of each validation row by each of some positions."""
        return jax.jit(
            lambda positions, shared: jax.lax.map(
                lambda flat: self.validation_log_prob(flat, shared), positions
            )
        )

    @functools.cached_property
    def gradient(self) -> Callable[..., Array]:
        """Gradient of each chain's log density, by the rows of the first step."""

        def gradient(flat: Array, key: Key, shared: Shared) -> Array:
            return jax.grad(self.logdensity_fn(shared, key, 0, 0))(flat)

        return self.settings.placement.compile(gradient, donate=False)

    def _end_phase(self, phase: Phase) -> Callable[[Any], Any]:
        """Conclude a phase of all chains that keeps nothing."""
        return jax.jit(jax.vmap(lambda state: self.adaptation.end_phase(state, phase)))

    def init_one(self, flat: Array, key: Key, shared: Shared) -> Chain:
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
        return self.model.log_prob(self.unravel(flat), rows_first(shared.validation))

    def logdensity_fn(self, shared: Shared, rows_key: Key, count: Step, i: Step) -> LogDensity:
        """Log posterior of a flat position, by the rows of a step."""
        model = self.model
        log_likelihood = self.settings.rows.log_likelihood(model, shared.stored, rows_key, count, i)
        return LogDensity(model.log_prior, log_likelihood, self.unravel)

    def step(self, key: Key, chain: Chain, i: Array, shared: Shared) -> tuple[Chain, StepInfo]:
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
        keep = self.settings.keep
        if keep is not None:
            kept = ravel_pytree(keep(self.unravel(position)))[0]
        draw = {
            "position": kept.astype(self.settings.draws_dtype),
            "log_prob": log_prob[:NUM_JUDGED],
            self.settings.rows.statistic: info.logdensity,
            "energy_change": info.energy_change,
            "diverging": chain.divergent,
        }
        log_sum = jnp.logaddexp(chain.log_sum, log_prob)
        return chain._replace(log_sum=log_sum, divergent=jnp.zeros(())), draw

    def _keep_subset(self, chain: Chain, info: StepInfo, shared: Shared) -> tuple[Chain, Any]:
        """Keep some parameters, and the log probability of some validation rows."""
        position = chain.kernel.position
        rows = jax.tree.map(lambda leaf: leaf[:NUM_TRACED], rows_first(shared.validation))
        log_prob = self.model.log_prob(self.unravel(position), rows)
        return chain, {"position": position[shared.subset], "log_prob": log_prob}

    def _kept_of(self, params: Any) -> tuple[Any, Callable[[Array], Any]]:
        """Give the shapes of what is kept of a draw, and the way back from a flat one."""
        keep = self.settings.keep
        if keep is None:
            return params, self.unravel
        shapes = jax.eval_shape(keep, params)
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
            if leaf.dtype != self.vector.dtype:
                raise TypeError(
                    f"keep must give arrays of type {self.vector.dtype}, but "
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
