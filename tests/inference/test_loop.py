"""The loop over steps, on a step that counts."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.core.keys import Purpose, chain_keys
from mirth.inference import Placement
from mirth.inference.engine.loop import ChainLoop, ChunkProgram, ChunkReport, Stretch

pytestmark = pytest.mark.usefixtures("unoptimised")


class Info(NamedTuple):
    energy_change: Any
    is_divergent: Any
    step_size: Any
    logdensity: Any


def step(key: Any, carry: Any, i: Any, shared: Any) -> Any:
    """Add noise; the info is a known function of the step."""
    position = carry + shared * jax.random.normal(key)
    return position, Info(1.0 * i, i % 10 == 0, 0.5 * i, -position)


def keep(carry: Any, info: Any, shared: Any) -> Any:
    return carry, {"position": carry, "logdensity": info.logdensity}


class Run:
    """Three chains on two devices."""

    def __init__(self, chunk_steps: int | None, keep_fn: Any = keep, num_chains: int = 3):
        self.placement = Placement(tuple(jax.local_devices()[:2]), sequential=True)
        self.num_chains = num_chains
        program = ChunkProgram(step, keep_fn, self.placement)
        self.loop = ChainLoop(program, num_chains, chunk_steps=chunk_steps, chunk_seconds=0.01)
        self.reports: list[ChunkReport] = []

    def __call__(
        self, num_steps: int, *, sink: Any = None, feed: Any = None, **options: Any
    ) -> Any:
        put = self.placement.put_chains
        return self.loop.run(
            Stretch("walk", num_steps, **options),
            put(np.zeros(self.num_chains, np.float32)),
            put(chain_keys(0, Purpose.SAMPLING, self.num_chains)),
            self.placement.put_shared(jnp.float32(1.0)),
            on_chunk=self.reports.append,
            sink=sink,
            feed=feed,
        )


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    """The same in plain NumPy: every increment is a function of (chain, step)."""
    keys = chain_keys(0, Purpose.SAMPLING, 3)
    noise = [[jax.random.normal(jax.random.fold_in(k, i)) for i in range(60)] for k in keys]
    return np.cumsum(np.asarray(noise, dtype=np.float32), axis=1, dtype=np.float32)


@pytest.mark.parametrize("chunk_steps", [1, 7, 1000])
def test_a_phase_that_keeps_nothing_takes_the_same_steps(
    walk: np.ndarray, chunk_steps: int
) -> None:
    run = Run(chunk_steps)
    carry, kept = run(60, keep=False)
    assert kept is None
    np.testing.assert_allclose(np.asarray(carry)[:3], walk[:, -1], rtol=0, atol=1e-5)
    assert run.reports[-1].step == run.reports[-1].num_steps == 60
    assert sum(r.stats.num_divergent for r in run.reports).tolist() == [6, 6, 6]
    squares = [r.stats.squared_energy_change for r in run.reports]
    if len(squares) == 1:
        np.testing.assert_allclose(squares[0], np.mean(np.arange(60.0) ** 2), rtol=1e-6)
    # The program is the one that keeps draws.
    assert run(60)[1]["position"].shape == (3, 60)
    assert run.loop.program._compiled[0]._cache_size() == 1


@pytest.mark.parametrize("chunk_steps", [7, 1000])
def test_a_sink_takes_the_pieces_and_a_later_start_the_rest(
    walk: np.ndarray, chunk_steps: int
) -> None:
    pieces: list[Any] = []
    carry, kept = Run(chunk_steps)(40, sink=pieces.append)
    assert kept is None
    np.testing.assert_allclose(
        np.concatenate([p["position"] for p in pieces], axis=1), walk[:, :40], rtol=0, atol=1e-5
    )
    run = Run(chunk_steps)
    _, rest = run(60, done=40)  # from zero again, with the noise of the steps 40, ..., 59
    np.testing.assert_allclose(rest["position"], walk[:, 40:] - walk[:, 39:40], rtol=0, atol=1e-5)
    assert run.reports[0].first_step == 40


@pytest.mark.parametrize("chunk_steps", [1, 7, 60, 1000, None])
def test_draws_are_the_walk(walk: np.ndarray, chunk_steps: int | None) -> None:
    carry, kept = Run(chunk_steps)(60)
    # Sums of up to 60 terms of size up to 10 in float32, the order of which is the same.
    np.testing.assert_allclose(kept["position"], walk, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(kept["logdensity"], -kept["position"])
    np.testing.assert_array_equal(np.asarray(carry)[:3], kept["position"][:, -1])
    assert isinstance(kept["position"], np.ndarray)


@pytest.mark.parametrize(("thin", "chunk_steps"), [(5, 7), (5, 1), (60, 7), (7, 21)])
def test_thinning_runs_whole_multiples(walk: np.ndarray, thin: int, chunk_steps: int) -> None:
    run = Run(chunk_steps)
    carry, kept = run(60, thin=thin)
    np.testing.assert_allclose(kept["position"], walk[:, thin - 1 :: thin], rtol=0, atol=1e-5)
    assert run.reports[-1].step == run.reports[-1].num_steps == 60 // thin * thin


def test_phases_number_their_steps_on(walk: np.ndarray) -> None:
    _, kept = Run(7)(20, first_step=40)
    expected = walk[:, 40:] - walk[:, 39:40]
    np.testing.assert_allclose(kept["position"], expected, rtol=0, atol=1e-5)


def test_reports() -> None:
    run = Run(7)
    carry, _ = run(20)
    assert [r.step for r in run.reports] == [7, 14, 20]
    assert {(r.phase, r.num_steps) for r in run.reports} == {("walk", 20)}
    assert (np.diff([0.0] + [r.seconds for r in run.reports]) > 0).all()
    first, _, last = (r.stats for r in run.reports)
    # Chains are cut to the three that were asked for; the carry is padded to both devices.
    assert {np.shape(s) for s in first} == {(3,)}
    assert carry.shape == (4,)
    np.testing.assert_allclose(first.squared_energy_change, np.mean(np.arange(7) ** 2), rtol=1e-6)
    np.testing.assert_allclose(
        last.squared_energy_change, np.mean(np.arange(14, 20) ** 2), rtol=1e-6
    )
    assert first.num_divergent.tolist() == [1, 1, 1]  # step 0
    assert last.num_divergent.tolist() == [0, 0, 0]  # step 20 is not run
    assert last.step_size.tolist() == [9.5, 9.5, 9.5]
    np.testing.assert_array_equal(last.logdensity, -np.asarray(carry)[:3])


def test_nothing_is_kept_without_keep() -> None:
    run = Run(7, keep_fn=None)
    carry, kept = run(20)
    assert kept is None
    np.testing.assert_array_equal(carry, Run(7)(20)[0])


def test_no_steps() -> None:
    run = Run(7)
    carry, kept = run(0)
    assert kept is None and run.reports == []
    assert np.asarray(carry).tolist() == [0.0] * 4


def test_a_chunk_keeps_no_more_than_the_buffer(
    walk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A draw has 8 bytes per chain; four chains (one is padding) make 32, so three draws fit.
    monkeypatch.setattr("mirth.inference.engine.loop._MAX_BUFFER_BYTES", 3 * 32 + 31)
    run = Run(1000)
    _, kept = run(60, thin=2)
    assert [r.step for r in run.reports] == list(range(6, 61, 6))
    np.testing.assert_allclose(kept["position"], walk[:, 1::2], rtol=0, atol=1e-5)


def test_draws_larger_than_the_buffer_are_kept_one_by_one(
    walk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirth.inference.engine.loop._MAX_BUFFER_BYTES", 1)
    run = Run(1000)
    _, kept = run(5)
    assert [r.step for r in run.reports] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(kept["position"], walk[:, :5], rtol=0, atol=1e-5)


def test_kept_pieces_do_not_hold_the_whole_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view of the fetched buffer kept all of it alive, 256 draws for each chunk of one."""
    pieces: list[np.ndarray] = []
    original = np.concatenate

    def concatenate(parts: Any, axis: int = 0) -> np.ndarray:
        pieces.extend(parts)
        return original(parts, axis=axis)

    run = Run(1, num_chains=1)
    run.placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
    run.loop.program.placement = run.placement
    monkeypatch.setattr("mirth.inference.engine.loop.np.concatenate", concatenate)
    run(5)
    assert len(pieces) == 10  # two arrays, five chunks
    assert all(piece.flags.owndata for piece in pieces)
