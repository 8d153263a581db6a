"""The code of docs/extending.md runs, and its samplers sample what they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S):
        exec(code, found)
    return found


def test_the_page_runs(names: dict[str, Any]) -> None:
    assert (names["lower"] < names["upper"]).all()
    assert names["posterior"].num_draws == 60
    assert (np.ptp(names["posterior"].positions(), axis=1) > 0).any()
    rates = names["langevin"].posterior_.tuning.step_size
    assert ((rates > 1e-3) & (rates < 1)).all()


@pytest.mark.parametrize("name", ["walk", "tuned"])
def test_its_samplers_leave_a_normal_alone(names: dict[str, Any], name: str) -> None:
    """Two dimensions, variances 1 and 4, by the kernels alone."""
    import jax
    import jax.numpy as jnp

    variances = jnp.array([1.0, 4.0])
    kernel = {"walk": names["RandomWalk"](1.5), "tuned": names["MALA"](1.2)}[name]

    def logdensity(x: Any) -> Any:
        return -0.5 * jnp.sum(x**2 / variances)

    def chain(key: Any) -> Any:
        state = kernel.init(jnp.sqrt(variances) * jax.random.normal(key, (2,)), logdensity, key)

        def one(state: Any, key: Any) -> Any:
            state = kernel.step(key, state, logdensity)[0]
            return state, state.position

        return jax.lax.scan(one, state, jax.random.split(key, 500))[1]

    draws = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(0), 400)))
    means = draws.mean(axis=1)
    error = means.std(axis=0) / np.sqrt(400)
    assert (np.abs(means.mean(axis=0)) < 4 * error).all()
    squares = (draws**2).mean(axis=1)
    error = squares.std(axis=0) / np.sqrt(400)
    assert (np.abs(squares.mean(axis=0) - variances) < 4 * error).all()
