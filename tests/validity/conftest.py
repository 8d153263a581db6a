"""Shared by the tests of validity: exact posteriors and simulations of the benchmarks."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def exact() -> Iterator[ModuleType]:
    # The folder is no package: its files import each other as scripts do.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("exact_posterior")


@pytest.fixture(scope="session")
def simulations(exact: ModuleType) -> ModuleType:
    return importlib.import_module("simulations")
