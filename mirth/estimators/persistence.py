"""Loading what was saved, an estimator or a posterior; :mod:`mirth.results.archive` has the format.

Of an estimator the manifest holds its class, its parameters, scalings, labels and reports.
"""

from __future__ import annotations

from pathlib import Path

from mirth.estimators.classifier import BNNClassifier
from mirth.estimators.regressor import BNNRegressor
from mirth.inference import Posterior
from mirth.results.archive import POSTERIOR, as_posterior, read_model, rebuilding
from mirth.results.codec import decode

CLASSES: dict[str, type[BNNRegressor] | type[BNNClassifier]] = {
    "BNNRegressor": BNNRegressor,
    "BNNClassifier": BNNClassifier,
}


def load(path: str | Path) -> BNNRegressor | BNNClassifier | Posterior:
    """Load what an estimator's ``save`` or :func:`mirth.results.save` has written.

    Nothing in the file is executed, and nothing in it depends on a device.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    BNNRegressor, BNNClassifier or Posterior
        What was saved. A fitted estimator has the same predictions to the last bit and the same
        ``diagnostics_``, a posterior the same draws.

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
    manifest, arrays = read_model(path)
    if manifest.get("class") == POSTERIOR:
        return as_posterior(path, manifest, arrays)
    with rebuilding(path):
        estimator = CLASSES[manifest["class"]](**decode(manifest["parameters"], {}))
        for name, value in decode(manifest["fitted"], arrays).items():
            setattr(estimator, name, value)
        estimator.model_ = estimator.posterior_.model
    return estimator
