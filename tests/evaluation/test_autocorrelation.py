from __future__ import annotations

import numpy as np
import pytest

from mirth.evaluation.autocorrelation import effective_sample_size


def autoregressive(correlation, shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    for i in range(1, shape[1]):
        x[:, i] = correlation * x[:, i - 1] + np.sqrt(1 - correlation**2) * x[:, i]
    return x


def test_a_large_offset_in_single_precision_changes_nothing_but_rounding():
    x = autoregressive(0.7, (1, 2000)).astype(np.float32)
    shifted = (x + np.float32(1e4)).astype(np.float32)
    np.testing.assert_allclose(effective_sample_size(shifted), effective_sample_size(x), rtol=0.02)


def test_values_do_not_influence_each_other():
    x = autoregressive(0.7, (2, 500, 2, 3))
    one = effective_sample_size(x[:, :, 1, 2])
    np.testing.assert_allclose(effective_sample_size(x)[1, 2], one, rtol=1e-12)
    x[:, :, 0, 0] = np.nan
    x[:, :, 0, 1] = 5.0
    size = effective_sample_size(x)
    assert size.shape == (2, 3)
    assert np.isnan(size[0, 0]) and np.isnan(size[0, 1])
    np.testing.assert_allclose(size[1, 2], one, rtol=1e-12)


def test_three_draws_are_too_few():
    with pytest.raises(ValueError, match=r"shape \(1, 3\); .* at least 4 draws"):
        effective_sample_size(np.zeros((1, 3)))
