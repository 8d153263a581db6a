"""Markov kernels and what adapts them. They see only a log density: no network, no data set."""

from mirth.samplers.adaptation import Adaptation, Moment, Phase, StepInfo, Tuned
from mirth.samplers.energy_guard import EnergyGuard, GuardDecision, GuardState
from mirth.samplers.integrators import SCHEMES, gradients_per_step
from mirth.samplers.mclmc import MCLMC, MCLMCState
from mirth.samplers.noise_scale import (
    NoiseScale,
    init_noise_scale,
    preconditioner,
    update_noise_scale,
)
from mirth.samplers.noisy_energy import STEP_SIZE_RULES, NoisyEnergy
from mirth.samplers.released import (
    ReleasedGuard,
    ReleasedNoisyEnergy,
    released_preconditioner,
    update_released_noise_scale,
)
from mirth.samplers.scheduled import Schedule, Scheduled
from mirth.samplers.sghmc import SGHMC, GradientMoments, SGHMCState
from mirth.samplers.sgld import SGLD, SGLDState
from mirth.samplers.stochastic_mclmc import (
    STOCHASTIC_SCHEMES,
    StochasticMCLMC,
    StochasticState,
)
from mirth.samplers.three_phases import ThreePhases
from mirth.samplers.tuning import MILETuner, TunerState

__all__ = [
    "MCLMC",
    "SCHEMES",
    "SGHMC",
    "SGLD",
    "STEP_SIZE_RULES",
    "STOCHASTIC_SCHEMES",
    "Adaptation",
    "EnergyGuard",
    "GradientMoments",
    "GuardDecision",
    "GuardState",
    "MCLMCState",
    "MILETuner",
    "Moment",
    "NoiseScale",
    "NoisyEnergy",
    "Phase",
    "ReleasedGuard",
    "ReleasedNoisyEnergy",
    "SGHMCState",
    "SGLDState",
    "Schedule",
    "Scheduled",
    "StepInfo",
    "StochasticMCLMC",
    "StochasticState",
    "ThreePhases",
    "Tuned",
    "TunerState",
    "gradients_per_step",
    "init_noise_scale",
    "preconditioner",
    "released_preconditioner",
    "update_noise_scale",
    "update_released_noise_scale",
]
