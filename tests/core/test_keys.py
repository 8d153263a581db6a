from __future__ import annotations

import jax
import numpy as np

from mirth.core.keys import Purpose, chain_keys, purpose_key


def data(keys):
    """The bits of one or several keys, one row each."""
    return np.asarray(jax.random.key_data(keys)).reshape(-1, 2)


def test_no_two_of_seed_purpose_and_chain_share_a_key():
    keys = [
        data(key)
        for seed in (0, 1, 2)
        for purpose in Purpose
        for key in (purpose_key(seed, purpose), chain_keys(seed, purpose, 4))
    ]
    rows = np.concatenate(keys)
    assert len(np.unique(rows, axis=0)) == len(rows) == 3 * len(Purpose) * 5


def test_purposes_have_distinct_numbers():
    # An alias would be dropped from the iteration, and two purposes would share their keys.
    assert len(Purpose) == len(Purpose.__members__)


def test_a_chain_keeps_its_key_in_a_larger_ensemble():
    few, many = (data(chain_keys(7, Purpose.SAMPLING, n)) for n in (3, 8))
    np.testing.assert_array_equal(few, many[:3])


def test_keys_do_not_change_between_releases():
    # A stored run can be continued, and a published seed repeated, only while these stay.
    np.testing.assert_array_equal(
        data(chain_keys(0, Purpose.TUNING, 2)),
        [[3223668805, 2222728495], [2060067018, 3241019684]],
    )
