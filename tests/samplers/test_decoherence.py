"""What a phase at fixed settings says of L."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.evaluation.autocorrelation import effective_sample_size
from mirth.samplers import L_SOURCES, MCLMC, MILETuner
from mirth.samplers.decoherence import MIN_EFFECTIVE, memory_of

NUM_KEPT = 2000


def autoregressive(correlation: float, num_values: int, length: int = NUM_KEPT) -> np.ndarray:
    """Values that forget in (1 + c) / (1 - c) steps."""
    rng = np.random.default_rng(int(1e4 * correlation))
    x = rng.normal(size=(length, num_values))
    for i in range(1, length):
        x[i] = correlation * x[i - 1] + np.sqrt(1 - correlation**2) * x[i]
    return x


def drifting(length: int = NUM_KEPT, num_values: int = 10) -> np.ndarray:
    """Values that never come back."""
    return np.cumsum(np.random.default_rng(0).normal(size=(length, num_values)), axis=0)


def n_over_ess(values: np.ndarray) -> np.ndarray:
    return len(values) / effective_sample_size(values[None])


def test_a_drift_has_the_same_few_effective_draws_at_any_length():
    # The cause: n / ESS is then the length of the phase by another name.
    found = [memory_of(drifting(n), drifting(n)[:, :0], 1.0, 7.0) for n in (500, 2000, 8000)]
    assert all(3 < memory.ess_parameters < 8 for memory in found)
    assert [memory.L for memory in found] == [7.0] * 3
    assert {L_SOURCES[memory.source] for memory in found} == {"spread"}


def test_parameters_that_decorrelate_count_whatever_the_function_values_do():
    path = autoregressive(0.8, 10)
    for log_prob in (path[:, :0], drifting(), autoregressive(0.95, 3)):
        memory = memory_of(path, log_prob, 0.4, 1e3)
        assert L_SOURCES[memory.source] == "parameters"
        np.testing.assert_allclose(memory.L, 0.4 * n_over_ess(path).mean())
        np.testing.assert_allclose(memory.ess_parameters, NUM_KEPT / n_over_ess(path).mean())


def test_of_function_values_the_slowest_counts_and_may_lengthen_only():
    log_prob = np.concatenate([autoregressive(0.5, 3), autoregressive(0.9, 3)], axis=1)
    log_prob[:, 1] = -3.0  # never changes, so it says nothing
    slowest = np.nanmax(n_over_ess(log_prob))
    # An autoregression of order 1 with 0.9 forgets in 19 steps, one with 0.5 in 3.
    assert 12 < slowest < 30
    longer = memory_of(drifting(), log_prob, 0.4, 0.4 * slowest / 2)
    assert L_SOURCES[longer.source] == "function values"
    np.testing.assert_allclose(longer.L, 0.4 * slowest)
    np.testing.assert_allclose(longer.ess_function, NUM_KEPT / slowest)
    shorter = memory_of(drifting(), log_prob, 0.4, 0.4 * slowest * 2)
    assert L_SOURCES[shorter.source] == "spread"
    assert shorter.L == 0.4 * slowest * 2
    assert shorter.ess_function == longer.ess_function
    # One row that drifts is enough to say that the values have not decorrelated.
    log_prob[:, 1] = drifting()[:, 0]
    drifts = memory_of(drifting(), log_prob, 0.4, 0.4 * slowest / 2)
    assert drifts.ess_function < MIN_EFFECTIVE and L_SOURCES[drifts.source] == "spread"


def test_a_chain_that_stands_still_says_nothing():
    memory = memory_of(np.ones((50, 3)), np.ones((50, 2)), 0.4, 7.0)
    assert (memory.L, L_SOURCES[memory.source]) == (7.0, "spread")
    assert np.isnan([memory.ess_parameters, memory.ess_function]).all()


@pytest.mark.parametrize("measured", [True, False])
def test_the_state_says_what_was_found(measured):
    tuner = MILETuner(1000)
    one = tuner.init(MCLMC(0.5, 1.0), jnp.zeros(10))
    assert np.isnan([one.ess_parameters, one.ess_function]).all() and one.L_from == 0
    if measured:
        one = one._replace(moments=one.moments._replace(weight=jnp.ones(())))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), one)
    paths = np.stack([autoregressive(0.8, 10), drifting(), drifting()])
    log_prob = np.stack([autoregressive(c, 2) for c in (0.5, 0.95, 0.5)])
    states = tuner.end_trajectory(states, paths, 5, log_prob)
    # A first guess of L, which no phase has measured, does not pass for a spread.
    expected = ["parameters", "function values", "spread" if measured else ""]
    assert [L_SOURCES[k] for k in states.L_from] == expected
    functions = [n_over_ess(rows).max() for rows in log_prob]
    slowest = n_over_ess(paths[0]).mean(), functions[1]
    np.testing.assert_allclose(states.sampler.L[:2], 0.4 * 0.5 * 5 * np.array(slowest), rtol=1e-5)
    assert states.sampler.L[2] == one.sampler.L == 15
    np.testing.assert_allclose(states.ess_function, NUM_KEPT / np.array(functions), rtol=1e-5)
    assert states.sampler.L.dtype == states.sampler.step_size.dtype
