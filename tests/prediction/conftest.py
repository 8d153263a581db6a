"""What the tests of both kinds of predictive distribution share."""

from __future__ import annotations

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_draws():
    """Give standard Normal parameters for a model, without compiling its initialisation."""

    def draw(model, x, shape=(2, 5)):
        rng = np.random.default_rng(0)
        like = jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))
        return jax.tree.map(
            lambda leaf: rng.normal(size=(*shape, *leaf.shape)).astype(np.float32), like
        )

    return draw
