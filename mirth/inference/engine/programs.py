"""The programs of the fits of this process, found again by those that are equal."""

from __future__ import annotations

from mirth.core.programs import ProgramCache
from mirth.model import cpu_kernel

# A fit has two entries, the optimisation and the chains. Sixteen fits that differ are more than a
# search over networks with folds of two sizes has in turn.
MAX_KEPT = 32

PROGRAMS = ProgramCache(MAX_KEPT, context=cpu_kernel.setting)
"""Programs of the optimisation and of the chains, each by model, settings, shapes and devices."""
