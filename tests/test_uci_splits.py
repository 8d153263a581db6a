"""The protocol of benchmarks/uci20.py: splits, files, records, scores, table."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = ("common", "uci_splits", "others", "uci20")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    # The folder is no package: its files import each other as scripts do.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def uci(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["uci_splits"]


def shrink(uci: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, rows: int) -> None:
    small = dataclasses.replace(uci.SETS[name], rows=rows)
    monkeypatch.setitem(uci.SETS, name, small)


def record(split: int, model: str = "mirth", nll: float | None = 1.0, **more: Any) -> dict:
    scores = {"nll": nll, "nll_normal": nll, "rmse": 2.0, "crps": 3.0, "coverage": 0.9}
    scores["width"] = 4.0
    return {
        "set": "yacht",
        "split": split,
        "model": model,
        "settings": {"warmup": 300},
        "scores": scores,
        "seconds": 5.0,
    } | more


def test_splits_are_those_of_the_published_index_files(uci: ModuleType) -> None:
    # One stream for all splits, seed 1: RandomState(1).permutation(10), then again, then again.
    orders = [
        [2, 9, 6, 4, 0, 3, 1, 7, 8, 5],
        [9, 5, 3, 0, 8, 4, 2, 1, 6, 7],
        [8, 3, 5, 9, 0, 6, 1, 7, 4, 2],
    ]
    found = uci.splits("yacht", 10)
    assert len(found) == 20
    assert [[*train, *test] for train, test in found[:3]] == orders
    assert all(len(test) == 1 for _, test in found)


@pytest.mark.parametrize(
    ("name", "n", "num_splits", "num_test"),
    [
        ("boston", 506, 20, 51),
        ("naval", 11934, 20, 1193),  # 10 740.6 training rows are rounded up
        ("protein", 45730, 5, 4573),
        ("bikesharing", 17379, 5, 1738),
    ],
)
def test_splits_are_disjoint_and_complete(
    uci: ModuleType, name: str, n: int, num_splits: int, num_test: int
) -> None:
    found = uci.splits(name, n)
    assert len(found) == num_splits
    for train, test in found:
        assert len(test) == num_test
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(n))


def test_folds_of_airfoil_hold_each_row_out_once(uci: ModuleType) -> None:
    found = uci.splits("airfoil", 1503)
    assert len(found) == 10
    held_out = np.concatenate([test for _, test in found])
    assert np.array_equal(np.sort(held_out), np.arange(1503))
    assert not np.array_equal(held_out, np.arange(1503))
    assert all(not np.intersect1d(train, test).size for train, test in found)


@pytest.mark.parametrize("file", ["yacht.txt", "yacht.txt.gz", "uci/yacht.txt", "uci/yacht.txt.gz"])
def test_a_file_is_found_where_it_may_lie(
    uci: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    shrink(uci, monkeypatch, "yacht", 3)
    table = np.arange(21.0).reshape(3, 7)
    (tmp_path / "uci").mkdir()
    np.savetxt(tmp_path / file, table)
    assert uci.available(tmp_path) == ["yacht"]
    x, y = uci.load("yacht", tmp_path)
    assert np.array_equal(x, table[:, :6])
    assert np.array_equal(y, table[:, 6])


def test_the_row_number_of_bike_sharing_is_dropped(
    uci: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(uci, monkeypatch, "bikesharing", 2)
    table = np.arange(26.0).reshape(2, 13)
    np.savetxt(tmp_path / "bikesharing.txt.gz", table)
    x, y = uci.load("bikesharing", tmp_path)
    assert np.array_equal(x, table[:, 1:12])
    assert np.array_equal(y, table[:, 12])


def test_a_missing_file_is_named(uci: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"yacht\.txt, yacht\.txt\.gz, uci/yacht\.txt, "):
        uci.load("yacht", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"airfoil/airfoil\.data"):
        uci.load("airfoil", tmp_path)
    with pytest.raises(ValueError, match="no set is called 'yatch'"):
        uci.load("yatch", tmp_path)
    assert uci.available(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"1 2 3 4 5 6 seven\n", "no table of numbers"),
        (b"1 2 3 4 5 6 nan\n", "not finite"),
        (b"1 2 3 4 5 6 7\n" * 2, "2 rows and 7 columns"),
        (b"1 2 3 4 5 6\n", "1 rows and 6 columns"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    uci: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    shrink(uci, monkeypatch, "yacht", 1)
    (tmp_path / "yacht.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"yacht\.txt .*{said}"):
        uci.load("yacht", tmp_path)


def test_half_a_compressed_file_is_named(uci: ModuleType, tmp_path: Path) -> None:
    whole = gzip.compress(np.random.default_rng(0).bytes(1000))
    (tmp_path / "yacht.txt.gz").write_bytes(whole[:500])
    with pytest.raises(ValueError, match=r"yacht\.txt\.gz is no table"):
        uci.load("yacht", tmp_path)


def test_records_are_taken_up_again(uci: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    uci.Results(path).add(record(0))
    again = uci.Results(path)
    assert again.has("yacht", 0, "mirth", {"warmup": 300})
    assert not again.has("yacht", 1, "mirth", {"warmup": 300})
    assert not again.has("yacht", 0, "gp", {"warmup": 300})
    assert not again.has("yacht", 0, "mirth", {"warmup": 301})
    assert not again.has("energy", 0, "mirth", {"warmup": 300})
    again.add(record(0, nll=7.0))  # what is done again counts, and the old line stays
    assert [r["scores"]["nll"] for r in uci.Results(path).records] == [7.0]
    assert len(path.read_text().splitlines()) == 2


def test_half_a_line_costs_its_fit_only(
    uci: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.jsonl"
    for split in (0, 1):
        uci.Results(path).add(record(split))
    path.write_bytes(path.read_bytes()[:-30])
    cut = uci.Results(path)
    assert "line 2 " in capsys.readouterr().out
    assert [r["split"] for r in cut.records] == [0]
    cut.add(record(2))  # on a line of its own
    assert [r["split"] for r in uci.Results(path).records] == [0, 2]
    assert json.loads(path.read_text().splitlines()[-1])["split"] == 2


def test_what_is_there_is_not_fitted_again(
    modules: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uci, uci20 = modules["uci_splits"], modules["uci20"]
    shrink(uci, monkeypatch, "yacht", 10)
    np.savetxt(tmp_path / "yacht.txt", np.ones((10, 7)))
    fitted: list[int] = []

    def fit(name: str, split: int) -> list[dict] | None:
        fitted.append(split)
        scored = {"scores": record(split)["scores"], "seconds": 1.0}
        return None if split == 2 else [scored, scored]

    def run(*flags: str) -> list[int]:
        fitted.clear()
        path = tmp_path / "results.jsonl"
        command = ["uci20.py", "--data", str(tmp_path), "--results", str(path), *flags]
        monkeypatch.setattr(sys, "argv", command)
        uci20.main()
        return list(fitted)

    monkeypatch.setattr(uci20, "run", fit)
    assert run("--splits", "0-1") == [0, 1]
    assert run("--splits", "0-1", "19-30") == [19]
    with pytest.raises(SystemExit, match="1 fits failed"):
        run("--splits", "1-2")
    assert fitted == [2]
    assert run("--splits", "0", "--redo") == [0]
    assert run("--splits", "0", "--members", "3") == [0]
    assert run("--splits", "0", "--label", "other") == [0]
    assert run("--table-only") == []
    assert "| other: ensemble | 1 |" in capsys.readouterr().out


def test_scores_of_a_normal(modules: dict[str, ModuleType]) -> None:
    y = np.array([1.0, 5.0, -3.0])
    mean, std = np.array([0.0, 4.0, 4.0]), np.array([1.0, 2.0, 3.0])
    found = modules["others"].NormalMixture(mean[None], std[None]).scores(y)
    z = (y - mean) / std
    crps = std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    nll = np.mean(z**2 / 2 + np.log(std) + np.log(2 * np.pi) / 2)
    expected = {
        "nll": nll,
        "nll_normal": nll,
        "rmse": np.sqrt(51 / 3),
        "crps": crps.mean(),
        "coverage": 2 / 3,  # the third lies 2.3 deviations off
        "width": 2 * norm.ppf(0.95) * std.mean(),
    }
    # Doubles, and some tens of operations on numbers of size 1.
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_mixture_of_two_normals(modules: dict[str, ModuleType]) -> None:
    means, stds, y = np.array([[-1.0], [2.0]]), np.array([[0.5], [1.5]]), np.array([0.3])
    mixture = modules["others"].NormalMixture(means, stds)

    def cdf(z: float) -> float:
        return float(norm.cdf(z, means, stds).mean())

    below, above = (quad(lambda z, s=s: (cdf(z) - s) ** 2, *ends, epsabs=1e-10)[0] for s, *ends in
                    ((0, -9.0, 0.3), (1, 0.3, 14.0)))  # fmt: skip
    # What lies outside of the limits is eight deviations off.
    assert mixture.crps(y)[0] == pytest.approx(below + above, abs=1e-9)
    for level in (0.05, 0.95):
        assert cdf(mixture.quantile(level)[0]) == pytest.approx(level, abs=1e-12)
    density = norm.pdf(0.3, means, stds).mean()
    assert mixture.log_prob(y)[0] == pytest.approx(np.log(density), rel=1e-12)


def test_crps_of_quantiles(modules: dict[str, ModuleType]) -> None:
    y = norm.ppf((np.arange(1000) + 0.5) / 1000)
    levels = np.arange(1, 20) / 20
    values = np.broadcast_to(norm.ppf(levels)[:, None], (19, 1000))
    found = modules["others"].Quantiles(levels, values, np.zeros(1000)).scores(y)
    assert found["nll"] is None
    # At the true quantiles the expected loss at a level is the density there.
    assert found["crps"] == pytest.approx(2 * norm.pdf(norm.ppf(levels)).sum() / 20, rel=1e-3)
    assert found["coverage"] == pytest.approx(0.9)


def test_the_table_says_how_many_splits_and_pairs_them(uci: ModuleType, tmp_path: Path) -> None:
    results = uci.Results(tmp_path / "results.jsonl")
    for split, nll in enumerate((1.0, 2.0, 6.0)):
        results.add(record(split, nll=nll))
    for split, nll in ((1, 2.5), (2, 7.5)):
        results.add(record(split, "gp", nll=nll))
    results.add(record(0, "hgb", nll=None))
    text = uci.table(results.records)
    # Standard errors: sqrt(7 / 3) of 1, 2, 6; 2.5 of 2.5 and 7.5.
    assert "| mirth | 3 | 3.000 ± 1.528 |" in text
    assert "| gp | 2 | 5.000 ± 2.500 |" in text
    assert "| hgb | 1 | - | - | 2 |" in text
    assert "different splits" in text
    # On splits 1 and 2 alone: 0.5 and 1.5.
    assert "| gp | mirth | 2 | +1.000 ± 0.500 | +0 ± 0 |" in text
    assert "| hgb | mirth | 1 | - | +0 |" in text
    assert "| *TabPFN v2 (2025), published* | - | -0.731 ± 0.238 | - | 0.417 |" in text


def test_settings_of_one_model_are_told_apart(uci: ModuleType, tmp_path: Path) -> None:
    results = uci.Results(tmp_path / "results.jsonl")
    results.add(record(0))
    results.add(record(0, settings={"warmup": 9}, nll=3.0))
    text = uci.table(results.records)
    assert "| mirth (warmup 300) | 1 | 1.000 |" in text
    assert "| mirth (warmup 9) | 1 | 3.000 |" in text
    assert "| mirth (warmup 300) | mirth (warmup 9) | 1 | -2.000 |" in text


def test_ranges_of_splits(uci: ModuleType) -> None:
    assert uci.parse_numbers(["0-2", "7"]) == [0, 1, 2, 7]
    for word in ("x", "1-", "-1", "1-b"):
        with pytest.raises(ValueError, match=f"'{word}' is neither"):
            uci.parse_numbers([word])
