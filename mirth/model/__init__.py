"""What is sampled: network, likelihood and prior, together a log density."""

from mirth.model.equinox_adapter import EquinoxNetwork
from mirth.model.flax_adapters import FlaxLinenNetwork, FlaxNnxNetwork
from mirth.model.images import LeNet
from mirth.model.likelihoods import (
    AsymmetricLaplace,
    Bernoulli,
    Beta,
    Categorical,
    Gamma,
    HomoscedasticNormal,
    Independent,
    Laplace,
    Likelihood,
    LogNormal,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    NumericLikelihood,
    Ordinal,
    Poisson,
    SeveralTargets,
    StudentT,
)
from mirth.model.mlp import ACTIVATIONS, MLP
from mirth.model.model import Model
from mirth.model.network import FunctionalNetwork, Network
from mirth.model.priors import (
    PRIORS,
    CauchyPrior,
    FanInNormalPrior,
    HierarchicalNormalPrior,
    HorseshoePrior,
    LaplacePrior,
    NormalPrior,
    Prior,
    PriorMap,
    RegularisedHorseshoePrior,
    StudentTPrior,
)
from mirth.model.resnet import ResNet7, ResNet18
from mirth.model.row_blocks import activation_bytes, in_row_blocks

__all__ = [
    "PRIORS",
    "CauchyPrior",
    "FanInNormalPrior",
    "HierarchicalNormalPrior",
    "HorseshoePrior",
    "LaplacePrior",
    "PriorMap",
    "RegularisedHorseshoePrior",
    "StudentTPrior",
    "ACTIVATIONS",
    "MLP",
    "AsymmetricLaplace",
    "Bernoulli",
    "Beta",
    "Categorical",
    "EquinoxNetwork",
    "FlaxLinenNetwork",
    "FlaxNnxNetwork",
    "FunctionalNetwork",
    "Gamma",
    "HomoscedasticNormal",
    "Independent",
    "Laplace",
    "LeNet",
    "Likelihood",
    "LogNormal",
    "Model",
    "MultivariateNormal",
    "NegativeBinomial",
    "Network",
    "Normal",
    "NumericLikelihood",
    "NormalPrior",
    "Ordinal",
    "Poisson",
    "Prior",
    "ResNet7",
    "ResNet18",
    "SeveralTargets",
    "StudentT",
    "activation_bytes",
    "in_row_blocks",
]
