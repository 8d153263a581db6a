"""A short run in a process of its own that is killed (SIGKILL) at one of its events.

Arguments: run directory, file for the draws, cache folder, number of the event (-1: none).

An event is the beginning, the middle or the end of anything that writes, or a report: half of a
snapshot on the disk, the moment before and after its renaming, before and after each array of a
chunk of draws, each replacement of the status, each chunk of each phase.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import Any

import jax
import numpy as np

import mirth
from mirth.core import folders, snapshots
from mirth.inference import Run, infer
from mirth.inference.store import draws, status_file

KILL_AT = int(sys.argv[4]) if __name__ == "__main__" else -1
_events = itertools.count()


def event(name: str) -> None:
    number = next(_events)
    if KILL_AT < 0:
        os.write(1, f"EVENT {number} {name}\n".encode())  # whole lines from both threads
    elif number == KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def around(module: Any, attribute: str, name: str) -> None:
    """Make events of the beginning and the end of a function."""
    function = getattr(module, attribute)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        event(f"before {name}")
        result = function(*args, **kwargs)
        event(f"after {name}")
        return result

    setattr(module, attribute, wrapped)


def write_half(file: Any, **members: Any) -> None:
    """Like np.savez, with an event when half of the file is on the disk."""
    begin = file.tell()
    savez(file, **members)
    end = file.tell()
    file.seek(begin)
    content = file_content(file.name)
    file.truncate(begin)
    file.write(content[: (end - begin) // 2])
    file.flush()
    event("half a checkpoint")
    file.write(content[(end - begin) // 2 :])


def file_content(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


class FlushingSavez:
    """np with a savez that pauses half way."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def savez(file: Any, **members: Any) -> None:
        write_half(file, **members)


class CountedReplace:
    """os with a replace that has events around it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @staticmethod
    def replace(source: Any, target: Any) -> None:
        event(f"before renaming {os.path.basename(str(target))}")
        os.replace(source, target)
        event(f"after renaming {os.path.basename(str(target))}")


def savez(file: Any, **members: Any) -> None:
    np.savez(file, **members)
    file.flush()


def write_arrays(self: Any, piece: Any, start: int) -> None:
    for name, array in piece.items():
        event(f"before draws of {name}")
        self._arrays[name][:, start : start + array.shape[1]] = array
        event(f"after draws of {name}")


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_compilation_cache_dir", sys.argv[3])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    snapshots.np, folders.os = FlushingSavez(), CountedReplace()
    draws.DrawStore._write = write_arrays
    draws._MAX_CHUNK_DRAWS = 8
    around(status_file.StatusFile, "on_chunk", "chunk of steps")
    around(status_file.StatusFile, "on_epochs", "chunk of epochs")
    x = np.linspace(-1.5, 1.5, 40)[:, None]
    data = mirth.Dataset(x, np.sin(2 * x[:, 0]) + 0.1 * np.random.default_rng(0).normal(size=40))
    model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    start = mirth.DeepEnsemble(learning_rate=0.03, max_epochs=30, batch_size=8)
    method = mirth.MILE(n_warmup=60, n_samples=30, n_thinning=2, start=start)
    run = Run(sys.argv[1], checkpoint_seconds=0.0, chunk_steps=10)
    posterior = infer(model, data, method, num_chains=3, run=run)
    np.savez(sys.argv[2], positions=posterior.positions(), **posterior.sample_stats)


if __name__ == "__main__":
    main()
