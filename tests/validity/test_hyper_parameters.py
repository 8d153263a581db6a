"""A hierarchical scale through ``infer``, against sums over a grid of it.

``tests/samplers/test_statistics.py`` has the same target for the kernel and its tuner alone. Here
the chains start from an ensemble, with the scale of its weights, and may see batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from targets import hierarchical_model, hierarchical_regression, moment_errors

import mirth
from mirth.evaluation.autocorrelation import effective_sample_size

K_SIGMA = 4.0
BUDGET = {"n_warmup": 3000, "n_samples": 1000, "n_thinning": 10}
FINE = mirth.samplers.MILETuner(energy_variance_end=1e-6)
METHODS = {
    "mile": mirth.MILE(**BUDGET, tuner=FINE),
    "psmile": mirth.SMILE(**BUDGET, batch_size=4),
}


@pytest.mark.parametrize("name", ["mile", pytest.param("psmile", marks=pytest.mark.slow)])
def test_a_scale_has_its_quartiles(name: str) -> None:
    target, place, quartiles = hierarchical_regression()
    model, rows, _ = hierarchical_model()
    data = mirth.Dataset(np.asarray(rows.x), np.asarray(rows.y))
    draws: Any = mirth.infer(model, data, METHODS[name], num_chains=8).positions()
    below = draws[:, :, place, None] < quartiles
    error = below.std(axis=(0, 1)) / np.sqrt(effective_sample_size(below.astype(float)))
    assert np.all(error < 0.02)
    share = below.mean(axis=(0, 1)) - [0.25, 0.5, 0.75]
    assert np.all(np.abs(share) < K_SIGMA * error), (share, error)
    errors = moment_errors(target, draws)
    assert np.all(np.abs(errors["mean"]) < K_SIGMA * errors["mean_se"]), errors
    assert np.all(np.abs(errors["variance"]) < K_SIGMA * errors["variance_se"]), errors
