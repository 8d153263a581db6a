"""Warm start: optimise every member of the ensemble, all in one compiled program.

Each member has its own order of the rows, its own early stopping, and keeps its best weights.
"""

from __future__ import annotations

import functools
import time
import warnings
from typing import TYPE_CHECKING

import jax
import numpy as np

from mirth.core.keys import Purpose
from mirth.core.outcomes import MirthWarning, Outcome, SamplingError
from mirth.core.programs import Shapes
from mirth.core.snapshots import Snapshot, tree_from_arrays, tree_to_arrays
from mirth.core.types import Batch, Params
from mirth.inference.engine.programs import PROGRAMS
from mirth.inference.reports import WarmStartReport
from mirth.inference.start.curves import LossCurves
from mirth.inference.start.epochs import (
    MemberProgram,
    MemberState,
    Optimisation,
    ResidentEpochs,
    StreamedEpochs,
)
from mirth.model import Model

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

STAGE = "warm start"
_FAR_WORSE_NATS = 0.5


def warm_start(
    problem: Problem, settings: Optimisation, time_share: float = 1.0
) -> tuple[Params, WarmStartReport]:
    """Optimise all members.

    Parameters
    ----------
    problem : Problem
        Model, rows, seed, devices, monitor.
    settings : Optimisation
        Numbers of the optimiser.
    time_share : float, default=1.0
        Share of the allowed time after which the optimisation ends; the best weights so far are
        kept.

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
    model, train, validation = problem.model, problem.rows.train, problem.rows.validation
    placement, num_members = problem.placement, problem.num_chains
    rows = Shapes.of((train, validation))
    program = PROGRAMS.find(MemberProgram, model, settings, placement, rows, num_members)
    init_keys = problem.keys(Purpose.NETWORK_INIT)
    snapshot = problem.recorder.restore()
    if snapshot is not None and snapshot.record["stage"] != STAGE:
        like = jax.eval_shape(jax.vmap(model.init, (0, None)), init_keys, train.x)
        start = tree_from_arrays(like, snapshot.arrays, "start")
        return start, WarmStartReport.from_record(snapshot.record["warm_start"], snapshot.arrays)
    state = program.begin(init_keys, train.x)
    before, curves = 0.0, LossCurves.empty(num_members)
    if snapshot is not None:
        state = tree_from_arrays(state, snapshot.arrays, "member")
        before = snapshot.record["seconds"]
        curves = LossCurves(snapshot.arrays["curves"], **snapshot.record["curves"])
        problem.deadline.go_on_from(before)
    keys = problem.keys(Purpose.WARM_START)
    keys, state = placement.put_chains(keys), placement.put_chains(state)
    advance = (
        ResidentEpochs(program, train, validation)
        if problem.stream is None
        else StreamedEpochs(program, problem.stream, validation, problem.seed)
    )
    epochs = np.array(state.epoch)[:num_members]
    while not bool(np.all(np.asarray(state.is_stopped))):
        state, piece = jax.block_until_ready(advance(state, keys))
        seconds = before + time.perf_counter() - began
        # A copy, because the next call takes over the memory of the state.
        lengths, epochs = epochs, np.array(state.epoch)[:num_members]
        lengths = epochs - lengths
        curves.append(np.asarray(piece)[:num_members, : lengths.max()], lengths)
        losses = np.asarray(state.best_loss)[:num_members]
        problem.monitor.on_epochs(epochs, losses, seconds)
        problem.recorder.offer(functools.partial(_snapshot, state, curves, seconds))
        if problem.deadline.has_passed(time_share):
            problem.monitor.on_note(
                f"The warm start ended after {epochs.max()} epochs: its time is up."
            )
            break
    state = jax.tree.map(lambda leaf: leaf[:num_members], state)
    report = WarmStartReport(
        epochs=np.asarray(state.epoch),
        best_epochs=np.asarray(state.best_epoch),
        validation_loss=np.asarray(state.best_loss, dtype=np.float64),
        seconds=before + time.perf_counter() - began,
        training_curve=curves.points[..., 0],
        validation_curve=curves.points[..., 1],
        curve_stride=curves.stride,
    )
    if not np.isfinite(report.validation_loss).any():
        _refuse(model, model.init(init_keys[0], train.x), (train, validation))
    _judge(report)
    return program.end(state.best_params), report


def _snapshot(state: MemberState, curves: LossCurves, seconds: float) -> Snapshot:
    """Keep the optimisation between two chunks of epochs."""
    num_members = len(curves.points)
    members = jax.tree.map(lambda leaf: np.asarray(leaf)[:num_members], state)
    kept = {"stride": curves.stride, "num_epochs": curves.num_epochs}
    record = {"stage": STAGE, "seconds": seconds, "curves": kept}
    return Snapshot(record, tree_to_arrays(members, "member") | {"curves": curves.points})


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
