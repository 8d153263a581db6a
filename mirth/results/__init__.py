"""What can be done with a posterior: judge it, calibrate it, compress it, keep it, pass it on.

Everything here takes a :class:`~mirth.Posterior` of :func:`~mirth.infer`, or the predictive
distribution of its draws, and needs no estimator; the estimators' methods call the same functions.
"""

from mirth.core.outcomes import ChainVerdict
from mirth.results.arviz import to_arviz
from mirth.results.compression import CompressionReport, compress_posterior
from mirth.results.conformal import IntervalCalibration, SetCalibration
from mirth.results.diagnostics import Diagnostics, diagnose
from mirth.results.uncertainty import EntropySplit, VarianceSplit

__all__ = [
    "ChainVerdict",
    "CompressionReport",
    "Diagnostics",
    "EntropySplit",
    "IntervalCalibration",
    "SetCalibration",
    "VarianceSplit",
    "compress_posterior",
    "diagnose",
    "to_arviz",
]
