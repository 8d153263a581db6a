"""Ways to sample the posterior of a network, by the names of the papers.

==================  ==========  ===========================  =============================
name                start       kernel                       step size
==================  ==========  ===========================  =============================
``mile``            ensemble    microcanonical, all rows     three phases, then fixed
``psmile``          ensemble    microcanonical, batches,     energy target, bounded by the
                                scaled by gradient noise     gradient noise, then fixed
``smile``           ensemble    microcanonical, batches      as psmile
``psmile-naive``,   ensemble    the same, not refreshed      given
``smile-naive``
``auto``            ensemble    that of mile or psmile, by   as there
                                the measured cost of a step
``sgld``,           ensemble    Langevin, batches            given or scheduled
``psgld``,
``csgld``
``sghmc``,          ensemble    Hamiltonian, batches         given or scheduled
``adaptive-sghmc``
``deep_ensemble``   -           none: the ensemble itself    -
==================  ==========  ===========================  =============================

Names are found whatever their case, and with ``-`` or ``_``. A method object is taken wherever a
name is, for settings other than the defaults (``mirth.MILE(n_samples=500)``); :class:`Sampling`
runs any sampler of one's own (``docs/extending.md``).

Examples
--------
>>> import mirth
>>> sorted(mirth.methods.METHODS)[:3]
['adaptive-sghmc', 'auto', 'csgld']
"""

from mirth.inference import (
    METHODS,
    MILE,
    SGMCMC,
    SMILE,
    Auto,
    DeepEnsemble,
    Sampling,
    resolve_method,
)

__all__ = [
    "METHODS",
    "MILE",
    "SGMCMC",
    "SMILE",
    "Auto",
    "DeepEnsemble",
    "Sampling",
    "resolve_method",
]
