"""A comparison as a section of the page: sentences from the numbers, tables, pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mirth.experiments.comparison import ENSEMBLE, LINEAR, SAMPLED, Comparison
from mirth.experiments.forecasts import LEVEL, ClassForecast, RegressionForecast
from mirth.report import (
    Band,
    Picture,
    Section,
    chain_figure,
    coverage_figure,
    loss_figure,
    pit_figure,
    prediction_figure,
    reliability_figure,
    to_png,
    uncertainty_figure,
)


def comparison_section(comparison: Comparison) -> Section:
    """Build the section of one comparison.

    Parameters
    ----------
    comparison : Comparison
        The numbers.

    Returns
    -------
    Section
        Interpretation, score table, pictures, and the chains' health folded up.
    """
    return Section(
        comparison.case.title,
        sentences(comparison),
        [comparison.table()] if comparison.results else [],
        pictures(comparison),
        [comparison.health_table()]
        + ([] if comparison.bias is None else [comparison.bias_table()]),
    )


def write_pictures(section: Section, folder: Path) -> None:
    """Write the pictures of a section beside the page.

    Parameters
    ----------
    section : Section
        The section.
    folder : Path
        Where to.
    """
    for picture in section.pictures:
        (folder / f"{picture.name}.png").write_bytes(picture.png)


def sentences(comparison: Comparison) -> list[str]:
    """Say in words what the numbers show.

    Parameters
    ----------
    comparison : Comparison
        The numbers.

    Returns
    -------
    list of str
        Paragraphs.
    """
    bias = comparison.bias
    return [*_sentences(comparison), *([] if bias is None else [bias.sentence])]


def _sentences(comparison: Comparison) -> list[str]:
    """Say in words what the scores and the health of the chains show."""
    case = comparison.case
    task = "Regression" if case.task == "regression" else "Classification"
    rows = f"{task} of {case.target} from {case.x_train.shape[1]} column(s): {len(case.y_train)} "
    if not comparison.results:
        scaled = ", for the scaled target" if case.task == "regression" else ""
        none = (
            "There are no test rows, so there are no scores: nothing here says how well new rows "
            "are predicted. The LPPD of each chain is that of the rows that stopped the "
            f"optimisation{scaled}."
        )
        return [f"{rows}training rows, no test rows.", none, comparison.diagnostics.summary]
    first = f"{rows}training rows, {len(case.y_test)} test rows that no method has seen."
    main = comparison.main
    rivals = f"{_against(comparison, LINEAR)} (± one standard error over the test rows)."
    if main == SAMPLED:
        rivals = f"{_against(comparison, ENSEMBLE)} that it started from, and {rivals}"
    name = main if main == SAMPLED else f"The {main}"
    scores = comparison.results[main].scores
    lead = f"{name} reaches an LPPD of {scores['lppd']:.3f} nats per row, {rivals}"
    calibration = (
        _interval_sentence(comparison)
        if case.task == "regression"
        else _confidence_sentence(comparison)
    )
    return [first, f"{lead} {calibration}", comparison.diagnostics.summary]


def pictures(comparison: Comparison) -> list[Picture]:
    """Draw everything about one comparison.

    Parameters
    ----------
    comparison : Comparison
        The numbers.

    Returns
    -------
    list of Picture
        None of them without test rows.
    """
    if not comparison.results:
        return []
    specific = (
        _regression_pictures(comparison)
        if comparison.case.task == "regression"
        else _class_pictures(comparison)
    )
    results = comparison.results
    specific = [*specific, *_loss_pictures(comparison)]
    if comparison.main != SAMPLED:
        return specific
    figure = chain_figure(
        comparison.start_lppd,
        comparison.chain_lppd,
        {name: results[name].scores["lppd"] for name in (ENSEMBLE, SAMPLED)},
    )
    caption = (
        "What each chain has gained over the network it started from, and what pooling all of "
        "them adds (dashed lines)."
    )
    return [*specific, Picture(f"{comparison.case.name}_chains", caption, to_png(figure))]


def _loss_pictures(comparison: Comparison) -> list[Picture]:
    """Draw the optimisation of the ensemble; nothing where the chains began elsewhere."""
    report = comparison.estimator.posterior_.warm_start
    if not len(report.curve_epochs):
        return []
    figure = loss_figure(
        report.curve_epochs,
        report.training_curve,
        report.validation_curve,
        report.best_epochs,
        report.validation_loss,
    )
    caption = (
        f"The optimisation of the {len(report.epochs)} networks of the deep ensemble: each stops "
        "when its loss of the validation rows has stopped falling, and keeps the weights of its "
        "best epoch (dots). The highest 2 % of the losses may lie above the picture."
    )
    return [Picture(f"{comparison.case.name}_losses", caption, to_png(figure))]


def _against(comparison: Comparison, other: str) -> str:
    """Say how much better or worse than another method, with the error of the difference."""
    ours, theirs = (comparison.results[name].forecast.log_prob for name in (comparison.main, other))
    gain = ours - theirs
    error = gain.std(ddof=1) / math.sqrt(len(gain))
    word = "above" if gain.mean() >= 0 else "below"
    return f"{abs(gain.mean()):.3f} ± {error:.3f} {word} the {other}"


def _interval_sentence(comparison: Comparison) -> str:
    num_rows = len(comparison.case.y_test)
    chance = 1.96 * math.sqrt(LEVEL * (1 - LEVEL) / num_rows)
    main, rival = comparison.main, comparison.rival
    ours, theirs, linear = (comparison.results[name].scores for name in (main, rival, LINEAR))
    is_near = abs(ours["coverage_90"] - LEVEL) <= chance
    place = "within" if is_near else "outside"
    before, after = theirs["quantile_calibration_error"], ours["quantile_calibration_error"]
    change = "falls" if after < before else "does not fall"
    third = f", those of the {LINEAR} {linear['coverage_90']:.1%}" if rival != LINEAR else ""
    lead = f"Its {LEVEL:.0%} intervals hold {ours['coverage_90']:.1%} of the test rows"
    verb = "hold"
    forecast = comparison.results[main].forecast
    if isinstance(forecast, RegressionForecast) and forecast.has_atoms:
        lead = (
            f"Its {LEVEL:.0%} intervals hold {ours['inside_90']:.1%} of the test rows. Where "
            "single values have a probability of their own, as counts do, even those of the true "
            f"model hold {LEVEL:.0%} or more; with targets at an end counted by chance, as often "
            f"as {LEVEL:.0%} need, they cover {ours['coverage_90']:.1%}"
        )
        verb = "cover"
    return (
        f"{lead}, {place} what "
        f"chance allows for {num_rows} rows (± {chance:.1%}); those of the {rival} {verb} "
        f"{theirs['coverage_90']:.1%}{third}. The "
        f"calibration error over all quantiles {change}: {before:.3f} for the {rival}, "
        f"{after:.3f} for {main if main == SAMPLED else f'the {main}'}."
    )


def _confidence_sentence(comparison: Comparison) -> str:
    rival = comparison.rival
    ours, theirs = (comparison.results[name].scores for name in (comparison.main, rival))
    change = "lower" if ours["brier"] < theirs["brier"] else "not lower"
    return (
        f"It is right in {ours['accuracy']:.1%} of the test rows ({rival}: "
        f"{theirs['accuracy']:.1%}). The Brier score is {change} than that of the {rival} "
        f"({ours['brier']:.4f} against {theirs['brier']:.4f}), the expected calibration error "
        f"{ours['ece']:.3f} against {theirs['ece']:.3f}."
    )


def _regression_pictures(comparison: Comparison) -> list[Picture]:
    case = comparison.case
    forecasts = {
        name: result.forecast
        for name, result in comparison.results.items()
        if isinstance(result.forecast, RegressionForecast)
    }
    networks = {name: forecast for name, forecast in forecasts.items() if name != LINEAR}
    pits = {name: forecast.pit for name, forecast in networks.items()}
    has_atoms = any(forecast.has_atoms for forecast in forecasts.values())
    bands = {name: Band(f.mean, f.lower, f.upper) for name, f in networks.items()}
    drawn = {
        "coverage": (
            to_png(coverage_figure({name: forecast.pit for name, forecast in forecasts.items()})),
            "Share of test rows inside central intervals of every level. On the diagonal the "
            "intervals keep what they promise; below it they are too narrow."
            f"{_COVERAGE_BY_CHANCE if has_atoms else ''}",
        ),
        "pit": (
            to_png(pit_figure(pits)),
            "Where the targets lie in their predictive distributions. Flat is calibrated, a U "
            "shape is overconfident, a hump is too cautious."
            f"{_PLACE_BY_CHANCE if has_atoms else ''}",
        ),
        "predictions": (
            to_png(prediction_figure(case.y_test, bands, case.target, LEVEL)),
            f"Predictions with {LEVEL:.0%} intervals against what was observed.",
        ),
        "uncertainty": (
            _uncertainty(networks, "units of the target"),
            _UNCERTAINTY_CAPTION.format(measure="as standard deviations"),
        ),
    }
    return [Picture(f"{case.name}_{name}", caption, png) for name, (png, caption) in drawn.items()]


_COVERAGE_BY_CHANCE = (
    " A target with a probability of its own, such as a count, that is an end of the interval "
    "counts as inside by chance, as often as the level needs."
)
_PLACE_BY_CHANCE = (
    " A target with a probability of its own, such as a count, has a random place between the "
    "probabilities of less and of at most it."
)
_UNCERTAINTY_CAPTION = (
    "The two parts of the uncertainty of each test row ({measure}): noise that more data would not "
    "remove, and disagreement of the draws, which more data would remove."
)


def _class_pictures(comparison: Comparison) -> list[Picture]:
    forecasts = {
        name: result.forecast
        for name, result in comparison.results.items()
        if isinstance(result.forecast, ClassForecast)
    }
    name = comparison.case.name
    reliability = reliability_figure(
        comparison.y_test(), {key: forecast.probabilities for key, forecast in forecasts.items()}
    )
    networks = {key: forecast for key, forecast in forecasts.items() if key != LINEAR}
    return [
        Picture(
            f"{name}_reliability",
            "How often predictions of a given confidence are right. Below the diagonal they are "
            "overconfident; small dots hold few rows and scatter by chance.",
            to_png(reliability),
        ),
        Picture(
            f"{name}_uncertainty",
            _UNCERTAINTY_CAPTION.format(measure="as entropies"),
            _uncertainty(networks, "nats"),
        ),
    ]


def _uncertainty(networks: Mapping[str, Any], unit: str) -> bytes:
    return to_png(
        uncertainty_figure(
            {name: forecast.aleatoric for name, forecast in networks.items()},
            {name: forecast.epistemic for name, forecast in networks.items()},
            unit,
        )
    )
