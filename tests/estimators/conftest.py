"""Shared by the tests of estimators: small tables, short fits, compilation that costs less.

Nearly all of the time of a short fit goes into compilation. So programs are compiled with few
optimisations, a cache on disk serves equal ones, and fitted estimators are shared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.estimators import BNNClassifier, BNNRegressor


@contextlib.contextmanager
def few_optimisations() -> Iterator[None]:
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


START = {"learning_rate": 0.03, "weight_decay": 1e-3, "max_epochs": 30, "batch_size": 16}


@pytest.fixture
def tiny() -> dict[str, Any]:
    """Parameters of an estimator that is fitted at once."""
    return {
        "hidden_layer_sizes": (8,),
        "method": mirth.DeepEnsemble(**START),
        "n_members": 2,
        "validation_fraction": 0.2,
        "random_state": 0,
    }


def short_parameters() -> dict[str, Any]:
    """New objects at every call: a test may set parameters of a method."""
    return {
        "hidden_layer_sizes": (8,),
        "method": mirth.MILE(
            n_warmup=200, n_samples=20, n_thinning=2, start=mirth.DeepEnsemble(**START)
        ),
        "n_members": 2,
        "validation_fraction": 0.2,
        "random_state": 0,
    }


@pytest.fixture
def short() -> dict[str, Any]:
    """The same by MILE."""
    return short_parameters()


@pytest.fixture(scope="session")
def table() -> tuple[np.ndarray, np.ndarray]:
    """80 rows, two columns of very different units, a target in units of its own."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(80, 2))
    y = 50 + 3 * (np.sin(z[:, 0]) + 0.5 * z[:, 1] + 0.1 * rng.normal(size=80))
    return z * [1.0, 1000.0] + [0.0, 5000.0], y


@pytest.fixture(scope="session")
def labels(table: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Three classes that overlap, so that certainty does not pay."""
    noise = np.random.default_rng(1).normal(size=80)
    return np.digitize(table[1] + noise, [49.0, 51.5])


@pytest.fixture(scope="session")
def regressor(table: tuple[np.ndarray, np.ndarray]) -> BNNRegressor:
    """Fitted by MILE; do not fit it again."""
    with few_optimisations():
        return BNNRegressor(**short_parameters()).fit(*table)


@pytest.fixture(scope="session")
def classifier(table: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> BNNClassifier:
    """Fitted by MILE to three classes of text; do not fit it again."""
    with few_optimisations():
        return BNNClassifier(**short_parameters()).fit(
            table[0], np.array(["low", "mid", "top"])[labels]
        )
