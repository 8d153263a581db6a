from __future__ import annotations

import numpy as np
import pytest

from mirth.core.stored import StoredArray

DRAWS = np.arange(2 * 5 * 3.0).reshape(2, 5, 3)
FLAT = DRAWS.reshape(10, 3)


def test_a_stored_array_is_read_like_an_array():
    stored = StoredArray(DRAWS)
    assert (stored.shape, stored.ndim, stored.size, stored.nbytes) == ((2, 5, 3), 3, 30, 240)
    assert len(stored) == 2 and stored.dtype == np.float64
    np.testing.assert_array_equal(stored, DRAWS)
    np.testing.assert_array_equal(stored[1, 2:4], DRAWS[1, 2:4])
    assert np.asarray(stored, dtype=np.float32).dtype == np.float32
    assert repr(stored) == "StoredArray(shape=(2, 5, 3), dtype=float64)"


@pytest.mark.parametrize(
    "index",
    [
        slice(0, 10),
        slice(3, 7),  # over the end of the first chain
        slice(5, 6),
        slice(8, 99),
        slice(4, 4),
        slice(-3, None),
        slice(1, 9, 3),
        0,
        9,
        np.array([7, 0, 0, -1]),
        np.arange(10) % 4 == 1,
    ],
)
def test_joined_draws_are_indexed_like_the_joined_array(index):
    joined = StoredArray(DRAWS).joined()
    assert joined.shape == (10, 3) and len(joined) == 10
    np.testing.assert_array_equal(joined[index], FLAT[index])
