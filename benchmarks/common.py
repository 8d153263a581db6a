"""What the benchmarks share: data, splits, scores, the machine's name, results on disk."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def standardised_split(
    x: np.ndarray, y: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split 80/20 and standardise inputs and target with statistics of the training rows."""
    from sklearn.model_selection import train_test_split

    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=seed)
    mean, std = x_train.mean(axis=0), x_train.std(axis=0)
    shift, scale = y_train.mean(), y_train.std()
    return (
        (x_train - mean) / std,
        (x_test - mean) / std,
        (y_train - shift) / scale,
        (y_test - shift) / scale,
    )


def moment_scores(y: np.ndarray, mean: np.ndarray, std: np.ndarray) -> dict[str, float]:
    """Negative log density of the moment-matched Normal, and root mean square error."""
    standard = (y - mean) / std
    nll = 0.5 * standard**2 + np.log(std) + 0.5 * np.log(2 * np.pi)
    return {"nll": float(nll.mean()), "rmse": float(np.sqrt(np.mean((y - mean) ** 2)))}


def machine() -> dict[str, Any]:
    """Describe the machine that a figure comes from."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.split(":")[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": name, "cores": cores, "python": platform.python_version()}


def save_result(name: str, result: Any) -> Path:
    """Write a result as JSON beside the benchmarks."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    return path
