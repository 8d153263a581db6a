"""Markov kernels and their tuning. They see only a log density: no network, no data set."""

from mirth.samplers.integrators import SCHEMES, gradients_per_step
from mirth.samplers.mclmc import MCLMC, MCLMCInfo, MCLMCState
from mirth.samplers.sghmc import SGHMC, GradientMoments, SGHMCState
from mirth.samplers.sgld import SGLD, SGLDState
from mirth.samplers.tuning import MILETuner, Phase, TunerState

__all__ = [
    "MCLMC",
    "SCHEMES",
    "SGHMC",
    "SGLD",
    "GradientMoments",
    "MCLMCInfo",
    "MCLMCState",
    "MILETuner",
    "Phase",
    "SGHMCState",
    "SGLDState",
    "TunerState",
    "gradients_per_step",
]
