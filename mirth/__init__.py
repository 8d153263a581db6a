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
from mirth.data import ArrayStream, BatchStream, Dataset
from mirth.inference import (
    MILE,
    SGMCMC,
    SMILE,
    Auto,
    ChainsReport,
    DeepEnsemble,
    MLflowMonitor,
    Monitor,
    Placement,
    Posterior,
    RunFolderError,
    Sampling,
    TensorBoardMonitor,
    configure_cpu_devices,
    infer,
    join_chains,
)
from mirth.model import (
    MLP,
    AsymmetricLaplace,
    Bernoulli,
    Beta,
    Categorical,
    CauchyPrior,
    EquinoxNetwork,
    FanInNormalPrior,
    FlaxLinenNetwork,
    FlaxNnxNetwork,
    FunctionalNetwork,
    Gamma,
    HierarchicalNormalPrior,
    HomoscedasticNormal,
    HorseshoePrior,
    Independent,
    Laplace,
    LaplacePrior,
    LeNet,
    LogNormal,
    Model,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    NormalPrior,
    Ordinal,
    Poisson,
    PriorMap,
    RegularisedHorseshoePrior,
    ResNet7,
    ResNet18,
    StudentT,
    StudentTPrior,
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
    "Sampling",
    "SMILE",
    "ArrayStream",
    "AsymmetricLaplace",
    "Auto",
    "BNNClassifier",
    "BNNRegressor",
    "Batch",
    "BatchStream",
    "Bernoulli",
    "Beta",
    "Categorical",
    "CategoricalPredictive",
    "CauchyPrior",
    "ChainVerdict",
    "ChainsReport",
    "Dataset",
    "DeepEnsemble",
    "EquinoxNetwork",
    "FanInNormalPrior",
    "FlaxLinenNetwork",
    "FlaxNnxNetwork",
    "FunctionalNetwork",
    "Gamma",
    "HierarchicalNormalPrior",
    "HomoscedasticNormal",
    "HorseshoePrior",
    "Independent",
    "Laplace",
    "LaplacePrior",
    "LeNet",
    "LogNormal",
    "MILETuner",
    "MLflowMonitor",
    "MirthWarning",
    "Model",
    "Monitor",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "NormalPrior",
    "Ordinal",
    "Placement",
    "Poisson",
    "Posterior",
    "Predictive",
    "PriorMap",
    "RegularisedHorseshoePrior",
    "ResNet18",
    "ResNet7",
    "RunFolderError",
    "RunInterrupted",
    "SamplingError",
    "StochasticMCLMC",
    "StudentT",
    "StudentTPrior",
    "TensorBoardMonitor",
    "configure_cpu_devices",
    "infer",
    "join_chains",
    "load",
    "make_predictive",
    "to_arviz",
]
