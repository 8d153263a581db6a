"""Models in one file each: a JSON manifest and arrays in a zip archive, no pickle.

The archive is what NumPy reads as ``.npz``. Its member ``manifest.json`` says what the file holds,
a posterior or an estimator, and has everything but the arrays; each array is a member of its own,
named by its path, such as ``posterior/draws/network/0/weight.npy`` with axes (chain, draw, ...).
Zip keeps a checksum of every member, which is compared when the file is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mirth.core.folders import check_marker, missing
from mirth.core.snapshots import (
    DamagedFileError,
    Snapshot,
    read_record,
    read_snapshot,
    write_snapshot,
)
from mirth.inference import Posterior
from mirth.results._checks import check_posterior
from mirth.results.codec import decode, encode

FORMAT = "mirth model"
SCHEMA_VERSION = 4
POSTERIOR = "Posterior"


def save(posterior: Posterior, path: str | Path) -> None:
    """Save a posterior in one file; :func:`load` gives it back.

    The file is a zip archive of a JSON manifest and arrays, without pickle, as an estimator's
    ``save`` writes it. It is written under another name, forced to the disk and renamed, so that an
    older model of this name is kept until the new one is whole. Draws that lie in a run directory
    or at a URL are read into it.

    Parameters
    ----------
    posterior : Posterior
        What was sampled.
    path : str or path
        The file, such as ``"model.mirth"``. Its folder is made if it is missing; an older model
        is replaced, anything else is not.

    Raises
    ------
    TypeError
        If ``posterior`` is none, or a part of it cannot be saved: networks, likelihoods and priors
        of one's own, and those of other libraries, are code. The text names the part and says what
        keeps it.
    IsADirectoryError, FileExistsError
        If the path is a folder, or a file that is no model.
    OSError
        If the file cannot be written, as on a full disk; an older one is still there.

    Notes
    -----
    The end of the run (``posterior.continuation``) is not kept, so no longer run can go on from a
    posterior that was loaded; with a run directory, ``infer(run=FOLDER)``, it can.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> posterior = mirth.infer(model, mirth.Dataset(x, x[:, 0]), "deep_ensemble", num_chains=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(posterior, f"{folder}/model.mirth")
    ...     loaded = load(f"{folder}/model.mirth")
    >>> bool((loaded.positions() == posterior.positions()).all()), loaded.model == model
    (True, True)
    """
    kept = dataclasses.replace(check_posterior(posterior), continuation=None)
    arrays: dict[str, np.ndarray] = {}
    write_model(path, POSTERIOR, {"posterior": encode(kept, "posterior", arrays)}, arrays)


def load(path: str | Path) -> Posterior:
    """Load a posterior that :func:`save` has written.

    Nothing in the file is executed, and nothing in it depends on a device. Of a file that may hold
    an estimator, :func:`mirth.load` gives whichever it is.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    Posterior
        The same to the last bit, with all draws in memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the nearest name is suggested.
    IsADirectoryError
        If the path is a folder.
    ValueError
        If the file is no model, damaged, was written by another schema version, or holds an
        estimator.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> posterior = mirth.infer(model, mirth.Dataset(x, x[:, 0]), "deep_ensemble", num_chains=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(posterior, f"{folder}/model.mirth")
    ...     loaded = load(f"{folder}/model.mirth")
    >>> loaded.num_chains, loaded.num_draws
    (2, 1)
    """
    manifest, arrays = read_model(path)
    kind = manifest.get("class")
    if kind != POSTERIOR:
        raise ValueError(f"{path} holds a {kind}, not a Posterior; load it by mirth.load.")
    return as_posterior(path, manifest, arrays)


def as_posterior(
    path: str | Path, manifest: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Posterior:
    """Make the posterior of what :func:`read_model` has read."""
    with rebuilding(path):
        posterior = decode(manifest["posterior"], arrays)
        if not isinstance(posterior, Posterior):
            raise TypeError(f"posterior is a {type(posterior).__name__}")
        return posterior


def write_model(
    path: str | Path, kind: str, content: Mapping[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write a model, of whichever kind.

    Parameters
    ----------
    path : str or path
        The file.
    kind : str
        Name of the class that the file holds.
    content : mapping
        What the manifest says of it, as :func:`~mirth.results.codec.encode` gives it.
    arrays : dict
        What ``encode`` has put aside.

    Raises
    ------
    IsADirectoryError, FileExistsError
        If the path is a folder, or a file that is no model.
    OSError
        If the file cannot be written; an older one is still there.
    """
    path = Path(path)
    _check_target(path)
    manifest = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "mirth_version": importlib.metadata.version("mirth"),
        "class": kind,
        **content,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_snapshot(path, Snapshot(manifest, arrays))


def _check_target(path: Path) -> None:
    """Refuse to replace anything but a model."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it, such as {path / 'model'}.")
    if not path.exists():
        return
    try:
        found = read_record(path).get("format")
    except (DamagedFileError, AttributeError):
        found = None
    if found != FORMAT:
        raise FileExistsError(
            f"{path} is no model that mirth has saved, so it is not replaced; choose another name, "
            "or remove it yourself."
        )


def read_model(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a model, of whichever kind: its manifest and its arrays.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    manifest : dict
        With ``"class"`` and what :func:`write_model` was given.
    arrays : dict of NumPy arrays
        By name.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the nearest name is suggested.
    IsADirectoryError
        If the path is a folder.
    ValueError
        If the file is no model, damaged, or was written by another schema version.
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
    manifest = check_marker(record, _manifest(path), path, FORMAT, SCHEMA_VERSION)
    return manifest, arrays


@contextlib.contextmanager
def rebuilding(path: str | Path) -> Iterator[None]:
    """Say of any error while a manifest is turned into objects that the manifest is damaged."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{_manifest(path)} is damaged ({type(error).__name__}: {error}); fit again."
        ) from error


def _manifest(path: str | Path) -> str:
    return f"manifest.json in {path}"
