"""The programs of the fits of this process, found again by those that are equal."""

from __future__ import annotations

from mirth.core.programs import ProgramCache
from mirth.model import cpu_kernel

# A fit has two entries, the optimisation and the chains, whose compiled code takes some 50 MiB. So
# four fits that differ are kept: two settings, say, on folds of two sizes.
MAX_KEPT = 8

PROGRAMS = ProgramCache(MAX_KEPT, context=cpu_kernel.setting)
"""Programs of the optimisation and of the chains, each by model, settings, shapes and devices."""
