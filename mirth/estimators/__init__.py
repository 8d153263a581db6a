"""The scikit-learn face: estimators for tables."""

from mirth.estimators.classifier import BNNClassifier, EntropySplit
from mirth.estimators.conformal import IntervalCalibration, SetCalibration
from mirth.estimators.diagnostics import Diagnostics, diagnose
from mirth.estimators.persistence import load_estimator, save_estimator
from mirth.estimators.regressor import BNNRegressor, VarianceSplit

__all__ = [
    "BNNClassifier",
    "BNNRegressor",
    "Diagnostics",
    "EntropySplit",
    "IntervalCalibration",
    "SetCalibration",
    "VarianceSplit",
    "diagnose",
    "load_estimator",
    "save_estimator",
]
