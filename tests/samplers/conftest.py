"""Lets the tests of this folder import the shared targets, wherever pytest is started."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture
def x64():
    """Double precision for one test, to tell an error of a formula from rounding."""
    with jax.enable_x64(True):
        yield
