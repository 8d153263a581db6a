"""What is kept of a draw, and in which type; in memory and in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.core.stored import StoredArray
from mirth.inference import Placement

pytestmark = pytest.mark.usefixtures("unoptimised")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2)).astype(np.float32)
DATA = mirth.Dataset(X, X[:, 0])
MODEL = mirth.Model(mirth.MLP((3,), num_outputs=2), mirth.Normal())


def infer(n_samples: int = 6, model: Any = MODEL, **options: Any) -> mirth.Posterior:
    method = mirth.MILE(
        n_warmup=40, n_samples=n_samples, n_thinning=1, start=mirth.DeepEnsemble(max_epochs=3)
    )
    placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
    return mirth.infer(model, DATA, method, num_chains=2, **in_groups(options, placement=placement))


@pytest.fixture(scope="module")
def full() -> mirth.Posterior:
    return infer()


@pytest.mark.parametrize(
    ("dtype", "digits"),
    [pytest.param("float16", 1e-3, marks=pytest.mark.slow), ("bfloat16", 1e-2)],
)
@pytest.mark.parametrize("in_folder", [False, True])
def test_sixteen_bits(
    full: mirth.Posterior, tmp_path: Path, dtype: str, digits: float, in_folder: bool
) -> None:
    options: dict[str, Any] = {"draws_dtype": dtype}
    if in_folder:
        options["out"] = tmp_path / "run"
        infer(n_samples=3, **options)  # goes on below, from its checkpoint
    posterior = infer(**options)
    for leaf, exact in zip(*map(jax.tree.leaves, (posterior.draws, full.draws)), strict=True):
        assert leaf.dtype == jnp.dtype(dtype) and isinstance(leaf, StoredArray) == in_folder
        values = np.asarray(leaf).astype(np.float32)
        np.testing.assert_allclose(values, exact, rtol=digits, atol=1e-6)
        np.testing.assert_array_equal(values, exact.astype(jnp.dtype(dtype)).astype(np.float32))
    found, expected = (mirth.make_predictive(MODEL, p.draws, X).mean() for p in (posterior, full))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=10 * digits)
    # By the chains themselves, whatever is kept: equal but for rounding between programs.
    np.testing.assert_allclose(posterior.lppd_chain, full.lppd_chain, rtol=1e-6)


def test_large_draws_are_read_in_full_precision(
    tmp_path: Path, full: mirth.Posterior, host_patch: pytest.MonkeyPatch
) -> None:
    host_patch.setattr("mirth.prediction.blocks._MAX_BYTES_IN_MEMORY", 0)
    posterior = infer(draws_dtype="bfloat16", out=tmp_path / "run")
    first = jax.tree.leaves(posterior.draws)[0]
    assert first.full_precision()[0, :2].dtype == np.float32
    assert first.take_chains(np.array([1]))[0].dtype == jnp.bfloat16
    some = posterior.take_chains([1])
    mean = mirth.make_predictive(MODEL, some.draws, X).mean()
    exact = mirth.make_predictive(MODEL, full.take_chains([1]).draws, X).mean()
    np.testing.assert_allclose(mean, exact, atol=0.1)


def test_a_function_of_the_parameters(full: mirth.Posterior, tmp_path: Path) -> None:
    def keep(params: Any) -> Any:
        return {"last": params["network"][1], "outputs": MODEL.outputs(params, X[:4])}

    posterior = infer(keep=keep)
    np.testing.assert_array_equal(
        posterior.draws["last"]["weight"], full.draws["network"][1]["weight"]
    )
    outputs = jax.vmap(jax.vmap(lambda params: MODEL.outputs(params, X[:4])))(full.draws)
    np.testing.assert_allclose(posterior.draws["outputs"], outputs, rtol=1e-4, atol=1e-5)
    stored = infer(keep=keep, out=tmp_path / "run", draws_dtype="float16")
    np.testing.assert_allclose(
        np.asarray(stored.draws["outputs"]).astype(float), outputs, rtol=1e-2, atol=1e-2
    )
    with pytest.raises(Exception, match="keep="):
        infer(out=tmp_path / "run", draws_dtype="float16")


def test_wrong_values() -> None:
    with pytest.raises(ValueError, match="dtype='float8'"):
        infer(draws_dtype="float8")
    with pytest.raises(TypeError, match="keep must give arrays of type float32, but n is int32"):
        infer(keep=lambda params: {"n": jnp.zeros(2, jnp.int32)})
    huge = mirth.networks.FunctionalNetwork(
        lambda key, x: {"w": jnp.full((3, 2), 1e5)}, lambda p, x: x @ p["w"][:2] * 1e-5
    )
    model = mirth.Model(huge, mirth.Normal(), mirth.priors.NormalPrior(scale=1e6))
    with pytest.raises(mirth.SamplingError, match="dtype='float16' ends at 65504"):
        infer(model=model, draws_dtype="float16")


def test_what_is_kept_of_an_ensemble() -> None:
    """Its members are draws, too: the type and the function count."""
    ensemble = mirth.DeepEnsemble(max_epochs=2)
    keep = mirth.Keep(lambda params: {"first": params["network"][0]}, "float16")
    whole = mirth.infer(MODEL, DATA, ensemble, num_chains=2)
    part = mirth.infer(MODEL, DATA, ensemble, num_chains=2, keep=keep)
    assert part.draws.keys() == {"first"}
    for leaf, full in zip(
        jax.tree.leaves(part.draws), jax.tree.leaves(whole.draws["network"][0]), strict=True
    ):
        assert leaf.dtype == np.float16
        np.testing.assert_array_equal(leaf, full.astype(np.float16))
