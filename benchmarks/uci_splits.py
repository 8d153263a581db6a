"""The UCI regression protocol: sets, splits, scores, published figures, results on disk.

Used by ``uci20.py`` (mirth) and ``others.py`` (other packages, in an environment without mirth), so
numpy is all that is imported. Nine sets have 20 splits of 90/10 (protein 5) that follow from one
stream of random numbers, for rows in their usual order; airfoil has ten folds, bike sharing five
splits by the same rule. Files are ``NAME.txt`` or ``NAME.txt.gz`` in FOLDER or FOLDER/uci, numbers
separated by blanks, the target last; airfoil and bike sharing lie in folders of their own.

Results are lines of JSON, appended: one record for each set, split, model and settings, the last
one counts. What is there already is not fitted again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, machine, moment_scores

Figures = dict[str, tuple[float, float | None]]
Split = tuple[np.ndarray, np.ndarray]

NLL_COLUMNS = (
    "MC dropout (2018)", "PBP (2015)", "deep ensemble (2017)", "DVI (2019)", "NGBoost (2020)",
    "evidential (2020)", "Wasserstein boosting (2024)", "TabResFlow (2025)", "TabPFN v2 (2025)",
)  # fmt: skip
RMSE_COLUMNS = ("TabPFN v2 (2025)", "XGBoost (2025)", "CatBoost (2025)")
_NLL: dict[str, tuple] = {
    "boston": (2.40, 2.57, 2.41, 2.41, 2.43, 2.35, 2.47, None, None),
    "concrete": (2.93, 3.16, 3.06, 3.06, 3.04, 3.01, 2.83, 2.90, (2.215, 0.138)),
    "energy": (1.21, 2.04, 1.38, 1.01, 0.60, 1.39, 0.53, 0.77, (0.150, 0.122)),
    "kin8nm": (-1.14, -0.90, -1.20, -1.13, -0.49, -1.24, -0.44, -1.29, (-1.272, 0.018)),
    "naval": (-4.45, -3.73, -5.63, -6.29, -5.34, -5.73, -5.47, -5.30, (-7.328, 0.019)),
    "power": (2.80, 2.84, 2.79, 2.80, 2.79, 2.81, 2.60, 2.60, (2.278, 0.022)),
    "protein": (2.87, 2.97, 2.83, 2.85, 2.81, 2.63, 2.70, 1.95, (1.732, 0.018)),
    "wine": (0.93, 0.97, 0.94, 0.90, 0.91, 0.89, 0.95, None, None),
    "yacht": (1.25, 1.63, 1.18, 0.47, 0.20, 1.03, 0.16, 0.67, (-0.731, 0.238)),
    "airfoil": (None, None, None, None, None, None, None, None, (1.036, 0.054)),
}
_RMSE: dict[str, tuple] = {
    "concrete": (3.86, 4.36, 4.65),
    "energy": (0.423, 0.322, 0.497),
    "kin8nm": (0.0704, 0.123, 0.104),
    "power": (3.00, 3.07, 3.65),
    "protein": (3.53, 3.36, 4.15),
    "yacht": (0.417, 0.804, 1.221),
    "airfoil": (0.967, None, None),
}
TABPFN_NOTE = (
    "TabPFN v2: folds with an infinite NLL were dropped there, and training and test rows cut to "
    "10 000 each."
)


def _figures(names: tuple[str, ...], values: tuple) -> Figures:
    """Pair columns with values, each with its spread where one was published."""
    pairs = zip(names, values, strict=True)
    return {n: v if isinstance(v, tuple) else (v, None) for n, v in pairs if v is not None}


PUBLISHED: dict[str, dict[str, Figures]] = {
    "nll": {name: _figures(NLL_COLUMNS, values) for name, values in _NLL.items()},
    "rmse": {name: _figures(RMSE_COLUMNS, values) for name, values in _RMSE.items()},
}


@dataclass(frozen=True)
class UCISet:
    """A set: where it lies, what shape it must have, how often it is split."""

    name: str
    rows: int
    columns: int  # of the file, with the target
    num_splits: int = 20
    candidates: tuple[str, ...] = ()
    folds: bool = False
    drop_first: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """Where the file may lie, relative to the data folder."""
        usual = (f"{self.name}.txt", f"{self.name}.txt.gz")
        return self.candidates or (*usual, *(f"uci/{file}" for file in usual))

    @property
    def published(self) -> dict[str, Figures]:
        """NLL and RMSE of others."""
        return {score: sets.get(self.name, {}) for score, sets in PUBLISHED.items()}


# The splits depend on the number of rows, and "target last" on the columns: energy and naval are
# about with two targets, bike sharing without the row number. So both are checked.
SETS = {
    entry.name: entry
    for entry in (
        UCISet("boston", 506, 14),
        UCISet("concrete", 1030, 9),
        UCISet("energy", 768, 9),
        UCISet("kin8nm", 8192, 9),
        UCISet("naval", 11934, 17),
        UCISet("power", 9568, 5),
        UCISet("protein", 45730, 10, 5),
        UCISet("wine", 1599, 12),
        UCISet("yacht", 308, 7),
        UCISet("airfoil", 1503, 6, 10, ("airfoil/airfoil.data", "airfoil.txt"), folds=True),
        # The rows are in the order of time, so their number gives the target away.
        UCISet(
            "bikesharing", 17379, 13, 5,
            ("bikesharing/bikesharing.data.gz", "bikesharing.txt", "bikesharing.txt.gz"),
            drop_first=True,
        ),
    )
}  # fmt: skip


def find(name: str, folder: str | Path) -> Path | None:
    """Give the file of a set, or None."""
    paths = (Path(folder, file) for file in SETS[name].files)
    return next((path for path in paths if path.is_file()), None)


def available(folder: str | Path) -> list[str]:
    """Give the names of the sets that a folder has."""
    return [name for name in SETS if find(name, folder)]


def load(name: str, folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read inputs and target of a set."""
    if name not in SETS:
        raise ValueError(f"no set is called {name!r}; there are {', '.join(SETS)}.")
    entry, path = SETS[name], find(name, folder)
    if path is None:
        raise FileNotFoundError(
            f"{name} is not in {folder}: put its table, {entry.rows} rows of {entry.columns} "
            f"numbers with the target last, into one of {', '.join(entry.files)} there."
        )
    try:
        table = np.loadtxt(path, ndmin=2)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no table of numbers separated by blanks: {error}") from error
    if table.shape != (entry.rows, entry.columns):
        raise ValueError(
            f"{path} has {table.shape[0]} rows and {table.shape[1]} columns; the usual {name} has "
            f"{entry.rows} and {entry.columns} (target included), and the splits depend on it."
        )
    if not np.isfinite(table).all():
        raise ValueError(f"{path} has a value that is not finite.")
    return table[:, int(entry.drop_first) : -1], table[:, -1]


def splits(name: str, n: int) -> list[Split]:
    """Give training and test rows of all splits of ``n`` rows."""
    entry = SETS[name]
    if entry.folds:
        from sklearn.model_selection import KFold

        folds = KFold(entry.num_splits, shuffle=True, random_state=0)
        return list(folds.split(np.zeros((n, 1))))
    random = np.random.RandomState(1)  # the published splits are of this generator
    k = round(0.9 * n)
    orders = [random.permutation(n) for _ in range(entry.num_splits)]
    return [(order[:k], order[k:]) for order in orders]


def scores(
    y: np.ndarray,
    log_prob: np.ndarray | None,
    mean: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    crps: np.ndarray,
    std: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Score predictions of rows in the units of ``y``.

    ``lower`` and ``upper`` are the ends of the central 90 % interval; ``std`` is for the NLL of the
    Normal with the same moments. A model without density gives None for ``log_prob`` and ``std``.
    """
    return {
        "nll": None if log_prob is None else -float(np.mean(log_prob)),
        "nll_normal": None if std is None else moment_scores(y, mean, std)["nll"],
        "rmse": float(np.sqrt(np.mean((y - mean) ** 2))),
        "crps": float(np.mean(crps)),
        "coverage": float(np.mean((lower <= y) & (y <= upper))),
        "width": float(np.mean(upper - lower)),
    }


def versions(*packages: str) -> dict[str, str]:
    """Give the versions of installed packages."""
    return {package: importlib.metadata.version(package) for package in packages}


def _key(name: str, split: int, model: str, settings: Mapping[str, Any]) -> str:
    return json.dumps([name, split, model, settings], sort_keys=True)


class Results:
    """Records in a file of JSON lines."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._records: dict[str, dict[str, Any]] = {}
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                self._keep(json.loads(line))
            except (json.JSONDecodeError, KeyError, TypeError):
                # A kill while a line was written; its fit is done again.
                print(f"{self.path}, line {number} is no whole record and is left out", flush=True)

    def _keep(self, record: dict[str, Any]) -> None:
        key = _key(*(record[part] for part in ("set", "split", "model", "settings")))
        # What is written last is last here too, so that the newest settings can be told.
        self._records.pop(key, None)
        self._records[key] = record

    @property
    def records(self) -> list[dict[str, Any]]:
        """The last record of each key."""
        return list(self._records.values())

    def has(self, name: str, split: int, model: str, settings: Mapping[str, Any]) -> bool:
        """Tell whether this fit is there."""
        return _key(name, split, model, settings) in self._records

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record, with the machine's name."""
        record = {**record, "machine": machine()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record) + "\n"
        with self.path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                # After half a line a new one begins.
                text = text if file.read() == b"\n" else "\n" + text
            file.write(text.encode())
        self._keep(json.loads(json.dumps(record)))


def parse_numbers(words: Iterable[str]) -> list[int]:
    """Read numbers and ranges such as ``0-4 7``, both ends included."""
    numbers: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or word.endswith("-"):
            raise ValueError(f"{word!r} is neither a number nor a range such as 0-4.")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def parser(description: str) -> argparse.ArgumentParser:
    """Give a parser of the options that both programs have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", help="folder with the files of the sets")
    made.add_argument("--sets", nargs="+", choices=list(SETS), help="default: all there")
    made.add_argument("--splits", nargs="+", default=["0-19"], help="such as 0-4; default: all")
    made.add_argument("--results", default=str(RESULTS / "uci20.jsonl"), help="JSON lines")
    made.add_argument("--redo", action="store_true", help="fit again what is there")
    made.add_argument("--table-only", action="store_true", help="fit nothing, print the table")
    return made


def wanted(args: argparse.Namespace) -> list[tuple[str, int]]:
    """Give the sets and splits that were asked for and exist."""
    numbers = parse_numbers(args.splits)
    names = args.sets or available(args.data)
    if not names:
        raise FileNotFoundError(f"{args.data} has none of the sets {', '.join(SETS)}.")
    for name in names:
        load(name, args.data)  # a file that cannot be used is named before the first fit
    return [(name, k) for name in names for k in numbers if k < SETS[name].num_splits]


# Name of a column, its score, and the format of its mean and of its standard error.
COLUMNS = (
    ("NLL", "nll", ".3f", ".3f"),
    ("NLL of its Normal", "nll_normal", ".3f", ".3f"),
    ("RMSE", "rmse", ".4g", ".2g"),
    ("CRPS", "crps", ".4g", ".2g"),
    ("in 90 %", "coverage", ".3f", ".3f"),
    ("width", "width", ".4g", ".2g"),
)
Row = dict[int, dict[str, Any]]  # split -> record


def _cell(values: list[float], form: str, error_form: str) -> str:
    """Write mean and standard error of the splits; a single split has no error."""
    if not values:
        return "-"
    mean, size = float(np.mean(values)), len(values)
    if size == 1 or not np.isfinite(values).all():
        return f"{mean:{form}}"
    return f"{mean:{form}} ± {np.std(values, ddof=1) / np.sqrt(size):{error_form}}"


def _rows(records: list[dict[str, Any]]) -> dict[str, Row]:
    """Group by model; several settings of one model are told apart by what differs."""
    groups: dict[tuple[str, str], Row] = {}
    for record in records:
        which = record["model"], json.dumps(record["settings"], sort_keys=True)
        groups.setdefault(which, {})[record["split"]] = record
    named = {}
    for (model, text), row in groups.items():
        others = [json.loads(other) for name, other in groups if name == model]
        differing = [
            f"{part} {value}"
            for part, value in json.loads(text).items()
            if any(other.get(part) != value for other in others)
        ]
        named[f"{model} ({', '.join(differing)})" if differing else model] = row
    return named


def _newest(rows: dict[str, Row], records: list[dict[str, Any]], model: str) -> str | None:
    """Give the row of a model, of several settings the ones written last."""
    last = next((record for record in reversed(records) if record["model"] == model), None)
    return next((name for name, row in rows.items() if last in row.values()), None)


def _difference(row: Row, other: Row, column: tuple[str, str, str, str]) -> str:
    """Write the paired difference of a score on the splits that both have."""
    _, score, _, error_form = column
    pairs = [(row[k]["scores"][score], other[k]["scores"][score]) for k in row if k in other]
    known = [a - b for a, b in pairs if a is not None and b is not None]
    return _cell(known, "+.3f" if error_form == ".3f" else "+.3g", error_form)


def _published_rows(name: str) -> list[str]:
    """Write the two best of either score, as published."""
    published = SETS[name].published
    best: list[str] = []
    for figures in published.values():
        best += sorted(figures, key=lambda column, of=figures: of[column][0])[:2]

    def cell(score: str, column: str) -> str:
        value, spread = published[score].get(column, (None, None))
        return "-" if value is None else f"{value:g}" + (f" ± {spread:g}" if spread else "")

    rows = []
    for column in dict.fromkeys(best):
        cells = [cell(score, column) if score in published else "-" for _, score, *_ in COLUMNS]
        rows.append(f"| *{column}, published* | - | {' | '.join(cells)} | - |")
    return rows


def _head(*cells: str) -> list[str]:
    return ["| " + " | ".join(cells) + " |", "|---" * len(cells) + "|"]


def _set_table(name: str, records: list[dict[str, Any]]) -> list[str]:
    """Tabulate one set: means of all models, then paired differences."""
    rows = _rows(records)
    lines = [f"### {name}", "", *_head("model", "splits", *(c[0] for c in COLUMNS), "fit, s")]
    for model, row in rows.items():
        cells = []
        for _, score, form, error_form in COLUMNS:
            values = [record["scores"][score] for record in row.values()]
            cells.append(_cell([v for v in values if v is not None], form, error_form))
        seconds = np.mean([record["seconds"] for record in row.values()])
        lines.append(f"| {model} | {len(row)} | {' | '.join(cells)} | {seconds:.1f} |")
    lines += [*_published_rows(name), ""]
    if len({frozenset(row) for row in rows.values()}) > 1:
        lines += ["The models have different splits: compare them by the differences.", ""]
    shown = [column for column in COLUMNS if column[1] in ("nll", "rmse", "crps")]
    compared = []
    for reference in ("mirth", "mirth: ensemble"):
        other = _newest(rows, records, reference)
        for model, row in rows.items():
            n = len(row.keys() & rows[other].keys()) if other else 0
            if n and model != other:
                cells = [_difference(row, rows[other], column) for column in shown]
                compared.append(f"| {model} | {other} | {n} | {' | '.join(cells)} |")
    if compared:
        lines += _head("model", "less", "splits in common", *(c[0] for c in shown))
        lines += [*compared, ""]
    return lines


def table(records: list[dict[str, Any]]) -> str:
    """Tabulate records as Markdown: mean ± standard error over the splits that are there."""
    if not records:
        return "No records yet."
    lines = []
    for name in SETS:
        of_set = [record for record in records if record["set"] == name]
        lines += _set_table(name, of_set) if of_set else []
    machines = sorted({f"{r['machine']['cpu']}, {r['machine']['cores']} cores" for r in records})
    return "\n".join([*lines, TABPFN_NOTE, f"Machines: {'; '.join(machines)}."])
