"""The tracker of the energy error: the released rule by hand, the repaired one against theory."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mirth.samplers import EnergyGuard, GuardState, ReleasedGuard

ENERGIES = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5, 8.0, 0.01, 2.5, 40.0, 0.02, 2.0, 3.1]


def released(energies: list[float], reset: float, a: float, delta: float, beta: float) -> list[Any]:
    """The released rule in plain Python, written from its description."""
    mean = std = 0.0
    out = []
    for t, energy in enumerate(energies, start=1):
        scale, shape = (std**2 + 1e-6) / max(mean, 1e-30), mean**2 / (std**2 + 1e-6)

        def quantile(p: float, scale: float = scale, shape: float = shape) -> float:
            z = scipy.stats.norm.ppf(p)
            return float(scale * shape * (1 - 1 / (9 * shape) + z / (3 * math.sqrt(shape))) ** 3)

        is_reset, factor = False, 1.0
        if t >= 10:
            is_reset = energy > quantile(reset)
            if energy > quantile(1 - 2 * a / 3):
                factor = 1 - delta
            if energy < quantile(a / 3):
                factor = 1 + delta
        new_mean = energy if t < 3 else (1 - beta) * mean + beta * energy
        new_mean = min(max(new_mean, 1e-6), 1e6)
        variance = (0.0 if t == 1 else (1 - beta) * std**2) + beta * (energy - new_mean) ** 2
        correction = 1.0 if t < 5 else 1 - 0.5 ** (t - 4)
        mean, std = new_mean, min(max(math.sqrt(variance / correction), 1e-6), 1e7)
        out.append((mean, std, is_reset, factor))
    return out


def run(guard: EnergyGuard, energies: Any) -> list[Any]:
    state, out = guard.init(), []
    update = jax.jit(guard.update)
    for energy in energies:
        state, decision = update(state, jnp.asarray(energy, float))
        out.append((float(state.mean), float(state.deviation), bool(decision.is_reset),
                    float(decision.factor)))  # fmt: skip
    return out


@pytest.mark.parametrize("options", [(0.98, 0.1, 0.02, 0.01), (0.9, 0.4, 0.1, 0.3)])
def test_the_released_rule_state_by_state(options: tuple[float, ...]) -> None:
    guard = ReleasedGuard(*options)
    expected = released(ENERGIES, *options)
    for ours, theirs in zip(run(guard, ENERGIES), expected, strict=True):
        np.testing.assert_allclose(ours[:2], theirs[:2], rtol=2e-5)
        assert ours[2] == theirs[2] and ours[3] == pytest.approx(theirs[3])
    assert any(reset for *_, reset, _ in expected) and len({f for *_, f in expected}) > 1


@pytest.mark.parametrize("shape", [0.3, 0.538, 1.0, 4.0])
def test_frequencies_are_the_probabilities(shape: float) -> None:
    """On Gamma energies a step is undone in 2 %, shrinks the step in 6.7 %, grows it in 3.3 %."""
    energies = np.random.default_rng(0).gamma(shape, 2.0, size=20_000)
    guard = EnergyGuard(beta=0.001)

    def one(state: GuardState, energy: Any) -> Any:
        state, decision = guard.update(state, energy)
        return state, (decision.is_reset, decision.factor)

    state, (resets, factors) = jax.lax.scan(one, guard.init(), jnp.asarray(energies, float))
    resets, factors = np.asarray(resets)[2000:], np.asarray(factors)[2000:]
    # Outliers count as the quantile that they have passed, which makes the fit a little too
    # narrow, the more so the heavier the tail of small shapes.
    assert 0.01 < resets.mean() < 0.05
    assert 0.04 < (factors < 1).mean() < 0.12
    assert 0.3 * 0.033 < (factors > 1).mean() < 3 * 0.033
    assert abs(float(state.mean) / (2 * shape) - 1) < 0.2


def test_small_shapes_have_positive_quantiles() -> None:
    """With the released fit the step can only shrink: its lower quantile is negative."""
    state = GuardState(jnp.array(100.0), jnp.array(0.538), jnp.sqrt(0.538))
    assert float(ReleasedGuard().quantile(state, 0.1 / 3)) < 0
    ours = float(EnergyGuard().quantile(state, 0.1 / 3))
    assert ours == pytest.approx(scipy.stats.gamma.ppf(0.1 / 3, 0.538), rel=0.1)


@pytest.mark.parametrize("shape", [0.1, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("probability", [0.03, 0.5, 0.93, 0.98])
def test_quantiles(shape: float, probability: float) -> None:
    state = GuardState(jnp.array(100.0), jnp.array(3 * shape), 3 * jnp.sqrt(shape))
    exact = scipy.stats.gamma.ppf(probability, shape, scale=3)
    # The approximation is rough for small shapes.
    tolerance = 0.07 if shape >= 2 else 0.3
    assert float(EnergyGuard().quantile(state, probability)) == pytest.approx(exact, rel=tolerance)


def test_an_outlier_is_undone_and_hardly_learnt() -> None:
    energies = [*np.random.default_rng(0).gamma(2.0, 1.0, size=200), 1e4, 2.0]
    ours = run(EnergyGuard(), energies)
    assert ours[200][2] and ours[200][0] < 1.1 * ours[199][0]
    theirs = run(ReleasedGuard(), energies)
    assert theirs[200][2] and theirs[200][0] > 20 * theirs[199][0]


@pytest.mark.parametrize("field", ["reset_probability", "alpha", "rate", "beta"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_wrong_numbers(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        EnergyGuard(**{field: value})


def test_the_unit_of_energy_does_not_matter() -> None:
    """With the constant of the released rule, small energies look like outliers of nothing."""
    energies = np.random.default_rng(0).gamma(2.0, 1.0, size=300)
    one, two = (run(EnergyGuard(), scale * energies) for scale in (1.0, 1e-5))
    assert [decision[2:] for decision in one] == [decision[2:] for decision in two]
    assert len({factor for *_, factor in one}) == 3
