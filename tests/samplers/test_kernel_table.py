"""One row per kernel, and what every kernel promises: who adds a kernel adds a row.

All tests below run on all rows. Three programs are compiled for a row and shared by its tests: chains
on a density with a wall, chains on a target of known moments, and a few steps on two layouts of the
same position. What is particular to a kernel (bias, invariants, ranges) has a file of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from targets import gaussian, log_gamma, moment_errors

import mirth.samplers
from mirth.samplers import MCLMC, SCHEMES, SGHMC, SGLD, STOCHASTIC_SCHEMES, StochasticMCLMC

# The chains of a row are short, so their programs are compiled with few optimisations.
QUICK = {"xla_backend_optimization_level": 0}
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
        ``variance(kernel, sd)``: exact variance of the chain on a Normal density, where it is known.
    noise : float
        Standard deviation of the noise in the gradients that the moments are tested with, in the
        units of the kernel.
    evaluated : str
        Field of the state with the position that its log density belongs to; a step that fails goes
        back to there.
    redrawn : tuple of str
        Fields that are drawn anew when a step is undone; all others are put back.
    length : callable
        ``length(kernel, redrawn)``: what the redrawn field must be.
    settled : callable
        Gives the kernel that samples after the warm-up.
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

    def make(self, **numbers: Any) -> Any:
        return self.kernel(**(self.settings | self.numbers | numbers))

    def make_like(self, position: Any) -> Any:
        """Make the kernel with numbers of its own for each coordinate."""
        flat, unravel = ravel_pytree(position)
        spread = unravel(jnp.linspace(0.8, 1.2, flat.size))
        return self.make(**dict.fromkeys(self.like_position, spread))


def of_langevin(kernel: SGLD, sd: Any) -> Any:
    return sd**2 / (1 - kernel.step_size / (2 * sd**2))


def of_hamiltonian(kernel: SGHMC, sd: Any) -> Any:
    return sd**2 / (1 - kernel.step_size**2 / (2 * sd**2 * (2 - kernel.friction)))


# Bias of the microcanonical schemes: a momentum of length 1 moves d = 6 coordinates of sd s >= 0.5
# as steps of length h = step_size / sqrt(d) in Hamiltonian dynamics do, and leapfrog then changes a
# variance by (h / 2 s)^2 = 1.5 %; McLachlan's scheme by less. Twice that is allowed.
MICROCANONICAL: dict[str, Any] = {
    "numbers": {"step_size": 0.3, "L": 3.0, "scale": 1.0}, "like_position": ("scale",),
    "is_unit": True, "thin": 10, "bias": 0.03,
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
        **MICROCANONICAL | {"numbers": {"step_size": 0.3, "scale": 1.0}, "noise": 5.0},
    ),
    # The last three coordinates have the curvature 4 at their mode: step_size * 4 / 2 = 4 %.
    "sgld": Row(
        kernel=SGLD, numbers={"step_size": 0.02, "temperature": 1.0}, evaluated="origin",
        redrawn=(), variance=of_langevin, thin=40, bias=0.06,
    ),
    # As plain SGLD with a step of step_size * s: 5 %; and V forgets in 2000 steps, 50 times the
    # longest autocorrelation.
    "sgld, rmsprop": Row(
        kernel=SGLD, settings={"preconditioner": "rmsprop"}, evaluated="origin", redrawn=(),
        numbers={"step_size": 0.05, "temperature": 1.0, "decay": 0.9995, "damping": 1e-2},
        thin=40, bias=0.08,
    ),
    # The noise of the gradients is known, and taken off. Curvature 4: 1 % as in the formula.
    "sghmc": Row(
        kernel=SGHMC, settings={"adaptive": False}, variance=of_hamiltonian, thin=20, bias=0.02,
        numbers={"step_size": 0.1, "friction": 0.1, "temperature": 1.0, "noise_variance": 1.0},
        noise=1.0,
    ),
    # The mass sqrt(V) = 1 / s counts the signal as noise: colder by
    # step_size^2 sqrt(V) / (2 friction) = 1.3 %.
    "sghmc, adaptive": Row(
        kernel=SGHMC, settings={"adaptive": True}, settled=SGHMC.frozen, thin=40, bias=0.03,
        numbers={"step_size": 0.05, "friction": 0.2, "temperature": 1.0},
    ),
}  # fmt: skip
each = pytest.mark.parametrize("name", ROWS)
K_SIGMA = 4.0
LARGEST_SE = 0.03


@pytest.fixture(scope="module", autouse=True)
def generator_of_jax() -> Iterator[None]:
    """Draw with ``jax.random``: ours, written out for XLA to fuse, is most of the compilation.

    Both give the same numbers up to their order (tests/core/test_random.py).
    """

    def normals(key: Any, num: int, shape: Any, dtype: Any) -> Any:
        return jax.random.normal(key, (num, *shape), dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirth.core.trees.standard_normals", normals)
        patch.setattr("mirth.core.trees.fold_in", jax.random.fold_in)
        yield


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
        given = {name for row in rows for name in row.settings | row.numbers}
        assert given == set(inspect.signature(kernel).parameters), kernel


# --- chains on a density with a wall -----------------------------------------------------------


def inside(x: Any) -> Any:
    """Normal with its mode on the wall, so that chains come to it often."""
    return -0.5 * jnp.sum((x - 1) ** 2)


BROKEN = {
    "log density is NaN": lambda x: jnp.where(x[0] < 1, inside(x), jnp.nan),
    "zero density": lambda x: jnp.where(x[0] < 1, inside(x), -jnp.inf),
    "infinite density": lambda x: jnp.where(x[0] < 1, inside(x), jnp.inf),
    "only the gradient is NaN": lambda x: inside(x) + 0 * jnp.sqrt(jnp.maximum(1 - x[0], 0.0)),
}
NUM_STEPS = 1000


@functools.partial(jax.jit, compiler_options=QUICK)
def walk(kernel: Any, kind: Any, position: Any, key: Any) -> Any:
    """Give the states of a chain, from its start on, and what its steps said."""

    def density(x: Any) -> Any:
        return jax.lax.switch(kind, list(BROKEN.values()), x)

    def one(state: Any, key: Any) -> Any:
        after, info = kernel.step(key, state, density)
        return after, (after, info)

    first = kernel.init(position, density, key)
    states, infos = jax.lax.scan(one, first, jax.random.split(key, NUM_STEPS))[1]
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states), infos


def chain(kernel: Any, kind: int = 0, seed: int = 0, start: float = 0.5) -> Any:
    found = walk(kernel, kind, jnp.full(4, start), jax.random.key(seed))
    return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("kind", BROKEN)
@each
def test_a_step_that_is_not_finite_is_undone_as_a_whole(name: str, kind: str) -> None:
    row = ROWS[name]
    states, info = chain(row.make(), list(BROKEN).index(kind))
    assert 20 < info.is_divergent.sum() < 0.8 * NUM_STEPS
    assert np.isfinite(ravel_pytree((states, info))[0]).all()
    before, after = (jax.tree.map(lambda x, s=s: x[s][info.is_divergent], states)
                     for s in (slice(-1), slice(1, None)))  # fmt: skip
    expected = before._replace(position=getattr(before, row.evaluated))
    for field in states._fields:
        if field not in row.redrawn:
            jax.tree.map(
                np.testing.assert_array_equal, getattr(after, field), getattr(expected, field)
            )
            continue
        fresh, old = getattr(after, field), getattr(before, field)
        assert (fresh != old).all() and (fresh != 0).all()
        if row.is_unit:
            np.testing.assert_allclose(np.linalg.norm(fresh, axis=1), 1, rtol=4 * EPS)
        else:  # a draw of N(0, 1), whatever led into the wall
            assert abs(fresh.var() - 1) < K_SIGMA * np.sqrt(2 / fresh.size)
    np.testing.assert_array_equal(info.energy_change[info.is_divergent], 0)


@each
def test_a_chain_goes_on_beside_the_wall(name: str) -> None:
    row = ROWS[name]
    states, info = chain(row.make())
    # Where the log density was taken it had a value; nothing else gives a state.
    assert getattr(states, row.evaluated)[:, 0].max() < 1
    assert not (np.convolve(info.is_divergent, np.ones(50), "valid") == 50).any()
    assert states.position[:, 1].std() > 0.5


@each
def test_state_and_info_describe_the_new_position(name: str) -> None:
    row = ROWS[name]
    states, info = chain(row.make())
    np.testing.assert_array_equal(info.logdensity, states.logdensity[1:])
    np.testing.assert_array_equal(info.step_size, np.float32(row.numbers["step_size"]))
    exact = -0.5 * np.sum((getattr(states, row.evaluated) - 1.0) ** 2, axis=-1, dtype=float)
    np.testing.assert_allclose(states.logdensity, exact, rtol=10 * EPS, atol=EPS)
    np.testing.assert_array_equal(states.position[0], 0.5)


@each
def test_a_start_that_is_not_finite_stays_where_it_is(name: str) -> None:
    row = ROWS[name]
    states, info = chain(row.make(step_size=1e-3), start=2.0)
    assert info.is_divergent.all()
    np.testing.assert_array_equal(states.position, 2)
    assert all(np.isfinite(getattr(states, field)).all() for field in row.redrawn)


@each
def test_the_key_decides_the_chain(name: str) -> None:
    kernel = ROWS[name].make()
    one, again, other = (chain(kernel, seed=seed) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (one[0].position[-1] != other[0].position[-1]).all()


@each
def test_another_number_changes_the_chain_and_compiles_nothing(name: str) -> None:
    row = ROWS[name]
    base = chain(row.make())
    compiled = walk._cache_size()
    for number, value in row.numbers.items():
        given: Any
        for given in (value / 2, jnp.float32(value / 2)):
            other = chain(row.make(**{number: given}))
            assert (other[0].position[-1] != base[0].position[-1]).all(), f"{number} does nothing"
    chain(row.settled(row.make()))
    assert walk._cache_size() == compiled


# --- moments -----------------------------------------------------------------------------------

NORMAL = gaussian([0.5, 1.0, 2.0], mean=[0.0, 1.0, -1.0])
SKEWED = log_gamma(4.0, 3)
TARGET = dataclasses.replace(
    NORMAL,
    logdensity=lambda x: NORMAL.logdensity(x[:3]) + SKEWED.logdensity(x[3:]),
    mean=np.append(NORMAL.mean, SKEWED.mean),
    variance=np.append(NORMAL.variance, SKEWED.variance),
)
NUM_CHAINS, NUM_WARMUP, NUM_DRAWS = 128, 100, 250


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
def sample(kernel: Any, settled: Any, thin: Any, noise: Any, key: Any) -> Any:
    """Draw from the target; every step sees a gradient with noise of its own."""

    def one(n: Any, carry: Any) -> Any:
        state, diverged, key = carry
        is_warm = n < NUM_WARMUP * thin
        now = jax.tree.map(lambda a, b: jnp.where(is_warm, a, b), kernel, settled)
        step_key, noise_key = jax.random.split(jax.random.fold_in(key, n))
        z = noise * jax.random.normal(noise_key, (TARGET.dimension,))
        state, info = now.step(step_key, state, lambda x: TARGET.logdensity(x) + jnp.sum(z * x))
        return state, diverged | info.is_divergent, key

    def draw(carry: Any, n: Any) -> Any:
        carry = jax.lax.fori_loop(n * thin, (n + 1) * thin, one, carry)
        return carry, carry[0].position

    def chain(key: Any) -> Any:
        position = jnp.asarray(TARGET.mean + np.sqrt(TARGET.variance), jnp.float32)
        first = kernel.init(position, TARGET.logdensity, key), jnp.array(False), key
        (_, diverged, _), kept = jax.lax.scan(draw, first, jnp.arange(NUM_WARMUP + NUM_DRAWS))
        return kept[NUM_WARMUP:], diverged

    return jax.vmap(chain)(jax.random.split(key, NUM_CHAINS))


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
@each
def test_moments_are_those_of_the_target(name: str, seed: int) -> None:
    row = ROWS[name]
    kernel = row.make_like(jnp.zeros(TARGET.dimension))
    target, bias = TARGET, np.full(TARGET.dimension, row.bias)
    if row.variance is not None:
        variance = TARGET.variance.copy()
        variance[:3] = row.variance(kernel, np.sqrt(NORMAL.variance))
        target, bias[:3] = dataclasses.replace(TARGET, variance=variance), 0
    # Noise that is isotropic in the units of the kernel leaves the target alone.
    noise = row.noise / (kernel.scale if "scale" in row.like_position else jnp.ones(6))
    draws, diverged = sample(kernel, row.settled(kernel), row.thin, noise, jax.random.key(seed))
    assert not diverged.any()
    errors = moment_errors(target, np.asarray(draws))
    for moment in ("mean", "variance"):
        error, se = errors[moment], errors[f"{moment}_se"]
        # By the effective sample size: without this a chain that hardly moves would pass.
        assert np.all(se < LARGEST_SE), (moment, se)
        assert np.all(np.abs(error) < K_SIGMA * se + bias), (moment, error, se)


# --- layouts and types -------------------------------------------------------------------------

TREE = {"a": jnp.zeros((2, 2)), "b": [jnp.ones(()), jnp.full(2, -0.5)]}


@each
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
        kernel = row.make_like(position)
        state = kernel.init(position, density, jax.random.key(0))
        return kernel.step(jax.random.key(1), state, density)

    # Not compiled: most small operations serve all rows, a program would serve one.
    vector = ravel_pytree(TREE)[0]
    tree, tree_info = step(TREE, lambda t: target.logdensity(ravel_pytree(t)[0]))
    flat, flat_info = step(vector, target.logdensity)
    for field in flat._fields:
        for one, two in zip(*(ravelled(getattr(s, field), TREE) for s in (tree, flat)), strict=True):
            np.testing.assert_allclose(one, two, rtol=20 * EPS, atol=20 * EPS)
    np.testing.assert_allclose(tree_info.energy_change, flat_info.energy_change, atol=40 * EPS)
    assert jax.tree.structure(tree.position) == jax.tree.structure(TREE)


def ravelled(values: Any, like: Any) -> list[Any]:
    """Give all parts of a field that are like the position as vectors, others as they are."""
    structure = jax.tree.structure(like)
    leaves = jax.tree.leaves(values, is_leaf=lambda x: jax.tree.structure(x) == structure)
    return [ravel_pytree(leaf)[0] for leaf in leaves]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each
def test_a_step_keeps_the_types(name: str, dtype: str) -> None:
    """Traced in double precision, where neither constant nor array may bring its own type along."""
    row = ROWS[name]
    with jax.enable_x64(True):
        kernel, position = jax.tree.map(
            lambda x: x if x.dtype == bool else x.astype(dtype), (row.make(), TREE)
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
