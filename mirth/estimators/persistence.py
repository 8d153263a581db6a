"""Fitted estimators in one file each: a JSON manifest and arrays in a zip archive, no pickle.

The archive is what NumPy reads as ``.npz``. Its member ``manifest.json`` holds the class, its
parameters, scalings, labels and reports; each array is a member of its own, named by its path, such
as ``posterior/draws/network/0/weight.npy`` with axes (chain, draw, ...). Zip keeps a checksum of
every member, which is compared when the file is read.
"""

from __future__ import annotations

from pathlib import Path

from mirth.core.folders import check_marker, missing
from mirth.core.snapshots import DamagedFileError, read_snapshot
from mirth.estimators._archive import FORMAT, SCHEMA_VERSION
from mirth.estimators.classifier import BNNClassifier
from mirth.estimators.regressor import BNNRegressor
from mirth.results.codec import decode

CLASSES: dict[str, type[BNNRegressor] | type[BNNClassifier]] = {
    "BNNRegressor": BNNRegressor,
    "BNNClassifier": BNNClassifier,
}


def load(path: str | Path) -> BNNRegressor | BNNClassifier:
    """Load an estimator that its ``save`` has written.

    Nothing in the file is executed, and nothing in it depends on a device.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    BNNRegressor or BNNClassifier
        The fitted estimator: same predictions to the last bit, same ``diagnostics_``.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the nearest name is suggested.
    IsADirectoryError
        If the path is a folder.
    ValueError
        If the file is no model, damaged, or was written by another schema version.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, mirth
    >>> X, y = np.linspace(-1, 1, 40)[:, None], np.linspace(0, 2, 40) ** 2
    >>> reg = mirth.BNNRegressor((4,), method="deep_ensemble", n_members=2, random_state=0)
    >>> reg = reg.fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     reg.save(f"{folder}/model.mirth")
    ...     loaded = mirth.load(f"{folder}/model.mirth")
    >>> bool((loaded.predict(X) == reg.predict(X)).all())
    True
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder; name the file of the model, such as {path / 'model.mirth'}."
        )
    if not path.exists():
        raise missing("file", path)
    try:
        record, arrays = read_snapshot(path)
    except DamagedFileError as error:
        raise ValueError(
            f"{error}. It is no model that mirth has saved, or was cut or changed since; copy it "
            "anew, or fit again."
        ) from error
    manifest = check_marker(record, f"manifest.json in {path}", path, FORMAT, SCHEMA_VERSION)
    try:
        estimator = CLASSES[manifest["class"]](**decode(manifest["parameters"], {}))
        for name, value in decode(manifest["fitted"], arrays).items():
            setattr(estimator, name, value)
        estimator.model_ = estimator.posterior_.model
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"manifest.json in {path} is damaged ({type(error).__name__}: {error}); fit again."
        ) from error
    return estimator
