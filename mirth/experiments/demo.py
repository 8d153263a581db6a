"""The demonstration: three examples, three methods, one page."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mirth.core.folders import folder_format, new_folder, write_json
from mirth.data import Example, breast_cancer, diabetes, heteroscedastic_gap, true_quantities
from mirth.data.examples import GAP, RANGE
from mirth.estimators import BNNClassifier, BNNRegressor
from mirth.experiments.comparison import ENSEMBLE, SAMPLED, Case, Comparison, compare, split_case
from mirth.experiments.environment import describe, environment
from mirth.experiments.forecasts import LEVEL
from mirth.experiments.sections import comparison_section, write_pictures
from mirth.inference import MILE
from mirth.report import Band, Picture, Section, Table, band_figure, render_page, to_png

FORMAT = "mirth demo"
SCHEMA_VERSION = 1
DEMO_FOLDER = Path("runs/demo")
"""Where ``mirth demo`` writes; a demonstration found there is replaced."""

# Half of the rows are test rows: on a fifth (88 of the diabetes rows) the difference between two
# good methods is as large as its standard error.
TEST_FRACTION = 0.5
SPLIT_SEED = 1
GAP_ROWS = 400
# Ten weak predictors call for smaller weights than the papers' 1; on other splits of the diabetes
# rows 0.3 gives the better LPPD as well.
GRID_POINTS = 301
NORMAL_90 = 1.6448536269514722  # quantile 0.95 of the standard Normal: half a 90% interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What the demonstration spends on each example: about 20 s on two cores.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(16, 16)
        Width of each hidden layer.
    n_members, n_warmup, n_samples, n_thinning : int
        As for ``BNNRegressor`` and ``MILE``.
    """

    hidden_layer_sizes: tuple[int, ...] = (16, 16)
    n_members: int = 8
    n_warmup: int = 4000
    n_samples: int = 200
    n_thinning: int = 10


BUDGET = Budget()

INTRO = (
    "A Bayesian neural network keeps many networks that explain the training rows, instead of one. "
    "MILE starts a microcanonical Langevin chain at every member of a deep ensemble and averages "
    "the predictions of all its draws. Below it is compared with the very ensemble that it started "
    "from, and with a linear model. Half of the rows of each example were held out as test rows.",
    "LPPD is the mean log density (or probability) that a method gives to the test targets, in "
    "nats per row: higher is better. CRPS and RMSE are in the units of the target, Brier score and "
    "ECE (expected calibration error) are errors of probabilities: lower is better. Coverage is "
    "the share of test targets inside 90% intervals: best near 90%. The best number of each "
    "column is in bold; the time of MILE includes that of the ensemble.",
    "This is a demonstration, not a benchmark: one split of small tables, a smaller network and "
    "fewer steps than by default. Prior, likelihood and all other settings are the defaults.",
)


def run_demo(
    folder: str | Path = DEMO_FOLDER,
    *,
    overwrite: bool = False,
    seed: int = 0,
    verbose: int | bool = False,
    show: Callable[[Table | str], None] = lambda _: None,
) -> dict[str, Comparison]:
    """Run the examples and write scores, pictures and a page.

    Parameters
    ----------
    folder : str or path, default="runs/demo"
        The run directory. A demonstration in the default folder is replaced.
    overwrite : bool, default=False
        Replace another folder that mirth has written.
    seed : int, default=0
        Seed of the fits.
    verbose : int or bool, default=False
        Show the progress of the fits.
    show : callable, optional
        Receives each score table and its interpretation as soon as they are there.

    Returns
    -------
    dict of str to Comparison
        By example.

    Raises
    ------
    FileExistsError
        If the folder is not empty and must not be replaced.
    """
    begin = time.perf_counter()
    is_own = Path(folder) == DEMO_FOLDER and folder_format(folder) == FORMAT
    with new_folder(folder, overwrite=overwrite or is_own) as path:
        sections, comparisons, records = [], {}, {}
        for case in _cases():
            comparison = compare(case, _estimator(case, seed, verbose), bias_check=True)
            section, record = comparison_section(comparison), comparison.record()
            if case.name == "gap":
                section, record["gap"] = _with_gap(section, comparison)
            show(comparison.table())
            for text in section.paragraphs[1:]:
                show(text)
            write_pictures(section, path)
            sections.append(section)
            comparisons[case.name], records[case.name] = comparison, record
        found, seconds = environment(), time.perf_counter() - begin
        write_json(
            path / "metrics.json",
            {
                "format": FORMAT,
                "schema_version": SCHEMA_VERSION,
                "environment": found,
                "seed": seed,
                "split_seed": SPLIT_SEED,
                "budget": dataclasses.asdict(BUDGET),
                "seconds": seconds,
                "examples": records,
            },
        )
        footer = f"{describe(found)} Seed {seed}, {seconds:.0f} s in all."
        page = render_page("mirth: what sampling adds to a deep ensemble", INTRO, sections, footer)
        (path / "report.html").write_text(page, encoding="utf-8")
    return comparisons


def _cases() -> list[Case]:
    """Split the rows of the three examples, always in the same way."""
    x, y = heteroscedastic_gap(num_rows=GAP_ROWS)
    gap = Example("gap", "regression", x, y, ("x",))
    named = (
        (diabetes(), "Diabetes", "disease progression (score)"),
        (breast_cancer(), "Breast cancer", "diagnosis"),
        (gap, "One input, growing noise, a gap", "y"),
    )
    return [
        split_case(
            data.name,
            title,
            target,
            data.kind,
            data.x,
            data.y,
            test_fraction=TEST_FRACTION,
            seed=SPLIT_SEED,
        )
        for data, title, target in named
    ]


def _estimator(case: Case, seed: int, verbose: int | bool) -> BNNRegressor | BNNClassifier:
    kind = BNNRegressor if case.task == "regression" else BNNClassifier
    method = MILE(
        n_warmup=BUDGET.n_warmup,
        n_samples=BUDGET.n_samples,
        n_thinning=BUDGET.n_thinning,
    )
    return kind(
        BUDGET.hidden_layer_sizes,
        method=method,
        n_members=BUDGET.n_members,
        random_state=seed,
        verbose=verbose,
    )


def _with_gap(section: Section, comparison: Comparison) -> tuple[Section, dict[str, Any]]:
    """Look at the bands over the whole input: they must widen where there are no rows."""
    case, estimator = comparison.case, comparison.estimator
    grid = np.linspace(*RANGE, GRID_POINTS)
    is_gap = (GAP[0] < grid) & (grid < GAP[1])
    bands, widths = {}, {}
    for name, fitted in ((ENSEMBLE, estimator.as_deep_ensemble()), (SAMPLED, estimator)):
        dist: Any = fitted.predict_dist(grid[:, None])
        bands[name] = Band(dist.mean(), *dist.interval(LEVEL).T)
        width = bands[name].upper - bands[name].lower
        inside, outside = float(width[is_gap].mean()), float(width[~is_gap].mean())
        widths[name] = {"inside": inside, "outside": outside, "ratio": inside / outside}
    mean, std = true_quantities(grid)
    truth = Band(mean, mean - NORMAL_90 * std, mean + NORMAL_90 * std)
    figure = band_figure(grid, bands, truth, (case.x_train[:, 0], case.y_train), GAP, LEVEL)
    ours, theirs = widths[SAMPLED], widths[ENSEMBLE]
    verb = "widens" if ours["ratio"] > 1 else "does not widen"
    sentence = (
        f"The {LEVEL:.0%} band of {SAMPLED} {verb} in the gap: mean width {ours['inside']:.2f} "
        f"inside against {ours['outside']:.2f} outside, a factor of {ours['ratio']:.2f}; that of "
        f"the {ENSEMBLE} changes by {theirs['ratio']:.2f}. The true noise is on average the same "
        "inside and outside, so the difference is what the method knows about its ignorance."
    )
    picture = Picture(
        "gap_bands", "Predictions, training rows and the truth that made them.", to_png(figure)
    )
    wider = dataclasses.replace(
        section,
        paragraphs=[*section.paragraphs, sentence],
        pictures=[picture, *section.pictures],
    )
    return wider, {"level": LEVEL, "mean_width": widths}
