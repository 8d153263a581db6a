"""Posteriors in files and in fewer draws: the same bits back, clear words where that is not so."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mirth
from mirth.core.stored import StoredArray
from mirth.results import CompressionReport, compress, diagnose, load, save, to_arviz

from .conftest import SHORT, estimator_of, infer, predictive

pytestmark = pytest.mark.usefixtures("unoptimised")


def assert_same(one: mirth.Posterior, other: mirth.Posterior) -> None:
    """Every field, every bit; a loaded posterior cannot be gone on with."""
    assert other.continuation is None
    assert one.model == other.model
    for field in dataclasses.fields(one):
        if field.name in ("model", "continuation"):
            continue
        a, b = (getattr(posterior, field.name) for posterior in (one, other))
        if field.name in ("warm_start", "tuning", "scores"):
            a, b = (None if report is None else vars(report) for report in (a, b))
        leaves, structure = jax.tree.flatten(a)
        found, same = jax.tree.flatten(b)
        assert structure == same
        for leaf, again in zip(leaves, found, strict=True):
            assert np.asarray(leaf).dtype == np.asarray(again).dtype
            np.testing.assert_array_equal(np.asarray(leaf), np.asarray(again))


@pytest.mark.parametrize("kind", ["numbers", "classes", "images"])
def test_round_trip(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    posterior = request.getfixturevalue(kind)
    save(posterior, tmp_path / "new" / "model.mirth")
    for loader in (load, mirth.load, mirth.results.load):
        assert_same(posterior, loader(tmp_path / "new" / "model.mirth"))
    rows = request.getfixturevalue("pixels" if kind == "images" else "scaled")
    x = rows if kind == "images" else rows[0]
    again = load(tmp_path / "new" / "model.mirth")
    one, other = (predictive(p, x).component_means() for p in (posterior, again))
    np.testing.assert_array_equal(one, other)


def test_the_file_is_that_of_an_estimator(
    numbers: mirth.Posterior, scalers: Any, tmp_path: Path
) -> None:
    """Same format, same names of the same arrays; each loader knows what the other has written."""
    save(numbers, tmp_path / "posterior")
    estimator = estimator_of(numbers, scalers)
    estimator.save(tmp_path / "estimator")
    with np.load(tmp_path / "posterior") as one, np.load(tmp_path / "estimator") as other:
        assert set(one.files) <= set(other.files)
        for name in set(one.files) - {"manifest.json"}:
            np.testing.assert_array_equal(one[name], other[name])
        manifests = [json.loads(archive["manifest.json"]) for archive in (one, other)]
    for key in ("format", "schema_version", "mirth_version"):
        assert manifests[0][key] == manifests[1][key]
    assert manifests[0]["posterior"] == manifests[1]["fitted"]["posterior_"]
    assert isinstance(mirth.load(tmp_path / "estimator"), mirth.BNNRegressor)
    with pytest.raises(ValueError, match=r"holds a BNNRegressor, not a Posterior; .*mirth\.load"):
        load(tmp_path / "estimator")
    save(numbers, tmp_path / "estimator")  # a model is replaced by a model
    assert_same(numbers, mirth.load(tmp_path / "estimator"))


def test_draws_on_the_disk_are_read_into_the_file(
    tmp_path: Path, scaled: Any, numbers: Any
) -> None:
    x, y = (values[:80] for values in scaled)
    posterior = infer(numbers.model, x, y, out=tmp_path / "run")
    assert isinstance(jax.tree.leaves(posterior.draws)[0], StoredArray)
    save(posterior, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(loaded.draws))
    np.testing.assert_array_equal(loaded.positions(), posterior.positions())
    small, report = compress(posterior, 4, x=x)
    assert small.num_draws == 4 and report.n_draws_before == 20
    assert str(diagnose(loaded, x)) == str(diagnose(posterior, x))


class Own(mirth.Normal):
    pass


def test_what_cannot_be_saved(
    numbers: mirth.Posterior, equinox: mirth.Posterior, trees: Any, scalers: Any, tmp_path: Path
) -> None:
    own = dataclasses.replace(numbers, model=mirth.Model(numbers.model.network, Own()))
    cases = [
        (own, "posterior/model/likelihood holds Own.*Beside the code of Own, .* by pickle"),
        (equinox, "posterior/model/network/make holds <function.* run directory.* by export"),
        (trees[0], "posterior/model/network/init holds <function.* by export needs no code"),
        (estimator_of(numbers, scalers), "posterior is a BNNRegressor; call the estim"),
        ({"a": 1}, "posterior is a dict; pass the Posterior that mirth.infer has returned"),
    ]
    for posterior, text in cases:
        with pytest.raises(TypeError, match=text):
            save(posterior, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_trees_with_named_fields_are_refused(numbers: mirth.Posterior, tmp_path: Path) -> None:
    """They would come back as plain tuples, which no function of them takes."""
    kept = dataclasses.replace(numbers, draws=mirth.data.Batch(np.ones((2, 3)), np.ones((2, 3))))
    with pytest.raises(TypeError, match="posterior/draws holds Batch"):
        save(kept, tmp_path / "model")


def test_files_that_are_no_posterior(numbers: mirth.Posterior, tmp_path: Path) -> None:
    save(numbers, tmp_path / "model.mirth")
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(FileExistsError, match="no model that mirth has saved"):
        save(numbers, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "a,b"
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        save(numbers, tmp_path)
    with pytest.raises(IsADirectoryError, match=r"model\.mirth"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*model\.mirth"):
        load(tmp_path / "modle.mirth")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "no" / "folder")
    with pytest.raises(ValueError, match="no model that mirth has saved, or was cut"):
        load(tmp_path / "table.csv")
    with zipfile.ZipFile(tmp_path / "model.mirth") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for change, text in (
        ({"posterior": {"object": "Dataset", "fields": {}}}, r"manifest\.json in .* is damaged"),
        ({"posterior": [1, 2]}, "posterior is a list"),
        ({"schema_version": 2}, "schema version 2, but this mirth reads version 4"),
    ):
        manifest = json.loads(members["manifest.json"]) | change
        with zipfile.ZipFile(tmp_path / "other", "w") as archive:
            for name, content in (members | {"manifest.json": json.dumps(manifest)}).items():
                archive.writestr(name, content)
        for loader in (load, mirth.load):
            with pytest.raises(ValueError, match=text):
                loader(tmp_path / "other")


def test_compression_is_that_of_the_estimator(
    numbers: mirth.Posterior, table: Any, scaled: Any, scalers: Any
) -> None:
    x, y = (values[80:] for values in scaled)
    reg = estimator_of(numbers, scalers, _diagnostic_rows=x)
    for options, rows in (({}, {}), ({"y": y}, {"X": table[0][80:], "y": table[1][80:]})):
        small, report = compress(numbers, 5, x=x, seed=7, **options)
        other = reg.compress(5, **rows)
        assert isinstance(report, CompressionReport) and report == other.compression_
        assert_same(small, other.posterior_)
        assert str(report) in small.notes


def test_every_parameter_of_compress_counts(numbers: mirth.Posterior, scaled: Any) -> None:
    x, y = (values[80:] for values in scaled)
    small, report = compress(numbers, x=x)
    assert small.num_draws == 20 and jax.tree.leaves(small.draws)[0].dtype == np.float16
    assert (report.dtype, report.is_held_out) == ("float16", False)
    few, with_targets = compress(numbers, 2, x=x, y=y)
    assert few.num_draws == 2 and with_targets.is_held_out
    plain, _ = compress(numbers, 2, x=x)
    assert (plain.positions() != few.positions()).any()
    full, _ = compress(numbers, 20, x=x, dtype="float32")
    np.testing.assert_array_equal(full.positions(), numbers.positions())
    one, other = (compress(numbers, 2, x=x, seed=seed)[1] for seed in (0, 1))
    assert one.lppd_all != other.lppd_all
    assert compress(numbers, 2, x=x[:20])[1].lppd_all != one.lppd_all


def test_compression_and_health_of_images_and_trees(
    images: mirth.Posterior, pixels: np.ndarray, trees: Any
) -> None:
    labels = (pixels.mean(axis=(1, 2, 3)) > 0).astype(int)
    small, report = compress(images, 1, x=pixels, y=labels)
    assert report.is_held_out and np.isfinite(report.lppd)
    assert predictive(small, pixels).probabilities().shape == (40, 2)
    posterior, x, y = trees
    small, report = compress(posterior, 1, x=x, y=y, dtype="bfloat16")
    assert np.isfinite(report.lppd) and predictive(small, x).mean().shape == (40,)
    for some, inputs in ((images, pixels), (posterior, x)):
        health = diagnose(some, inputs)
        assert len(health.verdicts) == 2 and np.isnan(health.ess_function).all()


def test_health(numbers: mirth.Posterior, images: Any, scaled: Any, scalers: Any) -> None:
    """That of an estimator with these rows; more than 200 rows are thinned."""
    x = scaled[0][:80]
    found = diagnose(numbers, x)
    reg = estimator_of(numbers, scalers, _diagnostic_rows=x)
    assert str(found) == str(reg.diagnostics_)
    assert np.isfinite(found.ess_function).all()
    assert str(diagnose(numbers, x[:5])) != str(found)
    many = np.repeat(x[:40], 10, axis=0)
    np.testing.assert_array_equal(
        diagnose(numbers, many).ess_function, diagnose(numbers, many[::2]).ess_function
    )


def test_health_of_longer_chains_of_images(images: Any, pixels: np.ndarray) -> None:
    """Draws enough for effective sample sizes, made up, through the network of images."""
    rng = np.random.default_rng(0)
    draws = jax.tree.map(
        lambda leaf: (leaf[:, None] + 0.1 * rng.normal(size=(2, 20, *leaf.shape[1:]))).astype("f4"),
        images.start,
    )
    health = diagnose(dataclasses.replace(images, draws=draws), pixels)
    # Twenty independent draws.
    assert (health.ess_function > 5).all() and (health.rhat_function < 1.5).all()


@pytest.mark.parametrize("function", [diagnose, lambda p, x: compress(p, 1, x=x)])
def test_inputs_that_do_not_fit(function: Any, numbers: Any, images: Any, scalers: Any) -> None:
    x = np.zeros((4, 2), np.float32)
    cases = [
        (TypeError, estimator_of(numbers, scalers), x, "posterior is a BNNRegressor"),
        (TypeError, numbers.draws, x, "posterior is a dict"),
        (ValueError, numbers, np.zeros((4, 3)), "does not fit the network"),
        (ValueError, numbers, np.zeros((0, 2)), "at least one row"),
        (ValueError, numbers, np.full((4, 2), np.nan), "not finite; fill or drop these rows"),
        (ValueError, numbers, np.zeros(2), r"x has shape \(2,\)"),
        (ValueError, images, x, "does not fit the network"),
    ]
    for kind, posterior, inputs, text in cases:
        with pytest.raises(kind, match=text):
            function(posterior, inputs)


def test_targets_that_do_not_fit(numbers: Any, classes: Any, scaled: Any) -> None:
    x, y = scaled
    cases = [
        (numbers, y[1:], r"y has shape \(119,\), but x has 120 row"),
        (numbers, np.where(np.arange(120) == 7, np.nan, y), "no finite numbers; leave these rows"),
        (numbers, np.full(120, "a"), "no finite numbers"),
        (numbers, y[:, None], "one number per row"),
        (classes, y, "class indices, integers"),
    ]
    for posterior, targets, text in cases:
        with pytest.raises(ValueError, match=text):
            compress(posterior, 2, x=x, y=targets)
    with pytest.raises(ValueError, match="n_draws=21 is more than the 20 draws"):
        compress(numbers, 21, x=x)


def test_arviz_asks_for_a_posterior_and_a_dataset(numbers: Any, scaled: Any, scalers: Any) -> None:
    with pytest.raises(TypeError, match="posterior is a BNNRegressor; call the estimator's method"):
        to_arviz(estimator_of(numbers, scalers), mirth.Dataset(*scaled))
    with pytest.raises(TypeError, match=r"dataset is a tuple; pass the rows as mirth\.Dataset"):
        to_arviz(numbers, scaled)


def test_rows_for_the_health_are_no_view_of_the_table() -> None:
    """A view would keep the whole table alive, in the estimator and in its pickles."""
    x = np.random.default_rng(0).normal(size=(400, 2))
    method = mirth.DeepEnsemble(max_epochs=1)
    reg = mirth.BNNRegressor((2,), method=method, n_members=1, random_state=0).fit(x, x[:, 0])
    assert reg._diagnostic_rows.shape == (200, 2) and reg._diagnostic_rows.base is None


def test_a_loaded_posterior_starts_another_run(numbers: Any, scaled: Any, tmp_path: Path) -> None:
    save(numbers, tmp_path / "model")
    x, y = (values[:80] for values in scaled)
    method = dataclasses.replace(SHORT, start=load(tmp_path / "model"))
    other = infer(numbers.model, x, y, method)
    np.testing.assert_array_equal(
        jax.tree.leaves(other.start)[0], jax.tree.leaves(numbers.draws)[0][:, -1]
    )
