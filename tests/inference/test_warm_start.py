"""The optimisation of the members."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mirth
from mirth.core.keys import Purpose, chain_keys
from mirth.core.outcomes import Outcome
from mirth.core.trees import tree_norm
from mirth.core.types import Batch
from mirth.inference import Monitor, Placement, WarmStartReport
from mirth.inference.engine.deadline import Deadline
from mirth.inference.problem import Problem
from mirth.inference.rows import Rows
from mirth.inference.start import warm_start
from mirth.inference.start.epochs import Optimisation, _shuffled
from mirth.inference.store.recorder import Recorder

pytestmark = pytest.mark.usefixtures("unoptimised")

# `mirth.inference.start.warm_start` the module; the package does not export the function.
module = warm_start


def as_batch(data: mirth.Dataset) -> Batch:
    weights = None if data.weights is None else jnp.asarray(data.weights)
    return Batch(jnp.asarray(data.x), jnp.asarray(data.y), weights)


def optimise(
    model: mirth.Model,
    train: mirth.Dataset,
    validation: mirth.Dataset,
    *,
    num_members: int = 3,
    num_devices: int = 2,
    monitor: Any = None,
    **settings: Any,
) -> tuple[Any, WarmStartReport]:
    defaults: dict[str, Any] = {
        "learning_rate": 0.03,
        "weight_decay": 0.0,
        "batch_size": 10,
        "max_epochs": 40,
        "patience": 5,
    }
    problem = Problem(
        model=model,
        rows=Rows(as_batch(train), as_batch(validation)),
        num_chains=num_members,
        seed=0,
        placement=Placement(tuple(jax.local_devices()[:num_devices]), sequential=True),
        monitor=monitor or mirth.Monitor(),
        recorder=Recorder(),
        deadline=Deadline(),
    )
    return module.warm_start(problem, Optimisation(**(defaults | settings)))


@pytest.fixture(scope="module")
def train(data: mirth.Dataset) -> mirth.Dataset:
    return data.take(np.flatnonzero(np.arange(40) % 3))  # 26 rows: batches of 10, 10 and 6


@pytest.fixture(scope="module")
def validation(data: mirth.Dataset) -> mirth.Dataset:
    return data.take(np.arange(0, 40, 3))


@pytest.fixture(scope="module")
def fitted(
    model: mirth.Model, train: mirth.Dataset, validation: mirth.Dataset
) -> tuple[Any, WarmStartReport]:
    return optimise(model, train, validation, num_members=4)


def loss(model: mirth.Model, params: Any, k: int, rows: mirth.Dataset) -> float:
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[k]), params)
    return float(-model.log_likelihood(one, as_batch(rows)) / len(rows))


@pytest.mark.parametrize("batch_size", [1, 6, 10, 13, 26])
def test_every_row_is_in_every_epoch(train: mirth.Dataset, batch_size: int) -> None:
    weights = np.linspace(1.0, 2.0, 26)
    batch = as_batch(mirth.Dataset(train.x, train.y, weights))
    orders = []
    for epoch in range(3):
        order, row_weights = _shuffled(jax.random.key(epoch), batch, batch_size)
        assert len(order) == len(row_weights) == -(-26 // batch_size) * batch_size
        assert sorted(order[:26].tolist()) == list(range(26))
        np.testing.assert_array_equal(row_weights[:26], np.float32(weights)[order[:26]])
        assert (np.asarray(row_weights[26:]) == 0).all()
        orders.append(tuple(order.tolist()))
    assert len(set(orders)) == 3


def test_the_last_row_counts_in_the_weights() -> None:
    """One linear weight, batches of 2 and 1: plain arithmetic gives what Adam has to see."""
    network = mirth.networks.FunctionalNetwork(
        init=lambda key, x: {"w": jnp.zeros((1, 1))}, apply=lambda p, x: x @ p["w"]
    )
    model = mirth.Model(network, mirth.likelihoods.HomoscedasticNormal(min_scale=1e-3))
    x = np.array([[1.0], [2.0], [3.0]])
    # Only one of the three rows pulls at the weight; if it is left out, nothing moves.
    for pulling in range(3):
        y = np.where(np.arange(3) == pulling, 5.0, 0.0)
        params, _ = optimise(
            model,
            mirth.Dataset(x, y),
            mirth.Dataset(x[pulling : pulling + 1], y[pulling : pulling + 1]),
            num_members=2,
            batch_size=2,
            max_epochs=1,
            learning_rate=0.1,
        )
        assert (np.asarray(params["network"]["w"]) > 0.01).all()


def test_the_best_weights_are_kept(
    model: mirth.Model, fitted: Any, validation: mirth.Dataset
) -> None:
    params, report = fitted
    # A mean of 14 terms of order 1 in float32.
    recomputed = [loss(model, params, k, validation) for k in range(4)]
    np.testing.assert_allclose(report.validation_loss, recomputed, rtol=1e-5, atol=1e-6)


def test_members_stop_by_themselves(fitted: Any) -> None:
    _, report = fitted
    stopped = report.epochs < 40
    assert stopped.any() and len(set(report.epochs.tolist())) > 1
    np.testing.assert_array_equal((report.epochs - report.best_epochs)[stopped], 5)
    assert (report.best_epochs >= 1).all() and (report.epochs <= 40).all()


def test_longer_training_never_returns_worse_weights(
    model: mirth.Model, train: mirth.Dataset, validation: mirth.Dataset, fitted: Any
) -> None:
    """With patience for all 40 epochs the same path goes on beyond the first stops."""
    _, longer = optimise(model, train, validation, num_members=4, patience=40)
    assert longer.epochs.tolist() == [40] * 4
    assert (longer.validation_loss <= fitted[1].validation_loss + 1e-6).all()
    assert (longer.best_epochs >= fitted[1].best_epochs).all()


@pytest.mark.parametrize("max_epochs", [1, 13])
def test_max_epochs_is_respected(
    model: mirth.Model, train: mirth.Dataset, validation: mirth.Dataset, max_epochs: int
) -> None:
    seen: list[Any] = []

    class Listener(Monitor):
        def on_epochs(self, *args: Any) -> None:
            seen.append(args)

    _, report = optimise(
        model,
        train,
        validation,
        max_epochs=max_epochs,
        patience=100,
        monitor=Listener(),
    )
    assert report.epochs.tolist() == [max_epochs] * 3
    # The host hears of all members, without padding, after every ten epochs and at the end.
    expected = [[10] * 3, [13] * 3] if max_epochs == 13 else [[1] * 3]
    assert [epochs.tolist() for epochs, _, _ in seen] == expected
    np.testing.assert_array_equal(np.float64(seen[-1][1]), report.validation_loss)


def test_members_start_from_their_own_weights(model: mirth.Model, train: mirth.Dataset) -> None:
    """A learning rate of nearly nothing returns the initialisation, one for each member."""
    params, _ = optimise(model, train, train, num_members=2, max_epochs=1, learning_rate=1e-12)
    for k, key in enumerate(chain_keys(0, Purpose.NETWORK_INIT, 2)):
        start = model.init(key, jnp.asarray(train.x))
        jax.tree.map(
            lambda leaf, first, k=k: np.testing.assert_allclose(
                leaf[k], first, atol=1e-9, rtol=1e-6
            ),
            params,
            start,
        )


def test_weight_decay_shrinks_weights_but_not_the_noise(
    train: mirth.Dataset, validation: mirth.Dataset
) -> None:
    """A likelihood that does not depend on anything leaves weight decay as the only force."""

    class Indifferent(mirth.likelihoods.HomoscedasticNormal):
        def log_prob(self, outputs: Any, y: Any) -> Any:
            return 0.0 * outputs[..., 0]

    model = mirth.Model(mirth.MLP((4,), num_outputs=1), Indifferent())
    keys = chain_keys(0, Purpose.NETWORK_INIT, 2)
    start = [model.init(key, jnp.asarray(train.x)) for key in keys]
    settings = {"num_members": 2, "max_epochs": 1, "learning_rate": 0.1, "weight_decay": 0.5}
    params, _ = optimise(model, train, validation, **settings)
    for k in range(2):
        before = float(tree_norm(start[k]["network"]))
        after = float(tree_norm(jax.tree.map(lambda leaf, k=k: leaf[k], params["network"])))
        # Three batches, each multiplies by 1 - learning_rate * weight_decay.
        assert after == pytest.approx(before * (1 - 0.1 * 0.5) ** 3, rel=1e-5)
        np.testing.assert_array_equal(params["shared"][k], start[k]["shared"])


def test_one_device_and_one_member(
    model: mirth.Model, train: mirth.Dataset, validation: mirth.Dataset
) -> None:
    """On one device the first and the best weights were one buffer, which cannot be given twice."""
    _, report = optimise(
        model, train, validation, num_members=1, num_devices=1, max_epochs=12, patience=50
    )
    assert report.epochs.tolist() == [12]


def test_nothing_finite_is_an_error(model: mirth.Model, validation: mirth.Dataset) -> None:
    huge = mirth.Dataset(validation.x, np.full(len(validation), 1e30))
    with pytest.raises(
        mirth.SamplingError, match=r"log likelihood is not finite in .* rows \(0, 1"
    ) as caught:
        optimise(model, huge, huge, max_epochs=2)
    assert caught.value.outcome is Outcome.NON_FINITE_TARGET


def test_members_that_all_explode_are_an_error(
    model: mirth.Model, train: mirth.Dataset, validation: mirth.Dataset
) -> None:
    with pytest.raises(mirth.SamplingError, match="lower the learning rate"):
        optimise(model, train, validation, max_epochs=30, learning_rate=1e38)


def report_of(*losses: float) -> WarmStartReport:
    epochs = np.full(len(losses), 7)
    return WarmStartReport(epochs, epochs - 2, np.array(losses), 0.1)


@pytest.mark.parametrize("far", [1.3, 40.0, np.inf])
def test_a_member_far_behind_is_named(far: float) -> None:
    with pytest.warns(mirth.MirthWarning, match=r"1 of 5 members .*member 3 \(.*median .* 0\.[56]"):
        module._judge(report_of(0.5, 0.6, 0.55, far, 0.62))


@pytest.mark.parametrize("losses", [(0.5, 0.6, 0.55, 1.0), (0.5,), (0.0, 5.0, 10.0, 15.0, 20.0)])
def test_members_that_scatter_are_not_named(losses: tuple[float, ...]) -> None:
    module._judge(report_of(*losses))  # warnings are errors here


def test_a_member_without_finite_loss_among_others() -> None:
    with pytest.warns(mirth.MirthWarning, match=r"1 of 2 members .*member 1 \(inf\)"):
        module._judge(report_of(0.5, np.inf))


def test_the_report_prints_a_line_per_member() -> None:
    lines = str(report_of(0.5, -0.25)).splitlines()
    assert lines[0].split() == ["member", "epochs", "best", "epoch", "validation", "loss"]
    assert [line.split() for line in lines[1:]] == [
        ["0", "7", "5", "0.5000"],
        ["1", "7", "5", "-0.2500"],
    ]
