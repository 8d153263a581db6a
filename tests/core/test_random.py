from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.random import threefry_2x32

from mirth.core.random import fold_in, standard_normals, threefry

NUM = 100_000


@pytest.fixture(scope="module")
def numbers():
    return np.asarray(jax.jit(lambda key: standard_normals(key, 3, (NUM,)))(jax.random.key(5)))


def test_the_cipher_is_that_of_jax():
    key = jnp.array([0x13198A2E, 0x03707344], jnp.uint32)
    counters = jnp.arange(40, dtype=jnp.uint32) * jnp.uint32(0x243F6A88)
    ours = jnp.concatenate(threefry(key, counters[:20], counters[20:]))
    np.testing.assert_array_equal(ours, threefry_2x32(key, counters))


@pytest.mark.parametrize("data", [0, 1, 2**31, 2**32 - 1])
def test_folding_in_is_that_of_jax(data):
    key, number = jax.random.key(7), np.uint32(data)
    assert fold_in(key, number) == jax.random.fold_in(key, number)


def test_folding_in_under_vmap_and_with_a_traced_step():
    keys, steps = jax.random.split(jax.random.key(0), 3), jnp.arange(3)
    ours, theirs = (jax.jit(jax.vmap(f))(keys, steps) for f in (fold_in, jax.random.fold_in))
    assert np.all(ours == theirs)


def test_other_generators_are_left_to_jax():
    key = jax.random.key(0, impl="rbg")
    assert fold_in(key, 3) == jax.random.fold_in(key, 3)
    ours = standard_normals(key, 2, (4,))
    np.testing.assert_array_equal(ours, jax.random.normal(key, (2, 4)))


def test_double_precision_is_left_to_jax():
    with jax.enable_x64(True):
        (numbers,) = standard_normals(jax.random.key(0), 1, (3,), jnp.float64)
        assert numbers.dtype == jnp.float64
        expected = jax.random.normal(jax.random.key(0), (1, 3), jnp.float64)[0]
        np.testing.assert_array_equal(numbers, expected)


def test_numbers_are_standard_normal(numbers):
    assert numbers.dtype == np.float32 and np.isfinite(numbers).all()
    for array in numbers:
        assert scipy.stats.kstest(array, "norm").pvalue > 1e-3
        # Moments with the standard errors of a Normal: var z^k / n.
        for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            error = np.mean(array.astype(float) ** power) - expected
            assert abs(error) < 4 * np.sqrt(variance / NUM)
    tail = np.mean(np.abs(numbers) > 3)
    expected = 2 * scipy.stats.norm.sf(3)
    assert abs(tail - expected) < 4 * np.sqrt(expected / numbers.size)


def test_numbers_are_independent(numbers):
    # The first two are the two words of the same blocks.
    pairs = [(numbers[i], numbers[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    pairs += [(array[:-1], array[1:]) for array in numbers]
    pairs += [(a**2, b**2) for a, b in pairs]
    largest = max(abs(np.corrcoef(a, b)[0, 1]) for a, b in pairs)
    assert largest < 4 / np.sqrt(NUM)


def test_numbers_depend_on_the_key_and_have_the_shape():
    drawn = [standard_normals(jax.random.key(seed), 2, (3, 5)) for seed in (0, 1)]
    assert np.shape(drawn) == (2, 2, 3, 5)
    assert len(np.unique(drawn)) == 60
    assert [a.shape for a in standard_normals(jax.random.key(0), 2, ())] == [(), ()]
    assert standard_normals(jax.random.key(0), 1, (0, 4))[0].shape == (0, 4)


def test_the_first_array_does_not_depend_on_the_number_of_arrays():
    one, two = (standard_normals(jax.random.key(0), num, (6,))[0] for num in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_every_word_gives_a_finite_number():
    from mirth.core.random import _to_normal

    words = jnp.array([0, 1, 2**9 - 1, 2**31, 2**32 - 1], jnp.uint32)
    numbers = np.asarray(_to_normal(words))
    assert np.isfinite(numbers).all() and np.all(np.diff(numbers) >= 0)
    np.testing.assert_allclose(numbers[[0, -1]], [-5.42, 5.17], atol=0.3)
