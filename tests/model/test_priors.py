"""Priors: one table, and every prior in it does what its formula says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

import mirth
from mirth.core.types import Batch
from mirth.model import MLP, PRIORS, FunctionalNetwork, Model, Prior

pytestmark = pytest.mark.usefixtures("unoptimised")

NUM = 40_000
LEAST_P = 1e-3  # of a Kolmogorov-Smirnov test; seeds are fixed, so it passes always or never


def half_cauchy(rng: np.random.Generator) -> np.ndarray:
    return np.abs(rng.standard_cauchy(10 * NUM))


def hierarchical(rng: np.random.Generator) -> np.ndarray:
    return 0.5 * half_cauchy(rng) * rng.normal(size=10 * NUM)


def learnt_fan_in(rng: np.random.Generator) -> np.ndarray:
    return 1.5 * np.exp(0.4 * rng.normal(size=10 * NUM)) * rng.normal(size=10 * NUM)


def horseshoe(rng: np.random.Generator) -> np.ndarray:
    return 0.2 * half_cauchy(rng) * half_cauchy(rng) * rng.normal(size=10 * NUM)


def regularised(rng: np.random.Generator) -> np.ndarray:
    tau_lambda = 0.2 * half_cauchy(rng) * half_cauchy(rng)
    c2 = scipy.stats.invgamma(3 / 2, scale=3 / 2 * 1.5**2).rvs(10 * NUM, random_state=rng)
    scale = np.sqrt(c2 * tau_lambda**2 / (c2 + tau_lambda**2))  # equation 2.8
    return scale * rng.normal(size=10 * NUM)


@dataclasses.dataclass(frozen=True)
class Row:
    """A prior, and one weight under it: a distribution of SciPy, or draws by the definition."""

    prior: Prior
    weight: Any
    place: str = "weight"
    shape: tuple[int, ...] = (1,)

    @property
    def reference(self) -> Any:
        if callable(self.weight):
            return self.weight(np.random.default_rng(1))
        return self.weight.cdf

    def like(self) -> dict[str, Any]:
        """A single number in its place."""
        return {self.place: jnp.zeros(self.shape)}


TABLE = {
    "normal": Row(mirth.priors.NormalPrior(scale=0.7), scipy.stats.norm(scale=0.7)),
    "laplace": Row(mirth.priors.LaplacePrior(scale=0.7), scipy.stats.laplace(scale=0.7)),
    "student_t": Row(mirth.priors.StudentTPrior(scale=0.7, df=3.0), scipy.stats.t(3.0, scale=0.7)),
    "cauchy": Row(mirth.priors.CauchyPrior(scale=0.7), scipy.stats.cauchy(scale=0.7)),
    "fan_in": Row(
        mirth.priors.FanInNormalPrior(bias_scale=0.3), scipy.stats.norm(scale=0.3), "bias"
    ),
    "hierarchical": Row(mirth.priors.HierarchicalNormalPrior(scale=0.5), hierarchical),
    "hierarchical_fan_in": Row(
        mirth.priors.HierarchicalFanInPrior(scale=1.5, spread=0.4), learnt_fan_in, shape=(1, 1)
    ),
    "horseshoe": Row(mirth.priors.HorseshoePrior(global_scale=0.2), horseshoe),
    "regularised_horseshoe": Row(
        mirth.priors.RegularisedHorseshoePrior(global_scale=0.2, slab_scale=1.5, slab_df=3.0),
        regularised,
    ),
    "map": Row(
        mirth.priors.PriorMap({"*weight": mirth.priors.HorseshoePrior(global_scale=0.2)}), horseshoe
    ),
}
rows = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


def some(*always: str) -> pytest.MarkDecorator:
    """Give all priors, of which these are not slow."""
    params = [
        pytest.param(row, id=name, marks=[] if name in always else [pytest.mark.slow])
        for name, row in TABLE.items()
    ]
    return pytest.mark.parametrize("row", params)


SAMPLED_SCALES = ("hierarchical", "hierarchical_fan_in", "horseshoe", "regularised_horseshoe")


def log_density(prior: Prior, like: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any], int]:
    """Log density of all that is sampled as one vector, the weights of a vector, and its length."""
    tree = (like, prior.init_hyper(like))
    flat, unravel = ravel_pytree(tree)

    def density(vector: Any) -> Any:
        params, hyper = unravel(vector)
        return prior.log_prob(params) + prior.hyper_log_prob(hyper)

    return density, lambda vector: prior.weights(*unravel(vector)), len(flat)


def slices(density: Callable[[Any], Any], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Along each coordinate, the others 0: where, and the density relative to that at 0.

    The grid is even in arsinh, so that it reaches far into a tail.
    """
    t = np.linspace(-12, 12, 20_001)
    for i in range(size):
        points = jnp.zeros((len(t), size)).at[:, i].set(np.sinh(t))
        relative = np.exp(np.asarray(jax.vmap(density)(points) - density(jnp.zeros(size))))
        yield np.sinh(t), relative * np.cosh(t) * (t[1] - t[0])


def test_every_name_is_in_the_table() -> None:
    assert TABLE.keys() == {*PRIORS, "map"}
    for name, kind in PRIORS.items():
        assert type(TABLE[name].prior) is kind


@some("student_t", "regularised_horseshoe")
def test_the_density_of_what_is_sampled_is_normalised(row: Row) -> None:
    """Jacobian included. Coordinates are independent, so the integral is a product of slices."""
    density, _, size = log_density(row.prior, row.like())
    at_zero = density(jnp.zeros(size))
    along = list(slices(density, size))
    total = float(np.exp(at_zero)) * np.prod([weight.sum() for _, weight in along])
    np.testing.assert_allclose(total, 1, rtol=2e-4)
    point = jnp.asarray(np.random.default_rng(0).normal(size=size), jnp.float32)
    parts = [density(jnp.zeros(size).at[i].set(point[i])) - at_zero for i in range(size)]
    np.testing.assert_allclose(density(point), at_zero + sum(parts), rtol=1e-5, atol=1e-5)


@some(
    "normal",
    "laplace",
    "cauchy",
    "fan_in",
    "hierarchical",
    "hierarchical_fan_in",
    "regularised_horseshoe",
    "map",
)
def test_the_density_implies_the_distribution_of_a_weight(row: Row) -> None:
    density, weights, size = log_density(row.prior, row.like())
    rng = np.random.default_rng(2)
    draws = np.empty((NUM, size))
    for i, (where, weight) in enumerate(slices(density, size)):
        cdf = np.cumsum(weight) / weight.sum()
        draws[:, i] = np.interp(rng.uniform(size=NUM), cdf, where)
    implied = np.ravel(jax.vmap(weights)(jnp.asarray(draws, jnp.float32))[row.place])
    assert scipy.stats.kstest(implied, row.reference).pvalue > LEAST_P


@some("laplace", "student_t", "fan_in", "regularised_horseshoe")
def test_samples_have_the_distribution(row: Row) -> None:
    key = jax.random.key(3)
    if row.prior.init_hyper(row.like()):  # numbers of one array have a scale in common
        keys = jax.random.split(key, NUM)
        draws = jax.jit(jax.vmap(lambda key: row.prior.sample(key, row.like())))(keys)
    else:
        draws = row.prior.sample(key, {row.place: jnp.zeros(NUM)})
    draws = np.asarray(draws[row.place]).ravel()
    assert scipy.stats.kstest(draws, row.reference).pvalue > LEAST_P


@pytest.mark.parametrize(
    "name",
    [
        "fan_in",
        "map",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("laplace", "hierarchical")),
    ],
)
def test_samples_differ_over_arrays_and_have_their_types(name: str) -> None:
    like = {"a": {"weight": jnp.zeros(50)}, "weight": jnp.zeros(50, jnp.float16)}
    draw = TABLE[name].prior.sample(jax.random.key(0), like)
    assert draw["weight"].dtype == jnp.float16
    ranks = scipy.stats.spearmanr(np.abs(draw["a"]["weight"]), np.abs(draw["weight"]))
    assert abs(ranks.statistic) < 4 / np.sqrt(50)


@rows
@pytest.mark.parametrize(
    "value", [0.0, 1e8, *(pytest.param(x, marks=pytest.mark.slow) for x in (1e-20, -30.0, 30.0))]
)
def test_the_gradient_is_finite_far_out(row: Row, value: float) -> None:
    density, _, size = log_density(row.prior, row.like())
    point = jnp.full(size, value).at[: size - 1].set(min(value, 30.0))
    # The weights come first; hyper-parameters are logarithms, and 30 is far out.
    point = point[::-1]
    log_prob, gradient = jax.value_and_grad(density)(point)
    assert np.isfinite(log_prob) and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", PRIORS)
def test_every_parameter_changes_the_model(name: str) -> None:
    """The density of what is sampled, or the weights that it stands for."""
    z = {"kernel": jnp.ones((4, 9)), "bias": jnp.ones(4)}
    hyper = PRIORS[name]().init_hyper(z)

    def found(**parameters: Any) -> np.ndarray:
        prior = PRIORS[name](**parameters)
        density = prior.log_prob(z) + prior.hyper_log_prob(hyper)
        return np.append(ravel_pytree(prior.weights(z, hyper))[0], density)

    fields = PRIORS[name]().get_params()
    for field in fields:
        value = 0 if field == "output_axis" else 0.37
        assert not np.allclose(found(), found(**{field: value})), field
    for field in set(fields) - {"output_axis"}:
        for bad in (0.0, -1.0, float("inf")):
            with pytest.raises(ValueError, match=f"^{field}="):
                PRIORS[name](**{field: bad})


@pytest.mark.parametrize(
    ("name", "output_axis", "fan_in"), [("weight", None, 12), ("kernel", None, 30), ("w", 1, 20)]
)
def test_the_fan_in_of_an_array(name: str, output_axis: int | None, fan_in: int) -> None:
    prior = mirth.priors.FanInNormalPrior(scale=2.0, bias_scale=0.3, output_axis=output_axis)
    shape = {"weight": (10, 4, 3), "kernel": (10, 3, 4), "w": (10, 6, 2)}[name]
    weights = {"layer": {name: jnp.full(shape, 0.1), "bias": jnp.full(3, -0.2)}}
    expected = (
        scipy.stats.norm(scale=2 / np.sqrt(fan_in)).logpdf(0.1) * np.prod(shape)
        + 3 * scipy.stats.norm(scale=0.3).logpdf(-0.2)
    )  # fmt: skip
    np.testing.assert_allclose(prior.log_prob(weights), expected, rtol=1e-5)
    draw = prior.sample(jax.random.key(0), {name: jnp.zeros((40, *shape))[0]})[name]
    assert abs(draw.std() / (2 / np.sqrt(fan_in)) - 1) < 4 / np.sqrt(2 * draw.size)


def test_a_learnt_scale_does_not_depend_on_the_width() -> None:
    prior = mirth.priors.HierarchicalFanInPrior(scale=1.5, bias_scale=0.3)
    for width in (4, 400):
        z = {"weight": jnp.ones((2, width)), "bias": jnp.ones(2)}
        hyper = {"log_scale": {"weight": jnp.log(3.0), "bias": None}}
        weights = prior.weights(z, hyper)
        np.testing.assert_allclose(weights["weight"].sum(axis=1), 4.5 * np.sqrt(width), rtol=1e-5)
        np.testing.assert_allclose(weights["bias"], 0.3, rtol=1e-6)


@pytest.mark.parametrize("axis", [None, 5])
def test_a_fan_in_that_cannot_be_told(axis: int | None) -> None:
    for kind in (mirth.priors.FanInNormalPrior, mirth.priors.HierarchicalFanInPrior):
        with pytest.raises(ValueError, match=r"^output_axis=.*'dense.w' of shape \(4, 3\); give"):
            kind(output_axis=axis).check({"dense": {"w": jnp.zeros((4, 3))}})
        with pytest.raises(TypeError, match="^output_axis='last' must be an integer"):
            kind(output_axis="last")  # type: ignore[arg-type]


BATCH = Batch(jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32), jnp.ones(8))
NETWORK = MLP((4,), num_outputs=1)
MIXED = mirth.priors.PriorMap(
    {
        "0.weight": mirth.priors.RegularisedHorseshoePrior(),
        "*.weight": mirth.priors.FanInNormalPrior(),
        "0.bias": mirth.priors.HierarchicalNormalPrior(scale=0.1),
        "*": mirth.priors.LaplacePrior(),
    }
)


@pytest.mark.parametrize(
    "prior",
    [
        pytest.param(TABLE["hierarchical"].prior, marks=pytest.mark.slow),
        TABLE["hierarchical_fan_in"].prior,
        MIXED,
    ],
)
def test_a_model_with_hyper_parameters(prior: Prior) -> None:
    model = Model(NETWORK, mirth.likelihoods.HomoscedasticNormal(), prior)
    weights = model.init_weights(jax.random.key(0), BATCH.x)
    params = model.init(jax.random.key(0), BATCH.x)
    assert params.keys() == {"network", "hyper", "shared"}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), model.to_weights(params), weights
    )
    # Other parameters, so that hyper-parameters are not at special values.
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)
    weights = model.to_weights(params)
    plain = Model(NETWORK, mirth.likelihoods.HomoscedasticNormal())
    np.testing.assert_allclose(
        model.outputs(params, BATCH.x), plain.outputs(weights, BATCH.x), rtol=1e-5
    )
    generic = Model(FunctionalNetwork(NETWORK.init, NETWORK.apply), model.likelihood, prior)
    ours, theirs = (
        jax.jit(jax.value_and_grad(m.log_density))(params, BATCH) for m in (model, generic)
    )
    for a, b in ((ours[0], theirs[0]), (ravel_pytree(ours[1])[0], ravel_pytree(theirs[1])[0])):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))
    log_prior = (
        prior.log_prob(params["network"])
        + prior.hyper_log_prob(params["hyper"])
        + model.likelihood.shared_log_prior(params["shared"])
    )
    np.testing.assert_allclose(model.log_prior(params), log_prior, rtol=1e-6)
    with pytest.raises(KeyError, match="log_"):  # weights have no density of their own
        model.log_prior(weights)


def test_first_scales_are_those_of_the_weights() -> None:
    # Four inputs of a median scale of 2 have weights of 1, like the other priors.
    weights = {"weight": jnp.array([[3.0, -4.0, 0.0, 5.0]]), "bias": jnp.zeros(1)}
    for name in SAMPLED_SCALES:
        prior = PRIORS[name]()
        hyper = prior.init_hyper(weights)
        np.testing.assert_allclose(np.exp(hyper["log_scale"]["weight"]), np.sqrt(12.5), rtol=1e-6)
        z = prior.standardised(weights, hyper)
        assert np.isfinite(ravel_pytree((z, hyper))[0]).all()
        np.testing.assert_array_equal(z["bias"], 0)
        back = prior.weights(z, hyper)["weight"]
        np.testing.assert_allclose(back, weights["weight"], rtol=1e-6)


def test_a_map_is_the_sum_of_its_parts() -> None:
    weights = Model(NETWORK, mirth.likelihoods.HomoscedasticNormal()).init_weights(
        jax.random.key(1), BATCH.x
    )["network"]  # fmt: skip
    first, second = weights
    hyper = MIXED.init_hyper(weights)
    assert hyper["log_scale"][0].keys() == {"weight", "bias"}
    assert hyper["log_local"][1] == {"weight": None, "bias": None}
    parts = dict(MIXED.priors)
    local = {role: {"w": tree[0]["weight"]} for role, tree in hyper.items()}
    scale = {"log_scale": {"b": hyper["log_scale"][0]["bias"]}}
    expected = (
        parts["0.weight"].hyper_log_prob(local)
        + parts["0.bias"].hyper_log_prob(scale)
        + parts["0.weight"].log_prob(first["weight"])
        + parts["*.weight"].log_prob({"weight": second["weight"]})
        + parts["0.bias"].log_prob(first["bias"])
        + parts["*"].log_prob(second["bias"])
    )
    total = MIXED.log_prob(weights) + MIXED.hyper_log_prob(hyper)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    swapped = mirth.priors.PriorMap(tuple(reversed(MIXED.priors)))
    assert swapped != MIXED and hash(mirth.priors.PriorMap(dict(MIXED.priors))) == hash(MIXED)
    assert swapped.prior_of("0.weight") == mirth.priors.LaplacePrior()
    assert [line.split()[0] for line in MIXED.table(weights).splitlines()[1:]] == [
        "0.bias", "0.weight", "1.bias", "1.weight"
    ]  # fmt: skip
    assert "1.weight   (1, 4)  FanInNormalPrior(" in MIXED.table(weights)


NORMAL = mirth.priors.NormalPrior()


@pytest.mark.parametrize(
    ("priors", "error", "message"),
    [
        ({}, ValueError, "priors={} must have a pattern"),
        (NORMAL, TypeError, "priors=NormalPrior.* must map patterns to priors"),
        ({"*": "normal"}, TypeError, r"priors\['\*'\]='normal' must be a prior object"),
        ({3: NORMAL}, TypeError, r"priors\[3\]=NormalPrior.* by a pattern in quotes"),
        ({"*.wieght": NORMAL, "*": NORMAL}, ValueError, r"no parameter; did you mean '\*.weight'"),
        ({"0.wight": NORMAL, "*": NORMAL}, ValueError, "did you mean '0.weight'. Parameters: 0.b"),
        ({"zzz": NORMAL, "*": NORMAL}, ValueError, r"'zzz'\] matches no parameter. Parameters: 0"),
        ({"*": NORMAL, "0.*": NORMAL}, ValueError, r"'0.\*'\] has no parameter left: '0.bias'"),
        ({"*.weight": NORMAL}, ValueError, r"for the parameter '0.bias' \(2 of 4 .* add '\*' as"),
        ({"*": mirth.priors.PriorMap({"0.*": NORMAL})}, ValueError, "for the parameter '1.bias'"),
    ],
)
def test_wrong_maps(priors: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Model(NETWORK, mirth.likelihoods.HomoscedasticNormal(), mirth.priors.PriorMap(priors)).init(
            jax.random.key(0), BATCH.x
        )


def test_a_table_of_a_map_without_a_prior_for_all() -> None:
    with pytest.raises(ValueError, match="no pattern for the parameter 'b'"):
        mirth.priors.PriorMap({"a": NORMAL}).table({"a": jnp.zeros(2), "b": jnp.zeros(2)})
