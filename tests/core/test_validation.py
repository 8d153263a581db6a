from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from mirth.core.validation import check_int, check_name, check_real, find_name, nearest_name


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rleu", ["tanh", "relu", "elu"], "relu"),
        ("RELU", ["tanh", "relu"], "relu"),
        ("psmile", ["MILE", "SMILE", "pSMILE"], "pSMILE"),
        ("zzz", ["tanh", "relu"], None),
        ("relu", [], None),
    ],
)
def test_nearest_name(name: str, options: list[str], expected: str | None) -> None:
    assert nearest_name(name, options) == expected


@pytest.mark.parametrize("value", ["adaptive-sghmc", "Adaptive_SGHMC", "ADAPTIVE SGHMC"])
def test_find_name_gives_the_known_form(value: str) -> None:
    assert find_name("method", value, {"adaptive-sghmc": 1}) == "adaptive-sghmc"


@pytest.mark.parametrize(("value", "error"), [("sghmcc", ValueError), (3, TypeError)])
def test_find_name_refuses_others(value: Any, error: type) -> None:
    with pytest.raises(error, match="method="):
        find_name("method", value, ["sghmc"])


def test_check_name_accepts_any_iterable() -> None:
    assert check_name("link", "exp", iter(("softplus", "exp"))) == "exp"


def test_check_name_suggests() -> None:
    with pytest.raises(ValueError) as caught:
        check_name("activation", "rleu", ["relu", "tanh"])
    assert str(caught.value) == (
        "activation='rleu' is not known; did you mean 'relu'? Known: relu, tanh."
    )


def test_check_name_without_a_near_option() -> None:
    with pytest.raises(ValueError, match=r"^link='zzz' is not known\. Known: exp\.$"):
        check_name("link", "zzz", ["exp"])


def test_check_name_shortens_long_lists() -> None:
    with pytest.raises(ValueError, match=r"c18, c19 and 980 more\.$"):
        check_name("target", "q", [f"c{i}" for i in range(1000)])


@pytest.mark.parametrize("value", [None, 3, ["relu"]])
def test_check_name_wants_text(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^activation=.* must be a name \(str\).*Known: relu"):
        check_name("activation", value, ["relu"])


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_check_int_returns_a_python_int(value: Any) -> None:
    checked = check_int("num_chains", value, minimum=3)
    assert checked == 3
    assert type(checked) is int


@pytest.mark.parametrize("value", [True, np.True_, 3.0, np.float64(3), "3", None, np.array([3])])
def test_check_int_wants_an_integer(value: Any) -> None:
    with pytest.raises(TypeError, match="^num_chains=.* must be an integer, not "):
        check_int("num_chains", value)


def test_check_int_minimum() -> None:
    assert check_int("offset", -7) == -7
    with pytest.raises(ValueError, match=r"^num_chains=0 must be at least 1\.$"):
        check_int("num_chains", np.int64(0), minimum=1)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int8(1)])
def test_check_real_returns_a_python_float(value: Any) -> None:
    checked = check_real("step_size", value)
    assert checked == 1.0
    assert type(checked) is float


@pytest.mark.parametrize("value", [True, np.False_, "1", None, 1j, np.array([1.0])])
def test_check_real_wants_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match="^step_size=.* must be a number, not "):
        check_real("step_size", value)


@pytest.mark.parametrize(
    ("value", "limits", "interval"),
    [
        (np.nan, {}, "(-inf, inf)"),
        (np.inf, {"low": 0}, "[0, inf)"),
        (-np.inf, {"high": 0}, "(-inf, 0]"),
        (-0.1, {"low": 0}, "[0, inf)"),
        (0, {"low": 0, "low_open": True}, "(0, inf)"),
        (1.5, {"low": 0, "high": 1}, "[0, 1]"),
        (1, {"low": 0, "high": 1, "high_open": True}, "[0, 1)"),
    ],
)
def test_check_real_names_the_interval(value: float, limits: dict[str, Any], interval: str) -> None:
    text = f"fraction={float(value)!r} must be a finite number in {interval}."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        check_real("fraction", value, **limits)


def test_check_real_accepts_closed_ends() -> None:
    assert check_real("fraction", 0, low=0, high=1) == 0
    assert check_real("fraction", 1, low=0, high=1) == 1
