"""Markov kernels and what adapts them. They see only a log density: no network, no data set.

A kernel is a frozen pytree whose numbers are leaves, so that another step size compiles nothing:
``init(position, logdensity_fn, key)`` gives its state and ``step(key, state, logdensity_fn)`` the
next one, with what happened on the way. :class:`MCLMC` and :class:`StochasticMCLMC` are
microcanonical, :class:`SGLD` and :class:`SGHMC` the stochastic-gradient samplers that they are
compared with. An :class:`Adaptation` owns what is learnt during the warm-up (:class:`ThreePhases`,
:class:`NoisyEnergy`, :class:`Scheduled`). ``docs/extending.md`` writes a sampler from nothing and
runs it on a table.

Examples
--------
>>> import jax, jax.numpy as jnp
>>> sampler = MCLMC(step_size=0.5, L=2.0)
>>> density = lambda x: -0.5 * jnp.sum(x**2)
>>> key = jax.random.key(0)
>>> state = sampler.init(jnp.zeros(3), density, key)
>>> state, info = jax.jit(lambda key, state: sampler.step(key, state, density))(key, state)
>>> bool(info.is_divergent)
False
"""

from mirth.samplers.adaptation import Adaptation, Moment, Phase, StepInfo, Tuned
from mirth.samplers.decoherence import L_SOURCES
from mirth.samplers.energy_guard import EnergyGuard, GuardDecision, GuardState
from mirth.samplers.integrators import SCHEMES, gradients_per_step
from mirth.samplers.mclmc import MCLMC, MCLMCState
from mirth.samplers.noise_scale import (
    NoiseScale,
    centred,
    init_noise_scale,
    limits,
    noise_level,
    preconditioner,
    update_noise_scale,
)
from mirth.samplers.noise_sketch import (
    LowRank,
    NoiseSketch,
    apply_low_rank,
    init_noise_sketch,
    merge_block,
    update_noise_sketch,
    whitened_level,
    whitening,
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
    "L_SOURCES",
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
    "LowRank",
    "MCLMCState",
    "MILETuner",
    "Moment",
    "NoiseScale",
    "NoiseSketch",
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
    "apply_low_rank",
    "centred",
    "gradients_per_step",
    "init_noise_scale",
    "init_noise_sketch",
    "limits",
    "merge_block",
    "noise_level",
    "preconditioner",
    "released_preconditioner",
    "update_noise_scale",
    "update_noise_sketch",
    "update_released_noise_scale",
    "whitened_level",
    "whitening",
]
