"""Compiled programs of earlier runs of the tests.

JAX writes its cache without a lock, and a process that is killed leaves half a program there, so no
two processes of the tests share a folder. Each begins with links to the kept programs, and at its
end, when no program is half written any more, links what is new into the kept ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

MAX_BYTES = 2**29  # a whole run leaves about a tenth
_DAY = 86_400.0


def instruction_set() -> str:
    """Programs are for one kind of processor; a home may be shared by several."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:12]
    return f"{platform.machine()}-{platform.processor()}"


class Kept:
    """Kept programs of this version of JAX on this processor, and a folder of this process."""

    def __init__(self, root: Path, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self.folder = root / f"{importlib.metadata.version('jaxlib')}-{instruction_set()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.own = Path(tempfile.mkdtemp(prefix="run-", dir=root))
        except OSError:  # a checkout that cannot be written: it only takes longer
            self.own = Path(tempfile.mkdtemp(prefix="mirth-tests-"))
        link_all(self.folder, self.own)

    def close(self) -> None:
        """Keep what is new, forget what is old; the folder of this process goes."""
        link_all(self.own, self.folder)
        shutil.rmtree(self.own, ignore_errors=True)
        self.prune()

    def prune(self) -> None:
        """Remove the oldest programs over the limit, other versions, and what kills have left."""
        size = 0
        for _, bytes_, file in sorted(stats(self.folder), reverse=True):
            size += bytes_
            if size > self.max_bytes:
                file.unlink(missing_ok=True)
        for other in self.folder.parent.glob("*"):
            with contextlib.suppress(OSError):
                if other != self.folder and other.stat().st_mtime < time.time() - _DAY:
                    shutil.rmtree(other, ignore_errors=True)


def stats(folder: Path) -> list[tuple[float, int, Path]]:
    """Time, size and path of each program; another process may remove some meanwhile."""
    found = []
    for file in folder.glob("*-cache"):
        with contextlib.suppress(OSError):
            stat = file.stat()
            found.append((stat.st_mtime, stat.st_size, file))
    return found


def link_all(source: Path, target: Path) -> None:
    """Link the programs of a folder into another; a link appears at once, with all its bytes."""
    for file in source.glob("*-cache"):
        with contextlib.suppress(OSError):
            os.link(file, target / file.name)
