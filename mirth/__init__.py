"""mirth: Bayesian neural networks by microcanonical sampling.

Three levels, each made from the public parts of the one below:

1. Estimators: :class:`BNNRegressor`, :class:`BNNClassifier`, for tables.
2. :func:`infer`: any network, likelihood and prior, by any method.
3. Samplers: :class:`MCLMC` on any log density.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mirth.core.outcomes import ChainVerdict, MirthWarning, RunInterrupted, SamplingError
from mirth.core.types import Batch
from mirth.data import Dataset
from mirth.inference import (
    MILE,
    SGMCMC,
    SMILE,
    ChainsReport,
    DeepEnsemble,
    MLflowMonitor,
    Monitor,
    Placement,
    Posterior,
    TensorBoardMonitor,
    configure_cpu_devices,
    infer,
)
from mirth.model import (
    MLP,
    Categorical,
    EquinoxNetwork,
    FlaxLinenNetwork,
    FlaxNnxNetwork,
    FunctionalNetwork,
    HomoscedasticNormal,
    LeNet,
    Model,
    Normal,
    NormalPrior,
    ResNet7,
    ResNet18,
)
from mirth.prediction import CategoricalPredictive, Predictive, make_predictive
from mirth.samplers import MCLMC, MILETuner, StochasticMCLMC

if TYPE_CHECKING:
    from mirth.estimators import BNNClassifier, BNNRegressor, load, to_arviz

__version__ = "0.1.0"

# Estimators import scikit-learn's base classes, and these pandas: only on first use.
_LAZY = dict.fromkeys(("BNNRegressor", "BNNClassifier", "load", "to_arviz"), "mirth.estimators")


def __getattr__(name: str) -> Any:
    """Import what belongs to the estimators when it is first asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mirth' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


__all__ = [
    "MCLMC",
    "MILE",
    "MLP",
    "SGMCMC",
    "SMILE",
    "BNNClassifier",
    "BNNRegressor",
    "Batch",
    "Categorical",
    "CategoricalPredictive",
    "ChainVerdict",
    "ChainsReport",
    "Dataset",
    "DeepEnsemble",
    "EquinoxNetwork",
    "FlaxLinenNetwork",
    "FlaxNnxNetwork",
    "FunctionalNetwork",
    "HomoscedasticNormal",
    "LeNet",
    "MILETuner",
    "MLflowMonitor",
    "MirthWarning",
    "Model",
    "Monitor",
    "Normal",
    "NormalPrior",
    "Placement",
    "Posterior",
    "Predictive",
    "ResNet7",
    "ResNet18",
    "RunInterrupted",
    "SamplingError",
    "StochasticMCLMC",
    "TensorBoardMonitor",
    "configure_cpu_devices",
    "infer",
    "load",
    "make_predictive",
    "to_arviz",
]
