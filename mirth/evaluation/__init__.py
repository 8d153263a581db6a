"""Scores, calibration and convergence: pure functions from arrays to numbers.

All of them take anything that ``numpy.asarray`` reads, JAX arrays included, compute in float64
and know nothing of networks or samplers.
"""

from mirth.evaluation.calibration import (
    PitHistogram,
    ReliabilityCurve,
    coverage_curve,
    expected_calibration_error,
    interval_coverage,
    interval_width,
    pit_histogram,
    quantile_calibration_error,
    reliability_curve,
)
from mirth.evaluation.changes import Change, lppd_change, mean_change
from mirth.evaluation.convergence import (
    ChainDiagnostics,
    chainwise_split_rhat,
    effective_sample_size,
    function_space_diagnostics,
    parameter_space_diagnostics,
    rank_normalized_ess,
    split_rhat,
)
from mirth.evaluation.crps import crps_from_samples, crps_normal_mixture
from mirth.evaluation.health import (
    HealthLimits,
    distance_between,
    judge_chains,
    relative_displacement,
    summarize_health,
)
from mirth.evaluation.loo import LeaveOneOut, chainwise_leave_one_out, leave_one_out
from mirth.evaluation.pit import randomised_pit
from mirth.evaluation.scores import (
    accuracy,
    brier,
    chainwise_lppd,
    gaussian_nll,
    interval_score,
    lppd,
    rmse,
    running_lppd,
)
from mirth.evaluation.stacking import stacking_weights

__all__ = [
    "HealthLimits",
    "ChainDiagnostics",
    "Change",
    "LeaveOneOut",
    "PitHistogram",
    "ReliabilityCurve",
    "accuracy",
    "brier",
    "chainwise_leave_one_out",
    "chainwise_lppd",
    "chainwise_split_rhat",
    "coverage_curve",
    "crps_from_samples",
    "crps_normal_mixture",
    "distance_between",
    "effective_sample_size",
    "expected_calibration_error",
    "function_space_diagnostics",
    "gaussian_nll",
    "interval_coverage",
    "interval_score",
    "interval_width",
    "judge_chains",
    "leave_one_out",
    "lppd",
    "lppd_change",
    "mean_change",
    "parameter_space_diagnostics",
    "pit_histogram",
    "quantile_calibration_error",
    "randomised_pit",
    "rank_normalized_ess",
    "relative_displacement",
    "reliability_curve",
    "rmse",
    "running_lppd",
    "split_rhat",
    "stacking_weights",
    "summarize_health",
]
