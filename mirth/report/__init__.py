"""Figures, tables and pages: arrays and numbers made readable. matplotlib lives here only."""

from mirth.report.figures import (
    Band,
    band_figure,
    chain_figure,
    coverage_figure,
    pit_figure,
    prediction_figure,
    reliability_figure,
    uncertainty_figure,
)
from mirth.report.losses import loss_figure
from mirth.report.page import Picture, Section, render_page
from mirth.report.style import to_png
from mirth.report.tables import Column, Table

__all__ = [
    "Band",
    "Column",
    "Picture",
    "Section",
    "Table",
    "band_figure",
    "chain_figure",
    "coverage_figure",
    "loss_figure",
    "pit_figure",
    "prediction_figure",
    "reliability_figure",
    "render_page",
    "to_png",
    "uncertainty_figure",
]
