"""One row per likelihood of one number, and the properties that all of them have."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.special import expit

import mirth
from mirth.likelihoods import ClassLikelihood, Likelihood, NumericLikelihood, SeveralTargets
from mirth.model import MLP, Model

pytestmark = pytest.mark.usefixtures("unoptimised")

NUM_SAMPLES = 20_000
ROWS = np.array([[0.3, -1.2], [-2.0, 0.7], [1.5, 2.0]])


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x) + 1e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """A likelihood, outputs with the shared scalars, and SciPy's distribution of the same."""

    likelihood: Any
    outputs: np.ndarray
    reference: Callable[[np.ndarray, np.ndarray], Any]

    def distribution(self) -> Any:
        o = self.outputs.astype(np.float32).astype(np.float64)
        return self.reference(o[:, 0], o[:, -1] if o.shape[1] < 3 else o[:, 1:])


def with_shared(value: float, columns: int = 2) -> np.ndarray:
    return np.c_[ROWS[:, :columns], np.full(3, value)]


def beta(o: np.ndarray, raw: np.ndarray) -> Any:
    precision = softplus(raw) ** -2.0
    return scipy.stats.beta(expit(o) * precision, expit(-o) * precision)


def negative_binomial(o: np.ndarray, raw: np.ndarray) -> Any:
    size = np.exp(-raw)
    return scipy.stats.nbinom(size, size / (size + np.exp(o)))


def asymmetric_laplace(level: float, o: np.ndarray, raw: np.ndarray) -> Any:
    """SciPy's has the parameter kappa and the scale s / sqrt(level (1 - level))."""
    kappa = np.sqrt(level / (1 - level))
    scale = softplus(raw) / np.sqrt(level * (1 - level))
    return scipy.stats.laplace_asymmetric(kappa, o, scale)


STEP, ORIGIN = 0.5, 0.2


class Recorded:
    """A Normal that is recorded to a step, by sums over its cells."""

    def __init__(self, o: np.ndarray, raw: np.ndarray):
        self.latent = scipy.stats.norm(o, softplus(raw) + STEP / 4 - 1e-3)
        self.values = ORIGIN + STEP * np.arange(-100, 101)[:, None]
        self.mass = np.exp(self.logpmf(self.values))

    def logpmf(self, y: np.ndarray) -> np.ndarray:
        """By survival functions in the upper tail, where a difference of cdf has no digits."""
        ends = y - STEP / 2, y + STEP / 2
        low, high = (self.latent.logcdf(end) for end in ends)
        upper, lower = (self.latent.logsf(end) for end in ends)
        far, near = np.where(low < upper, (low, high), (lower, upper))
        return near + np.log1p(-np.exp(far - near))

    def cdf(self, y: np.ndarray) -> np.ndarray:
        return self.latent.cdf(ORIGIN + STEP * (np.floor((y - ORIGIN) / STEP + 1e-3) + 0.5))

    def ppf(self, level: Any) -> np.ndarray:
        steps = (self.latent.ppf(level) - ORIGIN) / STEP
        return ORIGIN + STEP * np.ceil(steps - 0.5)

    def mean(self) -> np.ndarray:
        return np.sum(self.values * self.mass, axis=0)

    def var(self) -> np.ndarray:
        return np.sum((self.values - self.mean()) ** 2 * self.mass, axis=0)


CASES = {
    "normal": Case(mirth.Normal(), ROWS, lambda o, r: scipy.stats.norm(o, softplus(r))),
    "homoscedastic": Case(
        mirth.likelihoods.HomoscedasticNormal(),
        with_shared(-0.5, 1),
        lambda o, r: scipy.stats.norm(o, softplus(r)),
    ),
    "student_t": Case(
        mirth.likelihoods.StudentT(),
        with_shared(2.5),
        lambda o, r: scipy.stats.t(2 + np.exp(r[:, 1]), o, softplus(r[:, 0])),
    ),
    "laplace": Case(
        mirth.likelihoods.Laplace(), ROWS, lambda o, r: scipy.stats.laplace(o, softplus(r))
    ),
    "quantile": Case(
        mirth.likelihoods.AsymmetricLaplace(level=0.8),
        ROWS,
        functools.partial(asymmetric_laplace, 0.8),
    ),
    "log_normal": Case(
        mirth.likelihoods.LogNormal(),
        ROWS - [0, 1.5],
        lambda o, r: scipy.stats.lognorm(softplus(r), scale=np.exp(o)),
    ),
    "gamma": Case(
        mirth.likelihoods.Gamma(),
        ROWS - [0, 1],
        lambda o, r: scipy.stats.gamma(softplus(r) ** -2.0, scale=np.exp(o) * softplus(r) ** 2),
    ),
    "beta": Case(mirth.likelihoods.Beta(), ROWS - [0, 2.5], beta),
    "beta, shared": Case(mirth.likelihoods.Beta(precision="shared"), with_shared(-1.0, 1), beta),
    "poisson": Case(
        mirth.likelihoods.Poisson(), ROWS[:, :1], lambda o, r: scipy.stats.poisson(np.exp(o))
    ),
    "negative_binomial": Case(
        mirth.likelihoods.NegativeBinomial(), with_shared(-0.7, 1), negative_binomial
    ),
    "rounded": Case(
        mirth.likelihoods.Rounded(mirth.Normal(), resolution=STEP, origin=ORIGIN), ROWS, Recorded
    ),
}
LEVELS = np.array([0.01, 0.3, 0.5, 0.95], np.float32)
each = pytest.mark.parametrize("name", CASES)


def some(*always: str) -> pytest.MarkDecorator:
    """Give all likelihoods, of which these are not slow."""
    params = [
        pytest.param(name, marks=[] if name in always else [pytest.mark.slow]) for name in CASES
    ]
    return pytest.mark.parametrize("name", params)


def spread(case: Case) -> np.ndarray:
    """Values over the whole distribution, shape (values, rows)."""
    levels = np.array([0.001, 0.1, 0.5, 0.9, 0.999])[:, None]
    return case.distribution().ppf(levels).astype(np.float32)


@each
def test_density_and_distribution_function_are_those_of_scipy(name: str) -> None:
    case = CASES[name]
    likelihood, outputs, expected = case.likelihood, jnp.asarray(case.outputs), case.distribution()
    y = spread(case)
    lattice = likelihood.lattice
    log_prob = (expected.logpmf if lattice else expected.logpdf)(y.astype(np.float64))
    mass = np.exp(log_prob) if lattice else np.zeros(y.shape)
    log_density = log_prob - (np.log(lattice[1]) if lattice else 0)
    np.testing.assert_allclose(likelihood.log_prob(outputs, y), log_density, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(likelihood.cdf(outputs, y), expected.cdf(y), rtol=1e-4)
    np.testing.assert_allclose(likelihood.point_mass(outputs, y), mass, rtol=2e-4)
    assert likelihood.has_atoms == bool(lattice)
    np.testing.assert_allclose(likelihood.mean(outputs), expected.mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(likelihood.variance(outputs), expected.var(), rtol=2e-5)


@some("student_t", "beta", "negative_binomial", "rounded")
def test_density_adds_up_to_the_distribution_function(name: str) -> None:
    case = CASES[name]
    outputs = jnp.asarray(case.outputs)
    low, high = (np.asarray(case.distribution().ppf(p)) for p in (1e-3, 1 - 1e-3))
    log_prob = jax.jit(case.likelihood.log_prob)
    if case.likelihood.lattice:
        first, step = case.likelihood.lattice
        first = 0 if case.likelihood.has_counts else first - 60 * step
        y = np.arange(first, high.max() + step, step)[:, None]
        total = step * np.exp(np.asarray(log_prob(outputs, y))).sum(axis=0)
        expected = case.likelihood.cdf(outputs, y[-1:])[0]
    else:
        t = np.linspace(0, 1, 20_001)[:, None]
        # Cubic in t: positive densities are steep next to 0.
        y = low + (high - low) * t**3
        density = np.exp(np.asarray(log_prob(outputs, y), np.float64))
        total = np.trapezoid(density, y, axis=0)
        expected = case.likelihood.cdf(outputs, high) - case.likelihood.cdf(outputs, low)
        np.testing.assert_allclose(expected, 0.998, atol=1e-5)
    np.testing.assert_allclose(total, expected, atol=2e-4)


@some("laplace", "gamma", "negative_binomial", "rounded")
def test_samples_have_its_moments_and_distribution(name: str) -> None:
    case = CASES[name]
    row = jnp.asarray(case.outputs[:1], jnp.float32)
    outputs = jnp.broadcast_to(row, (NUM_SAMPLES, row.shape[1]))
    draws = np.float64(jax.jit(case.likelihood.sample)(jax.random.key(0), outputs))
    expected = case.distribution()
    mean, variance = expected.mean()[0], expected.var()[0]
    quantiles = expected.ppf(LEVELS[:, None])
    shares = expected.cdf(quantiles)[:, 0]
    assert abs(draws.mean() - mean) < 4.5 * np.sqrt(variance / NUM_SAMPLES)
    fourth = np.mean((draws - mean) ** 4)
    assert abs(draws.var() - variance) < 4.5 * np.sqrt(fourth / NUM_SAMPLES)
    below = np.mean(draws <= quantiles[:, :1] + 1e-5, axis=1)
    error = 4.5 * np.sqrt(shares * (1 - shares) / NUM_SAMPLES)
    assert np.all(np.abs(below - shares) < error + 1e-6)


@some("quantile", "beta", "poisson", "rounded")
def test_quantile_inverts_cdf(name: str) -> None:
    case = CASES[name]
    outputs, expected = jnp.asarray(case.outputs, jnp.float32), case.distribution()
    both = jax.jit(lambda *args: (case.likelihood.quantile(*args), case.likelihood.bracket(*args)))
    for level in LEVELS:
        quantile, (low, high) = both(outputs, level)
        if case.likelihood.has_counts:
            np.testing.assert_array_equal(quantile, expected.ppf(level))
        elif case.likelihood.lattice:
            np.testing.assert_allclose(quantile, expected.ppf(np.float64(level)), atol=1e-5)
        else:
            np.testing.assert_allclose(case.likelihood.cdf(outputs, quantile), level, rtol=2e-4)
            np.testing.assert_allclose(quantile, expected.ppf(level), rtol=1e-4, atol=1e-5)
        assert np.all(low <= quantile * (1 + 1e-6 * np.sign(quantile)))
        assert np.all(high >= quantile * (1 - 1e-6 * np.sign(quantile)))


@pytest.mark.parametrize("name", ["quantile", pytest.param("poisson", marks=pytest.mark.slow)])
def test_one_level_per_row(name: str) -> None:
    case = CASES[name]
    outputs = jnp.asarray(case.outputs, jnp.float32)
    levels = jnp.asarray(LEVELS[:3])
    each = [case.likelihood.quantile(outputs[k : k + 1], levels[k])[0] for k in range(3)]
    np.testing.assert_allclose(case.likelihood.quantile(outputs, levels), each, rtol=1e-5)


SEVERAL: dict[str, tuple[Any, np.ndarray]] = {
    "categorical": (mirth.Categorical(num_classes=3), np.array(1)),
    "bernoulli": (mirth.likelihoods.Bernoulli(), np.array(1)),
    "ordinal": (mirth.likelihoods.Ordinal(num_classes=4), np.array(2)),
    "independent": (
        mirth.likelihoods.Independent(
            (
                mirth.likelihoods.StudentT(),
                mirth.likelihoods.NegativeBinomial(),
                mirth.likelihoods.Gamma(),
            )
        ),
        np.array([0.5, 3.0, 0.1], np.float32),
    ),
    "multivariate": (mirth.likelihoods.MultivariateNormal(num_targets=3), np.ones(3, np.float32)),
}
TARGETS = {
    "beta": [1e-6, 0.5, 1 - 1e-6],
    "beta, shared": [1e-6, 0.5, 1 - 1e-6],
    "poisson": [0, 1, 1e6],
    "negative_binomial": [0, 1, 1e6],
    "gamma": [1e-6, 1.0, 1e6],
    "log_normal": [1e-6, 1.0, 1e6],
}


def extreme_cases() -> list[Any]:
    one = [
        (name, case.likelihood, np.float32(TARGETS.get(name, [-30.0, 0.5])))
        for name, case in CASES.items()
    ]
    several = [(name, likelihood, y[None]) for name, (likelihood, y) in SEVERAL.items()]
    # Independent has a StudentT, a NegativeBinomial and a Gamma.
    always = {"independent", "ordinal", "multivariate", "beta", "log_normal"}
    return [
        pytest.param(*rest, id=name, marks=[] if name in always else [pytest.mark.slow])
        for name, *rest in one + several
    ]


@pytest.mark.parametrize(("likelihood", "y"), extreme_cases())
def test_values_and_gradients_are_finite_at_extreme_outputs(likelihood: Any, y: Any) -> None:
    width = likelihood.num_outputs + likelihood.num_shared
    sizes = np.array([-1e4, -30.0, 0.0, 30.0, 1e4], np.float32)
    if width <= 3:
        outputs = np.stack(np.meshgrid(*[sizes] * width), axis=-1).reshape(-1, width)
    else:
        outputs = np.random.default_rng(0).choice(sizes, (200, width))
    value_and_grad = jax.vmap(
        jax.vmap(
            jax.value_and_grad(lambda o, y: likelihood.log_prob(o[None], y[None])[0]), (0, None)
        ),
        (None, 0),
    )
    values, gradients = jax.jit(value_and_grad)(jnp.asarray(outputs), jnp.asarray(y))
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize(
    "name",
    [
        "gamma",
        "poisson",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("beta", "negative_binomial", "student_t")
        ),
    ],
)
def test_large_parameters_cost_no_digits(name: str) -> None:
    """Plain differences of log Gamma functions are wrong by 1 here in float32."""
    likelihood = CASES[name].likelihood
    row = {
        "gamma": [0.3, -30.0],
        "beta": [0.3, -30.0],
        "poisson": [13.0],
        "negative_binomial": [13.0, -10.0],
        "student_t": [0.3, 1.0, 10.0],
    }[name]
    case = Case(likelihood, np.array([row]), CASES[name].reference)
    y = spread(case)
    expected = case.distribution()
    log_prob = (expected.logpmf if likelihood.has_counts else expected.logpdf)(y.astype(float))
    # A log mean of 13 is rounded by 5e-7, and y lies up to 2000 from the mean; a relative noise of
    # 1e-3 sees the rounding of y, 6e-8, as 6e-5 of itself at up to 3 standard deviations.
    outputs = jnp.asarray(case.outputs, jnp.float32)
    np.testing.assert_allclose(likelihood.log_prob(outputs, y), log_prob, atol=4e-3)
    cdf = likelihood.cdf(outputs, y)
    np.testing.assert_allclose(cdf, expected.cdf(y.astype(float)), atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "ordinal",
        "independent",  # with a StudentT
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("student_t", "categorical")),
    ],
)
def test_leading_axes_are_mapped_over(name: str) -> None:
    likelihood = CASES[name].likelihood if name in CASES else SEVERAL[name][0]
    width = likelihood.num_outputs + likelihood.num_shared
    outputs = np.random.default_rng(0).normal(size=(2, 4, 5, width)).astype(np.float32)
    one = SEVERAL[name][1] if name in SEVERAL else np.array(TARGETS.get(name, [0, 0.5])[1])
    y = np.broadcast_to(one, (5, *one.shape))

    @jax.jit
    def all_of(outputs: Any) -> Any:
        methods = (likelihood.mean, likelihood.variance)
        return [likelihood.log_prob(outputs, y), *(method(outputs) for method in methods)]

    for whole, part in zip(all_of(outputs), all_of(outputs[1, 2]), strict=True):
        assert whole.shape[:3] == (2, 4, 5)
        np.testing.assert_allclose(whole[1, 2], part, rtol=1e-5, atol=1e-6)
    shape = () if likelihood.has_classes else likelihood.target_shape
    drawn = jax.eval_shape(likelihood.sample, jax.random.key(1), outputs)
    assert drawn.shape == (2, 4, 5, *shape)


FAST = {"gamma", "ordinal", "multivariate"}  # always run


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in (*CASES, *SEVERAL)
    ],
)
def test_the_fast_path_of_the_network_has_the_same_gradient(name: str) -> None:
    likelihood = CASES[name].likelihood if name in CASES else SEVERAL[name][0]
    rng = np.random.default_rng(0)
    model = Model(MLP((3,), num_outputs=likelihood.num_outputs), likelihood)
    x = rng.normal(size=(6, 2)).astype(np.float32)
    shapes = jax.eval_shape(lambda key: model.init(key, x), jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    one = SEVERAL[name][1] if name in SEVERAL else np.array(TARGETS.get(name, [0, 0.5])[1])
    y = jnp.asarray(np.broadcast_to(one, (6, *one.shape)))
    weights = jnp.asarray(rng.uniform(0.5, 2, 6), jnp.float32)
    batch = mirth.data.Batch(x, y, weights)

    def plain(params: Any) -> Any:
        return jnp.sum(weights * model.log_prob(params, batch))

    @jax.jit
    def both(params: Any) -> Any:
        fast = jax.value_and_grad(lambda params: model.log_likelihood(params, batch))
        return fast(params), jax.value_and_grad(plain)(params)

    fast, slow = both(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), fast, slow)


@pytest.mark.parametrize(
    "name", [name for name in CASES if CASES[name].likelihood.scaling == "none"] + ["gamma"]
)
def test_nothing_outside_the_support(name: str) -> None:
    likelihood, outputs = CASES[name].likelihood, jnp.asarray(CASES[name].outputs[:1])
    low, high = likelihood.support
    outside = [low - 1, np.inf] + ([high + 1, high, low] if high == 1 else [])
    outside += [0.5] if likelihood.has_counts else []
    outside += [low] if name == "gamma" else []
    for y in outside:
        assert likelihood.log_prob(outputs, jnp.array([y])) == -np.inf
    assert likelihood.cdf(outputs, jnp.array([low - 1])) == 0
    assert likelihood.cdf(outputs, jnp.array([np.inf])) == 1


@pytest.mark.parametrize(
    ("likelihood", "y", "message"),
    [
        (
            mirth.likelihoods.Poisson(),
            [1, -2],
            r"y has -2 in row 1, but Poisson takes whole numbers from 0",
        ),
        (
            mirth.likelihoods.NegativeBinomial(),
            [1, 2.5],
            r"y has 2.5 in row 1.*whole numbers.*\(1 of 2 rows",
        ),
        (
            mirth.likelihoods.Gamma(),
            [0.0, 1.0],
            r"y has 0 in row 0, but Gamma takes positive numbers",
        ),
        (
            mirth.likelihoods.LogNormal(),
            [2.0, -1.0],
            r"y has -1 in row 1, but LogNormal takes positive",
        ),
        (
            mirth.likelihoods.Beta(),
            [0.5, 1.0],
            r"y has 1 in row 1, but Beta takes numbers between 0 and 1",
        ),
        (mirth.Normal(), [[1.0, 2.0]], r"\(1, 2\), but Normal takes one target per row.*Indep"),
        (mirth.likelihoods.Bernoulli(), [0, 2], r"integers from 0 to 1; .* has 2 in row 1"),
        (
            mirth.likelihoods.Ordinal(num_classes=3),
            [0.0, 1.0],
            r"integers from 0 to 2; it is of type float64",
        ),
        (
            mirth.likelihoods.MultivariateNormal(num_targets=2),
            [1.0, 2.0],
            r"takes 2 targets per row.*\(N, 2\)",
        ),
        (
            mirth.likelihoods.Independent((mirth.Normal(), mirth.likelihoods.Poisson())),
            [[0.5, 1.0], [0.5, 1.5]],
            r"Target 1: y has 1.5 in row 1, but Poisson",
        ),
    ],
)
def test_targets_are_checked(likelihood: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        likelihood.check_targets(np.asarray(y))


@pytest.mark.parametrize(
    ("kind", "options", "name", "value"),
    [
        (mirth.likelihoods.StudentT, {}, "degrees_prior", 2.0),
        (mirth.likelihoods.StudentT, {}, "min_scale", 0.5),
        (mirth.likelihoods.StudentT, {}, "link", "exp"),
        (mirth.likelihoods.Laplace, {}, "link", "exp"),
        (mirth.likelihoods.Laplace, {}, "min_scale", 0.5),
        (mirth.likelihoods.AsymmetricLaplace, {}, "level", 0.8),
        (mirth.likelihoods.AsymmetricLaplace, {}, "link", "exp"),
        (mirth.likelihoods.AsymmetricLaplace, {}, "min_scale", 0.5),
        (mirth.likelihoods.LogNormal, {}, "link", "exp"),
        (mirth.likelihoods.LogNormal, {}, "min_scale", 0.5),
        (mirth.likelihoods.Gamma, {}, "min_scale", 0.5),
        (mirth.likelihoods.Beta, {}, "min_scale", 0.5),
        (mirth.likelihoods.Beta, {}, "precision", "shared"),
        (mirth.likelihoods.NegativeBinomial, {}, "dispersion_prior", 1.0),
        (mirth.likelihoods.Ordinal, {"num_classes": 3}, "threshold_prior", 1.0),
        (mirth.likelihoods.MultivariateNormal, {"num_targets": 2}, "link", "exp"),
        (mirth.likelihoods.MultivariateNormal, {"num_targets": 2}, "min_scale", 0.5),
        (mirth.likelihoods.MultivariateNormal, {"num_targets": 2}, "correlation_prior", 2.0),
    ],
)
def test_every_parameter_changes_the_density(
    kind: Any, options: dict[str, Any], name: str, value: Any
) -> None:
    def density(likelihood: Any) -> float:
        outputs = jnp.full((1, likelihood.num_outputs + likelihood.num_shared), 0.7)
        shape = (1,) if likelihood.has_classes else (1, *likelihood.target_shape)
        y = jnp.ones(shape, int) if likelihood.has_classes else jnp.full(shape, 0.25)
        if isinstance(likelihood, mirth.likelihoods.NegativeBinomial):
            y = jnp.ones(shape)
        prior = likelihood.shared_log_prior(outputs[0, likelihood.num_outputs :])
        return float(likelihood.log_prob(outputs, y).sum() + prior)

    likelihoods = kind(**options), kind(**options, **{name: value})
    one, two = map(density, likelihoods)
    three = density(kind(**options).set_params(**{name: value}))
    assert abs(one - two) > 1e-2
    assert two == three


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: mirth.likelihoods.StudentT(degrees_prior=0.0),
            ValueError,
            r"^degrees_prior=0.0 must be",
        ),
        (
            lambda: mirth.likelihoods.Laplace(link="expp"),
            ValueError,
            r"^link='expp' .* did you mean 'exp'",
        ),
        (lambda: mirth.likelihoods.AsymmetricLaplace(level=1.0), ValueError, r"^level=1.0 must be"),
        (lambda: mirth.likelihoods.Gamma(min_scale=-1.0), ValueError, r"^min_scale=-1.0 must be"),
        (
            lambda: mirth.likelihoods.Beta(precision="rows"),
            ValueError,
            r"^precision='rows'.*mean 'row'",
        ),
        (lambda: mirth.likelihoods.Beta(min_scale=0.0), ValueError, r"^min_scale=0.0 must be"),
        (
            lambda: mirth.likelihoods.NegativeBinomial(dispersion_prior=0.0),
            ValueError,
            r"^dispersion_prior=0.0 must be",
        ),
        (
            lambda: mirth.likelihoods.Ordinal(num_classes=1),
            ValueError,
            r"^num_classes=1 must be at least 2",
        ),
        (
            lambda: mirth.likelihoods.Ordinal(num_classes=2, threshold_prior=0.0),
            ValueError,
            r"^threshold_prior=0.0 must be",
        ),
        (
            lambda: mirth.likelihoods.MultivariateNormal(num_targets=1),
            ValueError,
            r"^num_targets=1 must be at least 2",
        ),
        (
            lambda: mirth.likelihoods.MultivariateNormal(num_targets=2, correlation_prior=0.0),
            ValueError,
            r"^correlation_prior=0.0 must be",
        ),
        (lambda: mirth.likelihoods.Independent(()), ValueError, r"^likelihoods=\(\) must have one"),
        (
            lambda: mirth.likelihoods.Independent(mirth.Normal()),
            TypeError,
            r"^likelihoods=Normal.*a tuple",
        ),
        (
            lambda: mirth.likelihoods.Independent((mirth.likelihoods.Bernoulli(),)),
            TypeError,
            r"^likelihoods has Bernoulli\(\), but each must be",
        ),
    ],
)
def test_wrong_values_are_named(build: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_what_is_exported_is_in_the_table() -> None:
    tested = {type(case.likelihood) for case in CASES.values()}
    tested |= {type(likelihood) for likelihood, _ in SEVERAL.values()}
    bases = {Likelihood, NumericLikelihood, SeveralTargets, ClassLikelihood}
    public = [getattr(mirth.likelihoods, name) for name in mirth.likelihoods.__all__]
    kinds = {one for one in public if isinstance(one, type) and issubclass(one, tuple(bases))}
    assert bases < kinds
    assert kinds - bases == tested
