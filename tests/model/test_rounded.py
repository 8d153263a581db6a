"""Rounded targets: the probability of a cell in float32, and the likelihood made of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import mirth
from mirth.likelihoods import Independent, Laplace, LogNormal, Rounded, StudentT
from mirth.model.likelihoods.cells import laplace_log_mean, mills_ratio, normal_log_mean

SIZES = np.array([0, 1e-3, 0.3, 0.5, 1, 1.7, 3, 8, 30, 300, 1e4])
HALVES = np.concatenate([10.0 ** np.arange(-6, 7), [0.4999, 0.5001, 2.0, 5.0]])
GRID = [values.astype(np.float32).ravel() for values in np.meshgrid(SIZES, HALVES)]
# Float32 knows its argument to 6e-8 of itself, and a log density of z^2 / 2 is as sensitive.
ERROR = 16 * np.finfo(np.float32).eps


def normal_reference(z: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, ...]:
    """Log mean density, slope in z and in log half width, by float64 and scaled tails.

    Narrow cells are integrated by Gauss and Legendre, wide ones are differences of tails.
    """
    low, high = z - half, z + half
    nodes, weights = np.polynomial.legendre.leggauss(40)
    narrow = half * np.maximum(z, 1) < 3
    exponent = -z * half * nodes[:, None] - (half * nodes[:, None]) ** 2 / 2
    with np.errstate(all="ignore"):
        inner = np.log(np.sum(weights[:, None] / 2 * np.exp(exponent), axis=0))
        inner += scipy.stats.norm.logpdf(z)
        tail, end = scipy.stats.norm.logsf(low), scipy.stats.norm.logsf(high)
        outer = tail + np.log1p(-np.exp(end - tail)) - np.log(2 * half)
        value = np.where(narrow, inner, outer)
        densities = [
            np.exp(scipy.stats.norm.logpdf(end) - value) / (2 * half) for end in (low, high)
        ]
    slope = np.where(narrow, densities[0] * np.expm1(-2 * z * half), densities[1] - densities[0])
    return value, slope, half * (densities[0] + densities[1]) - 1


def evaluate(function: Any) -> list[np.ndarray]:
    both = jax.jit(jax.vmap(jax.value_and_grad(function, argnums=(0, 1))))
    value, (by_z, by_half) = both(*map(jnp.asarray, GRID))
    return [np.float64(value), np.float64(by_z), np.float64(by_half) * np.float64(GRID[1])]


def test_cells_of_a_normal_are_exact_from_narrow_to_wide_and_in_the_tails() -> None:
    z, half = (values.astype(np.float64) for values in GRID)
    expected = normal_reference(z, half)
    found = evaluate(normal_log_mean)
    near = np.minimum(z, np.abs(z - half))  # of the end that counts
    for ours, theirs in zip(found, expected, strict=True):
        assert np.isfinite(ours).all()
        known = np.isfinite(theirs)
        assert known.mean() > 0.99
        scale = 1 + np.abs(theirs) + near * np.abs(z)
        assert np.max((np.abs(ours - theirs) / scale)[known]) < ERROR


def test_cells_of_a_normal_have_a_sign() -> None:
    z, half = jnp.array([1.5, -1.5]), jnp.array([0.7, 0.7])
    values, gradients = jax.vmap(jax.value_and_grad(normal_log_mean))(z, half)
    assert values[0] == values[1] and gradients[0] == -gradients[1] != 0


def test_cells_meet_where_the_formulas_do() -> None:
    """Steps across the borders of the formulas are those of the slope."""
    borders = [(m, 0.5) for m in (0.0, 0.3, 1.0, 1.9)]  # narrow or not
    borders += [(1 / h, h) for h in (0.01, 0.1, 0.3)] + [(h, h) for h in (0.6, 2.0, 9.0)]
    m, h = (np.float32(values) for values in zip(*borders, strict=True))
    around = [
        np.float64(jax.jit(normal_log_mean)(m * f, h * f))
        for f in np.float32([1 - 3e-6, 1, 1 + 3e-6])
    ]
    steps = np.diff(around, axis=0)
    assert np.all(np.abs(steps) < 3e-5 * (1 + m**2))


def test_mills_ratio() -> None:
    x = np.concatenate([np.linspace(0, 12, 500), np.geomspace(12, 1e6, 100)]).astype(np.float32)
    expected = np.sqrt(np.pi / 2) * scipy.special.erfcx(x.astype(np.float64) / np.sqrt(2))
    np.testing.assert_allclose(mills_ratio(jnp.asarray(x)), expected, rtol=4e-7)


def test_cells_of_a_laplace() -> None:
    z, half = (values.astype(np.float64) for values in GRID)
    beside = -(z - half) + np.log(-np.expm1(-2 * half) / 2)
    with np.errstate(over="ignore"):
        inside = np.minimum(z, half)
        around = -np.expm1(-half) - np.exp(inside - half) * np.expm1(-inside) ** 2 / 2
    expected = np.where(z > half, beside, np.log(around)) - np.log(2 * half)
    found = evaluate(laplace_log_mean)
    assert all(np.isfinite(values).all() for values in found)
    scale = 1 + np.abs(expected) + z
    assert np.max(np.abs(found[0] - expected) / scale) < ERROR


FAMILIES: dict[str, tuple[Any, list[float], Any]] = {
    "normal": (mirth.Normal(), [0.3, -5.0], lambda s: scipy.stats.norm(0.3, s)),
    "laplace": (Laplace(), [0.3, -5.0], lambda s: scipy.stats.laplace(0.3, s)),
    "student_t": (
        StudentT(),
        [0.3, -5.0, 0.0],
        lambda s: scipy.stats.t(3.0, 0.3, s),
    ),
    "log_normal": (LogNormal(), [0.3, -5.0], lambda s: scipy.stats.lognorm(s, scale=np.exp(0.3))),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("step", [0.05, 1.0])
def test_all_methods_are_those_of_the_recorded_value(name: str, step: float) -> None:
    latent, row, reference = FAMILIES[name]
    rounded = Rounded(latent, resolution=step, origin=0.0)
    outputs = jnp.array([row])
    scale = np.logaddexp(0, row[1]) + max(1e-3, step / 4)
    exact = reference(scale)
    low = 0 if name == "log_normal" else -40
    values = step * np.arange(low, 60)
    ends = exact.cdf(values + step / 2), exact.cdf(values - step / 2)
    mass = ends[0] - ends[1]
    likely = mass > 1e-6
    found = rounded.log_prob(outputs, jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(found[likely], np.log(mass[likely] / step), atol=2e-4)
    at = jnp.asarray(values, jnp.float32)
    np.testing.assert_allclose(rounded.point_mass(outputs, at), mass, atol=2e-5)
    np.testing.assert_allclose(rounded.cdf(outputs, at), ends[0], atol=2e-5)
    assert np.all(rounded.point_mass(outputs, at + 0.4 * step) == 0)
    np.testing.assert_allclose(rounded.cdf(outputs, at + 0.4 * step), ends[0], atol=2e-5)
    # The mean, and for light tails the variance, by the sums over all values.
    mean = np.sum(values * mass) / mass.sum()
    assert abs(float(rounded.mean(outputs)[0]) - mean) < 0.01 * step
    if name != "student_t":
        variance = np.sum((values - mean) ** 2 * mass) / mass.sum()
        np.testing.assert_allclose(rounded.variance(outputs)[0], variance, rtol=0.02)
    assert rounded.mean(outputs)[0] != rounded.latent.mean(outputs)[0] or step < 1


def test_a_small_step_is_the_density_and_a_wide_noise_has_sheppards_variance() -> None:
    outputs, y = jnp.array([[0.3, 1.0]]), jnp.array([0.7])
    fine = Rounded(mirth.Normal(), resolution=1e-6)
    np.testing.assert_allclose(
        fine.log_prob(outputs, y), mirth.Normal().log_prob(outputs, y), rtol=1e-5
    )
    step = Rounded(mirth.Normal(), resolution=0.5)
    expected = step.latent.variance(outputs) + 0.25 / 12
    np.testing.assert_allclose(step.variance(outputs), expected, rtol=1e-6)
    assert step.mean(outputs) == step.latent.mean(outputs)


def test_moments_do_not_jump_where_the_sums_end() -> None:
    rounded = Rounded(mirth.Normal(), resolution=1.0)
    raw = np.log(np.expm1(np.array([0.999, 1.001]) - 0.25))
    outputs = jnp.asarray(np.c_[[0.3, 0.3], raw], jnp.float32)
    mean, variance = rounded.mean(outputs), rounded.variance(outputs)
    assert abs(mean[0] - mean[1]) < 1e-4
    np.testing.assert_allclose(np.diff(variance)[0], 1.001**2 - 0.999**2, atol=1e-3)


def test_positive_targets_may_be_recorded_as_zero() -> None:
    rounded = Rounded(LogNormal(), resolution=1.0)
    rounded.check_targets(np.array([0.0, 2.0]))
    with pytest.raises(ValueError, match=r"y has -1 in row 0"):
        rounded.check_targets(np.array([-1.0]))
    outputs = jnp.array([[-0.5, 0.0]])
    value, slope = jax.value_and_grad(lambda o: rounded.log_prob(o, jnp.zeros(1))[0])(outputs)
    scale = np.log(2) + 0.25
    expected = scipy.stats.lognorm(scale, scale=np.exp(-0.5)).logcdf(0.5)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(slope).all()
    assert rounded.log_prob(outputs, jnp.array([-1.0])) == -np.inf


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_finite_at_extreme_outputs(name: str) -> None:
    likelihood = Rounded(FAMILIES[name][0], resolution=0.3)
    width = likelihood.num_outputs + likelihood.num_shared
    sizes = np.float32([-1e4, -30, 0, 30, 1e4])
    outputs = np.stack(np.meshgrid(*[sizes] * width), axis=-1).reshape(-1, width)
    low = 0.0 if name == "log_normal" else -30.0
    for y in (low, 0.3, 6e3):
        both = jax.jit(
            jax.vmap(
                jax.value_and_grad(lambda o, y=y: likelihood.log_prob(o[None], jnp.array([y]))[0])
            )
        )
        values, slopes = both(outputs)
        assert np.isfinite(values).all() and np.isfinite(slopes).all()


def test_every_parameter_matters() -> None:
    outputs, y = jnp.array([[0.3, -4.0]]), jnp.array([1.0])
    base = Rounded(mirth.Normal(), resolution=1.0)
    others = [
        Rounded(Laplace(), resolution=1.0),
        Rounded(mirth.Normal(), resolution=0.5),
        Rounded(mirth.Normal(), resolution=1.0, least_scale=0.5),
    ]
    assert all(other.log_prob(outputs, y) != base.log_prob(outputs, y) for other in others)
    moved = Rounded(mirth.Normal(), resolution=1.0, origin=0.4)
    np.testing.assert_allclose(moved.quantile(outputs, 0.5), 0.4, rtol=1e-6)
    assert base.quantile(outputs, 0.5) == 0.0
    assert hash(base) == hash(Rounded(mirth.Normal(), resolution=1.0))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: Rounded(mirth.likelihoods.Poisson(), resolution=1.0),
            TypeError,
            "cannot be rounded",
        ),
        (lambda: Rounded(mirth.Normal(), resolution=0.0), ValueError, "^resolution=0.0 must be"),
        (
            lambda: Rounded(mirth.Normal(), resolution=1.0, least_scale=0.1),
            ValueError,
            "^least_scale=0.1 must be",
        ),
        (
            lambda: Rounded(mirth.Normal(), resolution=1.0, origin=np.inf),
            ValueError,
            "^origin=inf must be",
        ),
    ],
)
def test_wrong_arguments_are_named(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_one_of_several_targets_may_be_rounded() -> None:
    likelihood = Independent((Rounded(mirth.Normal(), resolution=1.0), mirth.Normal()))
    assert likelihood.lattices == [(0.0, 1.0), None]
    assert likelihood.scalings == ("location-scale", "location-scale")
    assert likelihood.has_atoms
    outputs, y = jnp.array([[0.2, -3.0, 1.0, 0.0]]), jnp.array([[1.0, 0.5]])
    parts = [
        one.log_prob(part, y[:, k]) for k, (one, part) in enumerate(likelihood.marginals(outputs))
    ]
    assert likelihood.log_prob(outputs, y) == parts[0] + parts[1]
