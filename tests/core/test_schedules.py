from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.core.schedules import Constant, Cosine, Cyclical, Linear

EPS = float(np.finfo(np.float32).eps)
ALL = [
    Constant(0.3),
    Linear(0.1, 1e-4),
    Linear(1e-4, 0.1),
    Cosine(0.1, 1e-4),
    Cyclical(0.1, 1e-4, num_cycles=3, exploration_fraction=0.25),
]
ids = [f"{type(schedule).__name__} {i}" for i, schedule in enumerate(ALL)]


def values(schedule, num_steps):
    return np.array([schedule(step, num_steps) for step in range(num_steps)])


@pytest.mark.parametrize("schedule", ALL, ids=ids)
def test_compiled_code_with_traced_steps_and_numbers_gives_the_same(schedule):
    compiled = jax.jit(lambda schedule, step, num_steps: schedule(step, num_steps))
    inside = np.array([compiled(schedule, step, 20) for step in range(20)])
    np.testing.assert_allclose(inside, values(schedule, 20), rtol=10 * EPS)
    doubled = jax.tree.map(lambda leaf: 2 * leaf if isinstance(leaf, float) else leaf, schedule)
    compiled(doubled, 3, 21)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("schedule", ALL, ids=ids)
@pytest.mark.parametrize("num_steps", [3, 7, 1000])
def test_values_stay_between_the_two_ends(schedule, num_steps):
    steps = jnp.arange(num_steps + 5)  # and after the last step
    found = np.asarray(jax.vmap(lambda step: schedule(step, num_steps))(steps))
    ends = [getattr(schedule, name, 0.3) for name in ("start", "end")]
    assert found.min() >= min(ends) * (1 - 4 * EPS)
    assert found.max() <= max(ends) * (1 + 4 * EPS)


def test_constant():
    np.testing.assert_array_equal(values(Constant(0.3), 4), np.full(4, np.float32(0.3)))


def test_linear():
    np.testing.assert_allclose(values(Linear(0.1, 0.5), 9), np.linspace(0.1, 0.5, 9), rtol=10 * EPS)


def test_cosine():
    found = values(Cosine(1.0, 0.2), 101)
    expected = 0.6 + 0.4 * np.cos(np.pi * np.arange(101) / 100)
    np.testing.assert_allclose(found, expected, rtol=10 * EPS)
    assert found[0] == 1
    np.testing.assert_allclose(found[[50, 100]], [0.6, 0.2], rtol=4 * EPS)


@pytest.mark.parametrize("schedule", [Linear(0.3, 0.1), Cosine(0.3, 0.1)])
def test_one_step_has_the_first_value(schedule):
    assert schedule(0, 1) == np.float32(0.3)


@pytest.mark.parametrize("num_steps", [40, 38])
def test_cyclical_is_the_formula_of_the_paper(num_steps):
    # Zhang et al., equation 1, for k = 1, ..., K; "num_steps" = 38 is no multiple of 4.
    schedule = Cyclical(0.2, 1e-12, num_cycles=4, exploration_fraction=0.3)
    length = np.ceil(num_steps / 4)
    share = (np.arange(1, num_steps + 1) - 1) % length / length
    # 1 + cos loses the digits of a small value, here 1 % of the largest: 100 roundings.
    np.testing.assert_allclose(
        values(schedule, num_steps), 0.1 * (np.cos(np.pi * share) + 1), rtol=100 * EPS
    )
    sampling = [bool(schedule.is_sampling(step, num_steps)) for step in range(num_steps)]
    np.testing.assert_array_equal(sampling, share >= 0.3)


def test_each_cycle_starts_at_the_top_and_explores_first():
    schedule = Cyclical(0.2, 0.1, num_cycles=5, exploration_fraction=0.4)
    found = values(schedule, 50)
    np.testing.assert_array_equal(np.flatnonzero(found == found[0]), [0, 10, 20, 30, 40])
    sampling = np.array([schedule.is_sampling(step, 50) for step in range(50)])
    np.testing.assert_array_equal(sampling.reshape(5, 10), [[False] * 4 + [True] * 6] * 5)
    assert Cyclical(0.2, 0.1, exploration_fraction=0.0).is_sampling(0, 50)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(0.0), r"value=0.0 .*\(0, inf\)"),
        (lambda: Linear(0.1, 0.0), r"end=0.0"),
        (lambda: Linear(-0.1, 0.1), r"start=-0.1"),
        (lambda: Cosine(0.1, -1e-3), r"end=-0.001"),
        (lambda: Cosine(float("nan"), 0.1), r"start=nan"),
        (lambda: Cyclical(0.1, 0.0), r"end=0.0"),
        (lambda: Cyclical(0.1, 0.01, num_cycles=0), r"num_cycles=0 must be at least 1"),
        (lambda: Cyclical(0.1, 0.01, exploration_fraction=1.0), r"exploration_fraction=1.0"),
        (lambda: Cyclical(0.1, 0.01, num_cycles=8)(0, 7), r"num_steps=7 must be at least 8"),
        (lambda: Linear(0.1, 0.01)(0, 0), r"num_steps=0 must be at least 1"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_whole_number_of_cycles_is_asked_for():
    with pytest.raises(TypeError, match="num_cycles=2.5 must be an integer"):
        Cyclical(0.1, 0.01, num_cycles=2.5)
