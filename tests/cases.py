"""Cases of a table of tests: the most telling ones always run, all of them with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(always: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """Give cases to ``parametrize``: those in ``always`` run by default, the others are slow."""
    always, cases = list(always), list(cases)
    unknown = [case for case in always if case not in cases]
    if unknown:
        raise ValueError(f"{unknown} are not among the cases {cases}")
    return [pytest.param(case, marks=[] if case in always else pytest.mark.slow) for case in cases]
