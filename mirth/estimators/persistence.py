"""Fitted estimators in folders: a JSON manifest and the draws in Zarr, no pickle.

``manifest.json`` holds the class, its parameters, scalings, labels and settings, and the name,
shape and checksum of every array; ``draws.zarr`` holds the arrays, one for each leaf of the
parameters with axes (chain, draw, ...), for each statistic and for each report.
"""

from __future__ import annotations

import importlib.metadata
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from mirth.core.folders import new_folder, read_marker, write_json
from mirth.core.outcomes import ChainVerdict
from mirth.estimators._codec import decode, encode
from mirth.estimators.classifier import BNNClassifier
from mirth.estimators.regressor import BNNRegressor

FORMAT = "mirth estimator"
SCHEMA_VERSION = 2
CLASSES: dict[str, type[BNNRegressor] | type[BNNClassifier]] = {
    "BNNRegressor": BNNRegressor,
    "BNNClassifier": BNNClassifier,
}
FITTED = ("posterior_", "x_scaler_", "y_scaler_", "n_features_in_", "seed_", "calibration_")
LABELS = ("classes_", "feature_names_in_")  # NumPy arrays of text, numbers or booleans
PLACES = ("run_directory", "draws_store", "monitors")  # of one process, not of the model
STORE = "draws.zarr"


def save_estimator(
    estimator: BNNRegressor | BNNClassifier, folder: str | Path, *, overwrite: bool = False
) -> None:
    """Save a fitted estimator; ``load_estimator`` predicts identically.

    The folder is written under another name first and renamed when it is complete.

    Parameters
    ----------
    estimator : BNNRegressor or BNNClassifier
        A fitted estimator with mirth's own methods, likelihoods and priors. A ``RandomState``
        given as ``random_state``, the ``run_directory`` and the ``draws_store`` are not kept: these
        parameters are None when loaded.
    folder : str or path
        The folder to make.
    overwrite : bool, default=False
        Replace a folder that mirth has written.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    FileExistsError
        If the folder is not empty, and ``overwrite`` is False or it is not mirth's.
    TypeError
        If a parameter or the labels cannot be saved; the text names them.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, mirth
    >>> X, y = np.linspace(-1, 1, 40)[:, None], np.linspace(0, 2, 40) ** 2
    >>> reg = mirth.BNNRegressor((4,), method="deep_ensemble", n_members=2, random_state=0)
    >>> reg = reg.fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_estimator(reg, f"{folder}/model")
    ...     loaded = load_estimator(f"{folder}/model")
    >>> bool((loaded.predict(X) == reg.predict(X)).all())
    True
    """
    if type(estimator) not in CLASSES.values():
        raise TypeError(
            f"estimator is a {type(estimator).__name__}; only {' and '.join(CLASSES)} can be saved."
        )
    check_is_fitted(estimator, "posterior_")
    arrays: dict[str, np.ndarray] = {}
    manifest = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "mirth_version": importlib.metadata.version("mirth"),
        "class": type(estimator).__name__,
        "parameters": _encode_parameters(estimator),
        "attributes": {
            name: encode(getattr(estimator, name), name.rstrip("_"), arrays)
            for name in FITTED
            if hasattr(estimator, name)
        },
        "diagnostic_rows": encode(estimator._diagnostic_rows, "diagnostic_rows", arrays),
        "labels": {
            name: _encode_labels(name, getattr(estimator, name))
            for name in LABELS
            if hasattr(estimator, name)
        },
        "verdicts": [verdict.name for verdict in estimator.verdicts_],
    }
    manifest["arrays"] = {name: _fingerprint(array) for name, array in arrays.items()}
    with new_folder(folder, overwrite=overwrite) as path:
        _write_arrays(path / STORE, arrays)
        write_json(path / "manifest.json", manifest)


def load_estimator(folder: str | Path) -> BNNRegressor | BNNClassifier:
    """Load what ``save_estimator`` has saved.

    Parameters
    ----------
    folder : str or path
        The folder.

    Returns
    -------
    BNNRegressor or BNNClassifier
        The fitted estimator: same predictions to the last bit, same ``diagnostics_``.

    Raises
    ------
    FileNotFoundError
        If the folder, its manifest or its draws are missing.
    ValueError
        If a part is damaged or was written by another schema version; the text names the file.
    """
    path = Path(folder)
    manifest = read_marker(path, FORMAT, SCHEMA_VERSION)
    try:
        arrays = _read_arrays(path / STORE, manifest["arrays"])
        parameters = decode(manifest["parameters"], {})
        estimator = CLASSES[manifest["class"]](**parameters)
        attributes = decode(manifest["attributes"], arrays)
        for name, value in attributes.items():
            setattr(estimator, name, value)
        for name, labels in manifest["labels"].items():
            setattr(estimator, name, np.asarray(labels["values"], dtype=labels["dtype"]))
        estimator.model_ = estimator.posterior_.model
        estimator.verdicts_ = [ChainVerdict[name] for name in manifest["verdicts"]]
        estimator._diagnostic_rows = decode(manifest["diagnostic_rows"], arrays)
        estimator._diagnostics = None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path / 'manifest.json'} is damaged ({type(error).__name__}: {error}); fit again."
        ) from error
    return estimator


def _encode_parameters(estimator: BNNRegressor | BNNClassifier) -> dict[str, Any]:
    # A loaded estimator that is fitted again must not go on in, or collide with, that run.
    parameters = estimator.get_params(deep=False) | dict.fromkeys(PLACES)
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None
    if isinstance(parameters["hidden_layer_sizes"], np.ndarray):
        parameters["hidden_layer_sizes"] = tuple(parameters["hidden_layer_sizes"].tolist())
    return {name: encode(value, name, {}) for name, value in parameters.items()}


def _encode_labels(name: str, labels: np.ndarray) -> dict[str, Any]:
    values = labels.tolist()
    if not all(isinstance(value, str | bool | int | float) for value in values):
        raise TypeError(
            f"{name} has labels of type {type(values[0]).__name__}, which cannot be saved; use "
            "text or numbers."
        )
    return {"dtype": labels.dtype.str if labels.dtype.kind != "O" else "object", "values": values}


def _fingerprint(array: np.ndarray) -> dict[str, Any]:
    # Zarr reads a chunk that is gone as zeros, so every array carries a checksum.
    checksum = zlib.crc32(np.ascontiguousarray(array).tobytes())
    return {"shape": list(array.shape), "dtype": array.dtype.str, "crc32": checksum}


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    import zarr

    group = zarr.open_group(path, mode="w")
    for name, values in arrays.items():
        array = group.create_array(name, shape=values.shape, dtype=values.dtype)
        array[...] = values


def _read_arrays(path: Path, expected: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    import zarr

    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing; the saved estimator is incomplete.")
    arrays = {}
    for name, fingerprint in expected.items():
        try:
            values = np.asarray(zarr.open_array(path / name, mode="r")[...])
            is_whole = _fingerprint(values) == fingerprint
        except Exception:  # whatever a codec makes of damaged bytes
            is_whole = False
        if not is_whole:
            raise ValueError(f"{path / name} is missing or damaged; fit again, or copy it anew.")
        arrays[name] = values
    return arrays
