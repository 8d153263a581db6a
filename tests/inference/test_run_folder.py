"""Run directories: what is in them, taking a run up again, and everything that can be wrong."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import xarray
import zarr

import mirth
from mirth.core.snapshots import Checkpoints, DamagedFileError
from mirth.core.stored import StoredArray
from mirth.inference import Monitor, Posterior
from mirth.inference.store.identity import describe, differences
from mirth.inference.store.run_folder import SCHEMA_VERSION, RunFolder, RunFolderError

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(scope="module")
def base(run: Any) -> Posterior:
    return run(n_samples=20)


class Stop(Monitor):
    """Ask the process to stop, after some reports of one stage."""

    def __init__(self, phase: str, count: int = 1, number: int = signal.SIGINT):
        self.phase, self.left, self.number = phase, count, number

    def _hear(self, phase: str) -> None:
        if phase == self.phase:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)

    def on_epochs(self, epochs: Any, losses: Any, seconds: float) -> None:
        self._hear("warm start")

    def on_chunk(self, report: Any) -> None:
        self._hear(report.phase)


def assert_same(one: Posterior, two: Posterior) -> None:
    np.testing.assert_array_equal(one.positions(), two.positions())
    for name, values in one.sample_stats.items():
        np.testing.assert_array_equal(values, two.sample_stats[name])
    np.testing.assert_array_equal(one.lppd_chain, two.lppd_chain)
    assert one.tuning is not None and two.tuning is not None
    np.testing.assert_array_equal(one.tuning.L, two.tuning.L)
    np.testing.assert_array_equal(one.tuning.num_divergent, two.tuning.num_divergent)


@pytest.mark.fast
def test_a_run_with_a_folder_is_the_same_run(run: Any, base: Posterior, tmp_path: Any) -> None:
    posterior = run(out=tmp_path / "run")
    assert_same(posterior, base)
    assert all(isinstance(leaf, StoredArray) for leaf in jax.tree.leaves(posterior.draws))
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "finished"


def test_other_libraries_read_the_draws(run: Any, base: Posterior, tmp_path: Any) -> None:
    run(out=tmp_path)
    draws = xarray.open_zarr(tmp_path / "draws.zarr", consolidated=False)
    weights = draws["network.0.weight"]
    assert weights.dims[:2] == ("chain", "draw")
    np.testing.assert_array_equal(weights, base.draws["network"][0]["weight"])
    np.testing.assert_array_equal(draws["logdensity"], base.sample_stats["logdensity"])


def test_predictions_read_draws_that_do_not_fit_into_the_memory(
    run: Any, base: Posterior, tmp_path: Any, host_patch: Any
) -> None:
    stored, x = run(out=tmp_path), np.linspace(-1, 1, 7)[:, None]
    host_patch.setattr("mirth.prediction.blocks._MAX_BYTES_IN_MEMORY", 0)
    host_patch.setattr("mirth.prediction.blocks._DRAWS_PER_READ", 7)
    for size in (200, 1 << 20):  # draws in several chunks, or in one
        one, two = (
            mirth.make_predictive(p.model, p.draws, x, max_buffer_bytes=size)
            for p in (stored, base)
        )
        np.testing.assert_array_equal(one.mean(), two.mean())
        np.testing.assert_array_equal(one.quantile(0.3), two.quantile(0.3))
        np.testing.assert_array_equal(one.sample(5), two.sample(5))
    leaf = jax.tree.leaves(stored.draws)[0]
    leaf._array[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"not finite in chain\(s\) \[1\]"):
        mirth.make_predictive(stored.model, stored.draws, x)


@pytest.mark.parametrize(
    ("phase", "count"),
    [
        ("warm start", 1),
        ("step size", 2),
        ("step size and spread", 1),
        ("decoherence length", 1),
        ("sampling", 1),
        ("sampling", 3),
    ],
)
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stopped_run_goes_on_to_the_same_draws(
    run: Any, base: Posterior, tmp_path: Any, phase: str, count: int, number: int
) -> None:
    options: dict[str, Any] = {"out": tmp_path / "run", "chunk_steps": 5}
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(mirth.RunInterrupted, match="its state is kept"):
        run(monitors=[Stop(phase, count, number)], **options)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert signal.getsignal(signal.SIGINT) is handler
    assert_same(run(**options), base)


def test_a_second_interrupt_stops_at_once(run: Any, base: Posterior, tmp_path: Any) -> None:
    class Twice(Monitor):
        def on_chunk(self, report: Any) -> None:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        run(out=tmp_path, monitors=[Twice()])
    assert not isinstance(caught.value, mirth.RunInterrupted)
    assert_same(run(out=tmp_path), base)


def test_a_finished_run_is_read_and_a_longer_one_goes_on(
    run: Any, base: Posterior, tmp_path: Any
) -> None:
    run(out=tmp_path, n_samples=12)
    assert run(out=tmp_path, n_samples=12).num_draws == 12
    assert_same(run(out=tmp_path, n_samples=20), base)
    with pytest.raises(RunFolderError, match="n_samples=20, not 12"):
        run(out=tmp_path, n_samples=12)


def test_an_ensemble_has_a_folder_too(data: Any, model: Any, tmp_path: Any) -> None:
    method = mirth.DeepEnsemble(max_epochs=12)
    first = mirth.infer(model, data, method, num_chains=2, run=tmp_path)
    again = mirth.infer(model, data, method, num_chains=2, run=tmp_path)
    np.testing.assert_array_equal(first.positions(), again.positions())
    assert first.seconds == again.seconds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed=0, not 1"),
        ({"num_chains": 3}, "num_chains=2, not 3"),
        ({"data_block_size": 9}, "data_block_size=None, not 9"),
        ({"n_warmup": 31}, "method.n_warmup=30, not 31"),
        ({"n_samples": 10}, "method.n_samples=20, not 10"),
        ({"likelihood": mirth.Normal(link="exp")}, "likelihood.link='softplus', not 'exp'"),
    ],
)
def test_another_run_does_not_go_on_in_the_folder(
    run: Any, tmp_path: Any, change: dict[str, Any], message: str
) -> None:
    run(out=tmp_path)
    with pytest.raises(RunFolderError, match=message):
        run(out=tmp_path, **change)


def test_other_data_do_not_go_on_in_the_folder(model: Any, data: Any, tmp_path: Any) -> None:
    method = mirth.DeepEnsemble(max_epochs=2)
    mirth.infer(model, data, method, num_chains=1, run=tmp_path)
    other = mirth.Dataset(data.x, data.y + np.float32(1e-3))
    with pytest.raises(RunFolderError, match="has a run with data="):
        mirth.infer(model, other, method, num_chains=1, run=tmp_path)


@pytest.mark.slow  # chunks of other lengths give equal bits with the emitters that users have
def test_what_does_not_change_the_draws_may_change(
    run: Any, base: Posterior, tmp_path: Any
) -> None:
    with pytest.raises(mirth.RunInterrupted):
        run(out=tmp_path, chunk_steps=7, monitors=[Stop("sampling")])
    assert_same(run(out=tmp_path, chunk_steps=3, num_devices=1), base)


def test_a_folder_of_something_else_is_left_alone(run: Any, tmp_path: Any) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        run(out=tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_run_of_another_version(run: Any, tmp_path: Any) -> None:
    run(out=tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(
        path.read_text().replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 99')
    )
    with pytest.raises(ValueError, match="schema version 99"):
        run(out=tmp_path)


def test_two_processes_on_one_folder(run: Any, tmp_path: Any) -> None:
    class Second(Monitor):
        def on_chunk(self, report: Any) -> None:
            with pytest.raises(RunFolderError, match="Another process"):
                # A lock of its own, as another process would have.
                RunFolder(tmp_path, {}).__enter__()

    run(out=tmp_path, monitors=[Second()])


def damage_last(folder: Any) -> None:
    path = max((folder / "checkpoints").glob("*.npz"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def cut_last(folder: Any) -> None:
    path = max((folder / "checkpoints").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("damage", [damage_last, cut_last])
def test_a_damaged_checkpoint_costs_one_chunk(
    run: Any, base: Posterior, tmp_path: Any, damage: Callable[[Any], None]
) -> None:
    options: dict[str, Any] = {"out": tmp_path, "chunk_steps": 5, "checkpoint_seconds": 0.0}
    with pytest.raises(mirth.RunInterrupted):
        run(monitors=[Stop("sampling", 2)], **options)
    damage(tmp_path)
    with pytest.warns(mirth.MirthWarning, match="goes on from the checkpoint before it"):
        posterior = run(**options)
    assert_same(posterior, base)


def test_without_a_good_checkpoint_the_run_says_so(run: Any, tmp_path: Any) -> None:
    run(out=tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.npz"):
        path.write_bytes(b"nothing")
    with pytest.raises(DamagedFileError, match="No checkpoint can be read"):
        run(out=tmp_path)


def test_draws_that_are_gone_are_missed(run: Any, tmp_path: Any, host_patch: Any) -> None:
    host_patch.setattr("mirth.inference.store.draws._MAX_CHUNK_DRAWS", 4)
    with pytest.raises(mirth.RunInterrupted):
        run(out=tmp_path, chunk_steps=5, monitors=[Stop("sampling", 3)])
    for path in (tmp_path / "draws.zarr" / "logdensity").rglob("*"):
        if path.is_file() and path.name != "zarr.json":
            path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"draws\.zarr cannot be read"):
        run(out=tmp_path, chunk_steps=5)


def test_a_full_disk_keeps_the_last_good_state(
    run: Any, base: Posterior, tmp_path: Any, host_patch: Any
) -> None:
    options: dict[str, Any] = {"out": tmp_path, "chunk_steps": 5, "checkpoint_seconds": 0.0}
    write, count = Checkpoints.write, 0

    def full(self: Any, snapshot: Any) -> Any:
        nonlocal count
        count += 1
        if count > 6:
            raise OSError(28, "No space left on device")
        return write(self, snapshot)

    with host_patch.context() as patch:
        patch.setattr(Checkpoints, "write", full)
        with pytest.raises(OSError, match="No space left"):
            run(**options)
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "failed" and "No space left" in status["error"]
    assert_same(run(**options), base)


def test_an_error_of_the_writing_thread_is_heard(run: Any, tmp_path: Any, host_patch: Any) -> None:
    def fail(self: Any, piece: Any, start: int) -> None:
        raise OSError(28, "No space left on device")

    host_patch.setattr("mirth.inference.store.draws.DrawStore._write", fail)
    with pytest.raises(OSError, match="No space left"):
        run(out=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(run: Any, tmp_path: Any) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        run(out=tmp_path / "run")


def test_the_store_is_written_in_whole_chunks(run: Any, base: Posterior, tmp_path: Any) -> None:
    run(out=tmp_path)
    group = zarr.open_group(tmp_path / "draws.zarr", mode="r")
    for _, array in group.arrays():
        assert array.chunks[0] == 2 and array.shape[:2] == (2, 20)


def test_descriptions_are_the_same_in_every_process() -> None:
    network = mirth.networks.FunctionalNetwork(describe, differences)
    text = json.dumps(describe(mirth.Model(network, mirth.Normal())))
    assert "identity.describe" in text and "0x" not in text
    assert describe({"a": (1, None), 2: object()}) == {"a": [1, None], "2": "<object object>"}
