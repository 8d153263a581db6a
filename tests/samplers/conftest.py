"""Shared by the tests of samplers."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for one test, to tell an error of a formula from rounding."""
    with jax.enable_x64(True):
        yield
