"""Peak memory against the number of draws, and of a large prediction.

    python benchmarks/memory.py [--draws 1000 10000 100000] [--rows 1000000]

Sampling: ten chains of the network 5-16-16-16-16-2 (946 parameters) on 64 rows with a run
directory, one process for each number of draws (all chains together). Prediction: standard
deviations of many rows with the draws of such a directory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import save_result

CHAINS = 10


def run(folder: Path, num_draws: int, rows: int) -> dict[str, float]:
    """Sample, or go on with what is there; predict if there are rows. In a process of its own."""
    import numpy as np

    import mirth

    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 5))
    data = mirth.Dataset(x, np.sin(x[:, 0]) + 0.1 * rng.normal(size=64))
    model = mirth.Model(mirth.MLP((16,) * 4, num_outputs=2), mirth.Normal())
    start = mirth.DeepEnsemble(max_epochs=20)
    method = mirth.MILE(
        n_warmup=200,
        n_samples=num_draws // CHAINS,
        n_thinning=1,
        tuner=mirth.samplers.MILETuner(max_params=100),
        start=start,
    )
    began = time.perf_counter()
    posterior = mirth.infer(model, data, method, num_chains=CHAINS, run=folder)
    seconds = {"sampling_seconds": time.perf_counter() - began}
    if rows:
        inputs = rng.normal(size=(rows, 5)).astype(np.float32)
        began = time.perf_counter()
        predictive = mirth.make_predictive(model, posterior.draws, inputs)
        predictive.std()
        seconds["prediction_seconds"] = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"draws": num_draws, "rows": rows, "peak_mib": peak, **seconds}


def main() -> None:
    """Measure each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--prediction-draws", type=int, default=10_000)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        folder, draws, rows = args.one
        print(json.dumps(run(Path(folder), int(draws), int(rows))))
        return
    table = []
    cases = [(draws, 0) for draws in args.draws]
    if args.rows:
        cases.append((args.prediction_draws, args.rows))
    with tempfile.TemporaryDirectory() as folder:
        for draws, rows in cases:
            command = [
                sys.executable,
                __file__,
                "--one",
                f"{folder}/{draws}",
                str(draws),
                str(rows),
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            table.append(json.loads(done.stdout.splitlines()[-1]))
            print("  ".join(f"{key} {value:.6g}" for key, value in table[-1].items()), flush=True)
    if args.save:
        print(save_result("memory", {"table": table}))


if __name__ == "__main__":
    main()
