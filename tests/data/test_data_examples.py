from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mirth.data import (
    breast_cancer,
    diabetes,
    heteroscedastic_gap,
    load_benchmark,
    true_quantities,
)
from mirth.data.examples import BENCHMARKS, GAP, RANGE


def test_gap_rows() -> None:
    x, y = heteroscedastic_gap(num_rows=301, seed=3)
    assert x.shape == (301, 1) and y.shape == (301,)
    assert x.min() >= RANGE[0] and x.max() <= RANGE[1]
    assert (x <= GAP[0]).sum() == 151
    assert (x >= GAP[1]).sum() == 150
    assert (np.diff(x[:, 0]) < 0).any(), "rows come in random order"


def test_gap_noise_is_what_it_is_said_to_be() -> None:
    num_rows = 20_000
    x, y = heteroscedastic_gap(num_rows=num_rows)
    mean, std = true_quantities(x)
    z = (y - mean) / std
    for side in (x[:, 0] < 0, x[:, 0] > 0):
        # standard errors of the mean and of the second moment of a standard Normal
        assert abs(z[side].mean()) < 4 / np.sqrt(num_rows / 2)
        assert abs((z[side] ** 2).mean() - 1) < 4 * np.sqrt(2 / (num_rows / 2))


def test_gap_seed() -> None:
    again = zip(heteroscedastic_gap(20, seed=1), heteroscedastic_gap(20, seed=1), strict=True)
    assert all(np.array_equal(a, b) for a, b in again)
    assert not np.array_equal(heteroscedastic_gap(20, seed=1)[0], heteroscedastic_gap(20)[0])


def test_gap_errors() -> None:
    with pytest.raises(ValueError, match="num_rows=0 must be at least 1"):
        heteroscedastic_gap(0)
    with pytest.raises(ValueError, match="seed=-1 must be at least 0"):
        heteroscedastic_gap(seed=-1)


def test_true_quantities() -> None:
    grid = np.linspace(-4, 4, 9)
    mean, std = true_quantities(grid)
    assert mean.shape == std.shape == (9,)
    assert np.array_equal(true_quantities(grid[:, None])[0], mean)
    assert (np.diff(std) > 0).all() and 0.05 < std[0] < 0.06 and 0.34 < std[-1] < 0.35


def test_bundled_examples() -> None:
    regression, classification = diabetes(), breast_cancer()
    assert regression.kind == "regression" and classification.kind == "classification"
    assert regression.x.shape == (442, 10) and classification.x.shape == (569, 30)
    assert regression.y.dtype == np.float64 and classification.y.dtype == np.int64
    assert np.bincount(classification.y).tolist() == [212, 357]
    assert regression.feature_names[0] == "age" and len(classification.feature_names) == 30
    assert regression.x[:, 0].mean() > 40  # years, not scaled


def write_benchmark(folder: Path, name: str, text: str) -> Path:
    path = folder / BENCHMARKS[name].path
    path.parent.mkdir()
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks(name: str, tmp_path: Path) -> None:
    write_benchmark(tmp_path, name, "1 0.5 7 0\n2 1.5 8 1\n3 2.5 9 1\n")
    example = load_benchmark(name, str(tmp_path))
    rows = np.array([[1, 0.5, 7], [2, 1.5, 8], [3, 2.5, 9]])
    names = ("x0", "x1", "x2")
    if name == "bikesharing":  # its first column is the row number
        rows, names = rows[:, 1:], names[1:]
    assert example.name == name
    assert np.array_equal(example.x, rows)
    assert example.feature_names == names
    assert example.y.tolist() == [0, 1, 1]
    is_classification = name in ("ionosphere", "australian")
    assert example.kind == ("classification" if is_classification else "regression")
    assert example.y.dtype == (np.int64 if is_classification else np.float64)


def test_benchmark_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^name='airfoli' .* did you mean 'airfoil'\?"):
        load_benchmark("airfoli", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected the file .*energy\.data\.$"):
        load_benchmark("energy", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere' is no folder; expected .*energy\.data "):
        load_benchmark("energy", tmp_path / "nowhere")
    path = write_benchmark(tmp_path, "energy", "1 2 3\n4 5\n")
    with pytest.raises(ValueError, match=f"^{path} is not a table of numbers"):
        load_benchmark("energy", tmp_path)
    path = write_benchmark(tmp_path, "australian", "1 2 1\n4 5 2\n")
    with pytest.raises(ValueError, match=f"^{path} must have 0 or 1 in its last column"):
        load_benchmark("australian", tmp_path)


def test_import_is_light() -> None:
    code = (
        "import sys, mirth.data;"
        "print([name for name in ('pandas', 'sklearn', 'skops') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
