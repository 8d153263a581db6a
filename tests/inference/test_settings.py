"""Arguments of infer in groups: their checks, and the old spelling of each."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.inference import Placement
from mirth.inference.settings import _OLD, grouped

X = np.linspace(-1, 1, 40)[:, None]
DATA = mirth.Dataset(X, np.sin(3 * X[:, 0]))
MODEL = mirth.Model(mirth.MLP((3,), num_outputs=2), mirth.Normal())
ENSEMBLE = mirth.DeepEnsemble(max_epochs=2)
PLACEMENT = Placement(tuple(jax.local_devices()[:1]), sequential=True)

VALUES: dict[str, Any] = {
    "out": "runs/a",
    "checkpoint_seconds": 5.0,
    "draws_store": "elsewhere",
    "max_time": "10min",
    "first_chain": 3,
    "placement": PLACEMENT,
    "chunk_steps": 7,
    "data_block_size": 8,
    "draws_dtype": "float16",
    "validation_fraction": 0.3,
}


def ensemble(**options: Any) -> mirth.Posterior:
    return mirth.infer(MODEL, DATA, ENSEMBLE, num_chains=2, **options)


def test_every_old_name_is_tried() -> None:
    assert set(VALUES) | {"go_on_from"} == set(_OLD)


@pytest.mark.parametrize("name", VALUES)
def test_old_names_go_where_they_stand_now(name: str) -> None:
    group, field = _OLD[name]
    before = mirth.Run("runs/a") if name == "draws_store" else None
    with pytest.warns(FutureWarning, match=rf"^infer\({name}=...\) is now infer\({group}="):
        run, keep, validation = grouped(before, None, 0.1, {name: VALUES[name]})
    found = validation if field is None else getattr({"run": run, "keep": keep}[group], field)
    assert found == VALUES[name]


def test_old_names_work_and_are_said_at_the_call() -> None:
    new = ensemble(run=mirth.Run(first_chain=2), validation=0.3)
    with pytest.warns(FutureWarning) as caught:
        old = ensemble(first_chain=2, validation_fraction=0.3)
    assert len(caught) == 2 and {warning.filename for warning in caught} == {__file__}
    np.testing.assert_array_equal(old.positions(), new.positions())
    assert new.members.tolist() == [2, 3]


def test_an_old_share_counts_unless_rows_are_given() -> None:
    with pytest.warns(FutureWarning, match="validation_fraction"):
        assert grouped(None, None, None, {"validation_fraction": 0.3})[2] == 0.3
    with pytest.warns(FutureWarning, match="validation_fraction"):
        assert grouped(None, None, DATA, {"validation_fraction": 0.3})[2] is DATA


def test_a_longer_run_by_the_old_name() -> None:
    method = mirth.SGMCMC(n_warmup=10, n_samples=2, n_thinning=1, batch_size=8, start="prior")
    short = mirth.infer(MODEL, DATA, method, num_chains=1)
    longer = method.set_params(n_samples=3)
    with pytest.warns(FutureWarning, match=r"infer\(run=mirth.Run\(go_on_from=...\)\)"):
        old = mirth.infer(MODEL, DATA, longer, num_chains=1, go_on_from=short)
    new = mirth.infer(MODEL, DATA, longer, num_chains=1, run=mirth.Run(go_on_from=short))
    np.testing.assert_array_equal(old.positions(), new.positions())


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"no argument 'nun_chains'; did you mean 'num_chains'\?"):
        mirth.infer(MODEL, DATA, nun_chains=2)
    with pytest.raises(TypeError, match="no argument 'monitor'; did you mean 'monitors'"):
        mirth.infer(MODEL, DATA, monitor=[])
    with pytest.raises(TypeError, match="no argument 'zzz'"):
        mirth.infer(MODEL, DATA, zzz=2)


def test_short_forms_of_the_groups(tmp_path: Any) -> None:
    def weight(params: Any) -> Any:
        return params["network"][0].weight

    run, keep, _ = grouped(tmp_path, weight, 0.1, {})
    assert (run, keep) == (mirth.Run(tmp_path), mirth.Keep(weight))
    assert grouped(None, None, None, {}) == (mirth.Run(), mirth.Keep(), None)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan"), True, "some", (X, X)])
def test_wrong_shares_of_validation_rows(share: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="^validation"):
        ensemble(validation=share)


def test_the_share_of_validation_rows_matters() -> None:
    shares = [ensemble(validation=share) for share in (0.1, 0.4)]
    assert (shares[0].positions() != shares[1].positions()).any()
    np.testing.assert_array_equal(ensemble(validation=None).positions(), shares[0].positions())


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"directory": 3}, TypeError, "directory=3 must be a folder"),
        ({"checkpoint_seconds": -1}, ValueError, "checkpoint_seconds=-1"),
        ({"max_time": "soon"}, ValueError, "max_time='soon'"),
        ({"first_chain": -1}, ValueError, "first_chain=-1"),
        ({"first_chain": 1.5}, TypeError, "first_chain=1.5"),
        ({"chunk_steps": 0}, ValueError, "chunk_steps=0"),
        ({"data_block_size": 2.0}, TypeError, "data_block_size=2.0"),
        ({"placement": "gpu"}, TypeError, "placement='gpu' must be a mirth.Placement"),
        ({"go_on_from": "runs/a"}, TypeError, "go_on_from must be the Posterior of a run"),
        ({"draws_store": "s3://a"}, ValueError, r"draws_store='s3://a' needs a run directory"),
    ],
)
def test_wrong_values_of_a_run(fields: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        mirth.Run(**fields)


def test_wrong_values_of_what_is_kept() -> None:
    with pytest.raises(ValueError, match="^dtype='float61' .*did you mean 'float16'"):
        mirth.Keep(dtype="float61")
    with pytest.raises(TypeError, match="^keep='float16' must be a function"):
        mirth.infer(MODEL, DATA, ENSEMBLE, keep="float16")  # type: ignore[arg-type]


def test_a_run_is_a_value() -> None:
    assert mirth.Run("a") == mirth.Run("a") != mirth.Run("b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        mirth.Run("a").directory = "b"  # type: ignore[misc]
