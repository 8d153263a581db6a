"""Many small fits: what compilation costs, in one process and from one process to the next.

    python benchmarks/small_fits.py [--rows 300] [--loop 200]

First fit, second equal fit, five folds of a cross-validation, and a loop of short fits whose memory
and programs must not grow. Each of the first three is also run in a second process, which finds the
programs of the first one on the disk where a cache is on. Times are given as seconds and as seconds
of the processor, which say more on a machine with other work.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import save_result


def table(num_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Make a smooth table with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 5))
    return x, np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.1 * rng.normal(size=num_rows)


def fits(num_rows: int) -> dict[str, dict[str, float]]:
    """Time two equal fits and a cross-validation, in this process."""
    from sklearn.model_selection import cross_val_score

    import mirth

    x, y = table(num_rows)
    parts = {
        "first": lambda: mirth.BNNRegressor(random_state=0).fit(x, y),
        "second": lambda: mirth.BNNRegressor(random_state=0).fit(x, y),
        "five folds": lambda: cross_val_score(mirth.BNNRegressor(random_state=0), x, y, cv=5),
    }
    times = {}
    for name, run in parts.items():
        began, worked = time.perf_counter(), time.process_time()
        run()
        wall, processor = time.perf_counter() - began, time.process_time() - worked
        times[name] = {"seconds": round(wall, 2), "processor": round(processor, 2)}
    second, first = (times[name]["processor"] for name in ("second", "first"))
    times["second / first"] = {"processor": round(second / first, 3)}
    return times


def resident() -> float:
    """Memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def loop(num_rows: int, num_fits: int) -> dict[str, Any]:
    """Fit again and again; memory, programs and seconds of the tenth fit and of the last."""
    import jax
    from jax._src import monitoring  # there is no public way to count compilations

    import mirth
    from mirth.inference.engine.programs import PROGRAMS

    compiled = [0]

    def hear(name: str, seconds: float, **_: Any) -> None:
        compiled[0] += name.endswith("backend_compile_duration")

    monitoring.register_event_duration_secs_listener(hear)
    method = mirth.MILE(n_warmup=100, n_samples=10, start=mirth.DeepEnsemble(max_epochs=5))
    rows = []
    for i in range(num_fits):
        x, y = table(num_rows, seed=i)
        began, worked, before = time.perf_counter(), time.process_time(), compiled[0]
        mirth.BNNRegressor(method=method, n_members=2, random_state=i).fit(x, y)
        row = {
            "seconds": round(time.perf_counter() - began, 3),
            "processor": round(time.process_time() - worked, 3),
            "MiB": round(resident(), 1),
            "compiled": compiled[0] - before,
            "kept": len(PROGRAMS),
            "executables": len(jax.devices()[0].client.live_executables()),
        }
        rows.append(row)
        if i in (0, 1, 9) or (i + 1) % 50 == 0:
            print(f"fit {i + 1:4d}: {json.dumps(rows[-1])}", flush=True)
    live = len(jax.live_arrays())
    return {"first": rows[0], "tenth": rows[min(9, len(rows) - 1)], "last": rows[-1], "live": live}


def main() -> None:
    """Run each part in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--loop", type=int, default=200, help="fits of the loop; 0 leaves it out")
    parser.add_argument("--one", choices=["fits", "loop"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        found = fits(args.rows) if args.one == "fits" else loop(args.rows, args.loop)
        print("RESULT " + json.dumps(found))
        return
    result = {}
    for name, part in (("process 1", "fits"), ("process 2", "fits"), ("loop", "loop")):
        if part == "loop" and not args.loop:
            continue
        command = [sys.executable, __file__, *sys.argv[1:], "--one", part]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        *shown, last = done.stdout.splitlines()
        result[name] = json.loads(last.removeprefix("RESULT "))
        print(*shown, f"{name}: {json.dumps(result[name])}", sep="\n", flush=True)
    save_result("small_fits", result)


if __name__ == "__main__":
    main()
