"""The pictures: each function takes arrays and returns a matplotlib figure.

Methods are given by name, so that one method has one colour in all pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mirth.evaluation import coverage_curve, pit_histogram, reliability_curve
from mirth.report.style import DARK, GREY, LIGHT, colours_of, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Float[np.ndarray, " data"]


class Band(NamedTuple):
    """Mean and interval of a prediction over a grid of inputs.

    Parameters
    ----------
    mean, lower, upper : array of shape (points,)
        In the units of the target.
    """

    mean: Rows
    lower: Rows
    upper: Rows


def band_figure(
    grid: Rows,
    bands: Mapping[str, Band],
    truth: Band,
    data: tuple[Rows, Rows],
    gap: tuple[float, float],
    level: float = 0.9,
) -> Figure:
    """Draw the bands of several methods side by side over one input, with the truth.

    Parameters
    ----------
    grid : array of shape (points,)
        Inputs.
    bands : mapping of str to Band
        Prediction of each method.
    truth : Band
        True mean and the interval of the true noise.
    data : tuple of two arrays of shape (rows,)
        Inputs and targets of the training rows.
    gap : tuple of float
        Interval of inputs without rows.
    level : float, default=0.9
        Probability inside the bands, for the legend.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dashes = (0, (4, 3))
    with new_figure(11.0, 4.4, len(bands), sharex=True, sharey=True) as (figure, axes):
        for ax, (name, band), colour in zip(
            axes, bands.items(), colours_of(list(bands)), strict=True
        ):
            ax.axvspan(*gap, color="#F4F4F4", zorder=0)
            ax.fill_between(grid, band.lower, band.upper, color=colour, alpha=0.28, linewidth=0)
            ax.plot(grid, band.mean, color=colour, linewidth=2)
            ax.plot(grid, truth.mean, color=DARK, linewidth=1.2)
            for edge in (truth.lower, truth.upper):
                ax.plot(grid, edge, color=DARK, linewidth=1, linestyle=dashes)
            ax.plot(*data, ".", color=GREY, markersize=4, zorder=1.5)
            ax.set(title=name, xlabel="x", xlim=(grid[0], grid[-1]))
            ax.text(
                *(sum(gap) / 2, 0.98),
                "no training rows",
                transform=ax.get_xaxis_transform(),
                ha="center",
                va="top",
                color=GREY,
                fontsize=10,
            )
        axes[0].set(ylabel="y")
        handles = [  # grey for what has another colour in each of the axes
            Patch(color=GREY, alpha=0.4, linewidth=0, label=f"{level:.0%} band"),
            Line2D([], [], color=GREY, linewidth=2, label="predictive mean"),
            Line2D([], [], color=DARK, linewidth=1.2, label="true mean"),
            Line2D([], [], color=DARK, linestyle=dashes, label=f"true {level:.0%} noise interval"),
            Line2D([], [], color=GREY, marker=".", linestyle="", label="training rows"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def pit_figure(pits: Mapping[str, Rows], bins: int = 10) -> Figure:
    """Draw histograms of the probability integral transform, with the band that chance allows.

    Parameters
    ----------
    pits : mapping of str to array of shape (rows,)
        Predictive distribution function at the targets, for each method; of counts by
        :func:`mirth.evaluation.randomised_pit`.
    bins : int, default=10
        Number of bins.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with new_figure(4.2 * len(pits), 3.6, len(pits), sharey=True) as (figure, axes):
        for ax, (name, pit), colour in zip(axes, pits.items(), colours_of(list(pits)), strict=True):
            histogram = pit_histogram(pit, bins=bins)
            ax.axhspan(
                histogram.band_lower,
                histogram.band_upper,
                color=LIGHT,
                alpha=0.7,
                zorder=0.5,
                label="95% of calibrated bins",
            )
            ax.axhline(1, color=GREY, linewidth=1)
            ax.bar(
                histogram.edges[:-1],
                histogram.density,
                width=np.diff(histogram.edges),
                align="edge",
                color=colour,
                alpha=0.75,
                edgecolor="white",
            )
            ax.set(title=name, xlabel="predictive probability below the target", xlim=(0, 1))
            ax.grid(visible=False)
        axes[0].set(ylabel="share of rows per unit")
        top = axes[0].get_ylim()[1]
        axes[0].set_ylim(0, 1.18 * top)
        axes[0].legend(loc="upper center")
    return figure


def coverage_figure(pits: Mapping[str, Rows]) -> Figure:
    """Draw observed against nominal coverage of central intervals.

    Parameters
    ----------
    pits : mapping of str to array of shape (rows,)
        Predictive distribution function at the targets, for each method; of counts by
        :func:`mirth.evaluation.randomised_pit`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    levels = np.arange(0.05, 1.0, 0.05)
    num_rows = len(next(iter(pits.values())))
    grid = np.linspace(0, 1, 101)
    error = 1.96 * np.sqrt(grid * (1 - grid) / num_rows)
    with new_figure(5.0, 4.9) as (figure, (ax,)):
        ax.fill_between(
            grid,
            np.clip(grid - error, 0, 1),
            np.clip(grid + error, 0, 1),
            color=LIGHT,
            alpha=0.7,
            linewidth=0,
            label=f"95% by chance ({num_rows} rows)",
        )
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        for (name, pit), colour in zip(pits.items(), colours_of(list(pits)), strict=True):
            ax.plot(
                levels,
                coverage_curve(pit, levels.tolist()),
                "o-",
                color=colour,
                markersize=4,
                label=name,
            )
        ax.set(
            xlabel="nominal coverage", ylabel="share of test rows inside", xlim=(0, 1), ylim=(0, 1)
        )
        ax.set_aspect("equal")
        ax.legend(loc="upper left")
    return figure


def prediction_figure(
    y: Rows, bands: Mapping[str, Band], target: str, level: float = 0.9, max_rows: int = 300
) -> Figure:
    """Draw predictions with intervals against what was observed.

    Parameters
    ----------
    y : array of shape (rows,)
        Observed targets.
    bands : mapping of str to Band
        Prediction of each row, for each method.
    target : str
        Name of the target, with its unit.
    level : float, default=0.9
        Probability inside the intervals.
    max_rows : int, default=300
        Rows that are drawn: of more, the first ones.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = slice(0, max_rows)
    with new_figure(5.0 * len(bands), 4.6, len(bands), sharex=True, sharey=True) as (figure, axes):
        for ax, (name, band), colour in zip(
            axes, bands.items(), colours_of(list(bands)), strict=True
        ):
            lower, upper = band.lower[rows], band.upper[rows]
            is_inside = (lower <= y[rows]) & (y[rows] <= upper)
            for mask, shade, label in (
                (is_inside, colour, f"{level:.0%} interval holds the target"),
                (~is_inside, DARK, "misses it"),
            ):
                ax.vlines(
                    y[rows][mask], lower[mask], upper[mask], color=shade, alpha=0.4, linewidth=1.2
                )
                ax.plot(
                    y[rows][mask],
                    band.mean[rows][mask],
                    "o",
                    color=shade,
                    markersize=3.5,
                    label=f"{label} ({mask.mean():.0%})",
                )
            ax.axline((0, 0), slope=1, color=GREY, linewidth=1, zorder=1)
            ax.set(title=name, xlabel=f"observed {target}")
            ax.legend(loc="upper left")
        axes[0].set(ylabel=f"predicted {target}")
        low, high = axes[0].get_ylim()
        axes[0].set_ylim(low, high + 0.16 * (high - low))
    return figure


def reliability_figure(
    y_index: Int[np.ndarray, " data"],
    probabilities: Mapping[str, Float[np.ndarray, "data classes"]],
    bins: int = 10,
) -> Figure:
    """Draw how often predictions of a given confidence are right.

    Parameters
    ----------
    y_index : integer array of shape (rows,)
        True class indices.
    probabilities : mapping of str to array of shape (rows, classes)
        Predicted probabilities, for each method.
    bins : int, default=10
        Number of bins of confidence.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = list(probabilities)
    least = 1 / next(iter(probabilities.values())).shape[1]
    with new_figure(5.6, 4.6) as (figure, (ax,)):
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
        for (name, probability), colour in zip(
            probabilities.items(), colours_of(names), strict=True
        ):
            curve = reliability_curve(y_index, probability, n_bins=bins)
            filled = curve.num_rows > 0
            ax.plot(curve.confidence[filled], curve.accuracy[filled], "-", color=colour, alpha=0.5)
            ax.scatter(
                curve.confidence[filled],
                curve.accuracy[filled],
                s=18 + 240 * curve.num_rows[filled] / len(y_index),
                color=colour,
                alpha=0.75,
                linewidth=0,
                label=name,
                zorder=3,
            )
        ax.set(
            xlabel="confidence (probability of the predicted class)",
            ylabel="share of right predictions",
            xlim=(min(least, 0.5) - 0.02, 1.03),
            ylim=(-0.03, 1.05),
        )
        legend = ax.legend(loc="lower right", title="dot size: share of rows")
        for handle in legend.legend_handles[1:]:
            handle.set_sizes([45])  # type: ignore[union-attr]
    return figure


def chain_figure(
    start: Float[np.ndarray, " chains"],
    chain: Float[np.ndarray, " chains"],
    pooled: Mapping[str, float],
) -> Figure:
    """Draw the LPPD of each chain beside that of the network it started from.

    Parameters
    ----------
    start, chain : array of shape (chains,)
        LPPD of each start and of each chain's draws, nats per row.
    pooled : mapping of str to float
        LPPD of all together: the deep ensemble and MILE.

    Returns
    -------
    matplotlib.figure.Figure
    """
    before, after = colours_of(["deep ensemble", "MILE"])
    position = np.arange(len(start))
    with new_figure(7.2, 1.7 + 0.28 * len(start)) as (figure, (ax,)):
        ax.hlines(position, start, chain, color=LIGHT, linewidth=3, zorder=1)
        ax.plot(start, position, "o", color=before, label="start: one network")
        ax.plot(chain, position, "o", color=after, label="chain: its draws")
        for (name, value), colour in zip(pooled.items(), colours_of(list(pooled)), strict=True):
            ax.axvline(value, color=colour, linewidth=1.4, linestyle="--", label=f"{name}, pooled")
        ax.set(
            xlabel="LPPD of the test rows (nats per row; right is better)",
            ylabel="chain",
            yticks=position,
            ylim=(len(start) - 0.4, -0.6),
        )
        ax.locator_params(axis="x", nbins=6)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def uncertainty_figure(
    aleatoric: Mapping[str, Rows], epistemic: Mapping[str, Rows], unit: str
) -> Figure:
    """Draw the disagreement of the draws against their own noise, a dot for each row.

    Parameters
    ----------
    aleatoric, epistemic : mapping of str to array of shape (rows,)
        The two parts of the uncertainty, for each method.
    unit : str
        Unit of both, for the labels.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with new_figure(5.6, 4.4) as (figure, (ax,)):
        for name, colour in zip(aleatoric, colours_of(list(aleatoric)), strict=True):
            ax.plot(
                aleatoric[name],
                epistemic[name],
                "o",
                color=colour,
                markersize=4,
                alpha=0.6,
                markeredgewidth=0,
                label=name,
            )
        ax.set(
            xlabel=f"noise: aleatoric ({unit})",
            ylabel=f"disagreement: epistemic ({unit})",
        )
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)
        ax.legend()
    return figure
