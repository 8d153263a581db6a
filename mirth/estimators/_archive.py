"""Writing a fitted estimator into one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from mirth.results.archive import write_model
from mirth.results.codec import encode

CLASS_NAMES = ("BNNRegressor", "BNNClassifier")
PLACES = ("run_directory", "draws_store", "monitors")  # of one process, not of the model
DERIVED = ("model_", "_session")  # the first is posterior_.model, the second has the rows


def write_estimator(estimator: Any, path: str | Path) -> None:
    """Write a fitted estimator; :meth:`BaseBNN.save` says how.

    Parameters
    ----------
    estimator : BNNRegressor or BNNClassifier
        A fitted estimator.
    path : str or path
        The file.

    Raises
    ------
    IsADirectoryError, FileExistsError
        If the path is a folder, or a file that is no model.
    OSError
        If the file cannot be written; an older one is still there.
    TypeError
        If a part cannot be saved; the text names it.
    """
    name = type(estimator).__name__
    if name not in CLASS_NAMES or not type(estimator).__module__.startswith("mirth."):
        raise TypeError(
            f"the estimator is a {name}; only {' and '.join(CLASS_NAMES)} themselves can be saved. "
            "Keep it by pickle or joblib instead, beside the code of its class."
        )
    parameters = estimator.get_params(deep=False)
    fitted = {
        key: value
        for key, value in vars(estimator).items()
        if key not in parameters and key not in DERIVED
    }
    fitted["posterior_"] = dataclasses.replace(fitted["posterior_"], continuation=None)
    arrays: dict[str, np.ndarray] = {}
    content = {
        "parameters": {
            key: encode(value, key, {}) for key, value in _kept_parameters(parameters).items()
        },
        "fitted": {key: encode(value, key.strip("_"), arrays) for key, value in fitted.items()},
    }
    write_model(path, name, content, arrays)


def _kept_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    # A loaded estimator that is fitted again must not go on in, or collide with, that run.
    kept = parameters | dict.fromkeys(PLACES)
    if isinstance(kept["random_state"], np.random.RandomState):
        kept["random_state"] = None
    if isinstance(kept["hidden_layer_sizes"], np.ndarray):
        kept["hidden_layer_sizes"] = tuple(kept["hidden_layer_sizes"].tolist())
    return kept
