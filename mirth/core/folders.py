"""Folders that are written whole or not at all, and are known by a JSON file in them.

The JSON file says what the folder is (``format``) and by which rules it was written
(``schema_version``), so that a folder of another kind is neither read nor replaced by mistake.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from mirth.core.validation import nearest_name

MARKERS = ("manifest.json", "metrics.json")
"""Files that say what a folder is, in the order in which they are asked."""


def user_cache(name: str) -> Path:
    """Give the folder for what can be made again at any time; it need not exist.

    Parameters
    ----------
    name : str
        Name of the part of the cache.

    Returns
    -------
    Path
        ``mirth/name`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``.

    Examples
    --------
    >>> user_cache("xla").name
    'xla'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mirth" / name


@contextlib.contextmanager
def new_folder(folder: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a temporary sibling of a folder, and give it the folder's name at the end.

    If the block fails, nothing of it remains and a folder that was there before is untouched.

    Parameters
    ----------
    folder : str or path
        The folder to make, with its parents.
    overwrite : bool, default=False
        Replace a folder that mirth has written.

    Yields
    ------
    Path
        The temporary folder, empty.

    Raises
    ------
    FileExistsError
        If there is something else than an empty folder that must not be replaced.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with new_folder(f"{parent}/run") as path:
    ...         write_json(path / "metrics.json", {"format": "mirth demo", "schema_version": 1})
    ...     folder_format(f"{parent}/run")
    'mirth demo'
    """
    check_new_folder(folder, overwrite=overwrite)
    target = Path(folder).resolve()
    partial, old = (
        target.parent / f".{target.name}.{word}-{os.getpid()}" for word in ("partial", "old")
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (partial, old):  # of a killed process that had this number
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            target.rename(old)
        partial.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_new_folder(folder: str | Path, *, overwrite: bool = False) -> None:
    """Check that a folder may be made, or replaced.

    Parameters
    ----------
    folder : str or path
        The folder to make.
    overwrite : bool, default=False
        Whether a folder that mirth has written may be replaced.

    Raises
    ------
    FileExistsError
        If there is something else than an empty folder that must not be replaced.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; choose the name of a new folder.")
    if not path.exists() or not any(path.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(
            f"the folder {path} is not empty; choose another one, or replace it by --overwrite "
            "(in Python overwrite=True)."
        )
    if folder_format(path) is None:
        raise FileExistsError(
            f"the folder {path} holds something that mirth has not written, so it is not replaced; "
            "choose another one, or remove it yourself."
        )


def folder_format(folder: str | Path) -> str | None:
    """Say what mirth has written into a folder.

    Parameters
    ----------
    folder : str or path
        A folder, which need not exist.

    Returns
    -------
    str or None
        The ``format`` of its marker, such as ``"mirth demo"``; None if it is not mirth's.

    Examples
    --------
    >>> folder_format("no such folder") is None
    True
    """
    for name in MARKERS:
        try:
            record = json.loads((Path(folder) / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found = record.get("format") if isinstance(record, dict) else None
        if isinstance(found, str) and found.startswith("mirth "):
            return found
    return None


def read_marker(
    folder: str | Path, expected_format: str, schema_version: int, name: str = MARKERS[0]
) -> dict[str, Any]:
    """Read the JSON file that says what a folder is, and check that it is what is wanted.

    Parameters
    ----------
    folder : str or path
        The folder.
    expected_format : str
        What it shall be, such as ``"mirth run"``.
    schema_version : int
        The only version of it that can be read.
    name : str, default="manifest.json"
        Name of the file.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    FileNotFoundError
        If there is no such folder (the nearest name is suggested) or file.
    ValueError
        If the file is damaged, the folder something else, or of another version.
    """
    path = Path(folder)
    if not path.is_dir():
        raise missing("folder", path)
    file = path / name
    if not file.is_file():
        raise FileNotFoundError(f"{path} is no {expected_format}: the file {file} is missing.")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    return check_marker(record, file, path, expected_format, schema_version)


def check_marker(
    record: Any, file: object, path: object, expected_format: str, schema_version: int
) -> dict[str, Any]:
    """Check that a record says what is wanted.

    Parameters
    ----------
    record : any
        What was read.
    file, path : object
        Where it stood, and what it speaks of, for the message.
    expected_format, schema_version
        As for :func:`read_marker`.

    Returns
    -------
    dict
        ``record``.

    Raises
    ------
    ValueError
        If it is no such record, speaks of something else, or of another version.

    Examples
    --------
    >>> check_marker({"format": "mirth run", "schema_version": 9}, "a.json", "a", "mirth run", 1)
    Traceback (most recent call last):
    ...
    ValueError: a has schema version 9, but this mirth reads version 1; fit again, or install mirth
    of that time.
    """
    try:
        found = (record["format"], record["schema_version"])
    except (TypeError, KeyError):
        raise ValueError(f"{file} is damaged; it is not the JSON that mirth has written.") from None
    if found[0] != expected_format:
        raise ValueError(f"{path} holds a {found[0]}, but a {expected_format} is needed.")
    if found[1] != schema_version:
        raise ValueError(
            f"{path} has schema version {found[1]}, but this mirth reads version {schema_version}; "
            f"fit again, or install mirth {record.get('mirth_version', 'of that time')}."
        )
    return cast(dict[str, Any], record)


def missing(kind: str, path: Path) -> FileNotFoundError:
    """Make the error that there is no such file or folder; the nearest name is suggested."""
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest_name(path.name, siblings)
    hint = "" if near is None else f" Did you mean {str(path.parent / near)!r}?"
    return FileNotFoundError(f"there is no {kind} {path}.{hint}")


def write_json(path: str | Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON, whole or not at all, without the numbers that JSON does not know.

    Parameters
    ----------
    path : str or path
        The file.
    record : mapping
        Text, numbers, booleans, None, and lists and mappings of them.

    Raises
    ------
    ValueError
        If a number is not finite; see ``finite``.
    """
    write_text(path, json.dumps(record, indent=2, allow_nan=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Parameters
    ----------
    path : str or path
        The file.
    text : str
        What to write, as UTF-8.
    """
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: str | Path, *, is_forced: bool = False) -> Iterator[BinaryIO]:
    """Write a file whole or not at all: under another name first, which is then renamed.

    Who reads the file meanwhile sees all of the old or all of the new one. If the block fails, or
    the process is killed at any instant, the old one is still there.

    Parameters
    ----------
    path : str or path
        The file.
    is_forced : bool, default=False
        Force it to the disk before it is renamed, so that a power cut does not cut it.

    Yields
    ------
    binary file
        To write into.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/a.txt") as file:
    ...         _ = file.write(b"new")
    ...     Path(f"{folder}/a.txt").read_text()
    'new'
    """
    # A name of this process's own, so that two processes never write the same file.
    scratch = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        with open(scratch, "w+b") as file:  # an archive is read again when a part is added
            yield file
            if is_forced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def finite(value: Any) -> Any:
    """Replace the numbers that are not finite by None, at any depth.

    Parameters
    ----------
    value : any
        A number, or lists and dictionaries of them; other things are left alone.

    Returns
    -------
    any
        The same, fit for ``write_json``.

    Examples
    --------
    >>> finite({"ess": [1.5, float("nan")]})
    {'ess': [1.5, None]}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
