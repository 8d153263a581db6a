"""The estimate of the memory, against counts by hand, compiled programs and real arrays."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mirth
from mirth.core.keys import Purpose
from mirth.inference import Monitor, Placement, memory
from mirth.inference.chains.chains import Chains, Recipe
from mirth.inference.engine.deadline import Deadline
from mirth.inference.engine.loop import kept_per_chunk
from mirth.inference.memory import MemoryNeed
from mirth.inference.problem import Problem
from mirth.inference.rows import Rows
from mirth.inference.run.memory import estimate_memory
from mirth.inference.start.memory import estimate_ensemble_memory
from mirth.inference.store.recorder import Recorder

GIB = 2**30


def built(
    hidden: tuple[int, ...] = (5,),
    num_rows: int = 80,
    *,
    activation: str = "tanh",
    num_chains: int = 4,
    num_devices: int = 2,
    sequential: bool = True,
    n_samples: int = 1000,
    n_warmup: int = 1000,
    **options: Any,
) -> tuple[Recipe, Problem]:
    model = mirth.Model(mirth.MLP(hidden, num_outputs=2, activation=activation), mirth.Normal())
    batch = mirth.data.Batch(jnp.ones((num_rows, 3)), jnp.ones(num_rows))
    placement = Placement(tuple(jax.local_devices()[:num_devices]), sequential)
    method = mirth.MILE(
        n_warmup=n_warmup,
        n_samples=n_samples,
        n_thinning=1,
        tuner=mirth.samplers.MILETuner(max_params=20),
    )
    held = mirth.data.Batch(jnp.ones((20, 3)), jnp.ones(20))
    problem = Problem(
        model,
        Rows(batch, held),
        num_chains,
        0,
        placement,
        Monitor(),
        Recorder(),
        Deadline(),
        **options,
    )
    return method.recipe(problem), problem


def test_counts_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "off")  # the compiled kernel keeps other numbers
    need = estimate_memory(*built(data_block_size=30))
    num_params = 3 * 5 + 5 + 5 * 2 + 2
    assert num_params == 32
    # A draw: the position and three statistics; two copies while pieces are joined.
    assert need.host == {"data": 100 * 4 * 4, "draws": 2 * 4 * 1000 * (32 + 3) * 4}
    assert (need.num_devices, need.on_host) == (2, True)
    # All 100 rows and 20 of them again, four numbers each.
    assert need.device["data"] == 120 * 4 * 4
    # Blocks of 30 rows; inputs and outputs of two layers in float32.
    assert need.device["activations"] == 30 * 4 * (3 + 5 + 5 + 2)
    # Position, momentum, gradient, scale, two moments; log sums of 20 rows; a dozen numbers. Two
    # chains and a working copy; so many kept draws.
    assert kept_per_chunk(4 * 35 * 4) == 64
    vectors, buffer = (6 * 32 + 20) * 4, 64 * 35 * 4
    numbers = need.device["states of the chains"] - 3 * vectors - 3 * buffer
    assert 0 < numbers < 3 * 20 * 4


def test_what_counts_changes_the_estimate() -> None:
    base = estimate_memory(*built(data_block_size=30))
    vectorised = estimate_memory(*built(data_block_size=30, sequential=False))
    assert vectorised.device["activations"] == 2 * base.device["activations"]
    assert vectorised.device["states of the chains"] > base.device["states of the chains"]
    # Three chains on two devices fill up two each.
    assert estimate_memory(*built(num_chains=3, data_block_size=30)).device == base.device
    assert estimate_memory(*built()).device["activations"] == 100 / 30 * base.device["activations"]
    on_disk = estimate_memory(*built(draws_on_disk=True, n_samples=10**9, n_warmup=500))
    assert on_disk.host["draws on their way to the disk"] == 4 * 64 * 35 * 4 * 4
    # A tenth of the warm-up is kept for 20 of the parameters and 16 of the validation rows.
    tuning = estimate_memory(*built(n_samples=1, n_warmup=10_000)).host
    assert tuning["positions of the tuning"] == 3 * 4 * 1000 * (20 + 16) * 4


@pytest.mark.parametrize(
    ("hidden", "num_rows", "options"),
    [
        ((16, 16), 20_000, {"data_block_size": 10**6}),  # activations rule
        pytest.param((16, 16), 20_000, {"data_block_size": 2000}, marks=pytest.mark.slow),
        pytest.param(
            (16, 16),
            20_000,
            {"data_block_size": 2000, "sequential": False},
            marks=pytest.mark.slow,
        ),
        pytest.param((64, 64), 50, {}, marks=pytest.mark.slow),  # states and kept draws rule
        pytest.param((64, 64), 50, {"sequential": False}, marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_what_the_compiler_says(
    hidden: Any, num_rows: int, options: dict[str, Any]
) -> None:
    recipe, problem = built(hidden, num_rows, activation="relu", **options)
    key = jax.random.key(0)
    params = jax.vmap(lambda k: problem.model.init(k, problem.rows.train.x))(
        jax.random.split(key, 4)
    )
    chains = Chains(recipe, problem, params)
    state, keys, loop = chains.init(), chains.keys(Purpose.SAMPLING), chains.main_loop
    program = problem.placement.compile(loop.program.chunk_of_one_chain(64))
    span = problem.placement.put_shared(jnp.array([0, 1, 1, 1]))
    found = program.lower(state, keys, (span, chains.shared)).compile().memory_analysis()
    actual = (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
    )
    estimate = sum(estimate_memory(recipe, problem).device.values())
    assert actual / 1.5 < estimate < 1.5 * actual


def test_the_draws_of_a_run_are_as_large_as_estimated(run: Any, unoptimised: None) -> None:
    posterior = run(n_samples=50)
    held = [*jax.tree.leaves(posterior.draws), *map(posterior.sample_stats.get, ("logdensity",))]
    recipe, problem = built((4,), num_chains=2, n_samples=50, n_warmup=30)
    one_feature = mirth.data.Batch(jnp.ones((20, 1)), jnp.ones(20))
    problem = dataclasses.replace(problem, rows=Rows(one_feature, one_feature))
    need = estimate_memory(recipe, problem)
    # Two copies while they are joined, and two statistics more.
    assert need.host["draws"] == 2 * (sum(leaf.nbytes for leaf in held) + 2 * 2 * 50 * 4)


def test_an_ensemble_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "off")  # the compiled kernel keeps other numbers
    _, problem = built()
    need = estimate_ensemble_memory(mirth.DeepEnsemble(batch_size=30).settings(problem), problem)
    assert need.host == {"data": 100 * 4 * 4, "draws": 2 * 4 * 32 * 4}
    assert need.device["data"] == 100 * 4 * 4
    assert need.device["activations of a batch"] == 30 * 4 * (3 + 5 + 5 + 2)
    # Weights, two moments and the best weights; two members and a working copy; a few numbers.
    numbers = need.device["states of the members"] - 3 * 4 * 32 * 4
    assert 0 < numbers < 3 * 20 * 4
    # Of validation rows, the outputs alone.
    small = estimate_ensemble_memory(mirth.DeepEnsemble(batch_size=5).settings(problem), problem)
    assert small.device["activations of a batch"] == 10 * 4 * (3 + 5 + 5 + 2)


@pytest.mark.parametrize(
    "method",
    [
        mirth.DeepEnsemble(max_epochs=2),
        mirth.Auto(n_warmup=20, n_samples=3, start=mirth.DeepEnsemble(max_epochs=2)),
    ],
)
def test_all_methods_say_what_they_need(
    model: mirth.Model, data: mirth.Dataset, unoptimised: None, method: Any, tmp_path: Any
) -> None:
    listener = Listener()
    mirth.infer(model, data, method, num_chains=2, monitors=[listener])
    said = [text for text in listener.heard if text.startswith("This run needs about")]
    assert len(said) == 1
    # Auto knows only when it has chosen, which it does after the optimisation.
    is_first = listener.heard[0] == said[0]
    assert is_first == isinstance(method, mirth.DeepEnsemble)


def test_an_ensemble_that_does_not_fit_is_warned_of(
    model: mirth.Model, data: mirth.Dataset, unoptimised: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_host_bytes", lambda: 1000)
    with pytest.warns(mirth.MirthWarning, match="Most of it is .*: ") as caught:
        mirth.infer(model, data, mirth.DeepEnsemble(max_epochs=2), num_chains=2)
    assert caught[0].filename == __file__


def test_a_batch_is_all_that_is_active() -> None:
    recipe, problem = built((8,), num_rows=5000)
    whole = estimate_memory(recipe, problem).device["activations"]
    for size, rows in ((50, 50), (10**6, 5020)):
        need = estimate_memory(recipe._replace(batch_size=size), problem)
        assert need.device["activations"] == pytest.approx(whole * rows / 5020)


def test_the_sentence() -> None:
    need = MemoryNeed(
        {"data": GIB // 4, "draws": GIB}, {"activations": 300 * 2**20}, 2, on_host=True
    )
    assert need.sentence(20 * GIB, None) == (
        "This run needs about 1.2 GiB of memory on the host (1 GiB draws) and 300 MiB on each of "
        "2 devices; 20 GiB are free."
    )
    assert need.sentence(None, None).endswith("300 MiB on each of 2 devices.")
    away = dataclasses.replace(need, on_host=False, num_devices=1)
    assert away.sentence(20 * GIB, 70 * GIB).endswith(
        "300 MiB on the device; 20 GiB on the host and 70 GiB on a device are free."
    )


@pytest.mark.parametrize(
    ("part", "advice"),
    [
        ("draws", r"run directory \(run=FOLDER\).*n_samples.*n_thinning"),
        ("positions of the tuning", "max_kept"),
        ("data", "fewer rows"),
        ("activations", "smaller data_block_size"),
        ("states of the chains", r"fewer chains at once \(num_chains\)"),
        ("activations of a batch", "smaller batch_size"),
        ("states of the members", r"fewer members at once \(num_chains\)"),
        ("draws on their way to the disk", "num_chains"),
    ],
)
def test_advice_names_the_largest_part(part: str, advice: str) -> None:
    host: dict[str, int] = {"data": 10}
    device = {"data": 10, "activations": 10, "states of the chains": 10}
    (device if part in device else host)[part] = 1000
    need = MemoryNeed(host, device, 2, on_host=True)
    text = need.advice(900, None)
    assert text is not None and text.startswith(f"Most of it is {part}: ")
    assert re.search(advice, text)
    assert need.advice(3000, None) is None
    assert need.advice(None, None) is None


def test_on_an_accelerator_each_memory_counts_for_itself() -> None:
    need = MemoryNeed({"draws": 100}, {"activations": 50}, 4, on_host=False)
    assert need.advice(120, 60) is None  # on a CPU it would be 300 bytes
    text = need.advice(120, 40)
    assert text is not None and "activations" in text
    text = need.advice(90, 60)
    assert text is not None and "draws" in text


class Listener(Monitor):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_start(self, sentence: str) -> None:
        self.heard.append(sentence)

    def on_epochs(self, epochs: Any, losses: Any, seconds: float) -> None:
        self.heard.append("epochs")


def test_a_run_says_what_it_needs_before_anything_runs(run: Any, unoptimised: None) -> None:
    listener = Listener()
    run(monitors=[listener])
    assert listener.heard[1] == "epochs"
    pattern = r"This run needs about 1 MiB of memory .* on each of 2 devices; .* are free\."
    assert re.fullmatch(pattern, listener.heard[0])


def test_a_run_that_does_not_fit_is_warned_of(
    run: Any, unoptimised: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(memory, "free_host_bytes", lambda: 40_000)
    with pytest.warns(mirth.MirthWarning, match="Most of it is draws: give infer a run directory"):
        posterior = run(n_samples=200)
    assert posterior.num_draws == 200


def test_free_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemFree:  10 kB\nMemAvailable:   42 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.free_host_bytes() == 42 * 1024
    for name, text in {
        "memory.max": "30000\n",
        "memory.current": "20000\n",
        "memory.stat": "anon 9000\ninactive_file 4000\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert memory.free_host_bytes() == 14_000  # a container gives less than the system has
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_host_bytes() == 42 * 1024
    sizes = {"SC_AVPHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nothing")
    assert memory.free_host_bytes() == 40960
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.free_host_bytes() is None


class Device:
    platform = "gpu"

    def __init__(self, stats: dict[str, int] | None):
        self.stats = stats

    def memory_stats(self) -> dict[str, int] | None:
        return self.stats


def test_free_memory_of_a_device() -> None:
    assert memory.free_device_bytes(Device({"bytes_limit": 100, "bytes_in_use": 30})) == 70  # type: ignore[arg-type]
    assert memory.free_device_bytes(Device(None)) is None  # type: ignore[arg-type]
