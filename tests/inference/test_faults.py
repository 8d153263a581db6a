"""A run that is killed again and again, at any instant, gives the draws of one that is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("killed_run.py")
# Events of the whole run: about 175. Runs that are killed early and often, and runs that come far
# at first: together they meet every phase and the draws.
FIRST_EVENT = ((0, 40), (0, 40), (0, 40), (90, 165), (90, 165), (120, 173))


class Case:
    """One folder for runs, the process that forks them, and the draws of the run in peace."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        code, said = self.start("peace", -1)
        assert code == 0, said[-2000:]
        self.events = [line.split(" ", 2)[2] for line in said.splitlines()]
        self.expected = np.load(folder / "peace.npz")

    def start(self, name: str, kill_at: int) -> tuple[int, str]:
        """Run in a new process; its exit code and what it has said."""
        names = (name, f"{name}.npz", f"{name}.log", "cache")
        paths = [str(self.folder / name) for name in names]
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps([*paths, kill_at]) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline()), Path(paths[2]).read_text()


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    case = Case(tmp_path_factory.mktemp("faults"))
    yield case
    with case.server:
        case.server.stdin.close()


def test_the_events_cover_everything_that_writes(case: Case) -> None:
    for name in ("half a checkpoint", "before renaming checkpoint-", "after renaming status.json"):
        assert any(event.startswith(name) for event in case.events)
    assert sum(event == "before draws of network.0.weight" for event in case.events) == 4
    assert sum(event == "after chunk of steps" for event in case.events) > 10
    assert sum(event == "after chunk of epochs" for event in case.events) >= 3
    assert 173 < len(case.events)


# An early and a late one each time, killed twice; the others come to more places by other ways.
RUNS = [(0, 2), (5, 2), *(pytest.param(i, 5, marks=pytest.mark.slow) for i in range(6))]


@pytest.mark.parametrize(("seed", "num_kills"), RUNS)
def test_killed_runs_give_the_draws_of_the_run_in_peace(
    case: Case, seed: int, num_kills: int
) -> None:
    rng, name = np.random.default_rng(seed), f"run{seed}-{num_kills}"
    kills = 0
    for i in range(num_kills):
        first = FIRST_EVENT[seed]
        low, high = first if i == 0 else (0, 25 if first[0] == 0 else 8)
        code, said = case.start(name, int(rng.integers(low, high)))
        assert code in (-9, 0), said[-2000:]
        kills += code == -9
    code, said = case.start(name, -1)
    assert code == 0, said[-2000:]
    found = np.load(case.folder / f"{name}.npz")
    assert set(found.files) == set(case.expected.files)
    for array in found.files:
        np.testing.assert_array_equal(found[array], case.expected[array])
    # A run that was at its end before the last kill has met fewer.
    assert kills == num_kills
