"""Run the benchmarks that need no peer: ``make bench``.

With a data folder, ``make bench ARGS="--data FOLDER"``, the quality curves are run too, which takes
about an hour on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder with the benchmark files")
    args = parser.parse_args()
    jobs = [
        ["import_time.py"],
        ["gradient.py"],
        ["accelerator.py", "--members", "10", "100"],
        ["recording.py", "--pairs", "3"],
        ["memory.py", "--rows", "100000"],
    ]
    if args.data:
        jobs += [
            ["against_bde.py", "--data", args.data, "--without-peer"],
            ["noise_link.py", "--data", args.data],
            ["budget_curve.py", "--data", args.data],
            ["tables.py", "--data", args.data, "--sets", "ionosphere", "australian"],
            ["sensitivity.py", "--data", args.data],
        ]
    for name, *options in jobs:
        print(f"== {name} {' '.join(options)}", flush=True)
        subprocess.run([sys.executable, str(HERE / name), *options], check=True)


if __name__ == "__main__":
    main()
