from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mirth.core.config import Configurable
from mirth.core.validation import check_real


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Configurable):
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_real("scale", self.scale, low=0.0, low_open=True)


@dataclasses.dataclass(kw_only=True)
class Outer(Configurable):
    rate: float = 0.1
    inner: Any = dataclasses.field(default_factory=Inner)
    derived: int = dataclasses.field(init=False, default=0)


def test_parameters_by_name():
    outer = Outer(rate=0.2)
    assert outer.get_params(deep=False) == {"rate": 0.2, "inner": Inner()}
    assert outer.get_params() == {"rate": 0.2, "inner": Inner(), "inner__scale": 1.0}


def test_a_class_as_value_has_no_parameters_of_its_own():
    assert Outer(inner=Inner).get_params() == {"rate": 0.1, "inner": Inner}


def test_set_returns_the_object_itself():
    outer = Outer()
    assert outer.set_params(rate=0.3, inner__scale=2.0) is outer
    assert (outer.rate, outer.inner.scale) == (0.3, 2.0)
    assert outer.set_params() is outer


def test_a_new_object_is_set_before_its_parameters():
    # In the order of the call, the parameter was set on the old object and lost.
    old = Inner()
    outer = Outer(inner=old).set_params(inner__scale=4.0, inner=Inner(scale=3.0))
    assert (outer.inner.scale, old.scale) == (4.0, 1.0)


def test_unknown_names():
    with pytest.raises(
        ValueError,
        match=r"^Outer has no parameter 'rato'; did you mean 'rate'\? Known: rate, inner\.$",
    ):
        Outer().set_params(rato=1.0)
    with pytest.raises(ValueError, match=r"^Inner has no parameter 'scalee'; did you mean 'scale'"):
        Outer().set_params(inner__scalee=1.0)
    with pytest.raises(ValueError, match="^Outer has no parameter 'derived'"):
        Outer().set_params(derived=1)


def test_new_values_are_checked():
    with pytest.raises(ValueError, match=r"^scale=-1\.0 must be"):
        Inner().set_params(scale=-1.0)
    with pytest.raises(ValueError, match=r"^scale=-1\.0 must be"):
        Outer().set_params(inner__scale=-1.0)


def test_scikit_learn_can_clone_it():
    from sklearn.base import clone

    outer = Outer(rate=0.5, inner=Inner(scale=2.0))
    copy = clone(outer)
    assert copy == outer and copy is not outer and copy.inner is not outer.inner
    copy.set_params(inner__scale=9.0)
    assert outer.inner.scale == 2.0
