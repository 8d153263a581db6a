"""Short runs, each in a process of its own that is killed (SIGKILL) at one of its events.

This process imports everything and starts no backend. For each line of its input, a JSON list of
run directory, file for the draws, file for what the run says, cache folder and number of the event
(-1: none), it forks, waits, and writes the exit code of the fork. Imports would take half of the
time of a run as short as this.

An event is the beginning, the middle or the end of anything that writes, or a report: half of a
snapshot on the disk, the moment before and after its renaming, before and after each array of a
chunk of draws, each replacement of the status, each chunk of each phase.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import traceback
from typing import Any

import jax
import numpy as np
import optax  # noqa: F401
import zarr  # noqa: F401

import mirth
from mirth.core import folders, snapshots
from mirth.inference import Run, infer
from mirth.inference.store import draws, status_file

_events = itertools.count()
_kill_at = -1


def event(name: str) -> None:
    number = next(_events)
    if _kill_at < 0:
        os.write(1, f"EVENT {number} {name}\n".encode())  # whole lines from both threads
    elif number == _kill_at:
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


def run(folder: str, target: str, cache: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_compilation_cache_dir", cache)
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
    settings = Run(folder, checkpoint_seconds=0.0, chunk_steps=10)
    posterior = infer(model, data, method, num_chains=3, run=settings)
    np.savez(target, positions=posterior.positions(), **posterior.sample_stats)


def fork(folder: str, target: str, log: str, cache: str, kill_at: int) -> int:
    """Run in a child; the exit code, or minus the number of the signal that has killed it."""
    global _kill_at
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        _kill_at = kill_at
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        run(folder, target, cache)
        os._exit(0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


if __name__ == "__main__":
    for line in sys.stdin:
        print(fork(*json.loads(line)), flush=True)
