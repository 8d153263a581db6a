"""The bias of finite steps: found where an exact posterior has it, and not where it has none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from targets import KnownNoise

import mirth
from mirth.evaluation import Change
from mirth.inference import continue_at_half
from mirth.inference.engine.loop import ChainLoop, Stretch
from mirth.results import BiasReport, BiasVerdict, bias_report
from mirth.results.bias import judge_changes
from mirth.samplers import MCLMC, MILETuner, ThreePhases
from tests.cases import slow_but

pytestmark = pytest.mark.usefixtures("unoptimised")

LENGTHS = {"n_warmup": 1000, "n_samples": 100, "n_thinning": 5}
ROWS, FEATURES, CHAINS = 20, 9, 4


class Regression(NamedTuple):
    """Linear, with known noise: the posterior is Normal."""

    model: mirth.Model
    data: mirth.Dataset
    start: Any
    variance: np.ndarray  # of the predictions of the rows

    def infer(self, method: Any, **options: Any) -> mirth.Posterior:
        return mirth.infer(self.model, self.data, method, num_chains=CHAINS, seed=1, **options)

    def report(self, posterior: mirth.Posterior, method: Any, **options: Any) -> BiasReport:
        rows = {"x": self.data.x, "y": self.data.y}
        return bias_report(posterior, self.data, method, **rows | options)

    def error(self, posterior: mirth.Posterior) -> float:
        """Root mean square of the relative error of the predictive variance by all draws."""
        draws = posterior.positions().reshape(-1, FEATURES + 1)
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), posterior.draws)
        unravel = ravel_pytree(one)[1]
        means = jax.jit(jax.vmap(lambda p: self.model.outputs(unravel(p), self.data.x)[:, 0]))
        variance = 1.0 + np.asarray(means(draws), float).var(axis=0)
        return float(np.sqrt(np.mean((variance / self.variance - 1) ** 2)))


@pytest.fixture(scope="module")
def regression() -> Regression:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0]
    x = rng.normal(size=(ROWS, FEATURES)) * np.geomspace(1, 1 / 3, FEATURES) @ rotation
    design = np.column_stack([np.ones(ROWS), x])
    y = design @ rng.normal(size=FEATURES + 1) + rng.normal(size=ROWS)
    prior = mirth.priors.NormalPrior(scale=1.5)
    model = mirth.Model(mirth.MLP((), num_outputs=1), KnownNoise(noise=1.0), prior)
    covariance = np.linalg.inv(design.T @ design + np.eye(FEATURES + 1) / 1.5**2)
    mean = covariance @ design.T @ y
    start = {"network": [{"weight": mean[None, 1:], "bias": mean[:1]}]}
    tree = model.init(jax.random.key(0), jnp.asarray(x[:1], jnp.float32))
    start = jax.tree.unflatten(
        jax.tree.structure(tree),
        [
            np.asarray(start["network"][0]["weight" if leaf.ndim > 1 else "bias"], np.float32)
            for leaf in jax.tree.leaves(tree)
        ],
    )
    exact = 1.0 + np.einsum("ri,ij,rj->r", design, covariance, design)
    return Regression(model, mirth.Dataset(x, y), start, exact)


def mile(start: Any, energy: float, **settings: Any) -> mirth.MILE:
    tuner = MILETuner(energy_variance_start=max(energy, 0.5), energy_variance_end=energy)
    return mirth.MILE(start=start, tuner=tuner, step_size_init=0.1, **LENGTHS | settings)


def smile(start: Any, step_size: float) -> mirth.SMILE:
    return mirth.SMILE(
        start=start, step_size=step_size, step_size_rule="fixed", guarded=False, batch_size=10,
        preconditioned=False, **LENGTHS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def short(regression: Regression) -> tuple[mirth.Posterior, mirth.MILE]:
    method = mile(regression.start, 0.001)
    return regression.infer(method), method


def test_long_steps_are_found(regression: Regression) -> None:
    """What changes is three quarters of the bias or more, but for its Monte-Carlo error."""
    method = mile(regression.start, 3.0)
    posterior = regression.infer(method)
    report = regression.report(posterior, method)
    bias = regression.error(posterior)
    assert bias > 0.1
    assert report.verdict is BiasVerdict.TOO_LONG
    assert report.variance.is_seen and report.variance.low > 0.05
    assert 0.6 * bias < report.variance.high and report.variance.low < 1.2 * bias
    assert report.epistemic.is_seen and report.epistemic.size > report.variance.size
    assert report.sentence.startswith("The steps are too long: half of their size changes the pred")
    # The energy error is of third order in the step, its variance of sixth.
    assert (report.energy_variance > 20 * report.energy_variance_half).all()
    np.testing.assert_array_equal(report.step_size, posterior.tuning.step_size)


def test_short_steps_show_nothing_and_how_little_that_is(
    regression: Regression, short: tuple[mirth.Posterior, mirth.MILE]
) -> None:
    report = regression.report(*short)
    assert report.verdict is BiasVerdict.NONE_SEEN
    assert not any(change.is_seen for change in report.changes.values())
    assert "by at most" in report.sentence
    most = max(change.high for change in report.changes.values())
    assert 0 < most < 0.05
    # What could not have been seen is not denied.
    unsure = regression.report(*short, tolerance=most / 2)
    assert unsure.verdict is BiasVerdict.TOO_FEW_DRAWS
    assert "too few draws" in unsure.sentence and unsure.changes == report.changes
    # More draws see more; fewer see less.
    assert regression.report(*short, num_draws=400).variance.error < 0.7 * report.variance.error
    few = regression.report(*short, num_draws=16)
    assert few.verdict is BiasVerdict.TOO_FEW_DRAWS and few.num_settling == 4


def test_rows_are_those_held_back_unless_others_are_given(
    regression: Regression, short: tuple[mirth.Posterior, mirth.MILE]
) -> None:
    posterior, method = short
    own = bias_report(posterior, regression.data, method)
    assert own.lppd is not None and own.changes != regression.report(*short).changes
    far = bias_report(posterior, regression.data, method, x=30 * regression.data.x[:3])
    assert far.lppd is None and set(far.changes) == {"mean", "variance"}
    # Where there is hardly any noise the variance is epistemic.
    assert far.variance.error == pytest.approx(far.epistemic.error, rel=0.1)
    assert "LPPD" in str(own) and "LPPD" not in str(far)


def test_a_report_changes_nothing(
    regression: Regression, short: tuple[mirth.Posterior, mirth.MILE], tmp_path: Path
) -> None:
    """The same again, the same from a run directory, and the run goes on as if it had not been."""
    posterior, method = short
    first, again = (str(regression.report(*short)) for _ in range(2))
    assert first == again
    stored = regression.infer(method, run=tmp_path / "run")
    assert str(regression.report(stored, method, directory=tmp_path / "run")) == first
    longer = mile(regression.start, 0.001, n_samples=120)
    runs = (mirth.Run(go_on_from=posterior), tmp_path / "run")
    ends = [regression.infer(longer, run=run).positions()[:, -1] for run in runs]
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("step_size", [pytest.param(0.1, marks=pytest.mark.slow), 1.8])
def test_mini_batches(regression: Regression, step_size: float) -> None:
    method = smile(regression.start, step_size)
    posterior = regression.infer(method)
    report = regression.report(posterior, method, num_draws=400, tolerance=0.03)
    assert np.allclose(report.step_size, step_size)
    assert report.variance.is_seen is (step_size > 1)
    if step_size > 1:
        assert regression.error(posterior) > 0.05
        assert report.verdict is BiasVerdict.TOO_LONG and report.epistemic.low > 0.2
    else:
        assert report.verdict in (BiasVerdict.NONE_SEEN, BiasVerdict.TOO_FEW_DRAWS)


@pytest.mark.slow
def test_a_kernel_with_numbers_of_its_own(regression: Regression) -> None:
    """Here the step size is in the program, which is another one at half of it."""
    for step_size in (0.4, 2.6):
        method = mirth.Sampling(kernel=MCLMC(step_size, 3.0), start=regression.start, **LENGTHS)
        report = regression.report(regression.infer(method), method, num_draws=200)
        assert report.variance.is_seen is (step_size > 1)


@pytest.mark.slow
def test_false_alarms_are_rare(regression: Regression) -> None:
    """Of 8 seeds, three checks each at 1 %, more than 2 alarms come in one of 500 cases."""
    method = mile(regression.start, 0.001)
    alarms = 0
    for seed in range(8):
        posterior = mirth.infer(
            regression.model, regression.data, method, num_chains=CHAINS, seed=seed
        )
        report = regression.report(posterior, method)
        alarms += any(change.is_seen for change in report.changes.values())
    assert alarms <= 2


def test_settling_is_thrown_away(
    regression: Regression, short: tuple[mirth.Posterior, mirth.MILE]
) -> None:
    whole, rest = (
        continue_at_half(short[0], regression.data, short[1], num_draws=n, num_settling=m)
        for n, m in ((20, 0), (12, 8))
    )
    both = (jax.tree.leaves(part.present.draws) for part in (whole, rest))
    for one, other in zip(*both, strict=True):
        assert one.shape[:2] == (CHAINS, 20)
        np.testing.assert_array_equal(one[:, 8:], other)
    first = np.asarray(jax.tree.leaves(whole.present.draws)[0])[:, 0]
    assert not np.array_equal(first, np.asarray(jax.tree.leaves(short[0].draws)[0])[:, -1])


def test_both_cover_the_same_trajectory(
    regression: Regression,
    short: tuple[mirth.Posterior, mirth.MILE],
    host_patch: pytest.MonkeyPatch,
) -> None:
    """Twice the steps at half the size, of numbers of their own: they choose keys and batches."""
    seen, run = [], ChainLoop.run

    def recorded(self: ChainLoop, stretch: Stretch, *arguments: Any, **options: Any) -> Any:
        seen.append(stretch)
        return run(self, stretch, *arguments, **options)

    host_patch.setattr(ChainLoop, "run", recorded)
    regression.report(*short, num_draws=40)
    present, half = seen
    assert (present.thin, present.num_steps) == (5, 5 * 50)
    assert (half.thin, half.num_steps) == (10, 10 * 50)
    assert half.first_step == present.first_step + present.num_steps


def test_a_step_that_is_not_halved_is_noticed(
    regression: Regression,
    short: tuple[mirth.Posterior, mirth.MILE],
    host_patch: pytest.MonkeyPatch,
) -> None:
    """An adaptation of the user's may have its step size elsewhere: that would look unbiased."""
    host_patch.setattr(ThreePhases, "halved", lambda self, states: (self, states))
    with pytest.raises(ValueError, match="the adaptation of this method has its own"):
        regression.report(*short, num_draws=16)


def test_verdicts() -> None:
    none, small = Change(0.0, 0.01, 0.0, 0.02, 0.5), Change(0.02, 0.002, 0.015, 0.025, 0.0)
    wide, large = Change(0.0, 0.1, 0.0, 0.2, 0.5), Change(-0.2, 0.01, 0.18, 0.22, 0.0)
    between = Change(0.05, 0.005, 0.04, 0.06, 0.0)
    for changes, settled, verdict in (
        ([none, none], True, "NONE_SEEN"),
        ([none, none], False, "TOO_FEW_DRAWS"),
        ([none, wide], True, "TOO_FEW_DRAWS"),
        ([none, small], True, "SMALL"),
        ([none, small], False, "UNCERTAIN"),
        ([wide, small], True, "UNCERTAIN"),
        ([none, between], True, "UNCERTAIN"),
        ([none, large], True, "TOO_LONG"),
        ([small, large], False, "TOO_LONG"),
    ):
        named = dict(zip(("mean", "lppd"), changes, strict=True))
        assert judge_changes(named, 0.05, settled=settled).name == verdict
    # A variance that is 8 % larger is a deviation that is 4 % larger.
    larger = {"variance": Change(0.08, 0.005, 0.07, 0.09, 0.0)}
    assert judge_changes(larger, 0.05, settled=True) is BiasVerdict.SMALL


@pytest.mark.parametrize("verdict", list(BiasVerdict))
def test_every_verdict_has_its_sentence(verdict: BiasVerdict) -> None:
    """It names the largest change that is no chance, or the largest that there may be."""
    change = Change(0.3, 0.01, 0.28, 0.32, 0.0)
    if verdict in (BiasVerdict.NONE_SEEN, BiasVerdict.TOO_FEW_DRAWS):
        change = Change(0.0, 0.2, 0.0, 0.32, 0.5)
    one = np.ones(4)
    numbers: Any = (0.02 * one, 3e-4 * one, one, one, 100, 25)
    report = BiasReport(verdict, change, change, change, change, *numbers, 300.0, 0.05)
    assert ("(28 to 32) %" if change.is_seen else "at most 32 %") in report.sentence
    assert "0.02 per dimension, 0.0003 at half the step." in report.sentence
    frozen = BiasReport(verdict, change, change, change, None, *numbers, 0.0, 0.05)
    slow = BiasReport(verdict, change, change, change, None, *numbers, 15.0, 0.05)
    is_unclear = verdict is BiasVerdict.TOO_FEW_DRAWS
    assert ("too slow" in slow.sentence) is ("do not move" in frozen.sentence) is is_unclear
    # Errors fall with the root of the draws: (0.32 / 0.05)^2 times as many.
    assert ("take num_draws=5000 or more" in report.sentence) is is_unclear


def test_what_cannot_be_checked_is_refused(
    regression: Regression, short: tuple[mirth.Posterior, mirth.MILE]
) -> None:
    posterior, method = short
    data = regression.data
    for wrong, options, message in (
        (posterior.start_as_posterior(), {}, "is a deep ensemble, which has no steps"),
        (posterior.take_chains([0]), {}, "has no chains to go on with: it is a part"),
        (posterior, {"dataset": mirth.Dataset(data.x + 1, data.y)}, "with data="),
        (posterior, {"method": mile(regression.start, 0.02)}, "energy_variance_end"),
        (posterior, {"method": "sghmc"}, "method.batch_size=None, not 256"),
        (posterior, {"num_draws": 15}, "num_draws=15 must be"),
        (posterior, {"tolerance": 0}, "tolerance=0"),
        (posterior, {"y": data.y}, "pass their inputs as x"),
        (posterior, {"x": data.x, "y": data.y[1:]}, "y has 19 targets, but x has 20 rows"),
        (posterior, {"x": data.x[:, 1:]}, "does not fit the network"),
    ):
        arguments: Any = {"dataset": data, "method": method} | options
        with pytest.raises(ValueError, match=message):
            bias_report(wrong, **arguments)
    with pytest.raises(TypeError, match="pass the Posterior that mirth.infer has returned"):
        bias_report(posterior.draws, data, method)


@pytest.mark.slow
def test_steps_that_follow_a_schedule_are_refused(regression: Regression) -> None:
    method = mirth.methods.SGMCMC(
        start=regression.start, n_warmup=10, n_samples=5, n_thinning=1, step_size=1e-3
    )
    posterior = regression.infer(method)
    with pytest.raises(ValueError, match="steps of this method cannot be halved; chains have"):
        bias_report(posterior, regression.data, method)


X = np.random.default_rng(2).normal(size=(90, 2)).astype(np.float32)
LABELS = (X[:, 0] + 0.5 * np.random.default_rng(3).normal(size=90) > 0).astype(int)
FEW = {"n_warmup": 100, "n_samples": 10, "n_thinning": 2, "start": "prior"}


@pytest.mark.parametrize(
    "kind",
    slow_but(["classes"], ["classes", "kept", "stream", "auto", "dropped", "half precision"]),
)
def test_runs_of_all_kinds(kind: str) -> None:
    """Classes and a function of the draws, a stream, a method that was chosen, fewer chains."""
    classifier = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Categorical(num_classes=2))
    regressor = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    y = LABELS - 0.5
    model, data, method = regressor, mirth.Dataset(X, y), mirth.MILE(**FEW)
    fitted: dict[str, Any] = {"num_chains": 2}
    given: dict[str, Any] = {}
    if kind == "classes":
        model, data = classifier, mirth.Dataset(X, LABELS)
    elif kind == "kept":
        fitted["keep"] = lambda params: params["network"][0]["bias"]
    elif kind == "stream":
        data, method = mirth.data.ArrayStream(X, y), mirth.SMILE(**FEW, batch_size=30)
        given = {"validation": mirth.Dataset(X[:20], y[:20])}
    elif kind == "auto":
        method = mirth.Auto(**FEW)
    elif kind == "half precision":
        fitted["keep"] = mirth.Keep(dtype="float16")
    posterior = mirth.infer(model, data, method, **fitted, **given)
    if kind == "dropped":
        posterior = dataclasses.replace(
            posterior.take_chains([1]), continuation=posterior.continuation
        )
    report = bias_report(posterior, data, method, num_draws=40, **given)
    assert len(report.step_size) == len(report.energy_variance) == posterior.num_chains
    assert all(np.isfinite(change).all() for change in report.table().values())
    np.testing.assert_array_equal(report.step_size, posterior.tuning.step_size)
    if kind == "stream":
        with pytest.raises(ValueError, match="needs validation=Dataset"):
            bias_report(posterior, data, method)
