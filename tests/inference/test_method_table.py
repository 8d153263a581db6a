"""One row per method, and what every method promises: who adds a method adds a row.

All tests below run on all rows (by default on the most telling ones, as slow tests on the others):
through ``mirth.infer``, stopped and taken up again, gone on with, in chunks of any length, with
draws of 16 bits. What is particular to a method (its parameters, its reports) has a file of its
own.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.inference import Placement, Posterior
from tests.cases import slow_but
from tests.inference.test_programs import counted, num_programs

pytestmark = pytest.mark.usefixtures("unoptimised")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A method and what it promises.

    Parameters
    ----------
    fields : dict
        Fields beside the lengths, for a short run on 40 rows.
    gradients : int
        Gradients of a step.
    make : callable, optional
        ``make(**fields)``; None for the name of the row.
    n_warmup, n_samples : int or None
        Lengths; None where the method has none.
    can_grow : bool
        Whether a run can go on to more draws than were asked for.
    notes : int
        Sentences that the method says of its run.
    """

    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    gradients: int
    make: Callable[..., Any] | None = None
    n_warmup: int | None = 24
    n_samples: int | None = 8
    can_grow: bool = True
    notes: int = 0


BATCH = {"batch_size": 10, "step_size": 3e-4}
PROBING = BATCH | {"probe_every": 2, "noise_memory": 20.0}
ROWS = {
    "mile": Row(gradients=2),
    # At most two batches of rows: the choice follows from the data alone.
    "auto": Row(gradients=2, notes=1),
    "psmile": Row(gradients=1, fields=PROBING),
    # Long enough that two blocks of gradients have been seen.
    "psmile, whitened": Row(
        make=mirth.SMILE, gradients=1, fields=PROBING | {"noise_rank": 3}, n_warmup=72
    ),
    "smile": Row(gradients=1, fields=PROBING),
    "psmile-naive": Row(gradients=1, fields=PROBING),
    "smile-naive": Row(gradients=1, fields=PROBING),
    "sgld": Row(gradients=1, fields=BATCH),
    "psgld": Row(gradients=1, fields=BATCH),
    "sghmc": Row(gradients=1, fields=BATCH),
    "adaptive-sghmc": Row(gradients=1, fields=BATCH),
    # The schedule is one of all steps, so a longer run is another run.
    "csgld": Row(
        gradients=1, fields=BATCH | {"n_cycles": 2}, n_warmup=0, can_grow=False
    ),
    "deep_ensemble": Row(
        gradients=0, fields={"max_epochs": 30, "batch_size": 8}, n_warmup=None, n_samples=None,
        can_grow=False,
    ),
    "sampling": Row(
        make=mirth.Sampling, gradients=2, fields={"kernel": mirth.samplers.MCLMC(0.02, 1.0)}
    ),
}  # fmt: skip
SHORTER = 5


def test_every_method_has_a_row() -> None:
    named = {name for name, row in ROWS.items() if row.make is None}
    assert named == set(mirth.methods.METHODS)
    classes = {value for value in vars(mirth.methods).values()
               if inspect.isclass(value) and callable(getattr(value, "run", None))}  # fmt: skip
    assert classes == {type(method_of(name)) for name in ROWS}


def method_of(name: str, start: Any = None, n_samples: int | None = None) -> Any:
    row = ROWS[name]
    fields = dict(row.fields)
    if row.n_samples is not None:
        fields |= {"n_warmup": row.n_warmup, "n_samples": n_samples or row.n_samples}
        fields |= {"n_thinning": 2, "start": start}
    return (row.make or mirth.methods.METHODS[name])(**fields)


def rows(*always: str) -> pytest.MarkDecorator:
    """All rows, of which others than ``always`` are slow.

    All tests of a row run before the next one, so they share its programs.
    """
    return pytest.mark.parametrize("name", slow_but(always, ROWS), scope="module")


@pytest.fixture(scope="module")
def infer(model: mirth.Model, data: mirth.Dataset) -> Callable[..., Posterior]:
    """Run a method from two given points, on one device."""
    keys = jax.random.split(jax.random.key(5), 2)
    start = jax.tree.map(np.asarray, jax.vmap(lambda key: model.init(key, data.x))(keys))
    placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)

    def run(name: str, n_samples: int | None = None, **options: Any) -> Posterior:
        options = in_groups(options, placement=placement)
        method = method_of(name, start, n_samples)
        return mirth.infer(model, data, method, num_chains=2, validation=0.3, **options)

    return run


@pytest.fixture(scope="module")
def base(name: str, infer: Any) -> Posterior:
    """The run that nothing happens to, in one chunk a phase."""
    return infer(name, chunk_steps=1000)


def assert_same(one: Posterior, two: Posterior) -> None:
    for part in ("draws", "sample_stats", "lppd_chain"):
        jax.tree.map(np.testing.assert_array_equal, getattr(one, part), getattr(two, part))
    for field in ("step_size", "L", "num_divergent", "num_steps"):
        values = [getattr(posterior.tuning, field, None) for posterior in (one, two)]
        np.testing.assert_array_equal(*values)


# Of the others' settings each has run in one of these: naive, not preconditioned, SGLD, friction.
@rows(*(ROWS.keys() - {"smile", "psmile-naive", "sgld", "sghmc"}))
def test_a_run_gives_what_was_asked_for(name: str, base: Posterior) -> None:
    row, draws = ROWS[name], base.positions()
    assert draws.shape[:2] == (2, row.n_samples or 1) and np.isfinite(draws).all()
    assert len(np.unique(draws[:, -1], axis=0)) == 2
    assert len(base.notes) == row.notes
    steps = 2 * (row.n_samples or 0)
    assert base.num_sampling_steps == steps
    assert base.num_gradients == row.gradients * (steps + (row.n_warmup or 0))
    assert (base.tuning is None) == (row.n_warmup is None)
    assert {values.shape for values in base.sample_stats.values()} <= {draws.shape[:2]}
    if row.n_warmup is not None:
        assert base.tuning.num_steps == row.n_warmup
        assert (np.ptp(draws, axis=1) > 0).all()
        # The estimate by a batch does not go by the name of the value.
        sees_all_rows = not {"batch_size"} & row.fields.keys()
        statistic = "logdensity" if sees_all_rows else "batch_logdensity"
        found = {stat for stat in base.sample_stats if "logdensity" in stat}
        assert found == {statistic} and np.isfinite(base.sample_stats[statistic]).all()


@rows("mile", "psmile", "deep_ensemble")
def test_a_second_equal_run_is_the_same_and_compiles_nothing(
    name: str, infer: Any, base: Posterior
) -> None:
    with counted() as events:
        assert_same(infer(name, chunk_steps=1000), base)
    assert num_programs(events) == (0, 0)


class Heard(mirth.Monitor):
    """Remember the phases of a run."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def on_chunk(self, report: Any) -> None:
        self.phases.append(report.phase)


class Stop(mirth.Monitor):
    """Stop the run in its warm-up (before any draw), or in its sampling."""

    def __init__(self, while_sampling: bool):
        self.while_sampling, self.stopped = while_sampling, False

    def _stop(self, is_sampling: bool) -> None:
        if is_sampling == self.while_sampling and not self.stopped:
            self.stopped = True
            os.kill(os.getpid(), signal.SIGTERM)

    def on_epochs(self, epochs: Any, losses: Any, seconds: float) -> None:
        self._stop(False)

    def on_chunk(self, report: Any) -> None:
        self._stop(report.phase == "sampling")


@rows("mile", "psmile", "psmile, whitened", "adaptive-sghmc", "csgld")
def test_a_stopped_run_goes_on_to_the_same_draws(
    name: str, infer: Any, base: Posterior, tmp_path: Path
) -> None:
    """Stopped in the warm-up and in the sampling, then to more draws; in other chunks, too."""
    row = ROWS[name]
    shorter = SHORTER if row.can_grow else None
    stops = [row.n_warmup != 0, row.n_samples is not None]
    for while_sampling in (False, True):
        if stops[while_sampling]:
            with pytest.raises(mirth.RunInterrupted):
                infer(name, shorter, out=tmp_path, chunk_steps=4, monitors=[Stop(while_sampling)])
    heard = Heard()
    assert_same(infer(name, out=tmp_path, chunk_steps=5, monitors=[heard]), base)
    # Not from the beginning: the warm-up is behind it.
    assert set(heard.phases) == ({"sampling"} if stops[1] else set())


@rows("mile", "deep_ensemble")
def test_a_finished_run_goes_on_with_draws_of_16_bits(
    name: str, infer: Any, base: Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory and in short chunks, none of which compiles anything but the first."""
    row, shorter = ROWS[name], None
    compiled: list[Any] = []
    original = Placement.compile

    def compile(self: Placement, *args: Any, **kwargs: Any) -> Any:
        compiled.append(original(self, *args, **kwargs))
        return compiled[-1]

    monkeypatch.setattr(Placement, "compile", compile)
    if row.can_grow:
        shorter = infer(name, SHORTER, draws_dtype="bfloat16", chunk_steps=3)
        assert shorter.num_draws == SHORTER
    posterior = infer(name, go_on_from=shorter, draws_dtype="bfloat16", chunk_steps=3)
    expected = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), base.draws)
    jax.tree.map(np.testing.assert_array_equal, posterior.draws, expected)
    for part in ("sample_stats", "lppd_chain"):
        jax.tree.map(np.testing.assert_array_equal, getattr(posterior, part), getattr(base, part))
    # A first number of weak type, or arrays that name their devices in another way (as all vectors
    # did where there is only one), would compile the loop again.
    assert compiled and {function._cache_size() for function in compiled} == {1}
