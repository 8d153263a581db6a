"""Markov kernels and their tuning. They see only a log density: no network, no data set."""

from mirth.samplers.energy_guard import EnergyGuard, GuardDecision, GuardState
from mirth.samplers.integrators import SCHEMES, gradients_per_step
from mirth.samplers.mclmc import MCLMC, MCLMCInfo, MCLMCState
from mirth.samplers.noise_scale import (
    NoiseScale,
    init_noise_scale,
    preconditioner,
    released_preconditioner,
    update_noise_scale,
    update_released_noise_scale,
)
from mirth.samplers.sghmc import SGHMC, GradientMoments, SGHMCState
from mirth.samplers.sgld import SGLD, SGLDState
from mirth.samplers.stochastic_mclmc import (
    STOCHASTIC_SCHEMES,
    StochasticMCLMC,
    StochasticState,
)
from mirth.samplers.tuning import MILETuner, Phase, TunerState

__all__ = [
    "EnergyGuard",
    "GuardDecision",
    "GuardState",
    "NoiseScale",
    "STOCHASTIC_SCHEMES",
    "StochasticMCLMC",
    "StochasticState",
    "init_noise_scale",
    "preconditioner",
    "released_preconditioner",
    "update_noise_scale",
    "update_released_noise_scale",
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
