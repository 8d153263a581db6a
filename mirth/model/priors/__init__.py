"""Priors of the network's parameters."""

from mirth.model.priors.auto import AutoPrior
from mirth.model.priors.base import Prior
from mirth.model.priors.independent import (
    CauchyPrior,
    FanInNormalPrior,
    LaplacePrior,
    NormalPrior,
    StudentTPrior,
)
from mirth.model.priors.prior_map import PriorMap
from mirth.model.priors.scale_mixtures import (
    HierarchicalFanInPrior,
    HierarchicalNormalPrior,
    HorseshoePrior,
    RegularisedHorseshoePrior,
)

PRIORS: dict[str, type[Prior]] = {
    "normal": NormalPrior,
    "laplace": LaplacePrior,
    "student_t": StudentTPrior,
    "cauchy": CauchyPrior,
    "fan_in": FanInNormalPrior,
    "horseshoe": HorseshoePrior,
    "regularised_horseshoe": RegularisedHorseshoePrior,
    "hierarchical": HierarchicalNormalPrior,
    "hierarchical_fan_in": HierarchicalFanInPrior,
}
"""Priors by name; a :class:`PriorMap` has no name, because it has no defaults, and ``"auto"``,
which needs a table, is known to estimators only."""

__all__ = [
    "PRIORS",
    "AutoPrior",
    "CauchyPrior",
    "FanInNormalPrior",
    "HierarchicalFanInPrior",
    "HierarchicalNormalPrior",
    "HorseshoePrior",
    "LaplacePrior",
    "NormalPrior",
    "Prior",
    "PriorMap",
    "RegularisedHorseshoePrior",
    "StudentTPrior",
]
