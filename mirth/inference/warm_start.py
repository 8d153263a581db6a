"""Warm start: optimise every member of the ensemble, all in one compiled program.

Each member has its own order of the rows, its own early stopping, and keeps its best weights.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mirth.core.keys import Purpose, chain_keys
from mirth.core.outcomes import MirthWarning, Outcome, SamplingError
from mirth.core.snapshots import Snapshot, tree_from_arrays, tree_to_arrays
from mirth.core.trees import tree_all_finite, tree_select
from mirth.core.types import Batch, Key, Params
from mirth.inference.budget import Deadline
from mirth.inference.monitor import Monitor
from mirth.inference.placement import Placement
from mirth.inference.recorder import Recorder
from mirth.model import Model

if TYPE_CHECKING:
    import optax  # takes as long to import as the rest of mirth: only on first use

STAGE = "warm start"
_FAR_WORSE_NATS = 0.5
_EPOCHS_PER_CHUNK = 10


class MemberState(NamedTuple):
    """Optimisation of one member.

    Parameters
    ----------
    params, opt_state : pytree
        Present weights and state of the optimiser.
    best_params : pytree
        Weights with the lowest validation loss so far.
    best_loss : scalar
        That loss: mean negative log likelihood of the validation rows.
    epoch, best_epoch : int scalar
        Epochs done, and the one that gave the best weights.
    is_stopped : bool scalar
        Whether the member has stopped.
    """

    params: Params
    opt_state: Any
    best_params: Params
    best_loss: Float[Array, ""]
    epoch: Int[Array, ""]
    best_epoch: Int[Array, ""]
    is_stopped: Bool[Array, ""]


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """What the optimisation of the members did.

    Parameters
    ----------
    epochs, best_epochs : array of shape (members,)
        Epochs run, and the epoch whose weights were kept.
    validation_loss : array of shape (members,)
        Mean negative log likelihood of the validation rows (scaled targets), in nats.
    seconds : float
        Time of the whole optimisation.
    """

    epochs: np.ndarray
    best_epochs: np.ndarray
    validation_loss: np.ndarray
    seconds: float

    def to_record(self) -> dict[str, Any]:
        """Give the report as JSON holds it."""
        return {
            "epochs": self.epochs.tolist(),
            "best_epochs": self.best_epochs.tolist(),
            "validation_loss": [float(loss) for loss in self.validation_loss],
            "seconds": self.seconds,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> WarmStartReport:
        """Undo :meth:`to_record`."""
        return cls(
            np.asarray(record["epochs"]),
            np.asarray(record["best_epochs"]),
            np.asarray(record["validation_loss"], dtype=np.float64),
            record["seconds"],
        )

    def __str__(self) -> str:
        """Tabulate the members."""
        lines = ["member  epochs  best epoch  validation loss"]
        rows = zip(self.epochs, self.best_epochs, self.validation_loss, strict=True)
        lines += [f"{k:6d}  {e:6d}  {b:10d}  {v:15.4f}" for k, (e, b, v) in enumerate(rows)]
        return "\n".join(lines)


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
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int


def warm_start(
    model: Model,
    train: Batch,
    validation: Batch,
    settings: Optimisation,
    *,
    num_members: int,
    seed: int,
    placement: Placement,
    monitor: Monitor | None = None,
    recorder: Recorder | None = None,
    deadline: Deadline | None = None,
    time_share: float = 1.0,
) -> tuple[Params, WarmStartReport]:
    """Optimise all members.

    Parameters
    ----------
    model : Model
        What to fit.
    train, validation : Batch
        Scaled rows to learn from, and rows that decide when to stop.
    settings : Optimisation
        Numbers of the optimiser.
    num_members : int
        Number of networks.
    seed : int
        Seed of the run.
    placement : Placement
        Devices.
    monitor : Monitor, optional
        Display of the progress.
    recorder : Recorder, optional
        Keeps the state from time to time, and may have one to go on from.
    deadline : Deadline, optional
        Limit of the time of the run.
    time_share : float, default=1.0
        Share of that time after which the optimisation ends; the best weights so far are kept.

    Returns
    -------
    params : pytree
        Parameters of the best weights, leading axis (members,).
    report : WarmStartReport
        Epochs and validation losses.

    Raises
    ------
    SamplingError
        If no member ever reached a finite validation loss.
    """
    began = time.perf_counter()
    monitor, recorder = monitor or Monitor(), recorder or Recorder()
    deadline = deadline or Deadline()
    optimiser = _make_optimiser(settings)
    init_keys = chain_keys(seed, Purpose.NETWORK_INIT, num_members)
    snapshot = recorder.restore()
    if snapshot is not None and snapshot.record["stage"] != STAGE:
        like = jax.eval_shape(jax.vmap(lambda key: model.init(key, train.x)), init_keys)
        start = tree_from_arrays(like, snapshot.arrays, "start")
        return start, WarmStartReport.from_record(snapshot.record["warm_start"])
    # The weights themselves; only the best ones get hyper-parameters of the prior, which fit them.
    params = jax.jit(jax.vmap(lambda key: model.init_weights(key, train.x)))(init_keys)
    state = jax.vmap(lambda p: _init_member(p, optimiser))(params)
    before = 0.0
    if snapshot is not None:
        state = tree_from_arrays(state, snapshot.arrays, "member")
        before = snapshot.record["seconds"]
        deadline.go_on_from(before)
    keys = placement.put_chains(chain_keys(seed, Purpose.WARM_START, num_members))
    state = placement.put_chains(state)
    run = placement.compile(_epochs_of_one_member(model, optimiser, settings))
    shared = placement.put_shared((train, validation))
    while not bool(np.all(np.asarray(state.is_stopped))):
        state = jax.block_until_ready(run(state, keys, shared))
        seconds = before + time.perf_counter() - began
        epochs = np.asarray(state.epoch)[:num_members]
        losses = np.asarray(state.best_loss)[:num_members]
        monitor.on_epochs(epochs, losses, seconds)
        recorder.offer(functools.partial(_snapshot, state, num_members, seconds))
        if deadline.has_passed(time_share):
            monitor.on_note(f"The warm start ended after {epochs.max()} epochs: its time is up.")
            break
    state = jax.tree.map(lambda leaf: leaf[:num_members], state)
    report = WarmStartReport(
        epochs=np.asarray(state.epoch),
        best_epochs=np.asarray(state.best_epoch),
        validation_loss=np.asarray(state.best_loss, dtype=np.float64),
        seconds=before + time.perf_counter() - began,
    )
    if not np.isfinite(report.validation_loss).any():
        _refuse(model, model.init(init_keys[0], train.x), (train, validation))
    _judge(report)
    return jax.vmap(model.from_weights)(state.best_params), report


def _snapshot(state: MemberState, num_members: int, seconds: float) -> Snapshot:
    """Keep the optimisation between two chunks of epochs."""
    members = jax.tree.map(lambda leaf: np.asarray(leaf)[:num_members], state)
    record = {"stage": STAGE, "seconds": seconds}
    return Snapshot(record, tree_to_arrays(members, "member"))


def _make_optimiser(settings: Optimisation) -> optax.GradientTransformation:
    """AdamW that decays the network's weights, not the shared scalars of the likelihood."""
    import optax

    return optax.adamw(
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        mask=lambda params: {
            name: jax.tree.map(lambda _, n=name: n == "network", leaves)
            for name, leaves in params.items()
        },
    )


def _init_member(params: Params, optimiser: optax.GradientTransformation) -> MemberState:
    """Start one member."""
    zero = jnp.zeros((), jnp.int32)
    # A copy: on a single device the same buffer would be donated twice.
    best = jax.tree.map(jnp.copy, params)
    return MemberState(
        params,
        optimiser.init(params),
        best,
        jnp.full((), jnp.inf, float),
        zero,
        zero,
        jnp.array(False),
    )


def _epochs_of_one_member(
    model: Model, optimiser: optax.GradientTransformation, settings: Optimisation
) -> Callable[[MemberState, Key, Any], MemberState]:
    """Build the program that runs a few epochs of one member, or fewer if it stops."""

    def loss(params: Params, batch: Batch) -> Float[Array, ""]:
        weights = jnp.asarray(batch.weights)
        return -model.log_likelihood(params, batch) / jnp.sum(weights)

    def one_batch(train: Batch, order: Array, weights: Array, i: Array, loop: Any) -> Any:
        params, opt_state = loop
        rows = jax.lax.dynamic_slice_in_dim(order, i * settings.batch_size, settings.batch_size)
        row_weights = jax.lax.dynamic_slice_in_dim(
            weights, i * settings.batch_size, settings.batch_size
        )
        batch = Batch(train.x[rows], train.y[rows], row_weights)
        updates, opt_state = optimiser.update(jax.grad(loss)(params, batch), opt_state, params)
        return jax.tree.map(jnp.add, params, updates), opt_state

    def one_epoch(key: Key, train: Batch, validation: Batch, state: MemberState) -> MemberState:
        order, weights = _shuffled(jax.random.fold_in(key, state.epoch), train, settings.batch_size)
        num_batches = order.shape[0] // settings.batch_size
        params, opt_state = jax.lax.fori_loop(
            0,
            num_batches,
            lambda i, loop: one_batch(train, order, weights, i, loop),
            (state.params, state.opt_state),
        )
        value = loss(params, validation)
        is_finite = tree_all_finite(params) & jnp.isfinite(value)
        is_better = is_finite & (value < state.best_loss)
        epoch = state.epoch + 1
        best_epoch = jnp.where(is_better, epoch, state.best_epoch)
        out_of_patience = epoch - best_epoch >= settings.patience
        return MemberState(
            params=params,
            opt_state=opt_state,
            best_params=tree_select(is_better, params, state.best_params),
            best_loss=jnp.where(is_better, value, state.best_loss),
            epoch=epoch,
            best_epoch=best_epoch,
            is_stopped=out_of_patience | (epoch >= settings.max_epochs) | ~is_finite,
        )

    def epochs(state: MemberState, key: Key, shared: Any) -> MemberState:
        train, validation = (batch.weighted() for batch in shared)
        last = state.epoch + _EPOCHS_PER_CHUNK
        return jax.lax.while_loop(
            lambda s: ~s.is_stopped & (s.epoch < last),
            lambda s: one_epoch(key, train, validation, s),
            state,
        )

    return epochs


def _shuffled(key: Key, train: Batch, batch_size: int) -> tuple[Array, Array]:
    """Give a new order of the rows, filled up to whole batches with rows of weight zero."""
    num_rows = train.x.shape[0]
    padding = -num_rows % batch_size
    order = jax.random.permutation(key, num_rows)
    weights = jnp.asarray(train.weights)[order]
    order = jnp.concatenate([order, jnp.zeros(padding, order.dtype)])
    return order, jnp.concatenate([weights, jnp.zeros(padding, weights.dtype)])


def _refuse(model: Model, params: Params, batches: tuple[Batch, ...]) -> None:
    """Say why no member ever had a finite validation loss."""
    for batch in batches:
        if reason := model.explain_non_finite(params, batch):
            raise SamplingError(Outcome.NON_FINITE_TARGET, reason)
    raise SamplingError(
        Outcome.NON_FINITE_TARGET,
        "All members start with finite losses and none keeps one: lower the learning rate of the "
        "start, or look for extreme values in X and y.",
    )


def _judge(report: WarmStartReport) -> None:
    """Name members that are far behind the rest."""
    losses = report.validation_loss
    finite = np.isfinite(losses)
    median = np.median(losses[finite])
    # Half the members lie within one median absolute deviation; six of them are about four
    # standard deviations of a Normal.
    spread = 6 * np.median(np.abs(losses[finite] - median))
    far = ~finite | (losses > median + max(_FAR_WORSE_NATS, spread))
    if far.any():
        named = ", ".join(f"{k} ({losses[k]:.3g})" for k in np.flatnonzero(far))
        warnings.warn(
            f"{int(far.sum())} of {len(losses)} members are far worse than the rest after the warm "
            f"start: member {named}, median validation loss {median:.3g}.",
            MirthWarning,
            stacklevel=3,
        )
