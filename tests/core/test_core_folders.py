"""Folders that are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirth.core.folders import finite, folder_format, new_folder, read_marker, write_json

MARK = {"format": "mirth run", "schema_version": 1, "mirth_version": "0.0.1"}


def make(folder: Path, text: str, **options: bool) -> None:
    with new_folder(folder, **options) as path:
        write_json(path / "manifest.json", MARK)
        (path / "text").write_text(text)


def test_folder_appears_at_the_end_with_its_parents(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    with new_folder(folder) as path:
        (path / "text").touch()
        assert not folder.exists()
    assert [p.name for p in folder.iterdir()] == ["text"]
    assert [p.name for p in folder.parent.iterdir()] == ["run"]


def test_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path / "run", "old")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "run", overwrite=True) as path:
        (path / "text").write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "run" / "text").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    make(tmp_path / "run", "old")
    with new_folder(tmp_path / "run", overwrite=True) as path:
        (path / "other").touch()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["other"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    make(tmp_path / "run", "new")
    assert (tmp_path / "run" / "text").read_text() == "new"


def test_full_folder_is_refused_by_naming_the_option(tmp_path: Path) -> None:
    make(tmp_path / "run", "old")
    with pytest.raises(FileExistsError, match=r"run is not empty.*--overwrite.*overwrite=True"):
        make(tmp_path / "run", "new")
    assert (tmp_path / "run" / "text").read_text() == "old"


@pytest.mark.parametrize("marker", [None, "{", "[1]", '{"format": "other"}'])
def test_foreign_folder_is_never_replaced(tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "precious").write_text("mine")
    if marker is not None:
        (tmp_path / "manifest.json").write_text(marker)
    with pytest.raises(FileExistsError, match="mirth has not written"):
        make(tmp_path, "new", overwrite=True)
    assert (tmp_path / "precious").read_text() == "mine"


def test_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(FileExistsError, match="run is a file"):
        make(tmp_path / "run", "new", overwrite=True)


def test_metrics_can_be_the_marker(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {"format": "mirth demo"})
    assert folder_format(tmp_path) == "mirth demo"


def test_marker_is_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", MARK)
    assert read_marker(tmp_path, "mirth run", 1) == MARK


def test_missing_folder_suggests_a_neighbour(tmp_path: Path) -> None:
    (tmp_path / "houses").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*Did you mean '.*houses'"):
        read_marker(tmp_path / "house", "mirth run", 1)


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (None, FileNotFoundError, r"manifest\.json is missing"),
        ("{", ValueError, r"manifest\.json is damaged"),
        ("[]", ValueError, r"manifest\.json is damaged"),
        ('{"format": "mirth run"}', ValueError, r"manifest\.json is damaged"),
        (json.dumps(MARK | {"format": "mirth demo"}), ValueError, "holds a mirth demo, but"),
        (
            json.dumps(MARK | {"schema_version": 7}),
            ValueError,
            r"schema version 7, but this mirth reads version 1; .* install mirth 0\.0\.1",
        ),
    ],
)
def test_wrong_markers(
    tmp_path: Path, text: str | None, error: type[Exception], match: str
) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(error, match=match):
        read_marker(tmp_path, "mirth run", 1)


def test_json_has_only_finite_numbers(tmp_path: Path) -> None:
    record = {"a": float("inf"), "b": [1.0, float("nan")], "c": "text", "d": True}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", record)
    write_json(tmp_path / "x.json", finite(record))
    found = json.loads((tmp_path / "x.json").read_text())
    assert found == {"a": None, "b": [1.0, None], "c": "text", "d": True}
