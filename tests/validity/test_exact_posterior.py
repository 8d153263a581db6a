"""Methods against a posterior that is known exactly, run as users run them.

Through ``infer``, with an ensemble or exact draws as start, real mini-batches, guard, tuner and
noise scale. A bound is how far a variance may be off, as a factor, beyond its Monte-Carlo error.
The reduced form always runs; the slow one is that of ``benchmarks/validity.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import mirth

K_SIGMA = 4.0


@dataclasses.dataclass(frozen=True)
class Form:
    """Size of a problem and of its runs, and the bounds of what is asserted."""

    num_rows: int
    num_features: int
    condition: float
    batch_size: int
    n_warmup: int
    n_samples: int
    largest_error: float


REDUCED = Form(300, 4, 3.0, 30, 3000, 400, 0.12)
FULL = Form(1000, 10, 10.0, 100, 6000, 2000, 0.12)
# Features so correlated that a diagonal scale leaves a bias of white noise in few rows, too.
CORRELATED = Form(300, 6, 10.0, 30, 3000, 1500, 0.12)
FORMS = [
    pytest.param(REDUCED, id="reduced"),
    pytest.param(FULL, id="full", marks=pytest.mark.slow),
]
SLOW = pytest.mark.slow
METHODS = [
    # Unadjusted: at its default energy error the narrowest directions are too narrow.
    pytest.param("mile", {}, 1.35, id="mile"),
    pytest.param("psmile", {}, 1.15, id="psmile"),
    pytest.param("smile", {}, 1.15, id="smile", marks=SLOW),
    pytest.param("psmile", {"batch_order": "sweeps"}, 1.15, id="sweeps", marks=SLOW),
    pytest.param("psmile", {"max_turn": 0.05}, 1.1, id="short steps", marks=SLOW),
]


@pytest.fixture(scope="module")
def target(exact: ModuleType) -> Callable[[Form], Any]:
    return lambda form: exact.ExactPosterior(form.num_rows, form.num_features, form.condition)


def judged(target: Any, form: Form, name: str, settings: dict[str, Any]) -> Any:
    """Run a method on its defaults but for budget and batch size."""
    method = mirth.methods.resolve_method(name)
    budget = {"n_warmup": form.n_warmup, "n_samples": form.n_samples, "n_thinning": 10}
    if name != "mile":
        budget["batch_size"] = form.batch_size
    method.set_params(**budget | settings)
    posterior = mirth.infer(target.model, target.data, method, num_chains=8, validation=None)
    return target.judge(posterior.positions())


def assert_within(found: Any, bound: float, largest_error: float) -> None:
    """Variances within a factor, means exact; both up to Monte-Carlo errors that are small."""
    assert found.variance_error.max() < largest_error, "too short to say anything"
    error = K_SIGMA * found.variance_error
    assert (found.variance < bound + error).all(), found.variance
    assert (found.variance > 1 / bound - error).all(), found.variance
    assert (np.abs(found.mean) < K_SIGMA * found.mean_error).all(), found.mean


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "settings", "bound"), METHODS)
def test_variances_and_means(
    target: Callable[[Form], Any], form: Form, name: str, settings: dict[str, Any], bound: float
) -> None:
    assert_within(judged(target(form), form, name, settings), bound, form.largest_error)


@pytest.mark.parametrize("form", FORMS)
def test_exact_draws_stay_exact(target: Callable[[Form], Any], form: Form) -> None:
    """Stationarity: no burn-in can hide a bias, or be taken for one."""
    found = judged(target(form), form, "psmile", {"start": target(form).draws(8)})
    assert_within(found, 1.15, form.largest_error)


WHITE = {"batch_order": "replacement"}


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(CORRELATED, id="correlated, reduced"),
        pytest.param(FULL, id="full", marks=SLOW),
    ],
)
def test_whitened_correlations_leave_no_bias_of_white_noise(
    target: Callable[[Form], Any], form: Form
) -> None:
    """What a diagonal scale leaves of it is found below; the steps are longer, too."""
    settings = WHITE | {"start": target(form).draws(8), "noise_rank": form.num_features - 1}
    assert_within(judged(target(form), form, "psmile", settings), 1.15, form.largest_error)


UNREFRESHED = {"refreshed": False, "max_turn": None}  # as the paper has it


@pytest.mark.parametrize(
    ("form", "settings", "at_least"),
    [
        pytest.param(REDUCED, UNREFRESHED, 0.3, id="only the noise turns, reduced"),
        pytest.param(FULL, UNREFRESHED, 0.3, id="only the noise turns", marks=SLOW),
        # In the first reduced form the scale makes white noise isotropic enough.
        pytest.param(CORRELATED, WHITE, 0.15, id="white noise, reduced"),
        pytest.param(FULL, WHITE, 0.3, id="white noise", marks=SLOW),
    ],
)
def test_what_the_bounds_find(
    target: Callable[[Form], Any], form: Form, settings: dict[str, Any], at_least: float
) -> None:
    """The tests above can fail: without what keeps the bias small the variances are far off."""
    start = {"start": target(form).draws(8)}
    found = judged(target(form), form, "psmile", settings | start)
    off = np.abs(found.variance - 1) - K_SIGMA * found.variance_error
    assert off.max() > at_least, found.variance
