"""Adaptations that go on at half the step size that the steps have, with the L that they have."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.core.schedules import Constant
from mirth.samplers import (
    MCLMC,
    SGHMC,
    SGLD,
    Adaptation,
    EnergyGuard,
    MILETuner,
    NoisyEnergy,
    ReleasedGuard,
    ReleasedNoisyEnergy,
    Scheduled,
    StochasticMCLMC,
    ThreePhases,
)

CHAINS, DIMENSION = 3, 16
TUNER = MILETuner(num_steps=100)


def states_of(adaptation: Adaptation) -> Any:
    """States of all chains as a run keeps them."""
    one = adaptation.init(jnp.zeros(DIMENSION))
    return jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * CHAINS), one)


def noisy(
    L: Any = None, max_turn: float | None = 0.2, step_size: float = 0.4, rank: int = 0
) -> NoisyEnergy:
    kernel = StochasticMCLMC(step_size, jnp.array(jnp.inf) if L is None else L)
    factor = 1.0 if L is None else None
    return NoisyEnergy(
        kernel, 100, TUNER, "energy", EnergyGuard(), True, 100.0, 10, max_turn, factor, rank
    )


def check(adaptation: Adaptation, states: Any) -> None:
    before = adaptation.tuned(states)
    found = adaptation.halved(states)
    assert found is not None
    other, halved = found
    after = other.tuned(halved)
    np.testing.assert_allclose(after.step_size, before.step_size / 2, rtol=1e-6)
    np.testing.assert_allclose(after.L, before.L, rtol=1e-6)
    assert jax.tree.structure(halved) == jax.tree.structure(states)
    for leaf, was in zip(jax.tree.leaves(halved), jax.tree.leaves(states), strict=True):
        assert np.asarray(leaf).dtype == was.dtype and np.shape(leaf) == np.shape(was)


def test_three_phases() -> None:
    adaptation = ThreePhases.of(MCLMC(0.4, 3.0), TUNER)
    check(adaptation, states_of(adaptation))


@pytest.mark.parametrize("max_turn", [None, 0.2])
@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("L", [None, 3.0])
def test_noisy_energy(L: float | None, rank: int, max_turn: float | None) -> None:
    """The noise of the second chain bounds its step, and gives L where that is learnt."""
    adaptation = noisy(L, max_turn, rank=rank)
    states = states_of(adaptation)._replace(noise_level=np.array([0.5, 20.0, 0.0], np.float32))
    if max_turn is not None:
        assert adaptation.tuned(states).step_size[1] == pytest.approx(0.04)
    check(adaptation, states)


def test_a_kernel_of_its_own_numbers() -> None:
    check(Adaptation(MCLMC(0.4, 3.0), 100), ())


def test_what_has_no_step_that_stays() -> None:
    """No decoherence length: half the step of such dynamics is not half of the same trajectory."""
    kernel = StochasticMCLMC(0.4, integrator="stale")
    released = ReleasedNoisyEnergy(kernel, 100, TUNER, "fixed", ReleasedGuard(), True, 100.0, 1)
    for adaptation in (
        Scheduled(SGLD(0.1), 100, Constant(0.1), 50),
        Adaptation(SGHMC(0.1), 100),
        Adaptation(object(), 100),
        released,
    ):
        assert adaptation.halved(states_of(adaptation)) is None
