"""Any sampler as a method, any start: the contract is checked, kept, and runs survive."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.inference import Placement, Posterior
from mirth.inference.start.starts import GivenStart
from mirth.samplers import MCLMC, SGLD, Adaptation, MILETuner, ThreePhases
from tests.cases import slow_but
from tests.inference.test_run_folder import Stop, assert_same

pytestmark = pytest.mark.usefixtures("unoptimised")

START = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=15, batch_size=8)
BASE: dict[str, Any] = {
    "kernel": MCLMC(0.02, 1.0), "n_warmup": 20, "n_samples": 8, "n_thinning": 2, "start": START,
}  # fmt: skip


class WalkState(NamedTuple):
    position: Any
    logdensity: Any


class WalkInfo(NamedTuple):
    logdensity: Any


@dataclasses.dataclass(frozen=True)
class Walk:
    """A sampler of a user: no numbers but its own, an info with a log density alone."""

    size: float = 0.01

    def init(self, position: Any, logdensity_fn: Any, key: Any) -> WalkState:
        return WalkState(position, logdensity_fn(position))

    def step(self, key: Any, state: WalkState, logdensity_fn: Any) -> tuple[WalkState, WalkInfo]:
        position = state.position + self.size * jax.random.normal(key, state.position.shape)
        return WalkState(position, logdensity_fn(position)), WalkInfo(logdensity_fn(position))


@pytest.fixture(scope="module")
def sample(model: mirth.Model, data: mirth.Dataset) -> Callable[..., Posterior]:
    def run(**fields: Any) -> Posterior:
        names = ("out", "monitors", "chunk_steps", "num_chains")
        options = {"num_chains": 2} | {k: fields.pop(k) for k in names if k in fields}
        placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
        method = fields.pop("method", None) or mirth.Sampling(**(BASE | fields))
        grouped = in_groups(options, placement=placement)
        return mirth.infer(model, data, method, validation=0.3, **grouped)

    return run


@pytest.fixture(scope="module")
def base(sample: Any) -> Posterior:
    return sample()


@pytest.fixture(scope="module")
def ensemble(sample: Any) -> Posterior:
    return sample(method=START)


def three_phases(kernel: Any, n_warmup: int) -> Adaptation:
    return ThreePhases.of(kernel, MILETuner(n_warmup, energy_variance_end=0.02))


def test_the_parts_of_mile_make_mile(sample: Any) -> None:
    parts = sample(kernel=MCLMC(0.001, 1.0), adaptation=three_phases)
    mile = mirth.MILE(n_warmup=20, n_samples=8, n_thinning=2, start=START)
    assert_same(parts, sample(method=mile))


CASES: dict[str, Any] = {
    "kernel": SGLD(1e-4),
    "adaptation": three_phases,
    "n_warmup": 10,
    "n_samples": 7,
    "n_thinning": 3,
    "batch_size": 5,
    "use_validation_rows": False,
    "start": "prior",
}


# "kernel" and "adaptation" have tests of their own, and the batches the stream below.
ALWAYS = ["adaptation", "n_warmup", "n_samples", "n_thinning", "start"]


@pytest.mark.parametrize("name", slow_but(ALWAYS, CASES))
def test_every_parameter_changes_the_draws(name: str, sample: Any, base: Posterior) -> None:
    other = sample(**{name: CASES[name]})
    assert (
        other.positions().shape != base.positions().shape
        or (other.positions() != base.positions()).any()
    )


def test_no_parameter_is_forgotten() -> None:
    fields = {field.name for field in dataclasses.fields(mirth.Sampling)}
    assert fields == CASES.keys() | {"unhealthy_chains"}  # the last test of this file


def test_what_the_reports_say(base: Posterior, sample: Any) -> None:
    np.testing.assert_allclose(base.tuning.step_size, 0.02)
    np.testing.assert_allclose(base.tuning.L, 1.0)
    assert base.num_gradients == 2 * (20 + 16)  # McLachlan's scheme
    walk = sample(kernel=Walk())
    assert np.isnan(walk.tuning.step_size).all() and np.isinf(walk.tuning.L).all()
    assert walk.num_gradients == 20 + 16
    assert (walk.sample_stats["energy_change"] == 0).all()


@pytest.mark.parametrize("phase", ["warm-up", "sampling"])
def test_a_stopped_run_of_a_kernel_of_a_user_goes_on(
    phase: str, sample: Any, tmp_path: Path
) -> None:
    with pytest.raises(mirth.RunInterrupted):
        stop = Stop(phase, 2, signal.SIGTERM)
        sample(kernel=Walk(), out=tmp_path, chunk_steps=4, monitors=[stop])
    assert_same(sample(kernel=Walk(), out=tmp_path, chunk_steps=4), sample(kernel=Walk()))


def test_other_settings_are_refused(sample: Any, tmp_path: Path) -> None:
    sample(kernel=Walk(), start=GivenStart(sample(n_samples=1).start), out=tmp_path)
    with pytest.raises(mirth.RunFolderError, match=r"kernel.size=0\.01, not 0\.02"):
        sample(kernel=Walk(0.02), start=GivenStart(sample(n_samples=1).start), out=tmp_path)
    with pytest.raises(mirth.RunFolderError, match="GivenStart"):
        sample(kernel=Walk(), out=tmp_path, start=sample(n_samples=2))


def test_an_adaptation_that_fails_the_contract(sample: Any) -> None:
    with pytest.raises(TypeError, match=r"gave None; it must be an object of a class"):
        sample(adaptation=lambda kernel, n_warmup: None)


def without(name: str) -> Any:
    """A sampler that lacks something."""

    class Broken(Walk):
        def init(self, position: Any, logdensity_fn: Any, key: Any) -> Any:
            state = super().init(position, logdensity_fn, key)
            return tuple(state) if name == "position" else state

        def step(self, key: Any, state: Any, logdensity_fn: Any) -> Any:
            if name == "pair":
                return state
            after, info = super().step(key, state, logdensity_fn)
            if name == "shape":
                after = after._replace(logdensity=jnp.zeros(2))
            return after, () if name == "logdensity" else info

    return Broken()


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"kernel": Walk}, TypeError, "Walk is a class; make an object"),
        ({"kernel": 3}, TypeError, r"kernel=3 has no method init\(position"),
        ({"kernel": without("position")}, TypeError, "a state with a field position"),
        ({"kernel": without("pair")}, TypeError, r"must give a pair \(state, info\)"),
        ({"kernel": without("shape")}, TypeError, "of the structure, shapes and types"),
        ({"kernel": without("logdensity")}, TypeError, "an info with a field logdensity"),
        ({"adaptation": 3}, TypeError, "adaptation=3 must be a function"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"start": 3}, TypeError, "start=3 must be"),
        ({"start": "posterior"}, TypeError, "start='posterior' must be"),
        ({"unhealthy_chains": "kep"}, ValueError, "did you mean 'keep'"),
    ],
)
def test_bad_arguments_are_named(fields: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        mirth.Sampling(**(BASE | fields))


def test_a_stream_needs_batches(
    model: mirth.Model, data: mirth.Dataset, ensemble: Posterior
) -> None:
    stream = mirth.data.ArrayStream(data.x, data.y)
    with pytest.raises(TypeError, match=r"batch_size=None\) needs all rows"):
        mirth.infer(model, stream, mirth.Sampling(**BASE), validation=data)
    method = mirth.Sampling(**(BASE | {"batch_size": 8, "start": ensemble}))
    posterior = mirth.infer(model, stream, method, validation=data, num_chains=2)
    assert np.ptp(posterior.positions(), axis=1).max() > 0


def test_starts(sample: Any, ensemble: Posterior) -> None:
    one = jax.tree.map(lambda leaf: leaf[1], ensemble.start)
    for start, expected in (
        (ensemble, ensemble.start),
        (ensemble.start, ensemble.start),
        (one, jax.tree.map(lambda leaf: np.stack([leaf, leaf]), one)),
    ):
        found = sample(start=start, n_warmup=0, n_samples=1)
        jax.tree.map(np.testing.assert_array_equal, found.start, expected)
    prior = sample(start="prior", n_warmup=0, n_samples=1)
    assert prior.start["network"][0]["weight"].std() > 0.3  # N(0, 1), not that of an optimiser
    assert (prior.start["network"][0]["weight"][0] != prior.start["network"][0]["weight"][1]).any()


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(mirth.MILE, marks=pytest.mark.slow),
        pytest.param(mirth.SMILE, marks=pytest.mark.slow),
        mirth.SGMCMC,
    ],
)
def test_other_methods_have_the_starts(method: Any, sample: Any, ensemble: Posterior) -> None:
    again = sample(method=method(n_warmup=10, n_samples=1, start=ensemble))
    jax.tree.map(np.testing.assert_array_equal, again.start, ensemble.start)


def test_starts_that_do_not_fit(sample: Any, base: Posterior) -> None:
    with pytest.raises(ValueError, match="for 3 chains it needs"):
        sample(start=base.start, num_chains=3)
    with pytest.raises(ValueError, match=r"they differ in network\.0\.bias, .*other\.0\.bias"):
        sample(start={"other": base.start["network"]})
    wide = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf], axis=1), base.start)
    with pytest.raises(ValueError, match=r"start= has network\.0\.bias of shape"):
        sample(start=wide)
    bad = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), base.start)
    with pytest.raises(mirth.SamplingError, match="not finite"):
        sample(start=bad)


def test_a_method_of_a_user(sample: Any, base: Posterior) -> None:
    class Twice:
        def run(self, problem: Any) -> Posterior:
            return mirth.Sampling(**BASE).run(problem)

    assert_same(sample(method=Twice()), base)
    with pytest.raises(TypeError, match=r"mirth\.Sampling\(kernel=\.\.\.\)"):
        sample(method=Twice)


def test_unhealthy_chains(sample: Any) -> None:
    still = sample(kernel=Walk(0.0), n_warmup=600, unhealthy_chains="keep")
    assert any("did not move" in note for note in still.notes)
    with pytest.raises(mirth.SamplingError, match="did not move"):
        sample(kernel=Walk(0.0), n_warmup=600, unhealthy_chains="stop")
