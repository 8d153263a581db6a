"""What the displays say."""

from __future__ import annotations

import importlib.machinery
import io
import re
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import mirth
from mirth.inference import ChainsReport, Monitor
from mirth.inference.engine.loop import ChunkReport, ChunkStats
from mirth.inference.monitors import displays

pytestmark = pytest.mark.usefixtures("unoptimised")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def report(step: int = 40, num_divergent: int = 0, lppd: float = 0.0) -> ChainsReport:
    stats = ChunkStats(
        np.array([0.04, 0.09, 0.16]), np.array([0, num_divergent, 0]), np.full(3, 0.025), np.ones(3)
    )
    chunk = ChunkReport("step size", step, 100, 0, 2.0, stats, None)
    return ChainsReport.of(chunk, lppd, np.array([1.0, 2.0, 3.0]))


def test_words_of_a_chunk() -> None:
    words = str(report(lppd=-1.25))
    # 40 steps in 2 s leave 60 steps, 3 s; the median of Delta E^2 is 0.09.
    assert words == (
        "20 steps/s, 3 s left, step size 0.025, energy error 0.3, validation LPPD -1.250"
    )
    assert str(report(num_divergent=2)).endswith("2 divergent")


def test_lines_come_every_ten_seconds_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), iter([0.0, 5.0, 9.9, 10.1, 11.0, 12.0])
    monkeypatch.setattr(displays.time, "monotonic", lambda: next(clock))
    monitor = displays.LineMonitor(stream)
    monitor.on_epochs(np.array([3, 5]), np.array([1.0, 2.0]), 0.1)  # 0 s: the first
    monitor.on_chunk(report(10))
    monitor.on_chunk(report(20))
    monitor.on_chunk(report(30))  # 10.1 s: due
    monitor.on_chunk(report(100))  # end of the phase
    monitor.on_end(np.array([0.51, 0.4]))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "mirth: warm start: epoch 5, validation loss 1.500 (median)"
    assert [line.split(":")[1] for line in lines[1:3]] == [
        " step size 30/100",
        " step size 100/100",
    ]
    assert lines[3] == "mirth: done, LPPD by chain [0.51, 0.4]"
    assert len(lines) == 4


def test_the_bar_shows_phases_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monitor = displays.make_monitor(1)
    assert isinstance(monitor, displays.BarMonitor)
    monitor.on_start("This run needs little.")
    monitor.on_epochs(np.array([3, 5]), np.array([1.0, 2.0]), 0.1)
    monitor.on_chunk(report(40, lppd=0.25))
    monitor.on_chunk(report(100, lppd=0.25))
    monitor.on_end(np.zeros(2))
    monitor.close()
    text = err.getvalue()
    for words in (
        "needs little",
        "warm start",
        "epoch 5",
        "loss 1.500",
        "step size",
        "100/100",
        "LPPD 0.250",
    ):
        assert words in text
    assert "\x1b[?25h" in text  # the cursor is back
    assert out.getvalue() == ""  # which a pipe may read


def test_the_chains_are_shown_while_they_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monitor = displays.BarMonitor()

    def shown() -> str:
        page = Console(width=80, file=io.StringIO())
        with page.capture() as capture:
            page.print(monitor._live.renderable)
        return capture.get()

    monitor.on_epochs(np.array([3, 5]), np.array([1.0, 2.0]), 0.1)
    assert "epoch 5, validation loss 1.500 (median)" in shown() and "chain" not in shown()
    monitor.on_chunk(report(40, num_divergent=2, lppd=0.25))
    _, bar, words, *_, row, _, _ = shown().splitlines()
    # Nothing is cut off at 80 columns, and the state stands below the bars.
    assert re.fullmatch(r"step size +[━╸╺]+ +40/100 +0:00:00 LPPD 0.250 *", bar)
    assert words.startswith("20 steps/s, 3 s left")
    assert re.findall(r"[\w.]+", row) == ["1", "0.025", "2", "0.3", "2"]
    monitor.on_note("A note.")
    monitor.close()
    monitor.close()
    assert "step size" in shown() and "chain" not in shown() and "steps/s" not in shown()


def test_bars_of_phases_that_are_over_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monitor = displays.BarMonitor()
    monitor.on_epochs(np.array([3, 5]), np.array([1.0, 2.0]), 0.1)
    monitor.on_chunk(report(40))  # ends early
    sampling = ChainsReport("sampling", 10, 20, 5.0, 0.0, *[np.ones(2)] * 4)
    monitor.on_chunk(sampling)
    monitor.close()
    tasks = monitor._progress.tasks
    assert [(task.completed, task.total) for task in tasks] == [(5, 5), (40, 100), (10, 20)]
    assert [task.stop_time is None for task in tasks] == [False, False, True]


def test_what_goes_to_a_pipe_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monitor = displays.BarMonitor()
    monitor.on_chunk(report())
    print("for the pipe")
    monitor.close()
    assert out.getvalue() == "for the pipe\n" and "pipe" not in err.getvalue()


class Notebook:
    """What a notebook shows: texts, and widgets with what is shown inside them."""

    def __init__(self) -> None:
        self.shown: list[Any] = []
        self.threads = threading.local()  # bars are drawn by a thread of their own

    def display(self, thing: Any) -> None:
        place = getattr(self.threads, "place", None)
        (self.shown if place is None else place).append(getattr(thing, "text", thing))


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    page = Notebook()

    class Output:
        def __init__(self) -> None:
            self.inside: list[Any] = []

        def clear_output(self, wait: bool) -> None:
            self.inside.clear()

        def __enter__(self) -> None:
            page.threads.place = self.inside

        def __exit__(self, *_: Any) -> None:
            page.threads.place = None

    def module(name: str, **content: Any) -> None:
        made = ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)

    module("IPython")
    module("IPython.display", display=page.display)
    module("ipywidgets", Output=Output)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    return page


def test_bars_in_a_notebook(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = displays.make_monitor(1)
    assert isinstance(monitor, displays.BarMonitor)
    monitor.on_start("This run needs little.")
    monitor.on_epochs(np.array([3, 5]), np.array([1.0, 2.0]), 0.1)
    monitor.on_chunk(report(40))
    monitor.on_note("A note.")
    monitor.on_chunk(report(100, lppd=0.25))
    monitor.close()
    widgets = [thing for thing in notebook.shown if not isinstance(thing, str)]
    texts = [thing for thing in notebook.shown if isinstance(thing, str)]
    assert texts == ["This run needs little.\n", "A note.\n"]  # and no empty output
    (last,) = widgets[0].inside
    assert len(widgets) == 1
    assert "100/100" in last and "LPPD 0.250" in last and "chain" not in last
    assert capsys.readouterr() == ("", "")


def test_lines_in_a_notebook_without_widgets(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "ipywidgets")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monitor = displays.make_monitor(1)
    assert isinstance(monitor, displays.LineMonitor)
    monitor.on_chunk(report(100))
    monitor.close()
    assert notebook.shown == []
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("num", "last"), [(16, "15"), (17, "1 more"), (40, "24 more")])
def test_a_table_of_many_chains_is_short(num: int, last: str) -> None:
    table = displays.chain_table({"step size": np.arange(num) / 8, "L": [None] * num})
    numbers, steps, lengths = (list(column.cells) for column in table.columns)
    assert numbers[:16] == [str(k) for k in range(16)] and numbers[-1] == last
    assert table.row_count == min(num, 17)
    assert steps[3] == "0.375" and lengths[3] == "-"


@pytest.mark.parametrize(
    ("verbose", "is_terminal", "kind"),
    [
        (0, True, Monitor),
        (False, False, Monitor),
        (1, True, displays.BarMonitor),
        (True, False, displays.LineMonitor),
        (2, True, displays.LineMonitor),
    ],
)
def test_choice_of_the_display(
    monkeypatch: pytest.MonkeyPatch, verbose: int, is_terminal: bool, kind: type
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if is_terminal else io.StringIO())
    assert type(displays.make_monitor(verbose)) is kind


def test_silence_by_default(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    run(n_warmup=10, n_samples=3)
    assert capfd.readouterr() == ("", "")


def test_lines_of_a_run(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    run(n_warmup=10, n_samples=3, verbose=2)
    out, err = capfd.readouterr()
    assert out == ""
    first, *lines = err.splitlines()
    assert first.startswith("mirth: This run needs about")
    phases = [re.sub(r"mirth: ([a-z ]+).*", r"\1", line).strip() for line in lines]
    assert phases == [
        "warm start", "step size", "step size and spread", "decoherence length", "sampling", "done",
    ]  # fmt: skip
    pattern = r"\d+ steps/s, \d+ s left, step size \S+, energy error \S+, validation LPPD \S+$"
    assert all(re.search(pattern, line) for line in lines[1:5])


class Recorder(Monitor):
    def __init__(self) -> None:
        self.epochs: list[Any] = []
        self.chunks: list[ChainsReport] = []
        self.ends: list[Any] = []
        self.num_closed = 0

    def on_epochs(self, epochs: Any, losses: Any, seconds: float) -> None:
        self.epochs.append((epochs, losses, seconds))

    def on_chunk(self, report: ChainsReport) -> None:
        self.chunks.append(report)

    def on_end(self, lppd_chain: Any) -> None:
        self.ends.append(lppd_chain)

    def close(self) -> None:
        self.num_closed += 1


@pytest.mark.slow
def test_a_display_of_ones_own(run: Any) -> None:
    seen = Recorder()
    posterior = run(num_chains=3, n_warmup=20, n_samples=10, chunk_steps=8, monitors=[seen])
    epochs, losses, _ = seen.epochs[-1]
    np.testing.assert_array_equal(epochs, posterior.warm_start.epochs)
    np.testing.assert_array_equal(np.float64(losses), posterior.warm_start.validation_loss)
    steps = [(r.phase, r.step) for r in seen.chunks]
    assert steps == [
        ("step size", 8), ("step size", 16), ("step size and spread", 2),
        ("decoherence length", 2), ("sampling", 8), ("sampling", 10),
    ]  # fmt: skip
    lppd = [r.lppd for r in seen.chunks]
    assert np.isfinite(lppd).all()
    np.testing.assert_array_equal(seen.ends, [posterior.lppd_chain])
    # By Jensen's inequality the pooled LPPD is at least the mean of the chains'.
    assert lppd[-1] >= posterior.lppd_chain.mean()
    assert seen.num_closed == 1
    # Of all chains together, from what the validation rows say of each draw.
    assert all(np.isnan(r.num_effective) for r in seen.chunks if r.phase != "sampling")
    assert 0 < seen.chunks[-1].num_effective < 3 * 10 * np.log10(3 * 10)
    assert "effective draws/s" in str(seen.chunks[-1])
    np.testing.assert_array_equal(seen.chunks[-1].L, posterior.tuning.L)
    np.testing.assert_array_equal(seen.chunks[-1].step_size, posterior.tuning.step_size)


def test_the_display_is_closed_after_an_error(run: Any) -> None:
    class Interrupting(Recorder):
        def on_chunk(self, report: ChainsReport) -> None:
            raise KeyboardInterrupt

    seen = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run(n_warmup=10, n_samples=3, monitors=[seen])
    assert seen.num_closed == 1 and seen.ends == []


def test_the_pooled_lppd_is_that_of_the_validation_rows(
    model: mirth.Model, data: mirth.Dataset
) -> None:
    seen = Recorder()
    held = data.take(np.arange(0, 40, 4))
    method = mirth.MILE(
        n_warmup=5, n_samples=6, n_thinning=2, start=mirth.DeepEnsemble(max_epochs=2)
    )
    posterior = mirth.infer(model, data, method, num_chains=2, validation=held, monitors=[seen])
    predictive = mirth.make_predictive(model, posterior.draws, held.x)
    expected = predictive.log_prob(held.y.astype(float)).mean()
    # A mean of 10 rows, each a log of a mean of 12 densities in float32: a few roundings of 1e-7.
    assert seen.chunks[-1].lppd == pytest.approx(expected, rel=1e-5)
    per_chain = predictive.log_prob_per_draw(held.y.astype(float))
    chain = np.logaddexp.reduce(per_chain, axis=1) - np.log(6)
    np.testing.assert_allclose(posterior.lppd_chain, chain.mean(axis=1), rtol=1e-5)
