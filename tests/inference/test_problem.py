"""How many rows a gradient takes at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import mirth
from mirth.inference import Monitor, Placement, problem
from mirth.inference.engine.deadline import Deadline
from mirth.inference.problem import Problem
from mirth.inference.rows import Rows
from mirth.inference.store.recorder import Recorder

NETWORK = mirth.MLP((16, 16), num_outputs=2, activation="tanh")
ROW_BYTES = (9 + 16 + 16 + 16 + 16 + 2) * 4  # by XLA; the compiled kernel keeps other numbers


@pytest.fixture(autouse=True)
def by_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRTH_CPU_KERNEL", "off")


def chosen(
    num_rows: int, *, network: Any = NETWORK, sequential: bool = True, **options: Any
) -> Any:
    model = mirth.Model(network, mirth.Normal())
    rows = mirth.data.Batch(jnp.ones((num_rows, 9)), jnp.ones(num_rows))
    params = jax.eval_shape(model.init, jax.random.key(0), rows.x)
    placement = Placement(tuple(jax.local_devices()[:2]), sequential)
    return Problem(
        model, Rows(rows, rows), 6, 0, placement, Monitor(), Recorder(), Deadline(), **options
    ).choose_block_size(params, rows)


def test_a_block_keeps_as_much_as_the_cache() -> None:
    fits = 4 * 2**20 // ROW_BYTES
    assert chosen(fits) is None
    assert chosen(fits + 1) == 2**20 // ROW_BYTES
    # Three chains on each device at the same time.
    assert chosen(fits // 3) is None
    assert chosen(fits // 3 + 1, sequential=False) == 2**20 // (3 * ROW_BYTES)
    wide = mirth.MLP((2000,), num_outputs=2, activation="tanh")
    assert chosen(1000, network=wide) == 256  # 16 kB a row: the least size


def test_the_users_size_counts_first() -> None:
    assert chosen(100, data_block_size=30) == 30
    assert chosen(100, data_block_size=100) is None


@pytest.mark.parametrize(
    ("stats", "expected"),
    [(None, None), ({}, None), ({"bytes_limit": 2 * 300 * 3 * ROW_BYTES}, 300)],
)
def test_an_accelerator_takes_all_rows_unless_they_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, stats: Any, expected: int | None
) -> None:
    class Device:
        platform = "gpu"

        def memory_stats(self) -> Any:
            return stats

    original = problem._activation_limits
    monkeypatch.setattr(problem, "_activation_limits", lambda device: original(Device()))  # type: ignore[arg-type]
    assert chosen(301, sequential=False) == expected
    assert chosen(300, sequential=False) is None
