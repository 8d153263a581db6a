"""Draws as an ArviZ tree: function space first, a few weights, likelihood, predictions."""

from __future__ import annotations

import importlib.metadata
import warnings
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mirth.core.trees import full_precision
from mirth.core.validation import check_int
from mirth.data import Dataset
from mirth.inference import Posterior
from mirth.results._checks import check_posterior
from mirth.results.stacking import predict_dist

if TYPE_CHECKING:
    import xarray as xr

# What ArviZ calls what samplers of mirth report. The log density of a batch keeps its name: as "lp"
# its noise would pass for movement.
_STATS = {"logdensity": "lp", "energy_change": "energy_error"}


def to_arviz(
    posterior: Posterior,
    dataset: Dataset,
    *,
    n_rows: int | None = 50,
    n_weights: int | None = 20,
    seed: int = 0,
) -> xr.DataTree:
    """Give draws as ArviZ reads them, for any model.

    ========================  ==================  ==============================================
    group                     variable            dimensions
    ========================  ==================  ==============================================
    ``posterior``             ``mean``            chain, draw, mean_row (, class)
    ``posterior``             ``weights``         chain, draw, weight
    ``sample_stats``          ``lp``, ...         chain, draw
    ``log_likelihood``        ``y``               chain, draw, row
    ``posterior_predictive``  ``y``               chain, draw, row
    ``observed_data``         ``y``               row
    ``constant_data``         ``chain_weights``   chain
    ========================  ==================  ==============================================

    The last group is there if the chains have weights. ArviZ counts all draws alike.

    ``lp`` is the log density of each draw. A stochastic chain knows it by a batch only: it has
    ``batch_logdensity`` in its place (:class:`~mirth.Posterior`).

    ``mean`` is the predictive mean of each draw, for classes their probabilities. It is where
    chains can agree: weights of different chains lie in different modes, so that their R-hat over
    chains is expected to be large.

    Parameters
    ----------
    posterior : Posterior
        What was sampled.
    dataset : Dataset
        Rows to look at, scaled as in the fit; those of the fit for leave-one-out scores.
    n_rows : int or None, default=50
        Rows of ``mean``, equally spaced; None means all.
    n_weights : int or None, default=20
        Weights of ``weights``, drawn at random and named by their place; None means all.
    seed : int, default=0
        Seed of the targets of ``posterior_predictive`` and of the choice of weights.

    Returns
    -------
    xarray.DataTree
        In memory: the groups with rows hold chains x draws x rows numbers each.

    Raises
    ------
    ModuleNotFoundError
        If arviz-base is missing.
    TypeError
        If ``posterior`` or ``dataset`` is something else.
    ValueError
        If a number is not positive, or the rows do not fit the model.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> data = mirth.Dataset(x, x[:, 0])
    >>> posterior = mirth.infer(model, data, "deep_ensemble", num_chains=2)
    >>> tree = mirth.results.to_arviz(posterior, data, n_rows=10)
    >>> tree["posterior"]["mean"].shape
    (2, 1, 10)
    """
    check_posterior(posterior)
    if not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; pass the rows as mirth.Dataset(x, y), scaled "
            "as in the fit."
        )
    predictive = predict_dist(posterior, dataset.x, seed=seed)
    return arviz_tree(
        posterior, predictive, dataset.y, n_rows=n_rows, n_weights=n_weights, seed=seed
    )


def arviz_tree(
    posterior: Posterior,
    predictive: Any,
    y: np.ndarray,
    *,
    n_rows: int | None,
    n_weights: int | None,
    seed: int,
    classes: np.ndarray | None = None,
) -> xr.DataTree:
    """Make the tree of :func:`to_arviz` from a predictive distribution, in the units of ``y``.

    Parameters
    ----------
    posterior : Posterior
        What was sampled.
    predictive : Predictive or CategoricalPredictive
        Of the rows, by all draws.
    y : array of shape (rows,)
        Their targets.
    n_rows, n_weights, seed
        As for :func:`to_arviz`.
    classes : array of shape (classes,), optional
        Labels of the classes.

    Returns
    -------
    xarray.DataTree
    """
    for name, number in (("n_rows", n_rows), ("n_weights", n_weights)):
        if number is not None:
            check_int(name, number, minimum=1)
    try:
        from arviz_base import from_dict
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "arviz-base is not installed; install it by: pip install 'mirth[arviz]'"
        ) from error
    rows = np.arange(len(y))
    shown = np.linspace(0, len(rows) - 1, min(n_rows or len(rows), len(rows))).astype(int)
    weights, names = _some_weights(posterior, n_weights, seed)
    means = predictive.component_means()[:, :, shown]
    mean_dims = ["mean_row"]
    coords: dict[str, Any] = {"mean_row": shown, "weight": names, "row": rows}
    if means.ndim == 4:
        mean_dims.append("class")
        coords["class"] = np.arange(means.shape[3]) if classes is None else classes
    groups = {
        "posterior": {"mean": means, "weights": weights},
        "sample_stats": _sample_stats(posterior),
        "log_likelihood": {"y": predictive.log_prob_per_draw(y)},
        "posterior_predictive": {"y": predictive.sample_per_draw(seed=seed)},
        "observed_data": {"y": np.asarray(y)},
        "constant_data": {},
    }
    if posterior.chain_weights is not None:
        groups["constant_data"] = {"chain_weights": posterior.chain_weights}
    version = importlib.metadata.version("mirth")
    with warnings.catch_warnings():
        # An ensemble has more chains than draws, one of each.
        warnings.filterwarnings("ignore", message="Found chain dimension to be longer")
        return from_dict(
            {name: group for name, group in groups.items() if group},
            coords=coords | {"chain": posterior.members},
            dims={
                "mean": mean_dims,
                "weights": ["weight"],
                "y": ["row"],
                "chain_weights": ["chain"],
            },
            attrs={"/": {"inference_library": "mirth", "inference_library_version": version}},
        )


def _sample_stats(posterior: Posterior) -> dict[str, np.ndarray]:
    stats = {_STATS.get(n, n): np.asarray(v) for n, v in posterior.sample_stats.items()}
    if "diverging" in stats:  # ArviZ asks whether, not how often
        stats["diverging"] = stats["diverging"] > 0
    return stats


def _some_weights(
    posterior: Posterior, n_weights: int | None, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Give some or all weights, shape (chains, draws, weights), and their names."""
    places, values = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior.draws):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        array = full_precision(leaf)
        places += [f"{name}[{','.join(map(str, index))}]" for index in np.ndindex(*array.shape[2:])]
        values.append(array.reshape(*array.shape[:2], -1))
    joined = np.concatenate(values, axis=2)
    picks = np.arange(len(places))
    if n_weights is not None and n_weights < len(places):
        picks = np.sort(np.random.default_rng(seed).choice(picks, n_weights, replace=False))
    return joined[:, :, picks], [places[pick] for pick in picks]
