"""What is sampled: network, likelihood and prior, together a log density."""

from mirth.model.likelihoods import Categorical, HomoscedasticNormal, Likelihood, Normal
from mirth.model.mlp import ACTIVATIONS, MLP
from mirth.model.model import Model
from mirth.model.network import FunctionalNetwork, Network
from mirth.model.priors import NormalPrior, Prior
from mirth.model.row_blocks import activation_bytes, in_row_blocks

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Categorical",
    "FunctionalNetwork",
    "HomoscedasticNormal",
    "Likelihood",
    "Model",
    "Network",
    "Normal",
    "NormalPrior",
    "Prior",
    "activation_bytes",
    "in_row_blocks",
]
