"""Likelihoods: each owns its link, written once, and is elementwise over leading axes.

A likelihood sees *outputs* of shape (..., data, outputs). The first ``num_outputs`` of them come
from the network, the last ``num_shared`` are sampled scalars that are the same for every row (a
learnt noise level). So a likelihood with a global parameter needs no other code than one whose
parameters differ from row to row. ``docs/likelihoods.md`` has the table of all of them.
"""

from mirth.model.likelihoods.base import Likelihood, NumericLikelihood
from mirth.model.likelihoods.classes import Bernoulli, Categorical, ClassLikelihood, Ordinal
from mirth.model.likelihoods.continuous import AsymmetricLaplace, Laplace, StudentT
from mirth.model.likelihoods.counts import NegativeBinomial, Poisson
from mirth.model.likelihoods.multivariate import Independent, MultivariateNormal, SeveralTargets
from mirth.model.likelihoods.normal import HomoscedasticNormal, Normal
from mirth.model.likelihoods.positive import Gamma, LogNormal
from mirth.model.likelihoods.rates import Beta
from mirth.model.likelihoods.rounded import Rounded

REGRESSION: dict[str, type[NumericLikelihood | SeveralTargets]] = {
    "normal": Normal,
    "homoscedastic": HomoscedasticNormal,
    "student_t": StudentT,
    "laplace": Laplace,
    "quantile": AsymmetricLaplace,
    "log_normal": LogNormal,
    "gamma": Gamma,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "beta": Beta,
    "multivariate_normal": MultivariateNormal,
}
"""Likelihoods of numbers by name."""

CLASSIFICATION: dict[str, type[ClassLikelihood]] = {
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "ordinal": Ordinal,
}
"""Likelihoods of classes by name."""

__all__ = [
    "CLASSIFICATION",
    "REGRESSION",
    "AsymmetricLaplace",
    "Bernoulli",
    "Beta",
    "Categorical",
    "ClassLikelihood",
    "Gamma",
    "HomoscedasticNormal",
    "Independent",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "NumericLikelihood",
    "Ordinal",
    "Poisson",
    "Rounded",
    "SeveralTargets",
    "StudentT",
]
