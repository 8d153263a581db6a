from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mirth.data import Standardizer

EPS32 = float(np.finfo(np.float32).eps)


def columns(num_rows: int = 200) -> Any:
    rng = np.random.default_rng(0)
    return rng.normal([3.0, -2.0, 1e4], [0.5, 20.0, 1e-2], size=(num_rows, 3))


def test_training_columns_get_mean_zero_and_unit_deviation() -> None:
    x = columns()
    z = Standardizer.fit(x).transform(x)
    assert z.dtype == np.float32
    # each value is rounded to float32, |z| < 4, so means are off by less than 4 roundings
    assert np.abs(z.mean(axis=0, dtype=np.float64)).max() < 4 * EPS32
    assert np.abs(z.std(axis=0, dtype=np.float64) - 1).max() < 4 * EPS32


def test_statistics_are_float64_also_for_float32_input() -> None:
    x = columns().astype(np.float32)
    scaler = Standardizer.fit(x)
    assert scaler.mean.dtype == scaler.scale.dtype == np.float64
    np.testing.assert_allclose(scaler.mean, x.astype(np.float64).mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(scaler.scale, x.astype(np.float64).std(axis=0), rtol=1e-10)


def test_inverse_undoes_transform() -> None:
    x = columns()
    scaler = Standardizer.fit(x)
    back = scaler.inverse(scaler.transform(x))
    assert back.dtype == np.float32
    # one rounding of z, worth eps * |z| * scale, and one of the result, eps * |x|
    assert (np.abs(back - x) <= EPS32 * (4 * scaler.scale + np.abs(x))).all()


def test_weights_count_rows_repeatedly() -> None:
    x = columns(20)
    repeats = np.arange(20) % 4
    weighted = Standardizer.fit(x, weights=repeats)
    repeated = Standardizer.fit(np.repeat(x, repeats, axis=0))
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-13)
    np.testing.assert_allclose(weighted.scale, repeated.scale, rtol=1e-9)
    assert not np.allclose(weighted.mean, Standardizer.fit(x).mean)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, int])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e9])
def test_constant_columns_become_zero(value: float, dtype: Any) -> None:
    x = np.full((1001, 1), value, dtype=dtype)
    for weights in (None, np.full(1001, 1 / 1001)):
        scaler = Standardizer.fit(x, weights)
        assert scaler.scale.tolist() == [1.0]
        assert (scaler.transform(x) == 0).all()
        assert np.array_equal(scaler.inverse(scaler.transform(x)), x.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, 1e9, 1e20])
def test_rounding_noise_is_not_blown_up(value: float, dtype: Any) -> None:
    up = np.nextafter(dtype(value), dtype(np.inf))
    x = np.where(np.arange(500)[:, None] % 2 == 0, dtype(value), up)
    assert x.std() > 0 and x.dtype == dtype
    z = Standardizer.fit(x).transform(x)
    # the values are one step apart, so their deviation is half a step and becomes 4 epsilons; in
    # float64 the mean itself is rounded to a value, which puts the other one a full step away
    assert np.abs(z).max() <= 8 * np.finfo(dtype).eps


def test_small_spread_on_a_large_offset_is_kept_in_float64() -> None:
    x = 1.7e9 + np.arange(100.0)[:, None]  # seconds: a relative spread of 2e-8
    z = Standardizer.fit(x).transform(x)
    assert abs(float(z.std()) - 1) < 1e-6
    in_float32 = Standardizer.fit(x.astype(np.float32))  # one float32 is 128 seconds wide
    z = in_float32.transform(x.astype(np.float32)).astype(np.float64)
    assert 0 < z.std() <= 4 * EPS32 * (1 + EPS32)


def test_one_row_is_constant() -> None:
    assert Standardizer.fit(np.array([[2.0, 3.0]])).scale.tolist() == [1.0, 1.0]


def test_targets_are_one_column() -> None:
    y = np.array([1.0, 2.0, 6.0])
    scaler = Standardizer.fit(y)
    assert scaler.mean.shape == scaler.scale.shape == (1,)
    z = scaler.transform(y)
    assert z.shape == (3,)
    assert np.array_equal(scaler.transform(y[:, None])[:, 0], z)
    assert np.array_equal(scaler.transform(np.stack([y, y])[..., None])[1, :, 0], z)
    np.testing.assert_allclose(scaler.inverse(z), y, rtol=2 * EPS32)


def test_shapes_that_do_not_fit() -> None:
    for bad in (np.zeros((0, 2)), np.zeros((2, 2, 2)), np.array(1.0)):
        with pytest.raises(ValueError, match=r"x must have shape \(N, features\) or \(N,\)"):
            Standardizer.fit(bad)
    three, one = Standardizer.fit(columns()), Standardizer.fit(columns()[:, 0])
    for scaler in (three, one):
        with pytest.raises(ValueError, match=r"has shape \(5, 2\), but .* [13] column"):
            scaler.transform(np.zeros((5, 2)))
        with pytest.raises(ValueError, match="its last axis must have that length"):
            scaler.inverse(np.zeros((5, 2)))
