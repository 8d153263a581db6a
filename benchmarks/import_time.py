"""Time that ``import mirth`` adds to importing jax and scikit-learn, over fresh processes.

python benchmarks/import_time.py
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np

CODE = (
    "import jax, sklearn.base, time; t = time.perf_counter(); import mirth; "
    "print(time.perf_counter() - t)"
)


def main() -> None:
    """Measure."""
    command = [sys.executable, "-c", CODE]
    seconds = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(7)
    ]
    print(f"import mirth adds {np.median(seconds):.3f} s (median of {len(seconds)})")


if __name__ == "__main__":
    main()
