"""The scikit-learn face: estimators for tables."""

from mirth.estimators.arviz_export import to_arviz
from mirth.estimators.classifier import BNNClassifier, EntropySplit
from mirth.estimators.diagnostics import Diagnostics, diagnose
from mirth.estimators.persistence import load
from mirth.estimators.regressor import BNNRegressor, VarianceSplit

__all__ = [
    "BNNClassifier",
    "BNNRegressor",
    "Diagnostics",
    "EntropySplit",
    "VarianceSplit",
    "diagnose",
    "load",
    "to_arviz",
]
