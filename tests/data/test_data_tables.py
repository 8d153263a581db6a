from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mirth.data import read_table, split_target, task_of


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def test_columns_get_the_type_of_their_values(write: Any) -> None:
    frame = read_table(write('n, f,t,flag,big\n1,0.5,"a, b",True,99999999999999999999\n2,,,no,1\n'))
    assert list(frame.columns) == ["n", "f", "t", "flag", "big"]
    assert frame["n"].dtype == np.int64
    assert frame["f"].dtype == frame["big"].dtype == np.float64
    assert frame["f"].tolist()[0] == 0.5 and np.isnan(frame["f"][1])
    assert frame["t"].tolist()[0] == "a, b" and frame["t"].isna().tolist() == [False, True]
    assert frame["flag"].tolist() == ["True", "no"]


def test_booleans_stay_the_text_they_are(write: Any) -> None:
    assert read_table(write("a\nTRUE\nfalse\n"))["a"].tolist() == ["TRUE", "false"]


def test_text_columns_are_kept_as_text(write: Any) -> None:
    path = write("zip,code\n01067,1\n10115,2\n")
    assert read_table(path)["zip"].tolist() == [1067, 10115]
    frame = read_table(path, text=["zip", "not there"])
    assert frame["zip"].tolist() == ["01067", "10115"]
    assert frame["code"].tolist() == [1, 2]


def test_other_forms_of_a_file(write: Any) -> None:
    assert list(read_table(write("\ufeffa,b\r\n1,2\r\n")).columns) == ["a", "b"]
    assert list(read_table(write("NA,null\n1,2\n")).columns) == ["NA", "null"]
    packed = write(gzip.compress(b"a,b\n1,2\n"), "table.csv.gz")
    assert read_table(str(packed))["b"].tolist() == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "has column names but no rows"),
        ("a,b,a\n1,2,3\n", r"these appear more than once: \['a'\]"),
        (",b\n0,2\n", r"column 1 has no name.*index=False"),
        ("a,b\n1,2,3\n", "the rows have more fields than the 2 column names"),
        ("a,b\n1,2\n1,2,3\n", "not a table separated by commas.*line 3"),
        ('a,b\n"1,2\n', "not a table separated by commas"),
        ("a;b\n1;2\n", "looks separated by ';'"),
        ("a\tb\n1\t2\n", r"looks separated by '\\t'"),
        ("a,b\n1,x\n1,é\n".encode("latin-1"), "is not UTF-8 text"),
        ("é,b\n1,2\n".encode("latin-1"), "is not UTF-8 text"),
        ("a,b\n1,2\n2,inf\n3,1e999\n", "column 'b' is infinite in rows 2, 3"),
    ],
)
def test_broken_files(write: Any, content: str | bytes, message: str) -> None:
    path = write(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_missing_file(write: Any, tmp_path: Path) -> None:
    write("a\n1\n", "houses.csv")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*Did you mean 'houses\.csv'\?"):
        read_table(tmp_path / "house.csv")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*zzz\.$"):
        read_table(tmp_path / "zzz")
    with pytest.raises(FileNotFoundError, match="its folder .*nowhere does not exist"):
        read_table(tmp_path / "nowhere" / "houses.csv")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_table(tmp_path)


def test_split_target() -> None:
    frame = pd.DataFrame({"rooms": [2, 3], "price": [1.5, 2.5], "area": [50, 70]})
    features, target = split_target(frame, "price")
    assert list(features.columns) == ["rooms", "area"]
    assert target.tolist() == [1.5, 2.5]
    assert list(frame.columns) == ["rooms", "price", "area"]


def test_split_target_errors() -> None:
    frame = pd.DataFrame({"rooms": range(10), "price": [1.0, None] * 5, "few": [0.0] * 9 + [None]})
    with pytest.raises(ValueError, match=r"^target='prise' is not known; did you mean 'price'\?"):
        split_target(frame, "prise")
    with pytest.raises(ValueError, match=r"in 1 of 10 rows: row 10\. Remove"):
        split_target(frame, "few")
    with pytest.raises(
        ValueError, match="'rooms' is missing in 6 of 10 .*rows 1, 2, 3, 4, 5 and 1"
    ):
        split_target(frame.assign(rooms=[None] * 6 + [1] * 4), "rooms")
    with pytest.raises(ValueError, match="no column besides the target 'rooms'"):
        split_target(frame[["rooms"]], "rooms")


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"], "classification"),
        (pd.Categorical([1, 2, 3]), "classification"),
        ([True, False], "classification"),
        (pd.array(["a", "b"], dtype="string"), "classification"),
        (pd.array([True, False], dtype="boolean"), "classification"),
        ([0, 1, 1], "classification"),
        (pd.array([5, 7, 7], dtype="Int64"), "classification"),
        ([1, 2, 3] * 20, "regression"),  # one distinct value for 20 rows is not fewer
        ([1, 2, 3] * 20 + [3], "classification"),
        (list(range(10)) * 100, "classification"),
        (list(range(11)) * 100, "regression"),
        ([0.0, 1.0] * 100, "regression"),
        (np.linspace(0, 1, 50), "regression"),
    ],
)
def test_task_of(values: Any, task: str) -> None:
    assert task_of(pd.Series(values)) == task


def test_task_of_dates() -> None:
    with pytest.raises(ValueError, match="'day' holds dates or times"):
        task_of(pd.Series(["2024-01-31", "2024-02-01"], name="day"))
