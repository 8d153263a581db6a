"""What can be done with a posterior: judge it, calibrate it, compress it, keep it, pass it on.

Everything here takes a :class:`~mirth.Posterior` of :func:`~mirth.infer`, or the predictive
distribution of its draws (:func:`~mirth.make_predictive`), and needs no estimator; the estimators'
methods call the same functions.

======================================  ======================================================
to                                      call
======================================  ======================================================
look at the chains' health              :func:`diagnose`, :func:`to_arviz`
predict new rows                        :func:`predict_dist`
weigh chains by what they predict       :func:`stack`
see if the steps were too long          :func:`bias_report`
tell noise from ignorance               :func:`split_uncertainty`
have intervals or sets that hold        :func:`conformalize`; :func:`credible_sets` without
keep fewer draws in fewer bits          :func:`compress`
keep it in a file                       :func:`save`, :func:`load`
run it without mirth                    :func:`export`
======================================  ======================================================

``docs/results.md`` goes through them with an example.
"""

from mirth.core.outcomes import ChainVerdict
from mirth.results.archive import load, save
from mirth.results.arviz import to_arviz
from mirth.results.bias import BiasReport, BiasVerdict
from mirth.results.compression import CompressionReport, compress
from mirth.results.conformal import (
    IntervalCalibration,
    SetCalibration,
    conformalize,
    credible_sets,
)
from mirth.results.diagnostics import Diagnostics, diagnose
from mirth.results.halving import bias_report
from mirth.results.program import export
from mirth.results.stacking import predict_dist, stack
from mirth.results.uncertainty import EntropySplit, VarianceSplit, split_uncertainty

__all__ = [
    "BiasReport",
    "BiasVerdict",
    "ChainVerdict",
    "CompressionReport",
    "Diagnostics",
    "EntropySplit",
    "IntervalCalibration",
    "SetCalibration",
    "VarianceSplit",
    "bias_report",
    "compress",
    "conformalize",
    "credible_sets",
    "diagnose",
    "export",
    "load",
    "predict_dist",
    "save",
    "split_uncertainty",
    "stack",
    "to_arviz",
]
