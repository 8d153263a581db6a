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


@dataclasses.dataclass(kw_only=True)
class Checked(Outer):
    def __post_init__(self) -> None:
        check_real("rate", self.rate, low=0.0)


@dataclasses.dataclass(kw_only=True)
class Ordered(Configurable):
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_real("low", self.low, high=self.high)


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


@pytest.mark.parametrize(
    "params",
    [
        {"inner__scale": 2.0, "rato": 1.0},
        {"rate": 0.9, "inner__scale": -1.0},
        {"inner__scale": 2.0, "rate": -1.0},
    ],
    ids=["name", "inner value", "own value"],
)
def test_a_refused_call_changes_nothing(params: dict[str, Any]) -> None:
    """Values used to be set first and checked afterwards, so a bad one stayed."""
    outer = Checked(rate=0.2)
    with pytest.raises(ValueError, match=r"rato|scale=-1\.0|rate=-1\.0"):
        outer.set_params(**params)
    assert outer == Checked(rate=0.2)


def test_other_owners_of_an_inner_object_keep_theirs() -> None:
    shared = Inner()
    one, two = Outer(inner=shared), Outer(inner=shared)
    one.set_params(inner__scale=3.0)
    assert (one.inner.scale, two.inner.scale, shared.scale) == (3.0, 1.0, 1.0)


def test_values_that_are_only_right_together_may_be_set_together() -> None:
    outer = Outer(inner=Ordered())
    outer.set_params(inner__low=5.0, inner__high=6.0)
    assert (outer.inner.low, outer.inner.high) == (5.0, 6.0)


def test_scikit_learn_can_clone_it():
    from sklearn.base import clone

    outer = Outer(rate=0.5, inner=Inner(scale=2.0))
    copy = clone(outer)
    assert copy == outer and copy is not outer and copy.inner is not outer.inner
    copy.set_params(inner__scale=9.0)
    assert outer.inner.scale == 2.0
