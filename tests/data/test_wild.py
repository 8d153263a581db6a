"""Wild values: what is one, and that ordinary columns have none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine

from mirth.data import Standardizer
from mirth.data.wild import find_wild_values

RNG = np.random.default_rng(0)


def wild(column: np.ndarray) -> list[float]:
    found = find_wild_values(np.asarray(column, float)[:, None])
    return np.asarray(column, float)[found.is_wild[:, 0]].tolist()


@pytest.mark.parametrize("n", [20, 300, 5000])
def test_one_value_far_out(n: int) -> None:
    for draw in (RNG.normal(size=n), RNG.uniform(size=n), RNG.poisson(5, n), RNG.lognormal(size=n)):
        for value in (1e6, -1e6, 1e300):
            assert wild(np.append(draw, value)) == [value]


def test_several_cannot_hide_each_other() -> None:
    x = RNG.normal(size=200)
    assert sorted(wild(np.append(x, [1e6, 2e6, -5e5]))) == [-5e5, 1e6, 2e6]


@pytest.mark.parametrize("n", [20, 300, 20_000])
def test_ordinary_columns_have_none(n: int) -> None:
    columns = {
        "normal": RNG.normal(size=n),
        "log-normal": RNG.lognormal(0, 2, size=n),
        "Student": RNG.standard_t(3, size=n),
        "exponential": RNG.exponential(size=n),
        "Poisson": RNG.poisson(0.1, size=n),
        "rare": np.arange(n) == 0,
        "one-hot": RNG.uniform(size=n) < 0.05,
        "zero-inflated": np.where(RNG.uniform(size=n) < 0.9, 0, RNG.lognormal(5, 1, size=n)),
        "constant": np.ones(n),
        "ratings": RNG.integers(1, 6, size=n),
        "offset": 1e9 + RNG.normal(size=n),
    }
    for name, column in columns.items():
        assert not wild(column), name


@pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_iris, load_wine])
def test_real_tables_have_none(load: object) -> None:
    x, y = load(return_X_y=True)  # type: ignore[operator]
    assert not find_wild_values(x).is_wild.any()
    assert not wild(y)


def test_clean_columns_are_scaled_as_before() -> None:
    x = np.stack([RNG.normal(size=50), RNG.lognormal(size=50), np.append(RNG.normal(size=49), 1e6)])
    x = x.T
    plain, robust = Standardizer.fit(x), Standardizer.fit(x, reach=3.0)
    np.testing.assert_array_equal(plain.mean[:2], robust.mean[:2])
    np.testing.assert_array_equal(plain.scale[:2], robust.scale[:2])
    others = Standardizer.fit(x[:49, 2])
    np.testing.assert_allclose(robust.mean[2], others.mean[0])
    np.testing.assert_allclose(robust.scale[2], others.scale[0])
    assert robust.is_beyond(x).sum() == 1 and robust.is_beyond(x)[49, 2]
    scaled = robust.transform(x)
    np.testing.assert_array_equal(scaled[:, :2], plain.transform(x)[:, :2])
    assert abs(scaled).max() < 20


def test_weights_of_the_others() -> None:
    x, weights = np.append(np.arange(30.0), 1e7), np.arange(31.0) + 1
    robust = Standardizer.fit(x, weights, reach=2.0)
    expected = Standardizer.fit(x[:30], weights[:30])
    np.testing.assert_allclose(robust.mean, expected.mean)
    np.testing.assert_allclose(robust.scale, expected.scale)


@pytest.mark.parametrize(("unit", "act"), [(1e300, "divide"), (1e-200, "multiply")])
def test_scales_out_of_range_are_refused(unit: float, act: str) -> None:
    x = np.stack([RNG.normal(size=30), unit * RNG.normal(size=30)], axis=1)
    with pytest.raises(
        ValueError, match=rf"^column 1 of x has .* in row \d+.*; {act} the column by"
    ):
        Standardizer.fit(x, reach=3.0)
    with pytest.raises(ValueError, match=r"^reach="):
        Standardizer.fit(x[:, :1], reach=0.5)
