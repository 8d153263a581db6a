"""The baselines of SMILE as methods: parameters, cycles, schedules, and that runs survive."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.core.schedules import Cyclical, Linear
from mirth.inference import Placement, Posterior, resolve_method
from mirth.samplers.scheduled import cycle
from tests.cases import slow_but

pytestmark = pytest.mark.usefixtures("unoptimised")

START = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=15, batch_size=8)
BASE: dict[str, Any] = {
    "n_warmup": 20, "n_samples": 8, "n_thinning": 2, "batch_size": 10, "step_size": 0.01,
    "start": START,
}  # fmt: skip


@pytest.fixture(scope="module")
def sgmcmc(model: mirth.Model, data: mirth.Dataset) -> Callable[..., Posterior]:
    done: dict[str, Posterior] = {}

    def run(**fields: Any) -> Posterior:
        options = {k: fields.pop(k) for k in ("out", "monitors", "chunk_steps") if k in fields}
        placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
        name = repr(sorted((BASE | fields).items()))
        if options or name not in done:
            found = mirth.infer(
                model,
                data,
                mirth.SGMCMC(**(BASE | fields)),
                num_chains=2,
                validation=0.3,
                **in_groups(options, placement=placement),
            )
            if options:
                return found
            done[name] = found
        return done[name]

    return run


CYCLES = {"schedule": "cyclical", "n_cycles": 2, "exploration_fraction": 0.5}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "kernel": ("sgld", {}),
    "n_warmup": (10, {}),
    "n_samples": (7, {}),
    "n_thinning": (3, {}),
    "batch_size": (5, {}),
    "step_size": (0.02, {}),
    "step_size_end": (0.005, {"schedule": "linear"}),
    "schedule": ("cosine", {}),
    "n_cycles": (4, CYCLES),
    "exploration_fraction": (0.2, CYCLES),
    "friction": (0.2, {}),
    "temperature": (0.5, {}),
    "use_validation_rows": (False, {}),
    "start": (dataclasses.replace(START, learning_rate=0.02), {}),
}


ALWAYS = ["kernel", "n_warmup", "n_samples", "n_thinning", "temperature"]


@pytest.mark.parametrize("name", slow_but(ALWAYS, CASES))
def test_every_parameter_changes_the_draws(sgmcmc: Callable[..., Posterior], name: str) -> None:
    value, shared = CASES[name]
    one, two = sgmcmc(**shared), sgmcmc(**(shared | {name: value}))
    last = [posterior.positions()[:, -1] for posterior in (one, two)]
    assert (last[0] != last[1]).any(axis=1).all(), f"{name}={value!r} changes nothing"


def test_no_parameter_is_forgotten() -> None:
    fields = {field.name for field in dataclasses.fields(mirth.SGMCMC)}
    assert set(CASES) | {"unhealthy_chains"} == fields


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param(Linear(0.01, 0.0001), {"schedule": "linear"}, marks=pytest.mark.slow),
        (lambda step, num_steps: 0.01 + 0.0 * step, {}),
        (Cyclical(0.01, 0.0001, num_cycles=2, exploration_fraction=0.5), CYCLES),
    ],
    ids=["linear", "function", "cyclical"],
)
def test_a_schedule_is_taken_where_a_name_is(
    sgmcmc: Callable[..., Posterior], given: Any, named: dict[str, Any]
) -> None:
    one, two = sgmcmc(schedule=given), sgmcmc(**named)
    np.testing.assert_allclose(one.positions(), two.positions(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", [Linear, 3, None])
def test_what_is_no_schedule_is_refused(schedule: Any) -> None:
    with pytest.raises(TypeError, match="or a function of the step"):
        mirth.SGMCMC(schedule=schedule)


def test_cycles_explore_before_they_sample() -> None:
    """All steps of a cycle together are those of the schedule, the hot ones first."""
    schedule = Cyclical(1.0, 0.1, num_cycles=2, exploration_fraction=0.5)
    hot, cold = cycle(schedule, 16)
    assert (hot, cold) == (8, 8)
    length = (hot + cold) * 2
    sizes = [float(schedule(n, length)) for n in range(hot + cold)]
    assert sizes == sorted(sizes, reverse=True)
    assert not schedule.is_sampling(hot - 1, length) and schedule.is_sampling(hot, length)


def test_names() -> None:
    for name in ("sgld", "psgld", "sghmc", "adaptive-sghmc"):
        assert resolve_method(name).kernel == name
    cyclical = resolve_method("csgld")
    assert (cyclical.kernel, cyclical.schedule, cyclical.n_warmup) == ("sgld", "cyclical", 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kernel": "sgdl"}, "kernel='sgdl' is not known"),
        ({"schedule": "cosin"}, "schedule='cosin' is not known"),
        ({"temperature": -1.0}, "temperature=-1"),
        ({"step_size": 0.0}, "step_size=0.0"),
        ({"step_size_end": -1.0}, "step_size_end=-1.0"),
        ({"friction": 0.0}, "friction=0.0"),
        ({"exploration_fraction": 1.0}, "exploration_fraction=1.0"),
        ({"schedule": "cyclical", "n_cycles": 9, "n_samples": 8}, "n_cycles=9 must be at most"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"unhealthy_chains": "dropped"}, "unhealthy_chains"),
    ],
)
def test_wrong_values(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        mirth.SGMCMC(**options)
