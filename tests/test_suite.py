"""The tools of the tests themselves: kept programs, the order of files, the fast selection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.compiled import Kept
from tests.selection import FAST, LONGEST, NOT_FAST, is_fast, rank

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.fast


def test_programs_of_the_tests_are_kept_up_to_a_limit(tmp_path: Path) -> None:
    first, second = Kept(tmp_path), Kept(tmp_path)
    for number in range(3):
        program = first.own / f"{number}-cache"
        program.write_bytes(bytes(100))
        os.utime(program, (number, number))
    assert not any(second.own.iterdir())  # nobody sees what another process is writing
    first.close()
    assert not first.own.exists()
    third = Kept(tmp_path, max_bytes=250)
    assert {file.name for file in third.own.iterdir()} == {"0-cache", "1-cache", "2-cache"}
    second.close()
    third.close()
    assert {file.name for file in third.folder.iterdir()} == {"1-cache", "2-cache"}
    assert list(tmp_path.iterdir()) == [third.folder]


@pytest.mark.parametrize("name", (*LONGEST, *FAST, *NOT_FAST))
def test_files_that_are_named_exist(name: str) -> None:
    assert (ROOT / name).exists()


def test_every_part_is_in_the_fast_selection() -> None:
    files = [str(file.relative_to(ROOT)) for file in ROOT.glob("tests/**/test_*.py")]
    parts = {Path(name).parent for name in files}
    assert {Path(name).parent for name in files if is_fast(name)} == parts
    assert all(not is_fast(name) for name in LONGEST)


def test_the_longest_files_go_first() -> None:
    names = ["tests/core/test_keys.py::a", f"{LONGEST[1]}::b", f"{LONGEST[0]}::c"]
    assert sorted(names, key=rank) == names[::-1]
