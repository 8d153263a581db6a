"""What one wild cell does to a fit: R2 of test rows, clean and spoilt, with and without protection.

    python benchmarks/wild_values.py --data FOLDER [--seeds 0 1 2]

A feature cell, or a target, of a training row is 1e6; a synthetic table of 200 rows and energy,
four members of ``MILE(n_warmup=1000, n_samples=50)``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import uci_splits
from common import save_result

import mirth

WILD = 1e6


def synthetic(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make 400 rows of three columns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 3))
    return x, np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.1 * rng.normal(size=400)


def score(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, **options) -> float:
    """Fit and give R2."""
    method = mirth.MILE(n_warmup=1000, n_samples=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mirth.MirthWarning)
        model = mirth.BNNRegressor(method=method, n_members=4, **options).fit(x[train], y[train])
        return model.score(x[test], y[test])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    table: dict[str, dict[str, list[float]]] = {}
    for name in ("synthetic", "energy"):
        found = table[name] = {}
        for seed in args.seeds:
            x, y = synthetic(seed) if name == "synthetic" else uci_splits.load(name, args.data)
            order = np.random.default_rng(seed).permutation(len(y))
            train, test = np.split(order, [len(y) // 2])
            wild_x, wild_y = x.copy(), y.copy()
            wild_x[train[0], 1], wild_y[train[0]] = WILD, WILD
            for what, rows in (
                ("clean", (x, y)), ("feature", (wild_x, y)), ("target", (x, wild_y)),
            ):  # fmt: skip
                for robust in (True, False):
                    key = f"{what}{'' if robust else ', robust_scaling=False'}"
                    value = score(*rows, train, test, random_state=seed, robust_scaling=robust)
                    found.setdefault(key, []).append(value)
        for key, values in found.items():
            print(f"{name:10s} {key:32s} {np.mean(values):7.3f} ({min(values):.3f} to "
                  f"{max(values):.3f})", flush=True)  # fmt: skip
    print(save_result("wild_values", {"seeds": args.seeds, "r2": table}))


if __name__ == "__main__":
    main()
