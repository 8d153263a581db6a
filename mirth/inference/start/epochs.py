"""One epoch of the optimisation of a member, over rows in memory or over a stream."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from mirth.core.keys import Purpose
from mirth.core.programs import Shapes
from mirth.core.trees import tree_all_finite, tree_select, unraveller
from mirth.core.types import Batch, Key, Params
from mirth.data import Stream
from mirth.inference.engine.feed import Feed, stream_seed
from mirth.inference.engine.placement import Placement
from mirth.model import Model

if TYPE_CHECKING:
    import optax  # takes as long to import as the rest of mirth: only on first use

_EPOCHS_PER_CHUNK = 10

Transform = Callable[[Key, Any], Any]
"""Random change of the inputs of a batch, such as flips and crops of images."""

Vectors = dict[str, Array]


class MemberState(NamedTuple):
    """Optimisation of one member.

    Parameters
    ----------
    params, opt_state : pytree
        Present weights, a vector for each part of the model, and state of the optimiser.
    best_params : pytree
        Weights with the lowest validation loss so far.
    best_loss : scalar
        That loss: mean negative log likelihood of the validation rows.
    epoch, best_epoch : int scalar
        Epochs done, and the one that gave the best weights.
    is_stopped : bool scalar
        Whether the member has stopped.
    loss_sum, weight_sum : scalar
        Of the epoch that is going on: summed loss of its rows so far, and their summed weights.
    losses : array of shape (2,)
        Of the last epoch: mean loss of the rows in its batches, each with the weights and the
        inputs of its step, and loss of the validation rows with the weights at the end.
    """

    params: Vectors
    opt_state: Any
    best_params: Vectors
    best_loss: Float[Array, ""]
    epoch: Int[Array, ""]
    best_epoch: Int[Array, ""]
    is_stopped: Bool[Array, ""]
    loss_sum: Float[Array, ""]
    weight_sum: Float[Array, ""]
    losses: Float[Array, "2"]


class Moving(NamedTuple):
    """What a step of the optimiser changes; the fields are those of :class:`MemberState`."""

    params: Vectors
    opt_state: Any
    loss_sum: Float[Array, ""]

    @classmethod
    def of(cls, state: MemberState) -> Moving:
        """Take it from a member."""
        return cls(state.params, state.opt_state, state.loss_sum)


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Settings of the warm start, as numbers.

    Parameters
    ----------
    learning_rate, weight_decay : float
        AdamW's step size and its decoupled weight decay (network weights only).
    batch_size : int
        Rows of a mini-batch; the last one of an epoch is padded, never dropped.
    max_epochs, patience : int
        Most epochs, and epochs without improvement after which a member stops.
    transform : callable, optional
        Random change of the inputs of a batch, ``transform(key, x) -> x``.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int
    transform: Transform | None = None


def make_optimiser(settings: Optimisation) -> optax.GradientTransformation:
    """AdamW that decays the network's weights, not the shared scalars of the likelihood."""
    import optax

    return optax.adamw(
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        mask=lambda params: {name: name == "network" for name in params},
    )


class MemberProgram:
    """What the optimisation of a member is made of, and its programs for all members.

    Parameters
    ----------
    model : Model
        What to fit.
    settings : Optimisation
        Numbers.
    placement : Placement
        Devices.
    rows : Shapes
        Shapes of the rows to learn from, a batch, and of the rows that decide when to stop.
    num_members : int
        Number of members. Programs of another number or of other rows are not this object's.
    """

    def __init__(
        self,
        model: Model,
        settings: Optimisation,
        placement: Placement,
        rows: Shapes,
        num_members: int,
    ):
        self.model, self.optimiser, self.settings = model, make_optimiser(settings), settings
        self.placement = placement
        train, _ = rows.tree()
        like = jax.eval_shape(model.init_weights, jax.random.key(0), train.x)
        self._unravel = {name: unraveller(part)[0] for name, part in like.items()}

    @functools.cached_property
    def begin(self) -> Callable[[Key, Any], MemberState]:
        """Start all members: ``begin(keys, x)`` with some rows, for the shapes of the weights."""
        # The weights themselves; only the best ones get hyper-parameters of the prior, which fit
        # them.
        return jax.jit(
            jax.vmap(lambda key, x: self.init(self.model.init_weights(key, x)), (0, None))
        )

    @functools.cached_property
    def end(self) -> Callable[[Vectors], Params]:
        """Give the parameters of the model for the weights of all members."""
        return jax.jit(jax.vmap(lambda params: self.model.from_weights(self.weights(params))))

    @functools.cached_property
    def run(self) -> Callable[..., tuple[MemberState, Array]]:
        """Run a few epochs of all members over rows in memory."""
        return self.placement.compile(self.epochs)

    @functools.cached_property
    def run_stack(self) -> Callable[..., MemberState]:
        """Let all members go through some batches of a stream."""
        return self.placement.compile(self.stack)

    def init(self, weights: Params) -> MemberState:
        """Start one member.

        The optimiser works on one vector for each part of the model: the same arithmetic as leaf
        by leaf, in a program that is compiled in half the time.
        """
        params = {name: ravel_pytree(part)[0] for name, part in weights.items()}
        zero = jnp.zeros((), jnp.int32)
        return MemberState(
            params=params,
            opt_state=self.optimiser.init(params),
            # A copy: on a single device the same buffer would be donated twice.
            best_params=jax.tree.map(jnp.copy, params),
            best_loss=jnp.full((), jnp.inf, float),
            epoch=zero,
            best_epoch=zero,
            is_stopped=jnp.array(False),
            loss_sum=jnp.zeros(()),
            weight_sum=jnp.zeros(()),
            losses=jnp.full(2, jnp.nan),
        )

    def weights(self, params: Vectors) -> Params:
        """Give the weights of the model in their own shapes."""
        return {name: self._unravel[name](vector) for name, vector in params.items()}

    def loss(self, params: Vectors, batch: Batch) -> Float[Array, ""]:
        """Mean negative log likelihood of the rows of a batch."""
        weights = jnp.asarray(batch.weights)
        return -self.model.log_likelihood(self.weights(params), batch) / jnp.sum(weights)

    def update(self, key: Key, batch: Batch, moving: Moving) -> Moving:
        """Take one step of the optimiser; the loss before it comes with the gradient."""
        if self.settings.transform is not None:
            batch = batch._replace(x=self.settings.transform(key, batch.x))
        loss, gradient = jax.value_and_grad(self.loss)(moving.params, batch)
        updates, opt_state = self.optimiser.update(gradient, moving.opt_state, moving.params)
        params = jax.tree.map(jnp.add, moving.params, updates)
        weight = jnp.sum(jnp.asarray(batch.weights))
        return Moving(params, opt_state, moving.loss_sum + weight * loss)

    def end_epoch(self, validation: Batch, state: MemberState) -> MemberState:
        """Look at the validation rows: keep the best weights, and stop if they get old."""
        value = self.loss(state.params, validation)
        is_finite = tree_all_finite(state.params) & jnp.isfinite(value)
        is_better = is_finite & (value < state.best_loss)
        epoch = state.epoch + 1
        best_epoch = jnp.where(is_better, epoch, state.best_epoch)
        out_of_patience = epoch - best_epoch >= self.settings.patience
        return state._replace(
            best_params=tree_select(is_better, state.params, state.best_params),
            best_loss=jnp.where(is_better, value, state.best_loss),
            epoch=epoch,
            best_epoch=best_epoch,
            is_stopped=out_of_patience | (epoch >= self.settings.max_epochs) | ~is_finite,
            loss_sum=jnp.zeros(()),
            weight_sum=jnp.zeros(()),
            losses=jnp.stack([state.loss_sum / state.weight_sum, value]),
        )

    def epochs(self, state: MemberState, key: Key, shared: Any) -> tuple[MemberState, Array]:
        """Run a few epochs over rows in memory, or fewer if the member stops; give their losses."""
        train, validation = (batch.weighted() for batch in shared)
        first = state.epoch

        def one_epoch(loop: tuple[MemberState, Array]) -> tuple[MemberState, Array]:
            s, losses = loop
            after = self._epoch(jax.random.fold_in(key, s.epoch), train, validation, s)
            return after, losses.at[s.epoch - first].set(after.losses)

        return jax.lax.while_loop(
            lambda loop: ~loop[0].is_stopped & (loop[0].epoch < first + _EPOCHS_PER_CHUNK),
            one_epoch,
            (state, jnp.full((_EPOCHS_PER_CHUNK, 2), jnp.nan)),
        )

    def _epoch(self, key: Key, train: Batch, validation: Batch, state: MemberState) -> MemberState:
        """Run one epoch over rows in memory."""
        size = self.settings.batch_size
        order, weights = _shuffled(key, train, size)

        def one_batch(i: Array, loop: Any) -> Any:
            rows, row_weights = (
                jax.lax.dynamic_slice_in_dim(leaf, i * size, size) for leaf in (order, weights)
            )
            x, y = jax.tree.map(lambda leaf: leaf[rows], (train.x, train.y))
            return self.update(jax.random.fold_in(key, i), Batch(x, y, row_weights), loop)

        moved = jax.lax.fori_loop(0, order.shape[0] // size, one_batch, Moving.of(state))
        weight_sum = jnp.sum(weights)
        return self.end_epoch(validation, state._replace(**moved._asdict(), weight_sum=weight_sum))

    def stack(self, state: MemberState, key: Key, shared: Any) -> MemberState:
        """Go through some batches of a stream, in the shape of a stack of them."""
        batches, (first, count, is_last), validation = shared

        def one_batch(i: Array, loop: Any) -> Any:
            batch = jax.tree.map(lambda leaf: leaf[(first + i) % leaf.shape[0]], batches)
            return self.update(jax.random.fold_in(key, first + i), batch, loop)

        def advance() -> MemberState:
            moving = jax.lax.fori_loop(0, count, one_batch, Moving.of(state))
            num_steps = batches.y.shape[0]
            is_seen = (jnp.arange(num_steps) - first) % num_steps < count
            weight_sum = state.weight_sum + jnp.sum(is_seen[:, None] * batches.weights)
            moved = state._replace(**moving._asdict(), weight_sum=weight_sum)
            return jax.lax.cond(is_last, lambda: self.end_epoch(validation, moved), lambda: moved)

        return jax.lax.cond(state.is_stopped, lambda: state, advance)


class ResidentEpochs:
    """Epochs of all members over rows in memory, a few at a time.

    Parameters
    ----------
    program : MemberProgram
        What a member does.
    train, validation : Batch
        Rows to learn from, and rows that decide when to stop.
    """

    def __init__(self, program: MemberProgram, train: Batch, validation: Batch):
        self.shared = program.placement.put_shared((train, validation))
        self.run = program.run

    def __call__(self, state: MemberState, keys: Key) -> tuple[MemberState, Array]:
        """Run a few epochs; gives their losses too, axes (members, epochs, 2)."""
        return self.run(state, keys, self.shared)


class StreamedEpochs:
    """Epochs of all members over a stream, stack by stack.

    Parameters
    ----------
    program : MemberProgram
        What a member does.
    stream : Stream
        Rows to learn from.
    validation : Batch
        Rows that decide when to stop.
    seed : int
        Seed of the run.
    """

    def __init__(self, program: MemberProgram, stream: Stream, validation: Batch, seed: int):
        batch_size, placement = program.settings.batch_size, program.placement
        self.feed = Feed(stream, batch_size, stream_seed(seed, Purpose.WARM_START), placement)
        self.num_batches = stream.num_batches(batch_size)
        self.placement = placement
        self.validation = placement.put_shared(validation.weighted())
        self.run = program.run_stack

    def __call__(self, state: MemberState, keys: Key) -> tuple[MemberState, Array]:
        """Run one epoch; gives its losses too, axes (members, 1, 2)."""
        step = int(np.max(np.asarray(state.epoch))) * self.num_batches
        end = step + self.num_batches
        while step < end:
            number = step // self.feed.steps
            count = min(end, (number + 1) * self.feed.steps) - step
            span = self.placement.put_shared(jnp.array([step, count, step + count == end]))
            state = self.run(state, keys, (self.feed.stack(number), span, self.validation))
            step += count
        return state, state.losses[:, None]


def _shuffled(key: Key, train: Batch, batch_size: int) -> tuple[Array, Array]:
    """Give a new order of the rows, filled up to whole batches with rows of weight zero."""
    num_rows = train.y.shape[0]
    padding = -num_rows % batch_size
    order = jax.random.permutation(key, num_rows)
    weights = jnp.asarray(train.weights)[order]
    order = jnp.concatenate([order, jnp.zeros(padding, order.dtype)])
    return order, jnp.concatenate([weights, jnp.zeros(padding, weights.dtype)])
