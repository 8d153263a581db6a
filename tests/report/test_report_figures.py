"""The pictures show the arrays they are given and leave matplotlib's settings alone."""

from __future__ import annotations

import os
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from mirth.evaluation import coverage_curve, pit_histogram, reliability_curve
from mirth.report import (
    Band,
    band_figure,
    chain_figure,
    coverage_figure,
    loss_figure,
    pit_figure,
    prediction_figure,
    reliability_figure,
    to_png,
    uncertainty_figure,
)
from mirth.report.style import COLOURS, colours_of

RNG = np.random.default_rng(0)
GRID = np.linspace(-3, 3, 31)
LOSSES, BEST = np.array([[1.0, 0.5, 0.75], [2.0, 1.5, np.nan]]), np.array([2, 2])
PITS = {"deep ensemble": RNG.uniform(size=40) ** 2, "MILE": RNG.uniform(size=40)}


def band(width: float) -> Band:
    return Band(np.sin(GRID), np.sin(GRID) - width, np.sin(GRID) + width)


BANDS = {"deep ensemble": band(1.0), "MILE": band(2.0)}


def draw(kind: str) -> Figure:
    y, labels = np.sin(GRID) + 0.1, RNG.integers(0, 2, 31)
    p = RNG.uniform(size=31)
    parts = {"MILE": np.abs(y)}
    figures = {
        "band": lambda: band_figure(GRID, BANDS, band(0.5), (GRID[::3], y[::3]), (-1, 1)),
        "pit": lambda: pit_figure(PITS),
        "coverage": lambda: coverage_figure(PITS),
        "prediction": lambda: prediction_figure(y, BANDS, "price (EUR)"),
        "reliability": lambda: reliability_figure(labels, {"MILE": np.stack([p, 1 - p], 1)}),
        "chain": lambda: chain_figure(np.zeros(3), np.ones(3), {"MILE": 1.1}),
        "loss": lambda: loss_figure(
            np.array([1, 2, 3]), LOSSES, LOSSES + 1, BEST, LOSSES[:, 1] + 1
        ),
        "uncertainty": lambda: uncertainty_figure(parts, parts, "nats"),
    }
    return figures[kind]()


KINDS = ("band", "pit", "coverage", "prediction", "reliability", "chain", "loss", "uncertainty")


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_has_labels_and_becomes_a_png(kind: str) -> None:
    before = dict(mpl.rcParams)
    figure = draw(kind)
    assert to_png(figure).startswith(b"\x89PNG")
    assert all(ax.get_xlabel() for ax in figure.axes)
    assert figure.axes[0].get_ylabel()
    assert figure.legends or any(ax.get_legend() for ax in figure.axes)
    assert dict(mpl.rcParams) == before


def test_pyplot_is_not_needed() -> None:
    code = (
        "import sys, numpy as np; from mirth.report import chain_figure, to_png; "
        "to_png(chain_figure(np.zeros(2), np.ones(2), {})); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    environment = {**os.environ, "MPLBACKEND": "agg"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_methods_keep_their_colour() -> None:
    first, own, second = colours_of(["other", "MILE", "another"])
    assert own == COLOURS["MILE"]
    assert len({first, own, second, *COLOURS.values()}) == 2 + len(COLOURS)


def test_bands_side_by_side_share_their_axes() -> None:
    left, right = draw("band").axes
    assert (left.get_title(), right.get_title()) == ("deep ensemble", "MILE")
    assert left.get_ylim() == right.get_ylim()
    assert right.get_ylim()[1] > 2  # the wider band is inside
    np.testing.assert_array_equal(right.lines[0].get_ydata(), np.sin(GRID))


def test_pit_bars_are_the_histogram() -> None:
    for ax, pit in zip(pit_figure(PITS, bins=5).axes, PITS.values(), strict=True):
        heights = [bar.get_height() for bar in ax.containers[0]]
        np.testing.assert_allclose(heights, pit_histogram(pit, bins=5).density)


def test_coverage_lines_are_the_curves() -> None:
    (ax,) = coverage_figure(PITS).axes
    for name, pit in PITS.items():
        (line,) = [line for line in ax.lines if line.get_label() == name]
        x, y = line.get_data()
        np.testing.assert_array_equal(y, coverage_curve(pit, x.tolist()))


def test_prediction_counts_what_the_intervals_hold() -> None:
    y = np.array([0.0, 0.0, 0.0, 9.0])
    narrow = Band(np.zeros(4), -np.ones(4), np.ones(4))
    (ax,) = prediction_figure(y, {"MILE": narrow}, "y").axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["90% interval holds the target (75%)", "misses it (25%)"]


def test_prediction_shows_at_most_max_rows() -> None:
    flat = Band(np.zeros(9), -np.ones(9), np.ones(9))
    (ax,) = prediction_figure(np.zeros(9), {"MILE": flat}, "y", max_rows=4).axes
    assert sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o") == 4


def test_reliability_dots_are_the_filled_bins() -> None:
    p = np.array([0.9, 0.8, 0.3, 0.45])
    probabilities, labels = np.stack([1 - p, p], 1), np.array([1, 0, 0, 1])
    (ax,) = reliability_figure(labels, {"MILE": probabilities}, bins=4).axes
    curve = reliability_curve(labels, probabilities, n_bins=4)
    dots = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(dots[:, 0], curve.confidence[curve.num_rows > 0])
    np.testing.assert_allclose(dots[:, 1], curve.accuracy[curve.num_rows > 0])


def test_chains_are_drawn_from_the_top() -> None:
    start, chain = np.array([-3.0, -2.0, -1.0]), np.array([-1.0, -1.5, -2.0])
    (ax,) = chain_figure(start, chain, {"deep ensemble": -1.2, "MILE": -0.8}).axes
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), start)
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), chain)
    low, high = ax.get_ylim()
    assert low > high


def test_losses_are_the_curves_and_the_kept_weights() -> None:
    epochs = np.array([2, 4, 6])
    (ax,) = loss_figure(epochs, LOSSES, LOSSES + 1, BEST, LOSSES[:, 1] + 1).axes
    *lines, dots = ax.lines
    for line, curve in zip(lines, [*LOSSES, *(LOSSES + 1)], strict=True):
        np.testing.assert_array_equal(line.get_xdata(), epochs)
        np.testing.assert_array_equal(line.get_ydata(), curve)
    np.testing.assert_array_equal(dots.get_xydata(), [[2, 1.5], [2, 2.5]])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["training rows", "validation rows", "weights kept"]


def test_a_high_first_loss_does_not_press_the_curves_flat() -> None:
    curve = np.linspace(1.0, 0.5, 100)[None]
    curve[0, 0] = 1e6
    (ax,) = loss_figure(np.arange(1, 101), curve, curve, np.array([100]), np.array([0.5])).axes
    low, high = ax.get_ylim()
    assert low < 0.5 and 0.9 < high < 2
