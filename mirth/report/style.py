"""How the pictures look: colours, font sizes, resolution."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # takes long to import, and the tables do without it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour blindness can tell apart.
COLOURS: Mapping[str, str] = {
    "MILE": "#0072B2",
    "deep ensemble": "#D55E00",
    "linear model": "#009E73",
}
"""Colour of each method; other names take ``SPARE`` in turn."""

SPARE = ("#CC79A7", "#E69F00", "#56B4E9")
DARK, GREY, LIGHT = "#222222", "#777777", "#DDDDDD"
DOTS_PER_INCH = 130

_SETTINGS: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "legend.fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": DARK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#EEEEEE",
    "legend.frameon": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": DARK,
    "ytick.labelcolor": DARK,
}


def colours_of(names: list[str]) -> list[str]:
    """Give each name its colour."""
    others = [name for name in names if name not in COLOURS]
    spare = {name: SPARE[k % len(SPARE)] for k, name in enumerate(others)}
    return [COLOURS.get(name) or spare[name] for name in names]


@contextmanager
def new_figure(
    width: float, height: float, columns: int = 1, **options: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Make a figure with ``columns`` axes side by side; the house style holds in the block.

    matplotlib's settings are as before afterwards, and no window system is touched.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **options)[0]
        yield figure, list(axes)


def to_png(figure: Figure) -> bytes:
    """Draw a figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.

    Returns
    -------
    bytes
        A PNG file.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()
