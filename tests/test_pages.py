"""Every page is true: README, CONTRIBUTING and docs/*.md. A new page is found by itself.

The Python blocks of a page run one after the other in one namespace, in an empty folder, with
warnings as errors. ``SHORTER`` lists, page by page, what is put in the place of budgets that take
too long here; the slow tests run the pages as they stand. A block with

    <!-- not run: REASON -->

on the line before it is left out, and has to be listed in ``NOT_RUN``. Commands of ``sh`` blocks
are parsed, not run. Names in the text that begin with ``mirth.`` have to exist.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import shlex
import signal
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typer

import mirth
from mirth.cli import app
from mirth.likelihoods import CLASSIFICATION, REGRESSION
from mirth.priors import PRIORS

ROOT = Path(__file__).parent.parent
PAGES = {path.stem: path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
PAGES.pop("CHANGELOG")  # tells of names that are gone
LANGUAGES = {"python", "sh", "text"}
NOT_RUN: set[tuple[str, str]] = set()  # (page, first line of the block)

ENSEMBLE = "mirth.DeepEnsemble(learning_rate=0.03, max_epochs=20)"
MILE = f"mirth.MILE(n_warmup=200, n_samples=40, start={ENSEMBLE})"
SHORTER: dict[str, dict[str, str]] = {
    "README": {
        "random_state=0, verbose=1)": f"random_state=0, n_members=2, method={MILE})",
        "n_warmup=2_000, n_samples=100": 'n_warmup=50, n_samples=20, start="prior"',
    },
    "keeping": {"BNNRegressor(": f"BNNRegressor((8,), n_members=2, method={MILE}, "},
    "likelihoods": {"BNNRegressor((16,), ": f"BNNRegressor((4,), n_members=2, method={ENSEMBLE}, "},
    "networks": {
        "mirth.MILE(n_warmup=2_000, n_samples=100)": "mirth.DeepEnsemble(max_epochs=3)",
        '"psmile"': "mirth.SGMCMC(n_warmup=10, n_samples=5, batch_size=64, start=posterior)",
    },
    # Images take long to compile; whole chains of them are in tests/inference/test_networks.py.
    "results": {
        "mirth.MILE(n_warmup=100, n_samples=20, n_thinning=2, start=ensemble)": "mirth.SGMCMC("
        "n_warmup=100, n_samples=20, n_thinning=2, batch_size=64, start='prior')",
    },
}
# What such budgets are warned of: chains that have not found anything better than their start,
# and too few draws for the tails of loo.
WARNED = {"README": r"Of \d chains", "keeping": r"Of \d chains|Estimated shape parameter"}


class Block(NamedTuple):
    """A fenced block: what is before it decides whether it is run."""

    language: str
    code: str
    line: int
    is_run: bool


def blocks(text: str) -> list[Block]:
    pattern = re.compile(r"^([^\n]*)\n```([^\n]*)\n(.*?)^```$", flags=re.S | re.M)
    return [
        Block(
            found[2],
            found[3],
            text[: found.start(3)].count("\n") + 1,
            not re.fullmatch(r"<!-- not run: .{10,} -->", found[1]),
        )
        for found in pattern.finditer("\n" + text)
    ]


def python(page: str) -> list[Block]:
    return [b for b in blocks(PAGES[page].read_text("utf-8")) if b.language == "python"]


class Page(NamedTuple):
    """The folder a page has run in, its names, and what they were after each block."""

    folder: Path
    names: dict[str, Any]
    after: list[dict[str, Any]]


def run(page: str, folder: Path, shorter: dict[str, str]) -> Page:
    """Run the blocks of a page; errors show its own lines."""
    code = [block for block in python(page) if block.is_run]
    unused = [before for before in shorter if not any(before in block.code for block in code)]
    assert not unused, f"{page}.md has these no more: {unused}"
    module = types.ModuleType(f"page_{page}")
    sys.modules[module.__name__] = module  # Flax and dataclasses look up the module of a class
    after_each = []
    with contextlib.chdir(folder):
        for block in code:
            text = block.code
            for before, after in shorter.items():
                text = text.replace(before, after)
            lines = "\n" * (block.line - 1) + text
            exec(compile(lines, str(PAGES[page]), "exec"), module.__dict__)
            after_each.append(dict(module.__dict__))
    return Page(folder, module.__dict__, after_each)


Ran = Callable[[str], Page]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, unoptimised: None) -> Iterator[Ran]:
    """Give a page that has run; each runs once."""
    done: dict[str, Page] = {}

    def once(page: str) -> Page:
        if page not in done:
            with warnings.catch_warnings():
                if page in WARNED:
                    warnings.filterwarnings("ignore", WARNED[page], UserWarning)
                done[page] = run(page, tmp_path_factory.mktemp(page), SHORTER.get(page, {}))
        return done[page]

    yield once
    for page in done:
        del sys.modules[f"page_{page}"]


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)])
def test_a_page_runs(ran: Ran, page: str) -> None:
    assert len(ran(page).after) == sum(block.is_run for block in python(page)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("page", SHORTER)
def test_a_page_runs_as_it_stands(tmp_path: Path, page: str) -> None:
    with warnings.catch_warnings():
        if page == "keeping":  # it says so
            warnings.filterwarnings("ignore", "Estimated shape parameter", UserWarning)
        run(page, tmp_path, {})
    del sys.modules[f"page_{page}"]


@pytest.mark.fast
def test_every_block_is_run_or_listed() -> None:
    found = {
        (page, block.code.split("\n", 1)[0])
        for page in PAGES
        for block in python(page)
        if not block.is_run
    }
    assert found == NOT_RUN
    assert len(NOT_RUN) <= 3
    assert sum(len(python(page)) for page in PAGES) > 25


@pytest.mark.fast
def test_a_mark_needs_a_reason() -> None:
    marks = ["<!-- not run: asks for a cluster -->", "<!-- not run: -->", "<!-- asks for more -->"]
    text = "\n".join(f"{mark}\n```python\nx = 1\n```" for mark in ["", *marks])
    assert [block.is_run for block in blocks(text)] == [True, False, True, True]
    assert [block.line for block in blocks(text)] == [3, 7, 11, 15]


@pytest.mark.fast
@pytest.mark.parametrize("page", PAGES)
def test_blocks_have_a_language(page: str) -> None:
    text = PAGES[page].read_text("utf-8")
    found = blocks(text)
    assert {block.language for block in found} <= LANGUAGES
    assert text.count("```") == 2 * len(found)


@pytest.mark.fast
@pytest.mark.parametrize("page", PAGES)
def test_names_in_the_text_exist(page: str) -> None:
    """Old names warn, which is an error here."""
    text = PAGES[page].read_text("utf-8")
    for name in sorted(set(re.findall(r"(?<![\w./-])mirth(?:\.[A-Za-z_]\w*)+", text))):
        _, *parts = name.split(".")
        value: Any = importlib.import_module("mirth")
        path = "mirth"
        for part in parts:
            path += f".{part}"
            if isinstance(value, types.ModuleType) and not hasattr(value, part):
                importlib.import_module(path)
            value = getattr(value, part)


def commands(page: str) -> list[list[str]]:
    lines = [
        line
        for block in blocks(PAGES[page].read_text("utf-8"))
        if block.language == "sh"
        for line in block.code.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def check_command(words: list[str]) -> None:
    """Parse a command of mirth as the command line does, without running it; find one of make."""
    program, *arguments = words
    if program == "mirth":
        group: Any = typer.main.get_command(app)
        with group.make_context("mirth", list(arguments)) as context:
            name, command, rest = group.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            command.make_context(name, rest, parent=context)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)
        assert arguments[0] in targets, f"the Makefile has no target {arguments[0]}"


@pytest.mark.fast
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_exist(page: str) -> None:
    for words in commands(page):
        check_command(words)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("mirth fitt a.csv", "No such command 'fitt'"),
        ("mirth fit a.csv --target y --out b --seeds 3", "No such option.*--seeds"),
        ("mirth fit a.csv --target y", "Missing parameter: out"),
        ("mirth resume", "Missing parameter: run"),
        ("mirth extend a --n-samples many", "valid integer"),
        ("make tests", "no target tests"),
    ],
)
def test_wrong_commands_are_found(command: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        check_command(shlex.split(command))


def test_readme(ran: Ran) -> None:
    folder, names, _ = ran("README")
    assert names["interval"].shape == (111, 2)
    assert {path.name for path in folder.iterdir()} == {"model.mirth", "model.stablehlo"}
    assert names["posterior"].num_draws == 20
    assert not names["info"].is_divergent


def test_keeping(ran: Ran) -> None:
    folder, names, _ = ran("keeping")
    X, small = names["X_rest"], names["small"]
    np.testing.assert_array_equal(names["loaded"].predict(X), names["model"].predict(X))
    np.testing.assert_allclose(names["result"]["mean"], small.predict(X), rtol=1e-4)
    np.testing.assert_array_equal(names["kept"].predict(X), names["model"].predict(X))
    assert names["status"].state == "finished" and names["status"].phase == "sampling"
    assert (folder / "small.mirth").stat().st_size < (folder / "model.mirth").stat().st_size


def test_results(ran: Ran) -> None:
    names = ran("results").names
    new, y = names["new"], names["y"][names["test"]]
    low, high = names["low"], names["high"]
    np.testing.assert_array_equal(names["same"].T, [low, high])
    np.testing.assert_allclose(names["answer"]["mean"], new.mean(), rtol=1e-4)
    # 100 calibration and 100 test rows: beta-binomial, four standard deviations of 0.042 below 0.9.
    assert ((low <= y) & (y <= high)).mean() > 0.73
    unseen = names["digits"][names["unseen"]]
    # 200 and 137 rows: standard deviation 0.024; the score aps covers at least as often.
    assert names["possible"][np.arange(len(unseen)), unseen].mean() > 0.95 - 4 * 0.024


def test_large_data(ran: Ran) -> None:
    names = ran("large_data").names
    assert names["posterior"].num_draws == 10
    images = np.arange(16.0).reshape(1, 1, 16, 1).repeat(40, axis=0)
    changed = np.asarray(names["flip"](jax.random.key(0), images))[:, 0, :, 0]
    mirrored = changed[:, 0] == 15
    assert 5 < mirrored.sum() < 35  # of 40, half of them each
    np.testing.assert_array_equal(changed[~mirrored][0], np.arange(16))
    np.testing.assert_array_equal(changed[mirrored][0], np.arange(16)[::-1])


def test_likelihoods(ran: Ran) -> None:
    counts, checked, rounded, positive, several = ran("likelihoods").after
    np.testing.assert_array_equal(counts["interval"], np.round(counts["interval"]))
    assert (0 < counts["probability_of_none"]).all() and counts["median"].shape == (200, 1)
    # 200 rows: four standard deviations of an observed frequency, of 0.9 and at most.
    assert abs(checked["covered"][0] - 0.9) < 4 * 0.021 and checked["error"] < 4 * 0.036
    assert checked["covered"][0] <= checked["inside"]
    assert rounded["model"].resolution_ == 1.0
    np.testing.assert_array_equal(rounded["interval"], np.round(rounded["interval"]))
    assert ((0 < rounded["three"]) & (rounded["three"] < 1)).all()
    assert (positive["lower"] > 0).all()
    assert several["interval"].shape == (200, 2, 2) and several["joint"].shape == (100, 200, 2)
    assert several["density"].shape == (200,)


@pytest.mark.fast
def test_the_table_of_likelihoods_is_complete() -> None:
    for name, kind in (REGRESSION | CLASSIFICATION).items():
        assert f"| `{name}` | `{kind.__name__}` |" in PAGES["likelihoods"].read_text("utf-8")


def test_networks(ran: Ran) -> None:
    images, *adapters, keeping = ran("networks").after
    assert images["probabilities"].shape == (237, 3)
    assert len(adapters) == 3
    for names in adapters:
        params = jax.jit(names["model"].init)(jax.random.key(0), jnp.ones((5, 3)))
        assert jax.jit(names["model"].outputs)(params, jnp.ones((5, 3))).shape == (5, 2)
    assert keeping["posterior"].draws.shape == (4, 5, 237, 3)


def test_priors(ran: Ran) -> None:
    names = ran("priors").names
    assert names["prior"].table(names["weights"]) in PAGES["priors"].read_text("utf-8")
    assert names["params"].keys() == {"network", "hyper"}


@pytest.mark.fast
def test_every_prior_has_a_row_with_its_defaults() -> None:
    for name, prior in PRIORS.items():
        fields = [f"{k}={v:g}" for k, v in prior().get_params().items() if v is not None]
        row = f"| `{name}` | `{prior.__name__}({', '.join(fields)})` |"
        assert row in PAGES["priors"].read_text("utf-8")


def test_extending(ran: Ran) -> None:
    names = ran("extending").names
    assert (names["lower"] < names["upper"]).all()
    assert names["posterior"].num_draws == 60
    assert (np.ptp(names["posterior"].positions(), axis=1) > 0).any()
    rates = names["langevin"].posterior_.tuning.step_size
    assert ((rates > 1e-3) & (rates < 1)).all()


class Stop(mirth.Monitor):
    """Ask the process to stop, in the second chunk of draws."""

    def __init__(self) -> None:
        self.left = 2

    def on_chunk(self, report: mirth.monitors.ChainsReport) -> None:
        self.left -= report.phase == "sampling"
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("name", [pytest.param("walk", marks=pytest.mark.slow), "tuned"])
def test_a_sampler_of_the_page_goes_on(ran: Ran, name: str, tmp_path: Path) -> None:
    """The page says so of a crash; the state of its adaptation is kept as well."""
    names = ran("extending").names
    method = dataclasses.replace(names[name], n_warmup=20, n_samples=12, n_thinning=1)

    def draws(out: Path, *monitors: mirth.Monitor) -> np.ndarray:
        run = mirth.Run(out, checkpoint_seconds=0.0, chunk_steps=4)
        return mirth.infer(
            names["network"], names["data"], method, num_chains=2, run=run, monitors=monitors
        ).positions()

    with pytest.raises(mirth.RunInterrupted):
        draws(tmp_path / "stopped", Stop())
    np.testing.assert_array_equal(draws(tmp_path / "stopped"), draws(tmp_path / "peace"))


@pytest.mark.parametrize("name", ["walk", "tuned"])
def test_samplers_of_the_page_leave_a_normal_alone(ran: Ran, name: str) -> None:
    """Two dimensions, variances 1 and 4, by the kernels alone."""
    names = ran("extending").names
    variances = jnp.array([1.0, 4.0])
    kernel = {"walk": names["RandomWalk"](1.5), "tuned": names["MALA"](1.2)}[name]

    def logdensity(x: Any) -> Any:
        return -0.5 * jnp.sum(x**2 / variances)

    def chain(key: Any) -> Any:
        state = kernel.init(jnp.sqrt(variances) * jax.random.normal(key, (2,)), logdensity, key)

        def one(state: Any, key: Any) -> Any:
            state = kernel.step(key, state, logdensity)[0]
            return state, state.position

        return jax.lax.scan(one, state, jax.random.split(key, 500))[1]

    draws = np.asarray(jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(0), 400)))
    means = draws.mean(axis=1)
    error = means.std(axis=0) / np.sqrt(400)
    assert (np.abs(means.mean(axis=0)) < 4 * error).all()
    squares = (draws**2).mean(axis=1)
    error = squares.std(axis=0) / np.sqrt(400)
    assert (np.abs(squares.mean(axis=0) - variances) < 4 * error).all()
