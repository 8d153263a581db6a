"""The scikit-learn face: estimators for tables."""

from mirth.estimators.classifier import BNNClassifier
from mirth.estimators.default_network import choose_layers
from mirth.estimators.persistence import load
from mirth.estimators.regressor import BNNRegressor

__all__ = ["BNNClassifier", "BNNRegressor", "choose_layers", "load"]
