"""L of a network does not follow the length of the phase that looks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mirth
from mirth.inference import Posterior, TuningReport

pytestmark = pytest.mark.usefixtures("unoptimised")

TUNED = (400, 100)  # steps of the phases before


def report(run: Callable[..., Posterior], num_third: int, **fields: Any) -> TuningReport:
    """Tune with a third phase of a length; the first two are the same."""
    total = sum(TUNED) + num_third
    fractions = (TUNED[0] / total, TUNED[1] / total, num_third / total)
    posterior = run(n_warmup=total, phase_fractions=fractions, n_samples=2, **fields)
    assert posterior.tuning is not None
    return posterior.tuning


def lengths(report: TuningReport, num_third: int) -> np.ndarray:
    """L as the paper has it: the mean distance of the parameters is n / ess_parameters."""
    return 0.4 * report.step_size * num_third / report.ess_parameters


@pytest.mark.parametrize(
    ("hidden", "steps"),
    [((8, 8), 250), pytest.param((16, 16, 16), 1000, marks=pytest.mark.slow)],
)
def test_L_does_not_grow_with_its_phase(
    run: Callable[..., Posterior], hidden: tuple[int, ...], steps: int
) -> None:
    fields = {"network": mirth.MLP(hidden, num_outputs=2), "num_chains": 3}
    short, long = (report(run, n, **fields) for n in (steps, 4 * steps))
    np.testing.assert_array_equal(short.step_size, long.step_size)
    # The rule of the paper would have made it about four times as long.
    growth = lengths(long, 4 * steps) / lengths(short, steps)
    assert 2.5 < np.median(growth) < 5
    np.testing.assert_allclose(np.median(long.L / short.L), 1.0, rtol=0.3)
    for found in (short, long):
        assert (found.ess_parameters < 20).all() and (found.ess_function > 0).all()
        assert set(found.L_from) <= {"spread", "function values"}


def test_parameters_count_where_they_decorrelate(run: Callable[..., Posterior]) -> None:
    found = report(run, 300, network=mirth.MLP((), num_outputs=2))
    assert set(found.L_from) == {"parameters"} and (found.ess_parameters >= 20).all()
    np.testing.assert_allclose(found.L, lengths(found, 300), rtol=1e-5)
    words = str(found).splitlines()
    assert len(words) == 3 and words[1].split()[3] == "parameters"


@pytest.mark.slow
def test_large_networks_keep_the_function_values_too(run: Callable[..., Posterior]) -> None:
    # With more parameters than are kept the phase has a program of its own; the rows are the same.
    whole, part = (report(run, 100, max_params=n) for n in (2000, 5))
    np.testing.assert_allclose(part.ess_function, whole.ess_function, rtol=1e-3)
    assert (part.ess_parameters != whole.ess_parameters).all()
