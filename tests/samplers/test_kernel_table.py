"""One row per kernel, and what every kernel promises: who adds a kernel adds a row.

All tests below run on all rows if the slow ones run, and else on one row of every kernel. One
program is compiled for a row and shared by its tests: chains on a target of known moments, or on
densities that have no finite value beyond a wall. What is particular to a kernel (its bias by
formula, invariants, ranges) has a file of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from kernel_chains import DENSITIES, NORMAL, NUM_WARMUP, TARGET, WALLS, Found, inside, run
from targets import log_gamma, moment_errors

import mirth.samplers
from mirth.samplers import (
    MCLMC,
    SCHEMES,
    SGHMC,
    SGLD,
    STOCHASTIC_SCHEMES,
    LowRank,
    StochasticMCLMC,
)

EPS = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A kernel and what it promises.

    Parameters
    ----------
    kernel : type
        Class of the kernel.
    settings, numbers : dict
        Arguments that are part of the program, and those that are leaves: another number compiles
        nothing, and changes the chain. All arguments of a class stand in its rows.
    like_position : tuple of str
        Numbers that may be trees like the position.
    thin : int
        Steps between two draws, so many that the moments have the standard errors asked for.
    bias : float
        Largest error of the discretisation, in sd of a mean and relative of a variance.
    variance : callable, optional
        ``variance(kernel, sd)``: exact variance of the chain on a Normal density, if known.
    noise : float
        Standard deviation of the noise in the gradients that the moments are tested with, in the
        units of the kernel.
    evaluated : str
        Field of the state with the position that its log density belongs to; a step that fails goes
        back to there.
    redrawn : tuple of str
        Fields that are drawn anew when a step is undone; all others are put back.
    is_unit : bool
        Whether these have length 1, always; else they are Normal numbers.
    settled : callable
        Gives the kernel that samples after the warm-up.
    parts : dict of callables
        Arguments that follow from the position: each gives one from it.
    """

    kernel: type
    numbers: dict[str, float]
    thin: int
    bias: float
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    like_position: tuple[str, ...] = ()
    variance: Callable[[Any, Any], Any] | None = None
    noise: float = 0.0
    evaluated: str = "position"
    redrawn: tuple[str, ...] = ("momentum",)
    is_unit: bool = False
    settled: Callable[[Any], Any] = lambda kernel: kernel
    parts: dict[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)

    def make(self, position: Any, **numbers: Any) -> Any:
        """Make the kernel, with a number for each coordinate where that is possible."""
        numbers = self.numbers | numbers
        flat, unravel = ravel_pytree(position)
        spread = np.linspace(0.8, 1.2, flat.size, dtype=np.float32)
        for name in self.like_position:
            numbers[name] = unravel(numbers[name] * spread)
        parts = {name: make(position) for name, make in self.parts.items()}
        return self.kernel(**self.settings, **numbers, **parts)


def of_langevin(kernel: SGLD, sd: Any) -> Any:
    return sd**2 / (1 - kernel.step_size / (2 * sd**2))


def of_hamiltonian(kernel: SGHMC, sd: Any) -> Any:
    return sd**2 / (1 - kernel.step_size**2 / (2 * sd**2 * (2 - kernel.friction)))


def two_directions(position: Any) -> LowRank:
    """Half as long along one direction, a fifth longer along another."""
    flat, unravel = ravel_pytree(position)
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(flat.size, 2)))[0].T
    directions = jax.vmap(unravel)(jnp.asarray(axes, jnp.float32))
    return LowRank(directions, jnp.array([-0.5, 0.2]))


# Bias of the microcanonical schemes: a momentum of length 1 moves d = 6 coordinates of sd s >= 0.5
# as steps of length h = step_size / sqrt(d) in Hamiltonian dynamics do, and leapfrog then changes a
# variance by (h / 2 s)^2 = 1.5 %; McLachlan's scheme by less. Twice that is allowed.
MICROCANONICAL: dict[str, Any] = {
    "numbers": {"step_size": 0.3, "L": 3.0, "scale": 1.0}, "like_position": ("scale",),
    "is_unit": True, "thin": 6, "bias": 0.03,
}  # fmt: skip
ROWS = {
    **{
        f"mclmc, {scheme}": Row(kernel=MCLMC, settings={"integrator": scheme}, **MICROCANONICAL)
        for scheme in SCHEMES
    },
    **{
        f"stochastic mclmc, {scheme}": Row(
            kernel=StochasticMCLMC, settings={"integrator": scheme}, **MICROCANONICAL
        )
        for scheme in STOCHASTIC_SCHEMES
    },
    # The noise of the gradients turns the momentum instead of L.
    "stochastic mclmc, no refreshment": Row(
        kernel=StochasticMCLMC,
        **MICROCANONICAL | {"numbers": {"step_size": 0.3, "scale": 1.0}, "noise": 3.0},
    ),
    # A factor of 1.2 beside the scale makes steps longer, and the bias 1.44 times as large.
    **{
        f"stochastic mclmc, {scheme}, whitened": Row(
            kernel=StochasticMCLMC, settings={"integrator": scheme},
            **MICROCANONICAL | {"thin": 10, "bias": 0.045}, parts={"whitening": two_directions},
        )
        for scheme in ("leapfrog", "velocity")
    },
    # The last three coordinates have the curvature 4 at their mode: step_size * 4 / 2 = 4 %.
    "sgld": Row(
        kernel=SGLD, numbers={"step_size": 0.02, "temperature": 1.0}, evaluated="origin",
        redrawn=(), variance=of_langevin, thin=32, bias=0.06,
    ),
    # As plain SGLD with a step of step_size * s: 5 %; and V forgets in 2000 steps, 50 times the
    # longest autocorrelation.
    "sgld, rmsprop": Row(
        kernel=SGLD, settings={"preconditioner": "rmsprop"}, evaluated="origin", redrawn=(),
        numbers={"step_size": 0.05, "temperature": 1.0, "decay": 0.9995, "damping": 1e-2},
        thin=12, bias=0.08,
    ),
    # The noise of the gradients is known, and taken off. Curvature 4: 1 % as in the formula.
    "sghmc": Row(
        kernel=SGHMC, settings={"adaptive": False}, variance=of_hamiltonian, thin=8, bias=0.02,
        numbers={"step_size": 0.1, "friction": 0.1, "temperature": 1.0, "noise_variance": 1.0},
        noise=1.0,
    ),
    # The mass sqrt(V) = 1 / s counts the signal as noise: colder by
    # step_size^2 sqrt(V) / (2 friction) = 1.3 %.
    "sghmc, adaptive": Row(
        kernel=SGHMC, settings={"adaptive": True}, settled=SGHMC.frozen, thin=24, bias=0.03,
        numbers={"step_size": 0.05, "friction": 0.2, "temperature": 1.0},
    ),
}  # fmt: skip


def rows(*always: str) -> pytest.MarkDecorator:
    """Give all rows, of which these are not slow."""
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in ROWS if name not in always]
    return pytest.mark.parametrize("name", [*always, *slow])


# What a scheme or a preconditioner adds has a file of its own.
each = rows("mclmc, mclachlan", "stochastic mclmc, leapfrog", "sgld, rmsprop", "sghmc")
K_SIGMA = 4.0
LARGEST_SE = 0.03


def modules() -> list[Any]:
    names = [module.name for module in pkgutil.iter_modules(mirth.samplers.__path__)]
    return [importlib.import_module(f"mirth.samplers.{name}") for name in names]


def test_every_kernel_and_every_argument_has_a_row() -> None:
    # These two hand every step on to the kernel that they wrap.
    wrappers = {"Numbered", "Probing"}
    kernels = {
        value
        for module in modules()
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
        if hasattr(value, "init") and hasattr(value, "step") and name not in wrappers
    }
    assert kernels == {row.kernel for row in ROWS.values()}
    for kernel in kernels:
        rows = [row for row in ROWS.values() if row.kernel is kernel]
        given = {name for row in rows for name in row.settings | row.numbers | row.parts}
        assert given == set(inspect.signature(kernel).parameters), kernel


@functools.cache
def chains(
    name: str,
    density: str = "log density is NaN",
    seed: int = 0,
    start: float | None = 0.5,
    **numbers: Any,
) -> Found:
    row = ROWS[name]
    first = TARGET.mean + np.sqrt(TARGET.variance) if start is None else [start] * 6
    position = jnp.asarray(first, jnp.float32)
    kernel = row.make(position, **numbers)
    is_target = density == "target"
    # Noise that is isotropic in the units of the kernel leaves the target alone.
    unit = kernel.scale if "scale" in row.like_position else jnp.ones_like(position)
    found = run(
        kernel, row.settled(kernel) if is_target else kernel, DENSITIES[density],
        position, row.thin if is_target else 1, row.noise * is_target / unit, jax.random.key(seed),
    )  # fmt: skip
    return jax.tree.map(np.asarray, found)


# --- chains on a density with a wall -------------------------------------------------------------


@pytest.mark.parametrize("wall", WALLS)
@each
def test_a_step_that_is_not_finite_is_undone_as_a_whole(name: str, wall: str) -> None:
    row = ROWS[name]
    states, info, _ = chains(name, wall)
    assert 0.02 < info.is_divergent.mean() < 0.8
    assert np.isfinite(np.concatenate([x.ravel() for x in jax.tree.leaves((states, info))])).all()
    before, after = (jax.tree.map(lambda x, s=s: x[:, s][info.is_divergent], states)
                     for s in (slice(-1), slice(1, None)))  # fmt: skip
    expected = before._replace(position=getattr(before, row.evaluated))
    for field in states._fields:
        if field not in row.redrawn:
            jax.tree.map(
                np.testing.assert_array_equal, getattr(after, field), getattr(expected, field)
            )
            continue
        fresh, old = getattr(after, field), getattr(before, field)
        length = fresh.shape[1] ** -0.5 if row.is_unit else 1.0  # of one coordinate
        assert abs(np.mean(fresh**2) / length**2 - 1) < K_SIGMA * np.sqrt(2 / fresh.size)
        # Neither that which led into the wall nor its opposite.
        along = np.sum(fresh * old, axis=1) / np.linalg.norm(old, axis=1)
        assert abs(along.mean()) < K_SIGMA * length / np.sqrt(len(along))
    np.testing.assert_array_equal(info.energy_change[info.is_divergent], 0)


@each
def test_a_chain_goes_on_beside_the_wall(name: str) -> None:
    states, info, _ = chains(name)
    # Where the log density was taken it had a value; nothing else gives a state.
    assert getattr(states, ROWS[name].evaluated)[..., 0].max() < 1
    runs = np.lib.stride_tricks.sliding_window_view(info.is_divergent, 50, axis=1)
    assert not runs.all(axis=-1).any()
    assert states.position[..., 1].std() > 0.5


@each
def test_state_and_info_describe_the_new_position(name: str) -> None:
    row = ROWS[name]
    states, info, _ = chains(name)
    np.testing.assert_array_equal(states.position[:, 0], 0.5)
    np.testing.assert_array_equal(info.logdensity, states.logdensity[:, 1:])
    np.testing.assert_array_equal(info.step_size, np.float32(row.numbers["step_size"]))
    exact = -0.5 * np.sum((getattr(states, row.evaluated) - 1.0) ** 2, axis=-1, dtype=float)
    np.testing.assert_allclose(states.logdensity, exact, rtol=10 * EPS, atol=EPS)
    if row.is_unit:
        np.testing.assert_allclose(np.linalg.norm(states.momentum, axis=-1), 1, rtol=4 * EPS)


@each
def test_a_start_that_is_not_finite_stays_where_it_is(name: str) -> None:
    states, info, _ = chains(name, start=2.0, step_size=1e-3)
    assert info.is_divergent.all()
    np.testing.assert_array_equal(states.position, 2)
    assert all(np.isfinite(getattr(states, field)).all() for field in ROWS[name].redrawn)


@each
def test_the_key_decides_the_chain(name: str) -> None:
    one, other = (chains(name, seed=seed) for seed in (0, 1))
    again = chains.__wrapped__(name)  # not from the cache
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (one.states.position[:, -1] != other.states.position[:, -1]).all(axis=1).all()


@each
def test_another_number_changes_the_chain_and_compiles_nothing(name: str) -> None:
    row = ROWS[name]
    base = chains(name).states.position[:, -1]
    compiled = run._cache_size()
    for number, value in row.numbers.items():
        other = chains(name, **{number: value / 2}).states.position[:, -1]
        assert (other != base).any(axis=1).all(), f"{number} does nothing"
    chains(name, step_size=np.float32(0.1))  # no other type than that of a number
    chains(name, "target")  # with the kernel after the warm-up
    assert run._cache_size() == compiled


# --- moments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))]
)
@each
def test_moments_are_those_of_the_target(name: str, seed: int) -> None:
    row = ROWS[name]
    target, bias = TARGET, np.full(TARGET.dimension, row.bias)
    if row.variance is not None:
        variance = TARGET.variance.copy()
        variance[:3] = row.variance(row.make(jnp.zeros(3)), np.sqrt(NORMAL.variance))
        target, bias[:3] = dataclasses.replace(TARGET, variance=variance), 0
    found = chains(name, "target", seed, start=None)
    assert not found.diverged.any()
    errors = moment_errors(target, found.states.position[:, 1 + NUM_WARMUP :])
    for moment in ("mean", "variance"):
        error, se = errors[moment], errors[f"{moment}_se"]
        # By the effective sample size: without this a chain that hardly moves would pass.
        assert np.all(se < LARGEST_SE), (moment, se)
        assert np.all(np.abs(error) < K_SIGMA * se + bias), (moment, error, se)


# --- layouts and types -------------------------------------------------------------------------

TREE = {"a": jnp.zeros((2, 2)), "b": [jnp.ones(()), jnp.full(2, -0.5)]}


@rows("mclmc, mclachlan", "sghmc")  # one whose numbers are trees too, and one of plain numbers
def test_a_tree_gives_what_its_raveled_vector_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, target = ROWS[name], log_gamma(1.0, 7)

    def same_noise(key: Any, like: Any, num: int) -> list[Any]:
        flat, unravel = ravel_pytree(like)
        return [unravel(z) for z in jax.random.normal(key, (num, flat.size))]

    for module in modules():
        if hasattr(module, "tree_normal"):
            monkeypatch.setattr(module, "tree_normal", same_noise)

    def step(position: Any, density: Any) -> Any:
        kernel = row.make(position)
        state = kernel.init(position, density, jax.random.key(0))
        return kernel.step(jax.random.key(1), state, density)

    # Not compiled: most small operations serve all rows, a program would serve one.
    vector = ravel_pytree(TREE)[0]
    tree, tree_info = step(TREE, lambda t: target.logdensity(ravel_pytree(t)[0]))
    flat, flat_info = step(vector, target.logdensity)
    for field in flat._fields:
        for one, two in zip(
            *(ravelled(getattr(s, field), TREE) for s in (tree, flat)), strict=True
        ):
            np.testing.assert_allclose(one, two, rtol=20 * EPS, atol=20 * EPS)
    np.testing.assert_allclose(tree_info.energy_change, flat_info.energy_change, atol=40 * EPS)
    assert jax.tree.structure(tree.position) == jax.tree.structure(TREE)


def ravelled(values: Any, like: Any) -> list[Any]:
    """Give all parts of a field that are like the position as vectors, others as they are."""
    structure = jax.tree.structure(like)
    leaves = jax.tree.leaves(values, is_leaf=lambda x: jax.tree.structure(x) == structure)
    return [ravel_pytree(leaf)[0] for leaf in leaves]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@rows(*ROWS)
def test_a_step_keeps_the_types(name: str, dtype: str) -> None:
    """Traced in double precision, where neither constant nor array may bring its own type along."""
    row = ROWS[name]
    with jax.enable_x64(True):
        kernel, position = jax.tree.map(
            lambda x: x if x.dtype == bool else x.astype(dtype), (row.make(TREE), TREE)
        )

        def density(tree: Any) -> Any:
            return inside(ravel_pytree(tree)[0])

        key = jax.random.key(0)
        before = jax.eval_shape(lambda x: kernel.init(x, density, key), position)
        after, info = jax.eval_shape(lambda s: kernel.step(key, s, density), before)
    for leaf in jax.tree.leaves((after, info)):
        # A weak type would compile the loop over the steps again.
        assert not leaf.weak_type and leaf.dtype in (bool, dtype)
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.weak_type), before
    )
    assert info.is_divergent.dtype == bool
