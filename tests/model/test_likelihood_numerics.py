"""Functions behind densities and distribution functions, in float32 against SciPy's float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

import mirth
from mirth.model.likelihoods.numerics import log_gamma_ratio, log_one_plus, student_t_cdf

DEGREES = np.float32([2.0001, 2.1, 2.5, 3, 4, 6, 9.4, 20, 50, 200, 2000, 22028])
Z = np.concatenate([[0, 1e-6, 1e-3], np.linspace(0.05, 12, 60), np.logspace(1.1, 6, 30)])
Z = Z.astype(np.float32)


def test_the_distribution_function_of_students_t() -> None:
    degrees, z = np.meshgrid(DEGREES, Z)
    exact = scipy.stats.t(degrees.astype(float))
    below, above = (np.asarray(jax.jit(student_t_cdf)(s * z, degrees), float) for s in (-1, 1))
    np.testing.assert_allclose(below, exact.cdf(-z.astype(float)), atol=5e-7)
    np.testing.assert_allclose(above, exact.cdf(z.astype(float)), atol=5e-7)
    seen = exact.cdf(-z.astype(float)) > 1e-30
    np.testing.assert_allclose(below[seen], exact.cdf(-z.astype(float))[seen], rtol=2e-5)


def test_it_ends_at_0_and_1_and_never_falls() -> None:
    ends = student_t_cdf(jnp.array([-np.inf, -1e30, 1e30, np.inf]), jnp.full(4, 300.0))
    np.testing.assert_array_equal(ends, [0, 0, 1, 1])
    values = np.asarray(student_t_cdf(jnp.linspace(-40.0, 40.0, 4001), jnp.full(4001, 3.0)))
    assert (np.diff(values) > -2e-7).all() and np.isnan(student_t_cdf(jnp.nan, jnp.float32(3.0)))


def test_its_slope_is_the_density() -> None:
    z = np.linspace(-6, 6, 24).astype(np.float32)
    slope = jax.vmap(jax.grad(student_t_cdf), (0, None))(z, 5.0)
    np.testing.assert_allclose(slope, scipy.stats.t(5).pdf(z), rtol=1e-4, atol=1e-6)


def test_the_ratio_of_gamma_functions() -> None:
    x = np.logspace(0, 6, 50).astype(np.float32)
    exact = scipy.special.gammaln(x.astype(float) + 0.5) - scipy.special.gammaln(x.astype(float))
    np.testing.assert_allclose(log_gamma_ratio(x), exact, rtol=1e-5, atol=2e-7)


def test_the_logarithm_of_one_plus() -> None:
    x = np.concatenate([[0], np.logspace(-30, 30, 3001)]).astype(np.float32)
    # Compiled: XLA would make x of (1 + x) - 1.
    np.testing.assert_allclose(jax.jit(log_one_plus)(x), np.log1p(x.astype(float)), rtol=3e-7)
    slope = jax.vmap(jax.grad(log_one_plus))(x)
    np.testing.assert_allclose(slope, 1 / (1 + x.astype(float)), rtol=3e-7)
    np.testing.assert_array_equal(log_one_plus(jnp.array([jnp.inf, jnp.nan])), [np.inf, np.nan])


def test_quantiles_of_students_t_in_both_tails() -> None:
    raw = np.log(DEGREES[1:].astype(float) - 2).astype(np.float32)
    likelihood = mirth.likelihoods.StudentT(link="exp")
    outputs = jnp.stack([jnp.zeros(raw.size), jnp.zeros(raw.size), raw], axis=1)
    exact = scipy.stats.t(2 + np.exp(raw.astype(float)))
    for level in np.float32([1e-6, 1e-3, 0.2, 0.4999, 0.5, 0.7, 0.999, 1 - 1e-6]):
        found = likelihood.quantile(outputs, level)
        expected = exact.ppf(level.astype(float))
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
        low, high = likelihood.bracket(outputs, level)
        room = 1e-5 * np.abs(expected) + 1e-6
        assert (low <= expected + room).all() and (expected - room <= high).all()
