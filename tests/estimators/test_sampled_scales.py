"""Priors whose scales are sampled: fits, starts, predictions, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.estimators import BNNRegressor, load
from mirth.model import PRIORS

pytestmark = pytest.mark.usefixtures("unoptimised")
Table = tuple[np.ndarray, np.ndarray]
MAP = mirth.priors.PriorMap(
    {
        "0.weight": mirth.priors.RegularisedHorseshoePrior(),
        "0.bias": mirth.priors.FanInNormalPrior(),
        "*.weight": mirth.priors.HorseshoePrior(),
        "*": mirth.priors.HierarchicalNormalPrior(scale=0.5),
    }
)


def weights_of(estimator: BNNRegressor, params: Any, num_axes: int) -> Any:
    to_weights = estimator.model_.to_weights
    for _ in range(num_axes):
        to_weights = jax.vmap(to_weights)
    return to_weights(jax.tree.map(np.asarray, params))["network"]


@pytest.mark.slow  # all of them always run as parts of the map below
@pytest.mark.parametrize("name", ["hierarchical", "horseshoe", "regularised_horseshoe"])
def test_a_fit_by_name(
    name: str, regressor: BNNRegressor, short: dict[str, Any], table: Table
) -> None:
    x, y = table
    model = BNNRegressor(**short, prior=name).fit(x, y)
    assert type(model.model_.prior) is PRIORS[name]
    posterior = model.posterior_
    assert not posterior.sample_stats["diverging"].any()
    assert np.sqrt(np.mean((model.predict(x) - y) ** 2)) < 0.7 * y.std()
    # The prior has no part in the optimisation, and its first hyper-parameters change no weight.
    ours = weights_of(model, posterior.start, 1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        ours,
        regressor.posterior_.start["network"],
    )
    np.testing.assert_allclose(
        model.as_deep_ensemble().predict(x), regressor.as_deep_ensemble().predict(x), rtol=1e-5
    )
    # All that is sampled moves.
    jax.tree.map(
        lambda leaf: np.testing.assert_array_less(1e-6, np.std(leaf, axis=1)), posterior.draws
    )


@pytest.mark.slow
def test_a_map_in_a_run_directory_and_saved(
    tmp_path: Path, short: dict[str, Any], table: Table
) -> None:
    options = short | {"prior": MAP, "run_directory": tmp_path / "run"}
    model = BNNRegressor(**options).fit(*table)
    weights = weights_of(model, model.posterior_.draws, 2)
    network, x = model.model_.network, model.x_scaler_.transform(table[0])
    outputs = jax.vmap(jax.vmap(lambda w: network.apply(w, x)))(weights)
    by_hand = model.y_scaler_.inverse(np.asarray(outputs[..., 0].mean(axis=(0, 1))))
    np.testing.assert_allclose(model.predict(table[0]), by_hand, rtol=1e-4)

    again = BNNRegressor(**options).fit(*table)  # goes on from the end
    np.testing.assert_array_equal(again.predict(table[0]), model.predict(table[0]))
    model.save(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.prior == MAP
    np.testing.assert_array_equal(loaded.predict(table[0]), model.predict(table[0]))
    np.testing.assert_array_equal(
        loaded.diagnostics_.rhat_parameters, model.diagnostics_.rhat_parameters
    )


def test_a_map_that_does_not_fit_is_named_before_the_fit(
    short: dict[str, Any], table: Table
) -> None:
    prior = mirth.priors.PriorMap(
        {"*.weights": mirth.priors.NormalPrior(), "*": mirth.priors.NormalPrior()}
    )
    with pytest.raises(ValueError, match=r"matches no parameter; did you mean '\*.weight'"):
        BNNRegressor(**short, prior=prior).fit(*table)
