from __future__ import annotations

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirth.evaluation.autocorrelation import effective_sample_size
from mirth.samplers import MCLMC, MCLMCState, MILETuner, Phase, StepInfo

DIMENSION = 7
SPREAD = Phase("step size and spread", 1, 0, True)


class Record(NamedTuple):
    """What a chain reported in a sequence of steps."""

    energy_change: Any
    is_divergent: Any
    measures_spread: Any
    position: Any


def record(length: int = 40, divergent: tuple[int, ...] = (), seed: int = 0) -> Record:
    """Energy errors over several orders of magnitude, the second half in the second phase."""
    rng = np.random.default_rng(seed)
    is_divergent = np.isin(np.arange(length), divergent)
    energy = rng.normal(size=length) * 10 ** rng.uniform(-1, 1, size=length)
    return Record(
        np.where(is_divergent, 0.0, energy).astype(np.float32),
        is_divergent,
        np.arange(length) >= length // 2,
        rng.normal(size=(length, DIMENSION)).astype(np.float32) * np.arange(1, DIMENSION + 1),
    )


@jax.jit
def _drive(tuner, state, first, record):
    def one(carry, row):
        state, i = carry
        step_size = state.sampler.step_size
        chain = MCLMCState(row.position, row.position, jnp.zeros(()), row.position)
        info = StepInfo(jnp.zeros(()), row.energy_change, step_size, row.is_divergent)
        state = tuner.update(state, i, chain, info, row.measures_spread)
        return (state, i + 1), state.sampler.step_size

    (state, _), step_sizes = jax.lax.scan(one, (state, first), record)
    return state, step_sizes


def drive(tuner, record, state=None, first=0, step_size=0.1):
    """Feed a record to the tuner; gives its state and the step size after each step."""
    if state is None:
        state = tuner.init(MCLMC(step_size, 1.0), jnp.zeros(DIMENSION))
    return _drive(tuner, state, first, jax.tree.map(jnp.asarray, record))


def target_by_hand(tuner: MILETuner, step: int) -> float:
    """Schedule of the energy variance: section "step size" of the paper's released code."""
    start, end = tuner.energy_variance_start, tuner.energy_variance_end
    names = ("step size", "step size and spread")
    horizon = sum(phase.num_steps for phase in tuner.phases() if phase.name in names) + 1
    if start <= 2:
        return start + (end - start) * step / horizon
    decay = np.exp(-step / (horizon / 4))
    return start * decay + end * (1 - decay)


def tune_by_hand(tuner: MILETuner, record: Record, step_size: float) -> dict[str, Any]:
    """The same tuning in float64 and in plain sums, without the tuner's units and guards."""
    decay = (tuner.num_effective - 1) / (tuner.num_effective + 1)
    x = w = 0.0
    cap, step_sizes, log_final, weights = np.inf, [], [], []
    for i, (energy, is_divergent, measures_spread) in enumerate(zip(*record[:3], strict=True)):
        target = target_by_hand(tuner, i)
        used = step_size
        if is_divergent:
            cap = min(cap, tuner.cap_shrink * step_size)
        else:
            xi = float(energy) ** 2 / (DIMENSION * target) + 1e-8
            weight = np.exp(-0.5 * (np.log(xi) / (6 * tuner.trust)) ** 2)
            x, w = decay * x + weight * xi / step_size**6, decay * w + weight
            cap *= tuner.cap_growth
        step_size = min((x / w) ** (-1 / 6) if w else step_size, cap)
        step_sizes.append(step_size)
        if measures_spread and not is_divergent:
            log_final.append(np.log(step_size) + np.log(tuner.energy_variance_end / target) / 6)
            weights.append(used)
        else:
            weights.append(0.0)
    mean = np.average(record.position, axis=0, weights=weights)
    variance = np.average((record.position - mean) ** 2, axis=0, weights=weights)
    return {
        "step_sizes": step_sizes,
        "final_step_size": min(np.exp(np.mean(log_final)), cap),
        "variance": variance,
    }


@pytest.mark.parametrize("start", [0.5, 2.0, 10.0])
def test_schedule_of_the_energy_variance(start):
    tuner = MILETuner(1000, energy_variance_start=start, energy_variance_end=0.1)
    for step in (0, 1, 450, 899):
        np.testing.assert_allclose(tuner.target(step), target_by_hand(tuner, step), rtol=1e-5)
    assert tuner.target(0) == start
    last = 0.1 if start <= 2 else 0.1 + (start - 0.1) * np.exp(-4)
    np.testing.assert_allclose(tuner.target(901), last, rtol=1e-5)
    np.testing.assert_allclose(tuner.target(10**6), last, rtol=1e-5)


def test_one_step_by_hand():
    tuner = MILETuner(1000)
    # Delta E^2 is 64 times the target, so the sixth-power law halves the step size.
    energy = np.float32(np.sqrt(64 * DIMENSION * 0.5))
    one = Record(*(np.array([v]) for v in (energy, False, False)), np.zeros((1, DIMENSION)))
    _, step_sizes = drive(tuner, one, step_size=0.1)
    np.testing.assert_allclose(step_sizes, [0.05], rtol=1e-5)
    # Without any error the floor of xi allows 1e8^(1/6) = 21.5 times the step.
    _, step_sizes = drive(tuner, one._replace(energy_change=np.zeros(1)), step_size=0.1)
    np.testing.assert_allclose(step_sizes, [0.1 * 10 ** (8 / 6)], rtol=1e-5)


@pytest.mark.parametrize("divergent", [(), (0, 11, 12, 30)])
@pytest.mark.parametrize("options", [{}, {"energy_variance_start": 5.0, "num_effective": 10}])
def test_tuning_follows_the_formulas(options, divergent):
    tuner = MILETuner(44, **options)  # 40 steps of phases I and II
    log = record(40, divergent)
    state, step_sizes = drive(tuner, log)
    expected = tune_by_hand(tuner, log, 0.1)
    np.testing.assert_allclose(step_sizes, expected["step_sizes"], rtol=2e-5)
    ended = tuner.end_phase(state, SPREAD)
    np.testing.assert_allclose(ended.sampler.step_size, expected["final_step_size"], rtol=2e-5)
    np.testing.assert_allclose(ended.sampler.L, np.sqrt(expected["variance"].sum()), rtol=1e-5)
    # The end of a phase that does not measure the spread concludes nothing.
    assert tuner.end_phase(state, SPREAD._replace(measures_spread=False)) is state


def steps_by_law(tuner, step_size, length=20_000):
    """Tune against a chain whose energy error is exactly sqrt(d) (step size / 0.05)^3."""

    def one(state, i):
        eps = state.sampler.step_size
        energy = jnp.sqrt(1.0 * DIMENSION) * (eps / 0.05) ** 3
        position = jnp.zeros(DIMENSION)
        chain = MCLMCState(position, position, jnp.zeros(()), position)
        info = StepInfo(jnp.zeros(()), energy, eps, ~jnp.isfinite(energy))
        return tuner.update(state, i, chain, info, i >= length // 2), eps

    state = tuner.init(MCLMC(step_size, 1.0), jnp.zeros(DIMENSION))
    return jax.lax.scan(one, state, jnp.arange(length))


def test_the_target_is_reached_from_any_first_step_size():
    # epsilon^6 left the range of float32 for first steps far from the final one: it ran away.
    tuner = MILETuner(24_000, energy_variance_start=0.1, energy_variance_end=0.1)
    tune = jax.jit(lambda step_size: steps_by_law(tuner, step_size)[0])
    for step_size in (1e-9, 1e-3, 1.0, 1e4):
        final = tuner.end_phase(tune(step_size), SPREAD).sampler.step_size
        np.testing.assert_allclose(final, 0.05 * 0.1 ** (1 / 6), rtol=1e-3)


def test_an_enormous_energy_error_does_not_poison_the_tuner():
    # Its square overflowed in float32; infinity times weight 0 made every later step size NaN.
    log = record(40)
    log.energy_change[[0, 10]] = 1e25
    state, step_sizes = drive(MILETuner(44), log)
    assert np.all(np.isfinite(step_sizes)) and np.all(step_sizes > 0)
    assert step_sizes[10] < 0.1 * step_sizes[9]
    assert np.isfinite(state.numerator)


def test_divergence_lowers_the_cap_and_good_steps_raise_it():
    tuner = MILETuner(1000, cap_shrink=0.8, cap_growth=1.01)
    state, before = drive(tuner, record(20))
    bad = record(1, divergent=(0,))
    good = record(25)
    good.energy_change[:] = 1e-6  # it would like a larger step, the cap forbids it
    state, after = drive(tuner, bad, state, 20)
    np.testing.assert_allclose(after, 0.8 * before[-1:], rtol=1e-6)
    np.testing.assert_allclose(state.cap, after[-1], rtol=1e-6)
    state, grown = drive(tuner, good, state, 21)
    np.testing.assert_allclose(grown, after[-1] * 1.01 ** np.arange(1, 26), rtol=1e-5)
    assert grown[-1] > before[-1]


def test_the_second_of_two_divergences_does_not_raise_the_cap():
    tuner = MILETuner(1000)
    state, _ = drive(tuner, record(1, divergent=(0,)), step_size=0.1)
    sampler = dataclasses.replace(state.sampler, step_size=jnp.array(5.0))
    state, _ = drive(tuner, record(1, divergent=(0,)), state._replace(sampler=sampler))
    np.testing.assert_allclose(state.cap, 0.08, rtol=1e-6)


def test_nothing_but_divergence_never_makes_the_step_size_zero():
    tuner = MILETuner(5000)
    state, step_sizes = drive(tuner, record(2000, divergent=tuple(range(2000))))
    np.testing.assert_allclose(step_sizes[:3], [0.08, 0.064, 0.0512], rtol=1e-5)
    assert step_sizes[-1] > 0
    good = record(2000)
    good.energy_change[:] = 1e-6
    _, step_sizes = drive(tuner, good, state, 2000)
    assert np.all(np.isfinite(step_sizes)) and step_sizes[-1] > step_sizes[0]


def test_energy_errors_that_no_step_size_lowers_never_make_it_zero():
    # Rounding of a large log density is such an error.
    log = record(5000)
    log.energy_change[:] = 100.0
    _, step_sizes = drive(MILETuner(6000), log)
    assert np.all(np.isfinite(step_sizes)) and np.all(step_sizes > 0)


def test_a_divergent_step_enters_no_statistic():
    tuner = MILETuner(44)
    state, _ = drive(tuner, record(30))
    bad = record(1, divergent=(0,))._replace(measures_spread=np.array([True]))
    after, _ = drive(tuner, bad, state, 30)
    assert after.denominator == state.denominator
    sums = [s.numerator / s.reference**6 for s in (state, after)]
    np.testing.assert_allclose(*sums, rtol=1e-5)
    for name in ("moments", "log_step_size"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(state, name))


def autoregressive(num_chains: int, length: int, correlation: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_chains, length, DIMENSION))
    for i in range(1, length):
        x[:, i] = correlation * x[:, i - 1] + np.sqrt(1 - correlation**2) * x[:, i]
    return x.astype(np.float32)


def states(tuner, num_chains):
    """One tuner state per chain, with step sizes 1, 2, ..."""
    return jax.vmap(lambda eps: tuner.init(MCLMC(eps, 1.0), jnp.zeros(DIMENSION)))(
        jnp.arange(1.0, num_chains + 1)
    )


def test_phase_three_sets_L_from_the_effective_sample_size():
    tuner = MILETuner(1000, L_factor=0.4)
    kept = autoregressive(3, 2000, 0.8)
    kept[0, :, 2] = 1.0  # this parameter of chain 0 does not move, and does not count
    state = tuner.end_trajectory(states(tuner, 3), kept, thin=5)
    for k in range(3):
        ess = np.array([effective_sample_size(kept[k : k + 1, :, j])[()] for j in range(DIMENSION)])
        expected = 0.4 * (k + 1) * np.mean(2000 * 5 / ess[np.isfinite(ess)])
        np.testing.assert_allclose(state.sampler.L[k], expected, rtol=1e-5)
        # An autoregression of order 1 has n / ESS = (1 + 0.8) / (1 - 0.8) = 9 draws, 45 steps.
        np.testing.assert_allclose(state.sampler.L[k], 0.4 * (k + 1) * 45, rtol=0.25)
    assert state.sampler.L.dtype == state.sampler.step_size.dtype


def test_phase_three_leaves_L_of_a_frozen_chain_and_of_a_short_phase():
    tuner = MILETuner(1000)
    kept = autoregressive(2, 100, 0.5)
    kept[1] = kept[1, :1]
    before = states(tuner, 2)
    after = tuner.end_trajectory(before, kept, thin=1)
    assert after.sampler.L[1] == before.sampler.L[1] == 15
    assert after.sampler.L[0] != 15
    assert tuner.end_trajectory(before, kept[:, :3], thin=1) is before


def test_preconditioning_changes_the_units_of_step_size_and_cap():
    tuner = MILETuner(44, diagonal_preconditioning=True)
    log = record(40, divergent=(25,))
    log.position[:] *= 1e-2
    state, _ = drive(tuner, log)
    plain = MILETuner(44).end_phase(state, SPREAD)
    scaled = tuner.end_phase(state, SPREAD)
    expected = tune_by_hand(tuner, log, 0.1)
    np.testing.assert_allclose(scaled.sampler.scale, np.sqrt(expected["variance"]), rtol=1e-5)
    np.testing.assert_allclose(plain.sampler.scale, np.ones(DIMENSION))
    np.testing.assert_allclose(scaled.sampler.L, np.sqrt(DIMENSION), rtol=1e-6)
    # A cap in the old units would have held the step size down by the factor of the units.
    unit = np.sqrt(np.mean(expected["variance"]))
    np.testing.assert_allclose(scaled.sampler.step_size * unit, plain.sampler.step_size, rtol=1e-5)
    np.testing.assert_allclose(scaled.cap * unit, plain.cap, rtol=1e-5)


@pytest.mark.parametrize("num_steps", [0, 1, 2, 3, 7, 15, 999, 50_000])
@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (0.0, 0.3, 0.7)])
def test_phases_add_up(num_steps, fractions):
    tuner = MILETuner(num_steps, phase_fractions=fractions)
    phases = tuner.phases()
    assert sum(phase.num_steps for phase in phases) == num_steps
    assert all(phase.num_steps > 0 for phase in phases)
    by_name = {phase.name: phase.num_steps for phase in phases}
    names = ("step size", "step size and spread", "decoherence length")
    for name, fraction in zip(names, fractions, strict=True):
        assert abs(by_name.get(name, 0) - fraction * num_steps) <= 1


def test_phases_with_preconditioning_tune_the_step_size_again():
    phases = MILETuner(1000, diagonal_preconditioning=True).phases()
    assert [(phase.num_steps, bool(phase.thin)) for phase in phases] == [
        (800, False),
        (100, False),
        (33, False),
        (100, True),
    ]


def test_first_L():
    sampler = MCLMC(0.1, 3.0)
    assert MILETuner(10).init(sampler, jnp.zeros(100)).sampler.L == 15
    assert MILETuner(10).init(sampler, jnp.zeros(400)).sampler.L == 20


def test_subset_is_sorted_without_repetition_and_a_function_of_the_key():
    tuner = MILETuner(10, max_params=20)
    one, same, other = (tuner.subset(jax.random.key(k), 1000) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(one) == 20 and np.all(np.diff(one) > 0) and one[0] >= 0 and one[-1] < 1000
    np.testing.assert_array_equal(tuner.subset(jax.random.key(0), 20), np.arange(20))


def outcome(**options):
    """Everything that the tuner decides, on one record."""
    tuner = MILETuner(**({"num_steps": 100} | options))
    state, step_sizes = drive(tuner, record(40, (11, 30)))
    ended = tuner.end_phase(state, SPREAD)
    several = states(tuner, 2)
    L = tuner.end_trajectory(several, autoregressive(2, 50, 0.5), 1).sampler.L
    return (
        [tuple(phase) for phase in tuner.phases()],
        np.asarray(step_sizes).tolist(),
        np.asarray(ended.sampler.scale).tolist(),
        np.asarray(L).tolist(),
        len(tuner.subset(jax.random.key(0), 5000)),
    )


CHANGES = {
    "num_steps": 200,
    "energy_variance_start": 0.4,
    "energy_variance_end": 0.05,
    "phase_fractions": (0.7, 0.1, 0.2),
    "trust": 2.0,
    "num_effective": 50.0,
    "L_factor": 0.5,
    "max_params": 1000,
    "max_kept": 4,
    "cap_shrink": 0.5,
    "cap_growth": 1.01,
    "diagonal_preconditioning": True,
}


def test_every_parameter_changes_something():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(MILETuner)}
    outcomes = [outcome(), *(outcome(**{name: value}) for name, value in CHANGES.items())]
    names = ["default", *CHANGES]
    for (one, a), (two, b) in itertools.combinations(zip(names, outcomes, strict=True), 2):
        assert a != b, f"{one} and {two} do the same"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", -1),
        ("energy_variance_start", 0.0),
        ("energy_variance_end", -0.1),
        ("energy_variance_end", float("nan")),
        ("phase_fractions", (0.5, 0.5)),
        ("phase_fractions", (0.8, 0.1, 0.2)),
        ("phase_fractions", (1.2, -0.1, -0.1)),
        ("trust", 0.0),
        ("num_effective", 1.0),
        ("L_factor", 0.0),
        ("max_params", 0),
        ("max_kept", 3),
        ("cap_shrink", 1.0),
        ("cap_shrink", 0.0),
        ("cap_growth", 0.9),
    ],
)
def test_wrong_values_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}="):
        MILETuner(**({"num_steps": 100} | {name: value}))
