"""The scikit-learn face: estimators for tables."""

from mirth.estimators.classifier import BNNClassifier
from mirth.estimators.default_network import choose_layers
from mirth.estimators.persistence import load
from mirth.estimators.regressor import BNNRegressor
from mirth.results.arviz import to_arviz
from mirth.results.conformal import IntervalCalibration, SetCalibration
from mirth.results.diagnostics import Diagnostics, diagnose
from mirth.results.uncertainty import EntropySplit, VarianceSplit

__all__ = [
    "BNNClassifier",
    "BNNRegressor",
    "Diagnostics",
    "EntropySplit",
    "IntervalCalibration",
    "SetCalibration",
    "VarianceSplit",
    "choose_layers",
    "diagnose",
    "load",
    "to_arviz",
]
