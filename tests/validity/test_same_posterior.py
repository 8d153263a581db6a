"""What must not change the posterior: placement, streams, guard; and the precision of a path.

Each is compared with the exact posterior, at the bounds of the plain run in
``test_exact_posterior.py``. That draws agree to rounding, step by step and over a few steps, is
tested with chains, streams and kernels.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mirth
from mirth.core.types import Batch
from mirth.inference.chains.log_density import LogDensity
from mirth.inference.chains.sources import AllRows
from mirth.inference.rows import features_first
from mirth.samplers import MCLMC

K_SIGMA = 4.0
LARGEST_BIAS = 1.15  # of a variance, as a factor
BUDGET = {"n_warmup": 3000, "n_samples": 400, "n_thinning": 10, "batch_size": 30}
VARIANTS: dict[str, dict[str, Any]] = {
    "vectorised": {"sequential": False},
    "stream": {"streamed": True},
    "without guard": {"guarded": False},
    "many resets": {"reset_probability": 0.9},
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "vectorised" else pytest.mark.slow) for n in VARIANTS],
)
def test_the_posterior_is_the_exact_one(name: str, exact: ModuleType) -> None:
    target, settings = exact.ExactPosterior(300, 4, 3.0), dict(VARIANTS[name])
    devices = tuple(jax.local_devices()[:1])
    placement = mirth.Placement(devices, settings.pop("sequential", True))
    data: Any = target.data
    validation = None
    if settings.pop("streamed", False):
        # The rows of a stream are all conditioned on; those held back only watch.
        validation, data = data.take(np.arange(30)), mirth.data.ArrayStream(data.x, data.y)
    posterior = mirth.infer(
        target.model,
        data,
        mirth.SMILE(**BUDGET, **settings),
        num_chains=8,
        validation=validation,
        run=mirth.Run(placement=placement),
    )
    found = target.judge(posterior.positions())
    assert found.variance_error.max() < 0.15  # without this a chain that hardly moves would pass
    assert np.all(np.abs(found.mean) < K_SIGMA * found.mean_error), found
    allowed = K_SIGMA * found.variance_error / found.variance + np.log(LARGEST_BIAS)
    assert np.all(np.abs(np.log(found.variance)) < allowed), found


def test_a_path_in_single_precision_is_that_in_double(exact: ModuleType) -> None:
    """Without refreshment, so that no random number decides; from one exact draw."""
    target = exact.ExactPosterior(20_000, 4, 3.0)
    first, _ = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], target.draws(1)))
    width = np.sqrt(np.linalg.eigvalsh(target.covariance)).min()

    def path(dtype: Any) -> np.ndarray:
        rows = Batch(jnp.asarray(target.data.x, dtype), jnp.asarray(target.data.y, dtype))
        stored, start = features_first(rows), jnp.asarray(first, dtype)
        unravel = ravel_pytree(target.unravel(start))[1]
        kernel = MCLMC(float(width), np.inf)

        @jax.jit
        def run(start: Any, stored: Any) -> Any:
            rows = AllRows(None).log_likelihood(target.model, stored, jax.random.key(0), 0, 0)
            density = LogDensity(target.model.log_prior, rows, unravel)
            momentum = jnp.ones_like(start) / np.sqrt(start.size)
            state = kernel.init(start, density, jax.random.key(0))._replace(momentum=momentum)

            def step(state: Any, _: Any) -> Any:
                state = kernel.step(jax.random.key(0), state, density)[0]
                return state, state.position

            return jax.lax.scan(step, state, length=100)[1]

        return np.asarray(run(start, stored), float)

    single = path(jnp.float32)
    with jax.enable_x64(True):
        double = path(jnp.float64)
    away = np.abs(target.standardised(double) - target.standardised(np.asarray(first, float)))
    assert away.max() > 1  # a posterior deviation
    error = np.abs(target.standardised(single) - target.standardised(double)).max(axis=1)
    # A position is rounded once a step; in the narrowest direction that is most deviations.
    rounding = np.finfo(np.float32).eps / 2 * np.abs(double).max() / width
    assert error.max() < 100 * rounding < 0.01
