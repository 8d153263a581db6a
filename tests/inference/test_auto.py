"""method="auto": which of MILE and pSMILE runs, why, and that the decision is kept."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flat_arguments import in_groups

import mirth
from mirth.inference import Auto, Placement, resolve_method
from mirth.inference.methods import auto

pytestmark = pytest.mark.usefixtures("unoptimised")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 2)).astype(np.float32)
DATA = mirth.Dataset(X, X[:, 0])
MODEL = mirth.Model(mirth.MLP((3,), num_outputs=2), mirth.Normal())
START = mirth.DeepEnsemble(max_epochs=2)
BASE: dict[str, Any] = {
    "n_warmup": 20, "n_samples": 3, "n_thinning": 1, "batch_size": 16, "start": START
}  # fmt: skip


def infer(data: Any = DATA, options: Any = None, **settings: Any) -> mirth.Posterior:
    placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
    method = Auto(**(BASE | settings))
    return mirth.infer(
        MODEL, data, method, num_chains=1, **in_groups(options or {}, placement=placement)
    )


@pytest.mark.parametrize(
    ("settings", "name", "why"),
    [
        ({"max_ratio": 1e-6}, "pSMILE", r"times as long as one of pSMILE \(max_ratio=1e-06\)"),
        pytest.param(
            {"max_ratio": 1e6},
            "MILE",
            r"a step of MILE takes .* \(max_ratio=1e\+06\)",
            marks=pytest.mark.slow,
        ),
        ({"batch_size": 75}, "MILE", "135 rows are at most two batches"),
    ],
)
def test_choice(settings: Any, name: str, why: str) -> None:
    posterior = infer(**settings)
    (note,) = posterior.notes
    assert note.startswith(f"{name}: ") and re.search(why, note)
    gradients = 2 if name == "MILE" else 1
    assert posterior.num_gradients == gradients * 23
    # The draws are those of the method itself.
    method = Auto(**(BASE | settings)).candidates()[name]
    placement = Placement(tuple(jax.local_devices()[:1]), sequential=True)
    alone = mirth.infer(MODEL, DATA, method, num_chains=1, run=mirth.Run(placement=placement))
    np.testing.assert_array_equal(posterior.positions(), alone.positions())


def test_a_stream_is_for_batches() -> None:
    posterior = infer(mirth.data.ArrayStream(X, X[:, 0]), {"validation": DATA})
    assert posterior.notes == ("pSMILE: the data are a stream.",)


def test_a_run_directory_keeps_the_decision(tmp_path: Path, host_patch: pytest.MonkeyPatch) -> None:
    host_patch.setattr(auto, "_seconds_per_step", lambda chains: 1.0)
    first = infer(options={"out": tmp_path / "run"})
    assert first.notes[0].startswith("MILE: a step of MILE takes 1 times")
    kept = json.loads((tmp_path / "run" / "decisions.json").read_text())
    assert kept == {"method": first.notes[0]}
    host_patch.setattr(auto, "_seconds_per_step", lambda chains: 1 / 0)  # is not asked
    more = infer(options={"out": tmp_path / "run"}, n_samples=5)
    assert more.notes == first.notes
    np.testing.assert_array_equal(more.positions()[:, :3], first.positions())


def test_parameters() -> None:
    values = {"n_warmup": 7, "n_samples": 8, "n_thinning": 9, "batch_size": 10,
              "start": mirth.DeepEnsemble(max_epochs=3)}  # fmt: skip
    candidates = Auto(**values).candidates()
    for name, value in values.items():
        assert getattr(candidates["pSMILE"], name) == value
        assert name == "batch_size" or getattr(candidates["MILE"], name) == value
    fields = {field.name for field in dataclasses.fields(Auto)}
    assert fields == {*values, "max_ratio"}  # test_choice has the last one
    assert resolve_method("auto") == Auto()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("n_warmup", -1, ValueError),
        ("n_samples", 0, ValueError),
        ("batch_size", 1.5, TypeError),
        ("max_ratio", 0.0, ValueError),
        ("start", "mile", TypeError),
    ],
)
def test_wrong_values(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        Auto(**{name: value})
