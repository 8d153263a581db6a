"""Equal fits of a process trace and compile once; those that differ share nothing; few are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import pytest
from jax._src import monitoring  # there is no public way to count compilations

import mirth
from mirth.inference.engine.programs import MAX_KEPT, PROGRAMS
from tests.cases import slow_but

pytestmark = pytest.mark.usefixtures("unoptimised")

X = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
DATA = mirth.Dataset(X, np.sin(3 * X[:, 0]))
MODEL = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
START = mirth.DeepEnsemble(max_epochs=3)
TINY: dict[str, Any] = {"n_warmup": 20, "n_samples": 3, "n_thinning": 1, "start": START}


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Names of the events of JAX: lowerings and compilations."""
    events: list[str] = []

    def hear(name: str, seconds: float, **_: Any) -> None:
        events.append(name.rpartition("/")[2])

    monitoring.register_event_duration_secs_listener(hear)
    try:
        yield events
    finally:
        monitoring.unregister_event_duration_listener(hear)


def num_programs(events: list[str]) -> tuple[int, int]:
    """Programs that were lowered, and compiled or read from the disk."""
    return tuple(
        events.count(name) for name in ("jaxpr_to_mlir_module_duration", "backend_compile_duration")
    )


def fit(
    model: mirth.Model = MODEL,
    data: Any = DATA,
    method: Callable[..., Any] = mirth.MILE,
    num_chains: int = 2,
    seed: int = 0,
    **options: Any,
) -> mirth.Posterior:
    fields, given = dict(TINY), {}
    for name, value in options.items():
        (given if name in ("keep", "draws_dtype", "validation") else fields)[name] = value
    return mirth.infer(model, data, method(**fields), num_chains=num_chains, seed=seed, **given)


def other_data(num_rows: int = 40) -> mirth.Dataset:
    x = np.linspace(-2, 1, num_rows, dtype=np.float32)[:, None]
    return mirth.Dataset(x, np.cos(2 * x[:, 0]))


METHODS: dict[str, dict[str, Any]] = {
    "MILE": {},
    "MILE from the prior": {"start": "prior"},
    "pSMILE": {"method": mirth.SMILE, "batch_size": 8},
    "SG-MCMC": {"method": mirth.SGMCMC, "batch_size": 8},
}


# The stream and the loop of fits below always run pSMILE and MILE.
@pytest.mark.parametrize("name", slow_but(["SG-MCMC"], METHODS))
def test_a_second_equal_fit_compiles_nothing(name: str) -> None:
    options = METHODS[name]
    first = fit(**options)
    kept = len(PROGRAMS)
    with counted() as events:
        second = fit(**options)
        # Another seed and other values are arguments of the same programs, a new model is equal.
        model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
        other = fit(**options, model=model, data=other_data(), seed=1)
    assert num_programs(events) == (0, 0)
    assert len(PROGRAMS) == kept
    np.testing.assert_array_equal(first.positions(), second.positions())
    assert (other.positions() != first.positions()).any()
    PROGRAMS.clear()
    with counted() as events:
        again = fit(**options, data=other_data(), seed=1)
    assert min(num_programs(events)) > 3  # the counter sees what is compiled
    np.testing.assert_array_equal(again.positions(), other.positions())


@pytest.mark.slow
def test_a_second_equal_fit_of_a_stream_compiles_nothing() -> None:
    options: dict[str, Any] = {"method": mirth.SMILE, "batch_size": 8, "validation": other_data(10)}
    first = fit(data=mirth.data.ArrayStream(X, DATA.y), **options)
    with counted() as events:
        second = fit(data=mirth.data.ArrayStream(X, DATA.y), **options)
    assert num_programs(events) == (0, 0)
    np.testing.assert_array_equal(first.positions(), second.positions())


class Twice(mirth.MLP):
    """Another network with the same fields."""

    def apply(self, params: Any, x: Any) -> Any:
        return super().apply(params, 2 * x)

    def sum_log_likelihood(self, likelihood: Any, params: Any, shared: Any, x: Any, *y: Any) -> Any:
        return super().sum_log_likelihood(likelihood, params, shared, 2 * x, *y)


def linear(scale: float) -> mirth.networks.FunctionalNetwork:
    return mirth.networks.FunctionalNetwork(
        init=lambda key, x: {"w": jax.random.normal(key, (x.shape[1], 2))},
        apply=lambda params, x: scale * x @ params["w"],
    )


@dataclasses.dataclass(frozen=True, eq=True)
class Features:
    """A network with an array, which its comparison leaves out."""

    centres: Any = dataclasses.field(compare=False)

    def init(self, key: Any, x: Any) -> Any:
        return {"w": jax.random.normal(key, (self.centres.size, 2))}

    def apply(self, params: Any, x: Any) -> Any:
        return jax.numpy.tanh(x - self.centres) @ params["w"]


def of(network: Any, **parts: Any) -> mirth.Model:
    return mirth.Model(network, **({"likelihood": mirth.Normal()} | parts))


PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prior": ({}, {"model": of(MODEL.network, prior=mirth.priors.NormalPrior(scale=0.5))}),
    "network": ({}, {"model": of(Twice((4,), num_outputs=2))}),
    "functions": ({"model": of(linear(1.0))}, {"model": of(linear(3.0))}),
    "arrays": (
        {"model": of(Features(np.linspace(-1, 1, 3)))},
        {"model": of(Features(np.linspace(0, 2, 3)))},
    ),
    "step size": ({}, {"step_size_init": 2e-3}),
    "learning rate": ({}, {"start": mirth.DeepEnsemble(max_epochs=3, learning_rate=0.1)}),
    "energy target": ({}, {"tuner": mirth.samplers.MILETuner(energy_variance_end=0.5)}),
    "what is kept": ({}, {"keep": lambda params: params["network"][0]}),
    "type of the draws": ({}, {"keep": mirth.Keep(dtype="float16")}),
    "rows": ({}, {"data": other_data(36)}),
    "chains": ({}, {"num_chains": 3}),
}


@pytest.mark.parametrize("name", slow_but(["functions", "learning rate"], PAIRS))
def test_what_differs_shares_no_program(name: str) -> None:
    """After another fit a fit gives what it gives in a process of its own."""
    one, other = PAIRS[name]
    PROGRAMS.clear()
    alone = fit(**other)
    PROGRAMS.clear()
    fit(**one)
    before = len(PROGRAMS)
    after = fit(**other)
    assert len(PROGRAMS) > before
    for a, b in zip(jax.tree.leaves(alone.draws), jax.tree.leaves(after.draws), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loop_of_fits_does_not_grow() -> None:
    fit()
    entries = len(PROGRAMS)
    with counted() as events:
        for seed in range(30):
            fit(seed=seed, data=other_data())
            assert len(PROGRAMS) == entries
    assert num_programs(events) == (0, 0)


@pytest.mark.parametrize(
    ("method", "num_entries"),
    [(mirth.DeepEnsemble(max_epochs=1), 1), pytest.param(None, 2, marks=pytest.mark.slow)],
    ids=["ensemble", "chains"],
)
def test_the_programs_that_are_kept_are_few(
    monkeypatch: pytest.MonkeyPatch, method: Any, num_entries: int
) -> None:
    """Networks known by identity, each with programs of its own, are let go with them."""
    assert PROGRAMS.max_kept == MAX_KEPT  # an entry holds some 25 MiB of compiled code
    monkeypatch.setattr(PROGRAMS, "max_kept", num_entries)
    networks = []
    for i in range(3):
        network = linear(1.0 + i)
        networks.append(weakref.ref(network))
        if method is None:
            fit(model=of(network), n_warmup=0)
        else:
            mirth.infer(of(network), DATA, method, num_chains=1)
        assert len(PROGRAMS) == num_entries
        del network
    gc.collect()
    assert [network() is not None for network in networks] == [False, False, True]


def test_predictions_of_new_models_do_not_keep_them() -> None:
    from mirth.prediction.blocks import _PROGRAMS

    for i in range(_PROGRAMS.max_kept + 2):
        network = linear(1.0 + i)
        if i == 0:
            first = weakref.ref(network)
        draws = {"network": {"w": np.ones((1, 1, 1, 2), np.float32)}}
        mean = mirth.make_predictive(of(network), draws, X[:3]).mean()
        np.testing.assert_allclose(mean, (1 + i) * X[:3, 0], rtol=1e-6)
        del network
    gc.collect()
    assert len(_PROGRAMS) == _PROGRAMS.max_kept and first() is None


def test_fits_in_threads_share_programs_and_give_the_same() -> None:
    PROGRAMS.clear()
    with ThreadPoolExecutor(3) as pool:
        fits = [pool.submit(fit, seed=seed) for seed in (0, 1, 0)]
        one, other, same = (future.result().positions() for future in fits)
    assert len(PROGRAMS) == 2
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(other, fit(seed=1).positions())
