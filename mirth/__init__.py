"""mirth: Bayesian neural networks by microcanonical sampling.

Three levels, each made from the public parts of the one below:

1. Estimators: :class:`BNNRegressor`, :class:`BNNClassifier`, for tables.
2. :func:`infer`: any network, likelihood and prior, by any method.
3. Samplers: kernels such as :class:`mirth.samplers.MCLMC` on any log density.

Here are the names that most programs need. The others live by subject: :mod:`mirth.likelihoods`,
:mod:`mirth.priors`, :mod:`mirth.networks`, :mod:`mirth.methods`, :mod:`mirth.samplers`,
:mod:`mirth.monitors`, :mod:`mirth.results`, :mod:`mirth.data`, :mod:`mirth.evaluation`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mirth import (
    data,
    evaluation,
    likelihoods,
    methods,
    monitors,
    networks,
    prediction,
    priors,
    results,
    samplers,
)
from mirth.core.deprecation import warn_renamed
from mirth.core.outcomes import MirthWarning, RunInterrupted, SamplingError
from mirth.data import Dataset
from mirth.inference import (
    MILE,
    SGMCMC,
    SMILE,
    Auto,
    DeepEnsemble,
    Keep,
    Monitor,
    Placement,
    Posterior,
    Run,
    RunFolderError,
    Sampling,
    configure_cpu_devices,
    infer,
    join_chains,
    read_status,
)
from mirth.model import MLP, Categorical, Model, Normal
from mirth.prediction import make_predictive

if TYPE_CHECKING:
    from mirth.estimators import BNNClassifier, BNNRegressor, load

__version__ = "0.1.0"

# Estimators import scikit-learn's base classes, and these pandas: only on first use.
_LAZY = dict.fromkeys(("BNNRegressor", "BNNClassifier", "load"), "mirth.estimators")

_RENAMED = {
    "Batch": "data",
    "ArrayStream": "data",
    "BatchStream": "data",
    "AsymmetricLaplace": "likelihoods",
    "Bernoulli": "likelihoods",
    "Beta": "likelihoods",
    "Gamma": "likelihoods",
    "HomoscedasticNormal": "likelihoods",
    "Independent": "likelihoods",
    "Laplace": "likelihoods",
    "LogNormal": "likelihoods",
    "MultivariateNormal": "likelihoods",
    "NegativeBinomial": "likelihoods",
    "Ordinal": "likelihoods",
    "Poisson": "likelihoods",
    "StudentT": "likelihoods",
    "ChainsReport": "monitors",
    "MLflowMonitor": "monitors",
    "TensorBoardMonitor": "monitors",
    "EquinoxNetwork": "networks",
    "FlaxLinenNetwork": "networks",
    "FlaxNnxNetwork": "networks",
    "FunctionalNetwork": "networks",
    "LeNet": "networks",
    "ResNet18": "networks",
    "ResNet7": "networks",
    "CategoricalPredictive": "prediction",
    "Predictive": "prediction",
    "CauchyPrior": "priors",
    "FanInNormalPrior": "priors",
    "HierarchicalNormalPrior": "priors",
    "HorseshoePrior": "priors",
    "LaplacePrior": "priors",
    "NormalPrior": "priors",
    "PriorMap": "priors",
    "RegularisedHorseshoePrior": "priors",
    "StudentTPrior": "priors",
    "ChainVerdict": "results",
    "to_arviz": "results",
    "MCLMC": "samplers",
    "MILETuner": "samplers",
    "StochasticMCLMC": "samplers",
}


def __getattr__(name: str) -> Any:
    """Import what belongs to the estimators when it is first asked for; know the old names."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _RENAMED:
        home = _RENAMED[name]
        warn_renamed(f"mirth.{name}", f"mirth.{home}.{name}")
        return getattr(importlib.import_module(f"mirth.{home}"), name)
    raise AttributeError(f"module 'mirth' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


__all__ = [
    "MILE",
    "MLP",
    "SGMCMC",
    "SMILE",
    "Auto",
    "BNNClassifier",
    "BNNRegressor",
    "Categorical",
    "Dataset",
    "DeepEnsemble",
    "Keep",
    "MirthWarning",
    "Model",
    "Monitor",
    "Normal",
    "Placement",
    "Posterior",
    "Run",
    "RunFolderError",
    "RunInterrupted",
    "Sampling",
    "SamplingError",
    "configure_cpu_devices",
    "data",
    "evaluation",
    "infer",
    "join_chains",
    "likelihoods",
    "load",
    "make_predictive",
    "methods",
    "monitors",
    "networks",
    "prediction",
    "priors",
    "read_status",
    "results",
    "samplers",
]
