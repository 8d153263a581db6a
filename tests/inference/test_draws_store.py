"""Draws that go elsewhere than into the run directory: URLs and folders, and what can be wrong."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import fsspec
import jax
import numpy as np
import pytest
import zarr

import mirth
from mirth.core.snapshots import DamagedFileError
from mirth.core.stored import StoredArray
from mirth.inference import Posterior
from mirth.inference.store.draws import claim_store, open_store, store_location
from mirth.inference.store.run_folder import RunFolderError

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(scope="module")
def base(run: Any) -> Posterior:
    return run(n_samples=20)


@pytest.fixture(params=["memory", pytest.param("file", marks=pytest.mark.slow), "folder"])
def store(request: Any, tmp_path: Path) -> str:
    places = {
        "memory": f"memory://{tmp_path.name}/draws.zarr",
        "file": f"file://{tmp_path}/elsewhere/draws.zarr",
        "folder": str(tmp_path / "elsewhere"),
    }
    return places[request.param]


def assert_same(one: Posterior, two: Posterior) -> None:
    np.testing.assert_array_equal(one.positions(), two.positions())
    for name, values in one.sample_stats.items():
        np.testing.assert_array_equal(values, two.sample_stats[name])


def test_the_draws_are_the_same_and_stay_there(
    run: Any, base: Posterior, tmp_path: Path, store: str, host_patch: Any
) -> None:
    host_patch.setattr("mirth.inference.store.draws._MAX_CHUNK_DRAWS", 8)
    options: dict[str, Any] = {"out": tmp_path / "run", "draws_store": store}
    short = run(n_samples=12, **options)
    assert short.num_draws == 12
    posterior = run(n_samples=20, **options)
    assert_same(posterior, base)
    assert all(isinstance(leaf, StoredArray) for leaf in jax.tree.leaves(posterior.draws))
    assert not (tmp_path / "run" / "draws.zarr").exists()
    group = zarr.open_group(open_store(store_location(store)), mode="r")
    np.testing.assert_array_equal(group["logdensity"][:], base.sample_stats["logdensity"])
    assert_same(run(n_samples=20, **options), base)  # read again
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["settings"]["draws_store"] == store_location(store)


def test_the_store_belongs_to_the_run(run: Any, tmp_path: Path, store: str) -> None:
    run(out=tmp_path / "run", draws_store=store)
    with pytest.raises(RunFolderError, match="with draws_store="):
        run(out=tmp_path / "run", draws_store=str(tmp_path / "third"))
    with pytest.raises(RunFolderError, match="with draws_store="):
        run(out=tmp_path / "run")
    with pytest.raises(FileExistsError, match="draws of another run; give a new location"):
        run(out=tmp_path / "other", draws_store=store)
    # The refused call has put nothing down, so that another place can be given.
    run(out=tmp_path / "other", draws_store=tmp_path / "third")


def test_draws_that_are_gone_are_missed(run: Any, tmp_path: Path, host_patch: Any) -> None:
    host_patch.setattr("mirth.inference.store.draws._MAX_CHUNK_DRAWS", 8)
    options: dict[str, Any] = {"out": tmp_path, "draws_store": f"memory://{tmp_path.name}"}
    run(**options)
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)
    with pytest.raises(DamagedFileError, match="cannot be read: there are none"):
        run(**options)


def test_other_things_are_left_alone(run: Any, tmp_path: Path) -> None:
    """A store is made anew at the first draw, with all that is in its folder."""
    (tmp_path / "home").mkdir()
    thesis = tmp_path / "home" / "thesis.tex"
    thesis.write_text("years of work")
    for place in (thesis.parent, thesis):
        with pytest.raises(FileExistsError, match="has other things in it"):
            run(out=tmp_path / "run", draws_store=place)
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize(
    ("store", "error", "message"),
    [
        ("s4://bucket/x", ValueError, "draws_store='s4://bucket/x' cannot be opened: Protocol not"),
        ("dropbox://x", ValueError, "cannot be opened: .*dropbox"),  # its package is not installed
        (7, TypeError, "draws_store=7 must be a folder or a URL"),
        ("/dev/null/x", OSError, "draws_store='/dev/null/x' cannot be written"),
    ],
)
def test_bad_places(
    run: Any, tmp_path: Path, store: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(out=tmp_path / "run", draws_store=store)
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_library_that_fails_is_heard_before_the_run(tmp_path: Path, host_patch: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no credentials")

    host_patch.setattr(zarr, "open_group", fail)
    with pytest.raises(OSError, match=r"cannot be written \(RuntimeError: no credentials\)"):
        claim_store(f"memory://{tmp_path.name}", "me")


def test_a_url_needs_fsspec(run: Any, tmp_path: Path, host_patch: Any) -> None:
    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "fsspec" else find(name, package)

    host_patch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ValueError, match=r"pip install 'mirth\[remote\]'"):
        run(out=tmp_path / "run", draws_store="memory://x")
    run(out=tmp_path / "run", draws_store=f"file://{tmp_path}/draws")


def test_a_store_needs_a_run_directory(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a run directory.*Run.FOLDER"):
        run(draws_store=tmp_path)


@pytest.mark.parametrize(
    "kind", [mirth.BNNRegressor, pytest.param(mirth.BNNClassifier, marks=pytest.mark.slow)]
)
def test_the_estimators_hand_the_place_on(tmp_path: Path, kind: Any) -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    options: dict[str, Any] = {
        "hidden_layer_sizes": (4,),
        "method": mirth.MILE(n_warmup=20, n_samples=6, start=mirth.DeepEnsemble(max_epochs=5)),
        "n_members": 2,
        "random_state": 0,
        "draws_store": f"memory://{tmp_path.name}",
    }
    y = x[:, 0] if kind is mirth.BNNRegressor else x[:, 0] > 0
    with pytest.raises(ValueError, match="run_directory=FOLDER"):
        kind(**options).fit(x, y)
    estimator = kind(**options, run_directory=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirth.estimators._base.judge", lambda posterior, **_: [])
        estimator.fit(x, y)
    group = zarr.open_group(open_store(options["draws_store"]), mode="r")
    assert group["logdensity"].shape == (2, 6)
