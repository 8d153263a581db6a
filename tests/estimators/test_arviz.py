"""ArviZ reads the draws, and its statistics and plots run on them."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from typing import Any

import matplotlib.style
import numpy as np
import pytest

import mirth
from mirth.estimators import BNNClassifier, BNNRegressor
from mirth.results.arviz import _sample_stats

pytestmark = pytest.mark.usefixtures("unoptimised")

arviz_stats = pytest.importorskip("arviz_stats")

GROUPS = {"posterior", "sample_stats", "log_likelihood", "posterior_predictive", "observed_data"}
Table = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def tree(regressor: BNNRegressor, table: Table) -> Any:
    return regressor.to_arviz(*table)


def test_groups_and_dimensions(tree: Any, regressor: BNNRegressor, table: Table) -> None:
    assert set(tree.children) == GROUPS
    assert tree["posterior"]["mean"].dims == ("chain", "draw", "mean_row")
    assert tree["posterior"]["mean"].shape == (2, 20, 50)
    assert tree["posterior"]["weights"].shape == (2, 20, 20)
    for group in ("log_likelihood", "posterior_predictive"):
        assert tree[group]["y"].dims == ("chain", "draw", "row")
    np.testing.assert_array_equal(tree["observed_data"]["y"], table[1])
    assert {"lp", "diverging", "energy_error", "step_size"} <= set(tree["sample_stats"])
    assert tree["sample_stats"]["diverging"].dtype == bool
    assert tree.attrs["inference_library"] == "mirth"
    dist = regressor.predict_dist(table[0])
    total = np.logaddexp.reduce(tree["log_likelihood"]["y"].to_numpy().reshape(40, -1))
    np.testing.assert_allclose(total - np.log(40), dist.log_prob(table[1]), rtol=1e-6)
    rows = tree["posterior"]["mean_row"].to_numpy()
    mean = tree["posterior"]["mean"].mean(("chain", "draw"))
    np.testing.assert_allclose(mean, dist.mean()[rows], rtol=1e-6)


def test_the_log_density_of_a_batch_is_not_called_lp(regressor: BNNRegressor) -> None:
    posterior = regressor.posterior_
    stats = dict(posterior.sample_stats)
    stats["batch_logdensity"] = stats.pop("logdensity")
    names = set(_sample_stats(dataclasses.replace(posterior, sample_stats=stats)))
    assert "batch_logdensity" in names and "lp" not in names


def test_predictive_targets_belong_to_their_draws(tree: Any, table: Table) -> None:
    """Standardised by its own draw's mean, a target has the noise's spread, not the draws'."""
    sampled = tree["posterior_predictive"]["y"].isel(row=tree["posterior"]["mean_row"])
    means = tree["posterior"]["mean"].to_numpy()
    residuals = (sampled.to_numpy() - means).reshape(40, -1)
    spread = (sampled.to_numpy().reshape(40, -1)).var(axis=0).mean()
    n = residuals.size
    # Var[y] = noise + disagreement, so residuals to the own mean vary less (5 standard errors of a
    # variance from n values, about sqrt(2 / n)).
    assert residuals.var() < spread * (1 + 5 * np.sqrt(2 / n))
    shuffled = (sampled.to_numpy()[::-1] - means).reshape(40, -1)
    assert residuals.var() < shuffled.var()


def test_weights_are_named_by_their_place(regressor: BNNRegressor, table: Table) -> None:
    rows = tuple(values[:5] for values in table)
    every = regressor.to_arviz(*rows, n_weights=None, n_rows=None)["posterior"]
    assert every["weights"].shape[2] == regressor.posterior_.positions().shape[2]
    assert every["mean"].shape[2] == 5
    draws = regressor.posterior_.draws["network"][0]["weight"]
    name = "network.0.weight[3,1]"
    np.testing.assert_array_equal(every["weights"].sel(weight=name), draws[:, :, 3, 1])
    few = regressor.to_arviz(*rows, n_weights=3, n_rows=2, seed=1)["posterior"]
    assert few["weights"].shape[2] == 3 and few["mean"].shape[2] == 2
    np.testing.assert_array_equal(
        few["weights"], every["weights"].sel(weight=few["weight"].to_numpy())
    )
    other = regressor.to_arviz(*rows, n_weights=3, seed=2)["posterior"]
    assert other["weight"].to_numpy().tolist() != few["weight"].to_numpy().tolist()


def test_classifier(classifier: BNNClassifier, table: Table) -> None:
    labels = classifier.predict(table[0])
    tree = classifier.to_arviz(table[0], labels)
    assert tree["posterior"]["mean"].dims == ("chain", "draw", "mean_row", "class")
    assert tree["posterior"]["class"].to_numpy().tolist() == ["low", "mid", "top"]
    np.testing.assert_allclose(tree["posterior"]["mean"].sum("class"), 1, atol=1e-6)
    names = classifier.classes_[tree["observed_data"]["y"].to_numpy()]
    np.testing.assert_array_equal(names, labels)
    assert set(np.unique(tree["posterior_predictive"]["y"])) <= {0, 1, 2}


def test_posterior_with_a_dataset(regressor: BNNRegressor, table: Table) -> None:
    """The same numbers in scaled units, and a deep ensemble, which has no statistics."""
    X, y = table
    data = mirth.Dataset(regressor.x_scaler_.transform(X), regressor.y_scaler_.transform(y))
    tree = mirth.results.to_arviz(regressor.posterior_, data)
    scale = regressor.y_scaler_.scale[0]
    np.testing.assert_allclose(
        tree["log_likelihood"]["y"] - np.log(scale),
        regressor.to_arviz(X, y)["log_likelihood"]["y"],
        atol=1e-4,
    )
    start = mirth.results.to_arviz(regressor.posterior_.start_as_posterior(), data, n_rows=3)
    assert set(start.children) == GROUPS - {"sample_stats"}


def test_compressed(regressor: BNNRegressor, table: Table) -> None:
    tree = regressor.compress(4).to_arviz(*table, n_rows=3)
    assert tree["posterior"]["weights"].shape == (2, 4, 20)
    assert tree["posterior"]["weights"].dtype == np.float32


def test_statistics_of_arviz(tree: Any) -> None:
    with warnings.catch_warnings():
        # Forty draws are few for the tails of the importance weights, and loo says so.
        warnings.filterwarnings("ignore", message="Estimated shape parameter of Pareto")
        loo = arviz_stats.loo(tree)
    assert np.isfinite(loo.elpd) and loo.n_data_points == 80
    ess, rhat = arviz_stats.ess(tree), arviz_stats.rhat(tree)
    assert np.isfinite(ess["mean"]).all() and np.isfinite(rhat["mean"]).all()
    own = mirth.evaluation.split_rhat(tree["posterior"]["mean"].to_numpy())
    np.testing.assert_allclose(rhat["mean"], own, rtol=1e-6)


@pytest.mark.parametrize("plot", ["plot_trace", "plot_rank", "plot_ppc_dist"])
def test_plots_of_arviz(tree: Any, plot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a backend that draws: arviz-plots 0.8 does not know Matplotlib 3.11."""
    # It looks for this module, which Matplotlib 3.11 has no more.
    monkeypatch.setattr(matplotlib.style, "core", matplotlib.style, raising=False)
    arviz_plots = pytest.importorskip("arviz_plots")
    options: dict[str, Any] = {"var_names": ["mean"], "coords": {"mean_row": [0, 79]}}
    if plot == "plot_ppc_dist":
        options = {"num_samples": 20}
    drawn = getattr(arviz_plots, plot)(tree, backend="none", **options)
    assert drawn.viz.children


def test_bad_input(regressor: BNNRegressor, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        BNNRegressor().to_arviz(*table)
    with pytest.raises(ValueError, match="n_rows=0 must be at least 1"):
        regressor.to_arviz(*table, n_rows=0)
    with pytest.raises(ValueError, match="n_weights=0 must be at least 1"):
        regressor.to_arviz(*table, n_weights=0)
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ModuleNotFoundError, match=r"mirth\[arviz\]"):
        regressor.to_arviz(*table)
