"""Whole runs: data in, a folder with scores, pictures and a page out."""

from mirth.experiments.comparison import Case, Comparison, compare
from mirth.experiments.demo import DEMO_FOLDER, run_demo
from mirth.experiments.runs import extend_run, resume_run, start_run
from mirth.experiments.tables import fit_table, predict_table

__all__ = [
    "DEMO_FOLDER",
    "Case",
    "Comparison",
    "compare",
    "extend_run",
    "fit_table",
    "predict_table",
    "resume_run",
    "run_demo",
    "start_run",
]
