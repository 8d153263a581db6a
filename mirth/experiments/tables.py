"""A model of a CSV file: fitted, reported and kept in a run directory; predictions of new rows."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from mirth.core.folders import MARKERS, check_new_folder, new_folder, read_marker, write_json
from mirth.core.validation import Range, check_int, check_name, check_real
from mirth.data import (
    TRUSTED_TYPES,
    check_columns,
    column_kinds,
    make_preprocessor,
    read_table,
    split_target,
    task_of,
    train_validation_split,
)
from mirth.data.columns import ColumnKind, kind_of
from mirth.estimators import BNNClassifier, BNNRegressor, load
from mirth.experiments.comparison import Case, Comparison, compare
from mirth.experiments.environment import describe, environment
from mirth.experiments.sections import comparison_section, write_pictures
from mirth.inference import MILE
from mirth.report import Table, render_page

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "mirth run"
SCHEMA_VERSION = 1
MARKER = MARKERS[0]
MODEL = "model.mirth"
TASKS = ("auto", "regression", "classification")
TEST_SHARE = Range(low=0, high=1, high_open=True)
Task = Literal["regression", "classification"]


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A table made ready: rows split, columns turned into numbers.

    Parameters
    ----------
    case : Case
        Rows to learn from and rows to score on.
    kinds : dict of str to str
        Columns that are used, ``"number"`` or ``"category"``.
    preprocessor : object
        Turns such columns into inputs of the network.
    """

    case: Case
    kinds: dict[str, ColumnKind]
    preprocessor: Any

    def sentence(self) -> str:
        """Say what the rows are."""
        case = self.case
        num_test = len(case.y_test) or "no"
        return (
            f"{case.title.removesuffix(f': {case.target}')}: {case.task} of {case.target!r}, "
            f"{len(case.y_train)} training and {num_test} test rows, "
            f"{len(self.kinds)} columns."
        )


def fit_table(
    data: str | Path,
    target: str,
    folder: str | Path,
    *,
    task: str = "auto",
    drop: Collection[str] = (),
    test_fraction: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
    bias_check: bool = False,
    show: Callable[[Table | str], None] = lambda _: None,
    **parameters: Any,
) -> Comparison:
    """Fit a table and write a run directory.

    The directory holds ``manifest.json``, ``preprocess.skops`` and ``model`` for
    ``predict_table``, and ``metrics.json``, pictures and ``report.html`` to read. The model kept
    is the one that the scores belong to: fitted to the training rows only.

    Parameters
    ----------
    data : str or path
        CSV file with numbers, categories and missing values.
    target : str
        Column to predict.
    folder : str or path
        The run directory.
    task : {"auto", "regression", "classification"}, default="auto"
        What the target is; "auto" looks at its values.
    drop : collection of str, default=()
        Columns to leave out, such as an identifier; new rows need not have them.
    test_fraction : float, default=0.2
        Share of the rows that are held out for the scores; 0 fits all rows and scores nothing.
    seed : int, default=0
        Seed of the split and of the fit.
    overwrite : bool, default=False
        Replace a folder that mirth has written.
    bias_check : bool, default=False
        Let the chains go on after the fit, at their step size and at half of it, and say whether
        the steps were too long: 375 draws of each chain more.
    show : callable, optional
        Receives tables and sentences to print.
    **parameters : any
        Parameters of the :class:`BNNRegressor` or :class:`BNNClassifier`, such as ``n_members``.

    Returns
    -------
    Comparison
        Linear model, deep ensemble and MILE on the test rows, if there are any.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If the file is missing, or the folder must not be replaced.
    ValueError, TypeError
        If the table, the target or a parameter cannot be used; the text says what to change.
    """
    check_new_folder(folder, overwrite=overwrite)
    prepared = prepare(data, target, task, test_fraction, seed, drop)
    case = prepared.case
    kind = BNNRegressor if case.task == "regression" else BNNClassifier
    if kind is BNNClassifier and "resolution" in parameters:
        raise ValueError(
            f"resolution={parameters['resolution']!r} is for a target that is a number, but "
            f"{target!r} has classes; leave it out, or give task='regression'."
        )
    settings: dict[str, Any] = {"method": MILE(), "random_state": seed} | parameters
    estimator = kind(**settings)
    show(prepared.sentence())
    with new_folder(folder, overwrite=overwrite) as path:
        return fit_into(path, prepared, estimator, show, bias_check=bias_check)


def predict_table(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    interval: float = 0.9,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Predict new rows with the model of a run directory.

    Parameters
    ----------
    run : str or path
        Directory that ``fit_table`` has written.
    data : str or path
        CSV file with the columns that the model was fitted to; others are ignored.
    out : str or path
        CSV file to write, one row for each row of ``data`` in the same order. For a regression
        ``mean, std, lower, upper, epistemic_std, aleatoric_std`` in the units of the target; for
        a classification ``label``, ``p_<class>`` for each class, ``entropy, epistemic`` in nats.
    interval : float, default=0.9
        Probability between ``lower`` and ``upper``.
    overwrite : bool, default=False
        Replace the file ``out``.

    Returns
    -------
    pandas.DataFrame
        What was written.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If the run or the data are missing, or ``out`` exists.
    ValueError
        If the run is damaged or of another version, or columns are missing or of another kind.
    """
    from skops.io import load as load_skops

    out = Path(out)
    check_real("interval", interval, low=0, high=1, low_open=True, high_open=True)
    if out.is_dir():
        raise FileExistsError(f"{out} is a folder; name a CSV file to write.")
    if out.exists() and not overwrite:
        raise FileExistsError(
            f"the file {out} exists; choose another one, or replace it by --overwrite (in Python "
            "overwrite=True)."
        )
    if (Path(run) / "config.yaml").is_file() and not (Path(run) / MARKER).is_file():
        raise FileNotFoundError(
            f"the run in {run} is not finished and has no model yet; go on by: mirth resume {run}"
        )
    manifest = read_marker(run, FORMAT, SCHEMA_VERSION)
    kinds: dict[str, ColumnKind] = manifest["columns"]
    categories = [name for name, kind in kinds.items() if kind == "category"]
    frame = check_columns(read_table(data, text=categories), kinds)
    file = Path(run) / "preprocess.skops"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; the run is incomplete, fit again.")
    try:
        preprocessor = load_skops(file, trusted=list(TRUSTED_TYPES))
    except Exception as error:  # whatever a damaged archive or an untrusted type causes
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error}).") from error
    x = preprocessor.transform(frame)
    estimator = cast(BNNRegressor | BNNClassifier, load(Path(run) / MODEL))  # as fit_table wrote it
    predictions = _predictions(estimator, x, interval)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    predictions.to_csv(partial, index=False)
    partial.replace(out)
    return predictions


def prepare(
    data: str | Path,
    target: str,
    task: str,
    test_fraction: float,
    seed: int,
    drop: Collection[str] = (),
) -> Prepared:
    """Read, decide on the task, split, turn columns into numbers by the training rows.

    Parameters
    ----------
    data, target, task, test_fraction, seed, drop
        As for :func:`fit_table`.

    Returns
    -------
    Prepared

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        As for :func:`fit_table`.
    """
    check_name("task", task, TASKS)
    TEST_SHARE.check("test_fraction", test_fraction)
    check_int("seed", seed, minimum=0)
    frame, y = split_target(read_table(data), target, drop)
    chosen = cast(Task, task_of(y) if task == "auto" else task)
    if chosen == "regression" and kind_of(y) == "category":
        raise ValueError(
            f"the target {target!r} holds text such as {y.iloc[0]!r}, so it cannot be a "
            "regression; choose another target, or --task classification."
        )
    values = y.to_numpy(str if kind_of(y) == "category" else None)
    labels = values if chosen == "classification" else None
    train, test = np.arange(len(y)), np.arange(0)
    if test_fraction > 0:
        train, test = train_validation_split(len(y), test_fraction, seed, stratify=labels)
        check_int("test rows", len(test), minimum=2)  # before a folder is made
    kinds = column_kinds(frame.iloc[train])
    used = frame[list(kinds)]
    preprocessor = make_preprocessor(used.iloc[train])
    x_train = preprocessor.fit_transform(used.iloc[train])
    x_test = x_train[:0]
    if len(test):
        # Columns that have a kind by the training rows may be empty in the test rows.
        x_test = preprocessor.transform(check_columns(used.iloc[test], kinds))
    title = f"{Path(data).name}: {target}"
    case = Case("table", title, target, chosen, x_train, values[train], x_test, values[test])
    return Prepared(case, kinds, preprocessor)


def fit_into(
    path: Path,
    prepared: Prepared,
    estimator: BNNRegressor | BNNClassifier,
    show: Callable[[Table | str], None],
    *,
    bias_check: bool = False,
    **more: Any,
) -> Comparison:
    """Fit, score, and write model, scores, pictures and page into a folder.

    Parameters
    ----------
    path : Path
        The folder; what an earlier fit has written there is replaced.
    prepared : Prepared
        The rows.
    estimator : BNNRegressor or BNNClassifier
        What to fit.
    show : callable
        Receives tables and sentences to print.
    bias_check : bool, default=False
        See if the steps of the chains were too long.
    **more : any
        Further entries of ``manifest.json``, which is written last: it says that all is there.

    Returns
    -------
    Comparison
    """
    comparison = compare(prepared.case, estimator, bias_check=bias_check)
    if comparison.results:
        show(comparison.table())
    (path / MARKER).unlink(missing_ok=True)
    manifest = _write_results(path, prepared, comparison, show)
    write_json(path / MARKER, manifest | more)
    return comparison


def _write_results(
    path: Path,
    prepared: Prepared,
    comparison: Comparison,
    show: Callable[[Table | str], None],
) -> dict[str, Any]:
    """Write everything but the manifest, and return that."""
    from skops.io import dump

    estimator, record = comparison.estimator, comparison.record()
    section, found = comparison_section(comparison), environment()
    num_rows = len(prepared.case.y_train)
    note = (
        f"The model kept in this run is the one that these scores belong to: it was fitted to the "
        f"{num_rows} training rows only."
        if comparison.results
        else f"The model kept in this run was fitted to all {num_rows} rows."
    )
    for text in (*section.paragraphs[1:], note):
        show(text)
    section = dataclasses.replace(section, paragraphs=[*section.paragraphs, note])
    classes = estimator.classes_.tolist() if isinstance(estimator, BNNClassifier) else None
    metrics = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "environment": found, **record}
    write_json(path / "metrics.json", metrics)
    dump(prepared.preprocessor, path / "preprocess.skops")
    estimator.save(path / MODEL)
    write_pictures(section, path)
    page = render_page(f"mirth: {prepared.case.title}", [], [section], describe(found))
    (path / "report.html").write_text(page, encoding="utf-8")
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "mirth_version": importlib.metadata.version("mirth"),
        "target": prepared.case.target,
        "task": prepared.case.task,
        "classes": classes,
        "columns": prepared.kinds,
        "seed": estimator.random_state,
        "estimator": {k: _plain(v) for k, v in sorted(estimator.get_params().items())},
        "scores": record["methods"][comparison.main] if comparison.results else None,
    }


def _plain(value: Any) -> Any:
    """Show a parameter in the manifest; the model file has what is needed to load it."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _predictions(
    estimator: BNNRegressor | BNNClassifier, x: np.ndarray, interval: float
) -> pd.DataFrame:
    import pandas as pd

    if isinstance(estimator, BNNClassifier):
        dist = estimator.predict_dist(x)
        probabilities = dist.probabilities()
        columns = {f"p_{label}": probabilities[:, k] for k, label in enumerate(estimator.classes_)}
        return pd.DataFrame(
            {
                "label": estimator.classes_[probabilities.argmax(axis=1)],
                **columns,
                "entropy": dist.entropy(),
                "epistemic": dist.epistemic(),
            }
        )
    normal = estimator.predict_dist(x)
    lower, upper = normal.interval(interval).T
    return pd.DataFrame(
        {
            "mean": normal.mean(),
            "std": normal.std(),
            "lower": lower,
            "upper": upper,
            "epistemic_std": np.sqrt(normal.epistemic()),
            "aleatoric_std": np.sqrt(normal.aleatoric()),
        }
    )
