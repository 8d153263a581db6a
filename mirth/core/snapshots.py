"""Snapshots: some arrays and a JSON record in one file, written whole or not at all.

A file is a NumPy archive (``.npz``): a zip file, which has a checksum for each member, without
pickle; the record is its member ``manifest.json``. A process that is killed at any instant leaves
the last file intact.
"""

from __future__ import annotations

import contextlib
import json
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mirth.core.folders import replacing
from mirth.core.outcomes import MirthWarning

_RECORD = "manifest.json"
_PREFIX = "checkpoint-"
_NUM_KEPT = 2


class DamagedFileError(OSError):
    """A file that cannot be what was written."""


class Snapshot(NamedTuple):
    """State of a run between two chunks of work.

    Parameters
    ----------
    record : dict
        What JSON can hold: stage, counts, times.
    arrays : dict of NumPy arrays
        State by name.
    """

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]


def write_snapshot(path: str | Path, snapshot: Snapshot) -> None:
    """Write a snapshot whole, or leave the file as it was.

    Parameters
    ----------
    path : str or path
        The file.
    snapshot : Snapshot
        What to write.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; the old file is still there.
    """
    for name, array in snapshot.arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} holds Python objects, which only pickle could write.")
    text = json.dumps(snapshot.record)
    members: dict[str, Any] = dict(snapshot.arrays)
    with replacing(path, is_forced=True) as file:
        np.savez(file, **members)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(_RECORD, text)


def read_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot and check it.

    Raises
    ------
    DamagedFileError
        If the file is cut, its checksums do not fit, or it is no snapshot.
    FileNotFoundError
        If there is none.
    """
    with _archive(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
        # A member that is no array comes as bytes.
        return Snapshot(json.loads(arrays.pop(_RECORD)), arrays)


def read_record(path: str | Path) -> Any:
    """Read the record of a snapshot only; raises as :func:`read_snapshot` does."""
    with _archive(path) as archive:
        return json.loads(archive[_RECORD])


@contextlib.contextmanager
def _archive(path: str | Path) -> Iterator[Any]:
    """Open an archive and say of any error in it that it is damaged."""
    try:
        # A damaged archive would leave a file that NumPy opened itself open.
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no zip archive, or its end is missing")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                yield archive
    except FileNotFoundError:
        raise
    except (
        ValueError, KeyError, TypeError, EOFError, OSError, NotImplementedError, RuntimeError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise DamagedFileError(f"{path} is damaged: {error}") from error


class Checkpoints:
    """The last snapshots of a run, in a folder.

    Two are kept: if the last one is damaged, the one before it is still good.

    Parameters
    ----------
    folder : str or path
        The folder; it is made when the first snapshot is written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def _files(self) -> list[Path]:
        """Files of the snapshots, the newest first."""
        return sorted(self.folder.glob(f"{_PREFIX}*.npz"), reverse=True)

    def write(self, snapshot: Snapshot) -> Path:
        """Write a new snapshot and remove all but the last two.

        Raises
        ------
        OSError
            If it cannot be written; those from before are untouched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        files = self._files()
        number = int(files[0].stem.removeprefix(_PREFIX)) + 1 if files else 0
        path = self.folder / f"{_PREFIX}{number:08d}.npz"
        write_snapshot(path, snapshot)
        for old in files[_NUM_KEPT - 1 :]:
            old.unlink(missing_ok=True)
        return path

    def read(self) -> Snapshot | None:
        """Read the newest snapshot that is whole; None if there never was one.

        Raises
        ------
        DamagedFileError
            If there are snapshots and all are damaged.
        """
        errors = []
        for path in self._files():
            try:
                snapshot = read_snapshot(path)
            except DamagedFileError as error:
                errors.append(str(error))
                continue
            if errors:
                warnings.warn(
                    f"{errors[0]}. The run goes on from the checkpoint before it, {path.name}.",
                    MirthWarning,
                    stacklevel=3,
                )
            return snapshot
        if errors:
            raise DamagedFileError("No checkpoint can be read. " + "; ".join(errors) + ".")
        return None


def tree_to_arrays(tree: Any, prefix: str) -> dict[str, np.ndarray]:
    """Fetch the leaves of a tree, named by their place.

    Examples
    --------
    >>> sorted(tree_to_arrays({"a": 1.0, "b": [2.0]}, "x"))
    ['x.0', 'x.1']
    """
    leaves = jax.tree.leaves(tree)
    return {f"{prefix}.{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}


def tree_from_arrays(like: Any, arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    """Put the leaves of a tree back into their places.

    Parameters
    ----------
    like : pytree
        Tree of arrays or of their shapes and types.
    arrays : mapping
        What ``tree_to_arrays`` gave, and maybe more.
    prefix : str
        The prefix it was given.

    Raises
    ------
    DamagedFileError
        If a leaf is missing or has another shape or type.
    """
    leaves, treedef = jax.tree.flatten(like)
    found = []
    for i, leaf in enumerate(leaves):
        array = arrays.get(f"{prefix}.{i}")
        if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
            what = "nothing" if array is None else f"{array.dtype}{array.shape}"
            raise DamagedFileError(
                f"The checkpoint does not fit the run: {prefix}.{i} should be "
                f"{leaf.dtype}{tuple(leaf.shape)} and is {what}."
            )
        found.append(array)
    return jax.tree.unflatten(treedef, found)
