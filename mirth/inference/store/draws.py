"""Where draws go while a run goes on: memory, or a Zarr store that is written by a thread.

Both take pieces of draws of any length, in order, and give the draws at the end. The store is
written in whole chunks only, each of them once: what does not fill a chunk yet waits in memory and
is part of every checkpoint. So a process that is killed at any instant loses nothing that a
checkpoint counts on, and the memory does not grow with the number of draws.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mirth.core.snapshots import DamagedFileError

if TYPE_CHECKING:
    import zarr  # takes half a second to import: only where a run has a directory

Piece = Mapping[str, np.ndarray]

_CHUNK_BYTES = 2 * 2**20
_MAX_CHUNK_DRAWS = 256
_MAX_PENDING = 2
_OWNER = "mirth_run"
_LOCAL = ("file://", "local://")


def store_location(location: str | Path) -> str:
    """Write a location so that it means the same wherever a process is started.

    Parameters
    ----------
    location : str or path
        A folder, or a URL that fsspec knows.

    Returns
    -------
    str
        An absolute path, or the URL.

    Raises
    ------
    TypeError
        If it is neither text nor a path.

    Examples
    --------
    >>> store_location("s3://bucket/run.zarr"), store_location("file:///data/run.zarr")
    ('s3://bucket/run.zarr', '/data/run.zarr')
    """
    if not isinstance(location, str | Path):
        raise TypeError(f"draws_store={location!r} must be a folder or a URL (str or path).")
    text = str(location)
    for protocol in _LOCAL:  # needs no other package this way
        text = text.removeprefix(protocol)
    return text if _is_url(text) else str(Path(text).absolute())


def open_store(location: str) -> Any:
    """Give Zarr's view of a location, without touching it.

    Parameters
    ----------
    location : str
        Of :func:`store_location`.

    Returns
    -------
    zarr store

    Raises
    ------
    ValueError
        If it is a URL of an unknown protocol, or of one that needs a package that is not installed.
    """
    from zarr.storage import FsspecStore, LocalStore

    if not _is_url(location):
        return LocalStore(location)
    if importlib.util.find_spec("fsspec") is None:
        raise ValueError(
            f"draws_store={location!r} is a URL, which needs the package fsspec: "
            "pip install 'mirth[remote]'. A folder needs nothing."
        )
    try:
        return FsspecStore.from_url(location)
    except (ImportError, ValueError) as error:  # fsspec names the package, or the known protocols
        raise ValueError(f"draws_store={location!r} cannot be opened: {error}") from error


def claim_store(location: str, owner: str) -> None:
    """Mark a location as the one of a run, so that no other run writes there.

    Parameters
    ----------
    location : str
        Of :func:`store_location`.
    owner : str
        Name of the run, unlike that of any other.

    Raises
    ------
    ValueError
        As for :func:`open_store`.
    FileExistsError
        If something else is there.
    OSError
        If it cannot be written.
    """
    import zarr

    store = open_store(location)
    try:
        zarr.open_group(store, mode="w-", attributes={_OWNER: owner})
    except FileExistsError:
        if _owner_of(store) != owner:
            raise FileExistsError(
                f"draws_store={location!r} has other things in it, or the draws of another run; "
                "give a new location."
            ) from None
    except Exception as error:  # whatever the library of the protocol raises
        raise OSError(
            f"draws_store={location!r} cannot be written ({type(error).__name__}: {error})."
        ) from error


def _is_url(location: str) -> bool:
    return "://" in location or "::" in location


def _owner_of(store: Any) -> Any:
    """Say which run has marked a store; None if none has."""
    import zarr
    from zarr.errors import BaseZarrError

    try:
        return zarr.open_group(store, mode="r").attrs.get(_OWNER)
    except (OSError, ValueError, BaseZarrError):
        return None


class MemoryDraws:
    """Draws of a run in memory."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    def append(self, piece: Piece) -> None:
        """Take draws: arrays of shape (chains, draws, ...) by name."""
        self._pieces.append(dict(piece))

    def flush(self) -> None:
        """Wait until everything that was taken is safe."""

    def tail(self) -> dict[str, np.ndarray]:
        """Give the draws that a checkpoint must hold: all of them."""
        if len(self._pieces) > 1:
            self._pieces = [join(self._pieces)]  # once: the result shares its memory
        return join(self._pieces)

    def finish(self) -> dict[str, Any]:
        """Give all draws, arrays of shape (chains, draws, ...) by name."""
        return self.tail()


def join(pieces: list[Piece]) -> dict[str, np.ndarray]:
    """Put pieces together along the axis of draws.

    Examples
    --------
    >>> import numpy as np
    >>> join([{"x": np.zeros((2, 3))}, {"x": np.ones((2, 1))}])["x"].shape
    (2, 4)
    """
    if len(pieces) < 2:
        return dict(pieces[0]) if pieces else {}
    return {name: np.concatenate([p[name] for p in pieces], axis=1) for name in pieces[0]}


class DrawStore:
    """Draws of a run in a Zarr group, an array for each name with axes (chain, draw, ...).

    Parameters
    ----------
    location : str or path
        Folder or URL of the group.
    num_draws : int
        Draws that the run will have.
    owner : str, optional
        Run that the group is marked with (:func:`claim_store`).
    tail : mapping, optional
        Draws of a checkpoint that do not fill a chunk of the store yet.
    num_stored : int, default=0
        Draws before the tail; they are in the store already.

    Raises
    ------
    DamagedFileError
        If the store should hold draws and does not.
    """

    def __init__(
        self,
        location: str | Path,
        num_draws: int,
        *,
        owner: str | None = None,
        tail: Piece | None = None,
        num_stored: int = 0,
    ):
        self.location, self.num_draws_planned = store_location(location), num_draws
        self._attributes: dict[str, Any] | None = None if owner is None else {_OWNER: owner}
        self._pieces: list[Piece] = [tail] if tail else []
        self._stored = num_stored
        self._arrays: dict[str, zarr.Array] = {}
        self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mirth-draws")
        self._pending: list[concurrent.futures.Future[None]] = []
        if num_stored:
            self._open()

    @property
    def _waiting(self) -> int:
        return sum(next(iter(piece.values())).shape[1] for piece in self._pieces)

    def append(self, piece: Piece) -> None:
        """Take draws: arrays of shape (chains, draws, ...) by name.

        Raises
        ------
        OSError
            If draws that were taken before could not be written.
        """
        self._pieces.append(dict(piece))
        if not self._arrays:
            self._create(piece)
        size = self.chunk_draws
        if self._waiting < size:
            return
        joined = join(self._pieces)
        whole = self._waiting // size * size
        self._submit({name: array[:, :whole] for name, array in joined.items()})
        rest = {name: array[:, whole:].copy() for name, array in joined.items()}
        self._pieces = [rest] if next(iter(rest.values())).shape[1] else []

    def flush(self) -> None:
        """Wait until everything but the tail is in the store."""
        for future in self._pending:
            future.result()
        self._pending = []

    def tail(self) -> dict[str, np.ndarray]:
        """Give the draws that a checkpoint must hold, because they are not in the store."""
        return join(self._pieces)

    def finish(self) -> dict[str, Any]:
        """Write the tail too, and give the arrays of the store; they are read when indexed."""
        tail = self.tail()
        if tail:
            if not self._arrays:
                self._create(tail)
            self._submit(tail, advance=False)
        self.flush()
        self._writer.shutdown()
        num_draws = self._stored + self._waiting
        for array in self._arrays.values():
            if array.shape[1] > num_draws:  # the run has ended early
                array.resize((array.shape[0], num_draws, *array.shape[2:]))
        return dict(self._arrays)

    @property
    def chunk_draws(self) -> int:
        """Draws of a chunk of the store."""
        return int(next(iter(self._arrays.values())).chunks[1])

    def _create(self, piece: Piece) -> None:
        """Make the arrays, once the first draws show what there is."""
        import zarr
        from zarr.codecs import Crc32cCodec

        group = zarr.open_group(open_store(self.location), mode="w", attributes=self._attributes)
        num_bytes = sum(a[:, :1].nbytes for a in piece.values())
        fits = max(1, min(_MAX_CHUNK_DRAWS, _CHUNK_BYTES // max(1, num_bytes)))
        for name, array in piece.items():
            chains, _, *rest = array.shape
            self._arrays[name] = group.create_array(
                name,
                shape=(chains, self.num_draws_planned, *rest),
                chunks=(chains, fits, *rest),
                dtype=array.dtype,
                compressors=[Crc32cCodec()],  # weights hardly compress; damage must show
                dimension_names=["chain", "draw", *(f"{name}_dim_{i}" for i in range(len(rest)))],
            )

    def _open(self) -> None:
        """Find the arrays of an earlier process, and make room for more draws."""
        import zarr
        from zarr.errors import BaseZarrError

        try:
            group = zarr.open_group(open_store(self.location), mode="r+")
            self._arrays = {name: array for name, array in group.arrays()}
            if not self._arrays:
                raise ValueError("there are none")
            for name, array in self._arrays.items():
                if array.shape[1] < self.num_draws_planned:
                    array.resize((array.shape[0], self.num_draws_planned, *array.shape[2:]))
                # The last chunk that counts: if it cannot be read, the store was cut or changed.
                at = self._stored - 1
                if not np.size(array[:, at : at + 1]):
                    raise ValueError(f"{name} has fewer than {self._stored} draws")
        except (FileNotFoundError, ValueError, KeyError, RuntimeError, BaseZarrError) as error:
            raise DamagedFileError(
                f"The draws in {self.location} cannot be read: {error}. The checkpoint counts on "
                f"{self._stored} draws there, so the run cannot go on; start it anew."
            ) from error

    def _submit(self, piece: Piece, advance: bool = True) -> None:
        """Hand draws to the writing thread; wait if it is far behind."""
        while len(self._pending) >= _MAX_PENDING:
            self._pending.pop(0).result()
        self._pending.append(self._writer.submit(self._write, piece, self._stored))
        if advance:
            self._stored += next(iter(piece.values())).shape[1]

    def _write(self, piece: Piece, start: int) -> None:
        for name, array in piece.items():
            self._arrays[name][:, start : start + array.shape[1]] = array
