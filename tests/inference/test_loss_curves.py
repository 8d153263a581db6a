"""Loss curves of the optimisation: what they are, and that they survive what a run survives."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mirth
from mirth.core.keys import Purpose, chain_keys
from mirth.inference import Placement, WarmStartReport, join_chains
from mirth.inference.reports import with_equal_curves
from mirth.inference.start import curves as module
from mirth.inference.start.curves import LossCurves
from tests.inference.test_run_folder import Stop

pytestmark = pytest.mark.usefixtures("unoptimised")

STILL = 1e-12  # a learning rate that moves no weight of float32
START: dict[str, Any] = {"learning_rate": 0.03, "max_epochs": 35, "patience": 4, "batch_size": 8}


def assert_same_curves(one: WarmStartReport, two: WarmStartReport) -> None:
    assert one.curve_stride == two.curve_stride
    np.testing.assert_array_equal(one.training_curve, two.training_curve)
    np.testing.assert_array_equal(one.validation_curve, two.validation_curve)


def infer(model: mirth.Model, data: Any, held: Any, **settings: Any) -> WarmStartReport:
    start = mirth.DeepEnsemble(**(START | settings))
    return mirth.infer(model, data, start, num_chains=2, validation=held).warm_start


def test_the_curve_of_the_validation_rows_leads_to_the_kept_loss(
    model: mirth.Model, data: mirth.Dataset
) -> None:
    start = mirth.DeepEnsemble(**START)
    report = mirth.infer(model, data, start, num_chains=3, validation=0.3).warm_start
    assert report.training_curve.shape == report.validation_curve.shape == (3, report.epochs.max())
    np.testing.assert_array_equal(report.curve_epochs, np.arange(1, report.epochs.max() + 1))
    assert len(set(report.epochs.tolist())) > 1
    for k, (epochs, best) in enumerate(zip(report.epochs, report.best_epochs, strict=True)):
        for curve in (report.training_curve[k], report.validation_curve[k]):
            assert np.isfinite(curve[:epochs]).all() and np.isnan(curve[epochs:]).all()
        assert report.validation_curve[k, best - 1] == np.float32(report.validation_loss[k])
        assert np.nanargmin(report.validation_curve[k]) == best - 1
        assert report.training_curve[k, best - 1] < report.training_curve[k, 0]


@pytest.mark.parametrize("streamed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_losses_are_mean_losses_of_all_rows(
    model: mirth.Model, data: mirth.Dataset, streamed: bool
) -> None:
    """Weights that stand still give the loss of the rows, whatever the batches and the weights."""
    weights = np.linspace(0.5, 2.0, 30)
    x, y = np.asarray(data.x), np.asarray(data.y)
    train, held = mirth.Dataset(x[:30], y[:30], weights), mirth.Dataset(x[30:], y[30:])
    rows = mirth.data.ArrayStream(train.x, train.y, train.weights) if streamed else train
    settings = {"learning_rate": STILL, "weight_decay": 0.0, "max_epochs": 3, "patience": 5}
    report = infer(model, rows, held, **settings)  # 30 rows: batches of 8, 8, 8 and 6
    keys = chain_keys(0, Purpose.NETWORK_INIT, 2)
    log_probs = jax.jit(lambda params, rows: model.log_prob(params, rows))
    for k, key in enumerate(keys):
        params = model.init(key, jnp.asarray(train.x))

        def loss(rows: mirth.Dataset, weights: Any, params: Any = params) -> float:
            log_prob = np.asarray(log_probs(params, mirth.data.Batch(rows.x, rows.y)))
            return float(-np.average(log_prob, weights=weights))

        # Sums of 30 numbers of order 1 in float32.
        expected = [loss(train, weights)] * 3
        np.testing.assert_allclose(report.training_curve[k], expected, rtol=1e-5)
        np.testing.assert_allclose(report.validation_curve[k], [loss(held, None)] * 3, rtol=1e-5)


def test_the_transform_is_in_the_training_loss(model: mirth.Model, data: mirth.Dataset) -> None:
    options = {"learning_rate": STILL, "weight_decay": 0.0, "max_epochs": 2, "patience": 5}
    plain = infer(model, data, data, **options)
    far = infer(model, data, data, **options, transform=lambda key, x: 10 * x)
    np.testing.assert_array_equal(plain.validation_curve, far.validation_curve)
    assert (np.abs(plain.training_curve - far.training_curve) > 0.01).all()


@pytest.mark.parametrize("phase", ["warm start", pytest.param("sampling", marks=pytest.mark.slow)])
def test_the_curves_survive_a_stop(run: Any, tmp_path: Any, phase: str) -> None:
    options = {"start": mirth.DeepEnsemble(**START), "n_samples": 10, "chunk_steps": 5}
    base = run(**options).warm_start
    with pytest.raises(mirth.RunInterrupted):
        run(**options, out=tmp_path, monitors=[Stop(phase)])
    again = run(**options, out=tmp_path)
    assert_same_curves(again.warm_start, base)
    longer = run(**(options | {"n_samples": 12}), out=tmp_path)
    assert_same_curves(longer.warm_start, base)


def test_a_deep_ensemble_keeps_them(model: mirth.Model, data: mirth.Dataset, tmp_path: Any) -> None:
    start = mirth.DeepEnsemble(**START)
    first, again = (
        mirth.infer(model, data, start, num_chains=2, run=tmp_path).warm_start for _ in range(2)
    )
    assert first.training_curve.shape[1] > 0
    assert_same_curves(first, again)


def test_other_starts_have_none(run: Any) -> None:
    report = run(start="prior").warm_start
    assert report.training_curve.shape == report.validation_curve.shape == (2, 0)
    assert report.curve_epochs.tolist() == []


def test_chains_are_taken_and_joined(model: mirth.Model, data: mirth.Dataset) -> None:
    posterior = mirth.infer(model, data, mirth.DeepEnsemble(**START), num_chains=3, validation=0.3)
    parts = [posterior.take_chains([k]) for k in (2, 0, 1)]
    report = posterior.warm_start
    np.testing.assert_array_equal(parts[0].warm_start.training_curve, report.training_curve[[2]])
    order = posterior.take_chains([2, 0, 1]).warm_start
    assert_same_curves(join_chains(parts).warm_start, order)


def test_curves_of_different_lengths_are_joined() -> None:
    def report(num_points: int, stride: int) -> WarmStartReport:
        epochs = np.array([num_points * stride])
        curve = stride * np.arange(1.0, num_points + 1, dtype=np.float32)[None]  # its epoch
        return WarmStartReport(epochs, epochs, np.ones(1), 0.1, curve, -curve, stride)

    nan = np.nan
    one, two, three = with_equal_curves([report(7, 1), report(3, 4), report(0, 1)])
    assert [r.curve_stride for r in (one, two, three)] == [4, 4, 4]
    np.testing.assert_array_equal(one.training_curve, [[4.0, nan, nan]])
    np.testing.assert_array_equal(two.training_curve, [[4.0, 8.0, 12.0]])
    np.testing.assert_array_equal(three.validation_curve, [[nan, nan, nan]])
    np.testing.assert_array_equal(two.validation_curve, -two.training_curve)
    np.testing.assert_array_equal(two.curve_epochs, [4, 8, 12])


@pytest.mark.parametrize("pieces", [[1] * 47, [10, 10, 10, 10, 7], [47], [3, 40, 4]])
def test_the_memory_of_many_epochs_is_bounded(
    host_patch: pytest.MonkeyPatch, pieces: list[int]
) -> None:
    """The points do not depend on the pieces in which the epochs come."""
    host_patch.setattr(module, "MAX_POINTS", 10)
    curves, epoch = LossCurves.empty(2), 0
    for length in pieces:
        losses = np.arange(epoch + 1.0, epoch + length + 1)[None, :, None] * np.array([1.0, -1.0])
        lengths = np.clip([length, 30 - epoch], 0, length)  # the second stops after 30 epochs
        curves.append(np.broadcast_to(losses, (2, length, 2)), lengths)
        epoch += length
        assert curves.points.shape[1] <= 10
    kept = 8.0 * np.arange(1, 6)
    assert (curves.stride, curves.num_epochs) == (8, 47)
    np.testing.assert_array_equal(curves.points[0], np.stack([kept, -kept], axis=1))
    np.testing.assert_array_equal(curves.points[1, :, 0], np.where(kept <= 30, kept, np.nan))


def test_a_long_optimisation(
    model: mirth.Model, data: mirth.Dataset, host_patch: pytest.MonkeyPatch
) -> None:
    whole = infer(model, data, 0.3)
    host_patch.setattr(module, "MAX_POINTS", 8)
    report = infer(model, data, 0.3)
    assert report.training_curve.shape[1] <= 8 and report.curve_stride > 1
    at = report.curve_epochs - 1
    np.testing.assert_array_equal(report.training_curve, whole.training_curve[:, at])
    np.testing.assert_array_equal(report.validation_curve, whole.validation_curve[:, at])
    fields = {f.name for f in dataclasses.fields(report)} - {
        "training_curve", "validation_curve", "curve_stride", "seconds",
    }  # fmt: skip
    for name in fields:
        np.testing.assert_array_equal(getattr(report, name), getattr(whole, name))


def test_many_members_as_one_vectorised_program(model: mirth.Model, data: mirth.Dataset) -> None:
    """Members that have stopped wait for the others."""
    start = mirth.DeepEnsemble(**START)
    together = mirth.Run(placement=Placement(tuple(jax.local_devices()[:1]), sequential=False))
    one, two = (
        mirth.infer(model, data, start, num_chains=3, validation=0.3, run=run).warm_start
        for run in (None, together)
    )
    assert jax.tree.map(np.shape, vars(one)) == jax.tree.map(np.shape, vars(two))
    np.testing.assert_array_equal(np.isnan(one.training_curve), np.isnan(two.training_curve))
    # The first epochs, before rounding grows.
    np.testing.assert_allclose(one.training_curve[:, :3], two.training_curve[:, :3], rtol=1e-4)
