"""Programs that are found again: what counts as equal, what is kept, and for how long."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mirth
from mirth.core.programs import ProgramCache, Shapes, static_key
from mirth.samplers import MCLMC, MILETuner, ThreePhases


@dataclasses.dataclass(frozen=True)
class Value:
    number: Any = 1.0


@dataclasses.dataclass(frozen=True)
class Liar:
    """Says that it is equal to what differs from it."""

    name: str
    scale: float = dataclasses.field(default=1.0, compare=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Liar)

    def __hash__(self) -> int:
        return 0


class Hidden(Value):
    """Has an attribute that is no field, so that the inherited comparison does not see it."""

    def __init__(self, secret: int):
        super().__init__()
        object.__setattr__(self, "secret", secret)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    number: int


@dataclasses.dataclass
class Mutable:
    number: Any


class Plain:
    def __init__(self, number: float):
        self.number = number

    def method(self) -> None:
        """Do nothing."""


class Module(eqx.Module):
    weights: Any
    name: str = eqx.field(static=True, default="a")


ONE = Plain(1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: 1.5,
        lambda: float("nan"),
        lambda: ("a", [1, None], {"b": b"c"}),
        lambda: np.arange(3.0),
        lambda: jnp.arange(3.0),
        lambda: Value(np.arange(3)),
        lambda: Hidden(1),
        lambda: Module(jnp.ones(3)),
        lambda: ONE,
        lambda: ONE.method,
        lambda: mirth.Model(mirth.MLP((4,)), mirth.Normal(), mirth.priors.LaplacePrior(scale=0.5)),
        lambda: ThreePhases.of(MCLMC(0.1, 1.0), MILETuner(num_steps=70)),
    ],
)
def test_equal_by_value(make: Callable[[], Any]) -> None:
    key = static_key(make())
    assert key == static_key(make()) and hash(key) == hash(static_key(make()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.zeros(3), np.zeros((3, 1))),
        (np.zeros(3), np.zeros(3, np.float32)),
        (np.zeros(3, jnp.float8_e4m3fn), np.zeros(3, jnp.float8_e5m2)),
        (jnp.asarray(1.0), jnp.asarray(1.0, float)),  # of weak type and not
        (Value(1), Value(1.0)),
        (Value(np.zeros(3)), Value(np.ones(3))),
        (Liar("a"), Liar("b")),
        (Liar("a", 1.0), Liar("a", 2.0)),
        (Hidden(1), Hidden(2)),
        (Slotted(1), Slotted(1)),  # not known to be its attributes alone: by identity
        (Mutable(1), Mutable(1)),
        (Plain(1.0), Plain(1.0)),
        (Plain(1.0).method, Plain(1.0).method),
        (lambda x: x, lambda x: x),
        (Module(jnp.ones(3)), Module(jnp.ones(3), "b")),
        (Module(jnp.ones(3)), Module(jnp.zeros(3))),
        (MCLMC(0.1, 1.0), MCLMC(0.1, 1.0, integrator="leapfrog")),
        (mirth.MLP((4,)), mirth.MLP((5,))),
        (mirth.priors.NormalPrior(scale=0.5), mirth.priors.LaplacePrior(scale=0.5)),
        (jax.random.key(0), jax.random.key(1)),
    ],
)
def test_different(one: Any, other: Any) -> None:
    assert static_key(one) != static_key(other)


def test_a_change_of_what_is_known_by_identity_is_noticed() -> None:
    plain, cache = Plain(1.0), ProgramCache(4)
    make = cache.find

    def program(value: Any) -> Any:
        return jax.jit(lambda x: x * value.number)

    first = make(program, plain)
    assert make(program, plain) is first and first(1.0) == 1.0
    plain.number = 2.0
    assert make(program, plain)(1.0) == 2.0


def test_an_object_that_was_changed_inside_serves_no_other() -> None:
    """The program of the old values holds the changed object, and would be traced from it anew."""
    cache, prior = ProgramCache(4), mirth.priors.NormalPrior(scale=1.0)

    def program(prior: Any) -> Any:
        return jax.jit(lambda x: x * prior.scale)

    cache.find(program, prior)
    prior.set_params(scale=2.0)
    assert (
        cache.find(program, mirth.priors.NormalPrior(scale=1.0))(jnp.ones(3)).tolist() == [1.0] * 3
    )


def test_those_used_last_are_kept_and_others_let_go() -> None:
    cache, objects = ProgramCache(2), [Plain(float(i)) for i in range(3)]
    references = [weakref.ref(item) for item in objects]

    def make(item: Plain) -> Any:
        return jax.jit(lambda x: x + item.number)

    def use(i: int) -> None:
        assert cache.find(make, objects[i])(0.0) == i

    for i in (0, 1, 0, 2):
        use(i)
    assert len(cache) == 2
    del objects[:]
    gc.collect()
    assert [r() is not None for r in references] == [True, False, True]
    cache.clear()
    gc.collect()
    assert len(cache) == 0 and not any(r() for r in references)


def test_switches_of_the_process_count() -> None:
    switch = ["on"]
    cache = ProgramCache(4, context=lambda: switch[0])
    found = [cache.find(object) for _ in range(2)]
    assert found[0] is found[1]
    switch[0] = "off"
    assert cache.find(object) is not found[0]


def test_threads_find_the_same_program() -> None:
    cache, found = ProgramCache(8), []
    threads = [
        threading.Thread(target=lambda: found.append(cache.find(lambda_free, 1.0)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16 and len({id(program) for program in found}) == 1


def lambda_free(number: float) -> list[float]:
    return [number]


def test_shapes_give_their_tree() -> None:
    tree = {"a": jnp.ones((2, 3)), "b": (np.zeros(4, np.int32), None)}
    shapes = Shapes.of(tree)
    assert shapes == Shapes.of(shapes.tree()) != Shapes.of({"a": tree["a"], "b": None})
    assert shapes.tree()["a"].shape == (2, 3)
