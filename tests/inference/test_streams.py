"""Chains and the warm start on a stream: the same model as in memory, from any place on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.core.keys import Purpose
from mirth.core.types import Batch
from mirth.inference import Placement
from mirth.inference.chains.sources import ResidentBatches, Source
from mirth.inference.engine.feed import Feed
from mirth.inference.rows import features_first

pytestmark = pytest.mark.usefixtures("unoptimised")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -1.0, 0.5]) + 0.1 * RNG.normal(size=200)).astype(np.float32)
HELD = mirth.Dataset(X[:40], Y[:40])
MODEL = mirth.Model(mirth.MLP((), num_outputs=2), mirth.Normal())
START = mirth.DeepEnsemble(max_epochs=60, batch_size=32, learning_rate=0.1)


def placement(sequential: bool = True) -> Placement:
    return Placement(tuple(jax.local_devices()[:1]), sequential=sequential)


def infer(data: Any, **options: Any) -> mirth.Posterior:
    method = mirth.SMILE(
        n_warmup=options.pop("n_warmup", 600),
        n_samples=options.pop("n_samples", 20),
        n_thinning=7,
        batch_size=32,
        start=START,
    )
    return mirth.infer(
        MODEL,
        data,
        method,
        num_chains=2,
        validation=HELD,
        **in_groups(options, placement=placement()),
    )


@pytest.fixture(scope="module")
def posterior() -> mirth.Posterior:
    return infer(mirth.data.ArrayStream(X, Y))


def test_a_stream_gives_the_posterior_of_its_rows(posterior: mirth.Posterior) -> None:
    inside = infer(mirth.Dataset(X, Y))
    means, spreads = zip(*((p.positions().mean((0, 1)), p.positions().std((0, 1)))
                           for p in (posterior, inside)), strict=True)  # fmt: skip
    # 40 draws each, 280 steps apart at most: few effective ones, so three spreads.
    assert np.all(np.abs(means[0] - means[1]) < 3 * np.maximum(*spreads))
    dist = mirth.make_predictive(MODEL, posterior.draws, X)
    assert np.sqrt(np.mean((dist.mean() - Y) ** 2)) < 0.2  # noise 0.1, spread of y 1.5
    assert np.all(posterior.warm_start.validation_loss < 0)  # a noise of 0.24 or less


@pytest.mark.slow  # chunks of other lengths give equal bits with the emitters that users have
def test_chunks_and_interruptions_change_nothing(
    posterior: mirth.Posterior, tmp_path: Path, host_patch: pytest.MonkeyPatch
) -> None:
    stream = mirth.data.ArrayStream(X, Y)
    chunks = infer(stream, chunk_steps=11)
    np.testing.assert_array_equal(chunks.positions(), posterior.positions())
    host_patch.setattr("mirth.inference.engine.feed._MAX_STACK_STEPS", 5)
    infer(stream, n_samples=6, out=tmp_path / "run")
    again = infer(stream, out=tmp_path / "run")  # goes on
    np.testing.assert_array_equal(again.positions(), posterior.positions())
    with pytest.raises(Exception, match="stream"):
        infer(mirth.data.ArrayStream(X, -Y), out=tmp_path / "run")


def test_a_stream_has_an_order_of_its_own() -> None:
    method = mirth.SMILE(batch_order="sweeps", n_warmup=2, n_samples=1)
    model = mirth.Model(mirth.networks.MLP((4,)), mirth.likelihoods.Normal())
    with pytest.raises(ValueError, match="batch_order='sweeps' needs data in memory"):
        mirth.infer(model, mirth.data.ArrayStream(X, Y), method, validation=mirth.Dataset(X, Y))


def test_the_next_stack_is_read_ahead() -> None:
    read: list[int] = []

    class Counted(mirth.data.ArrayStream):
        def _read(self, *arguments: Any) -> Any:
            for number, batch in enumerate(super()._read(*arguments)):
                read.append(number)
                yield batch

    feed = Feed(Counted(X, Y), 32, 0, placement())
    stack = feed.stack(0)
    assert stack.y.shape == (feed.steps, 29) and feed.stack(0) is stack
    assert feed._coming is not None
    feed._coming[1].result()
    assert len(read) == 2 * feed.steps
    again = Feed(mirth.data.ArrayStream(X, Y), 32, 0, placement()).stack(1)
    np.testing.assert_array_equal(again.y, feed.stack(1).y)


def test_a_loader_and_a_transformation() -> None:
    batches = [(X[i : i + 50], Y[i : i + 50]) for i in range(0, 200, 50)]

    def blind(key: Any, x: Any) -> Any:
        return x * jax.random.bernoulli(key, 0.0, x.shape)

    seeing, blinded = (
        mirth.infer(
            MODEL, data, mirth.DeepEnsemble(max_epochs=30, learning_rate=0.05, transform=transform),
            num_chains=1, validation=HELD, run=mirth.Run(placement=placement()),
        ).warm_start.validation_loss[0]
        for data, transform in ((mirth.data.BatchStream(batches, 200), None), (HELD, blind))
    )  # fmt: skip
    # Whoever sees no inputs is left with the spread of y: 1.8 nats, not -0.5.
    assert seeing < 0.5 and blinded > 1.2


def test_resident_batches_hold_the_exact_scale() -> None:
    rows = ResidentBatches(len(Y), 32)
    source = Source(rows, features_first(Batch(jnp.asarray(X), jnp.asarray(Y))))
    batch = rows.at(source.stored, jax.random.key(0), 3, 0)
    assert float(batch.num_rows) == float(jnp.sum(batch.weights)) in (28.0, 29.0)
    assert source.feed(Purpose.TUNING) is None


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        (mirth.MILE(), {}, TypeError, "MILE needs all rows in memory, but the data are a Array"),
        ("csgld", {}, TypeError, "schedule='cyclical' takes many batches in one step"),
        (mirth.SMILE(use_validation_rows=True), {}, TypeError, "use_validation_rows=True needs"),
        ("psmile", {"validation": None}, ValueError, "A stream needs validation=Dataset"),
        ("psmile", {"validation": mirth.Dataset(X[:, :2], Y)}, ValueError, "2 features per row"),
    ],
)
def test_what_a_stream_cannot_do(
    method: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mirth.infer(MODEL, mirth.data.ArrayStream(X, Y), method, **({"validation": HELD} | options))


def test_a_batch_that_breaks_while_the_chains_run() -> None:
    broken = Y.copy()
    broken[7] = np.inf
    with pytest.raises(ValueError, match=r"Batch \d+ of the stream: y holds 1 value"):
        infer(mirth.data.ArrayStream(X, broken))


def test_a_transformation_must_be_a_function() -> None:
    with pytest.raises(TypeError, match="transform='flip' must be a function"):
        mirth.DeepEnsemble(transform="flip")  # type: ignore[arg-type]
