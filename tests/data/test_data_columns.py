from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from mirth.data import TRUSTED_TYPES, check_columns, column_kinds, make_preprocessor, read_table


@pytest.fixture
def frame() -> pd.DataFrame:
    """Every kind of column that can be learned from, with and without missing values."""
    return pd.DataFrame(
        {
            "whole": [1, 2, 3, 4, 5, 6],
            "real": [0.5, np.nan, 1.5, 2.5, 3.5, np.nan],
            "nullable": pd.array([1, None, 3, 4, 5, 10], dtype="Int64"),
            "text": ["a", "b", "a", "b", None, "c"],
            "object": pd.Series(["x", "y", np.nan, "x", "y", np.nan], dtype=object),
            "categories": pd.Categorical([7, 7, 8, 8, 7, None]),
            "flag": [True, False, True, False, True, True],
            "maybe": pd.Series([True, None, False, True, None, False], dtype=object),
            "boolean": pd.array([True, None, False, True, None, False], dtype="boolean"),
            "string": pd.array(["p", "q", "p", "q", "p", "q"], dtype="string"),
        }
    )


NUMBERS = ["whole", "real", "nullable"]


def levels(transformer: Any, column: str) -> list[str]:
    prefix = f"category__{column}_"
    names = transformer.get_feature_names_out()
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def test_column_kinds(frame: pd.DataFrame) -> None:
    kinds = column_kinds(frame)
    assert list(kinds) == list(frame.columns)
    assert [name for name, kind in kinds.items() if kind == "number"] == NUMBERS
    assert set(kinds.values()) == {"number", "category"}


def test_columns_without_values_are_left_out(frame: pd.DataFrame) -> None:
    wider = frame.assign(none=None, nan=np.nan)
    with pytest.warns(UserWarning, match="columns without any value are left out: none, nan$"):
        kinds = column_kinds(wider)
    assert list(kinds) == list(frame.columns)
    with pytest.warns(UserWarning, match="left out"):
        transformer = make_preprocessor(wider)
    expected = make_preprocessor(frame).fit_transform(frame)
    assert np.array_equal(transformer.fit_transform(wider), expected)
    # what was left out is not asked for later
    assert np.array_equal(transformer.transform(check_columns(frame, kinds)), expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.to_datetime(["2024-01-31", "2024-02-01"]), "'c' holds dates or times"),
        (pd.to_timedelta([1, 2], unit="D"), "'c' holds dates or times"),
        (pd.period_range("2024-01", periods=2, freq="M"), "'c' holds dates or times"),
        ([datetime.date(2024, 1, 31)] * 2, "'c' holds dates or times"),
        (["2024-01-31", None], "'c' holds dates or times"),
        (["2024-01-31 10:00", "2024-01-31T11:00"], "'c' holds dates or times"),
        (["a", 1], r"'c' is neither numbers nor text \(mixed.*astype\(\{'c': 'str'\}\)"),
        (pd.array(["a", pd.NA], dtype="string"), r"'c' is neither .* \(pandas\.NA\)"),
        ([1j, 2], "'c' is neither numbers nor text"),
    ],
)
def test_columns_that_cannot_be_used(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_preprocessor(pd.DataFrame({"a": [1, 2], "c": values}))


def test_codes_that_begin_like_dates_are_text() -> None:
    assert column_kinds(pd.DataFrame({"c": ["2024-01-31b", "2024-01-31"]})) == {"c": "category"}


def test_tables_that_cannot_be_used() -> None:
    with pytest.raises(TypeError, match="column names must be text, got 0"):
        column_kinds(pd.DataFrame([[1, 2]]))
    with pytest.raises(ValueError, match=r"these appear more than once: \['a'\]"):
        column_kinds(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="nothing to learn from"),
    ):
        column_kinds(pd.DataFrame({"a": [np.nan]}))


def test_numbers(frame: pd.DataFrame) -> None:
    transformer = make_preprocessor(frame[NUMBERS])
    output = transformer.fit_transform(frame)
    assert [name.removeprefix("number__") for name in transformer.get_feature_names_out()] == [
        *NUMBERS,
        "missingindicator_real",
        "missingindicator_nullable",
    ]
    assert output[:, 0].tolist() == frame["whole"].tolist()
    assert output[:, 1].tolist() == [0.5, 2.0, 1.5, 2.5, 3.5, 2.0]  # the median is 2
    assert output[:, 2].tolist() == [1, 4, 3, 4, 5, 10]
    assert output[:, 3].tolist() == [0, 1, 0, 0, 0, 1]
    assert output[:, 4].tolist() == [0, 1, 0, 0, 0, 0]


def test_a_number_missing_for_the_first_time_becomes_the_median(frame: pd.DataFrame) -> None:
    transformer = make_preprocessor(frame[["whole"]]).fit(frame)
    assert transformer.transform(pd.DataFrame({"whole": [np.nan, 9.0]})).tolist() == [[3.5], [9]]


def test_categories(frame: pd.DataFrame) -> None:
    transformer = make_preprocessor(frame)
    output = transformer.fit_transform(frame)
    assert output.dtype == np.float64 and type(output) is np.ndarray
    assert np.isfinite(output).all()
    # missing text occurs once, as does "c": both are rare; missing objects occur twice
    assert levels(transformer, "text") == ["a", "b", "infrequent_sklearn"]
    assert levels(transformer, "object") == ["x", "y", "nan"]
    assert levels(transformer, "flag") == ["False", "True"]
    column = list(transformer.get_feature_names_out()).index("category__text_a")
    assert output[:, column : column + 3].tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, 1],
    ]


def test_unseen_levels(frame: pd.DataFrame) -> None:
    train = frame[["text", "flag"]]
    transformer = make_preprocessor(train).fit(train)
    new = pd.DataFrame({"text": ["new", "a"], "flag": pd.Series([None, True], dtype=object)})
    # the rare column stands for "new"; flag has no rare levels, so nothing stands for None
    assert transformer.transform(new).tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 1]]


@pytest.mark.parametrize(("num_rows", "least"), [(50, 2), (200, 2), (201, 3), (1000, 10)])
def test_rare_levels_share_a_column(num_rows: int, least: int) -> None:
    rare = ["just enough"] * least + ["too few"] * (least - 1)
    train = pd.DataFrame({"c": rare + ["common"] * (num_rows - len(rare))})
    transformer = make_preprocessor(train).fit(train)
    assert levels(transformer, "c") == ["common", "just enough", "infrequent_sklearn"]


def test_a_column_of_names_costs_one_column() -> None:
    train = pd.DataFrame({"name": [f"person {i}" for i in range(300)]})
    assert make_preprocessor(train).fit_transform(train).shape == (300, 1)


def test_skops_round_trip(frame: pd.DataFrame) -> None:
    transformer = make_preprocessor(frame)
    output = transformer.fit_transform(frame)
    saved = skops.io.dumps(transformer)
    assert set(skops.io.get_untrusted_types(data=saved)) == set(TRUSTED_TYPES)
    loaded = skops.io.loads(saved, trusted=list(TRUSTED_TYPES))
    assert np.array_equal(loaded.transform(frame), output)
    without_numbers = frame.drop(columns=NUMBERS)
    saved = skops.io.dumps(make_preprocessor(without_numbers).fit(without_numbers))
    assert skops.io.get_untrusted_types(data=saved) == []


def test_check_columns_selects_in_order(frame: pd.DataFrame) -> None:
    assert list(check_columns(frame, ["text", "whole"]).columns) == ["text", "whole"]
    kinds = column_kinds(frame)
    assert check_columns(frame[frame.columns[::-1]].assign(extra=1), kinds).equals(frame)


def test_check_columns_names_all_that_are_missing(frame: pd.DataFrame) -> None:
    message = r"lacks 2 of 10 expected columns: 'whole' \(did you mean 'Whole'\?\), 'categories'\.$"
    renamed = frame.drop(columns="categories").rename(columns={"whole": "Whole"})
    with pytest.raises(ValueError, match=message):
        check_columns(renamed, column_kinds(frame))


def test_check_columns_notices_another_kind() -> None:
    kinds = column_kinds(pd.DataFrame({"a": [1.0], "b": ["x"]}))
    with pytest.raises(ValueError, match="'a' held numbers .* such as 'many'; correct"):
        check_columns(pd.DataFrame({"a": ["1", "many"], "b": ["x", "y"]}), kinds)
    with pytest.raises(ValueError, match="'a' held numbers .* holds bool now; correct"):
        check_columns(pd.DataFrame({"a": [True], "b": ["x"]}), kinds)
    with pytest.raises(ValueError, match=r"'b' held categories .* text=\['b'\]"):
        check_columns(pd.DataFrame({"a": [1], "b": [1]}), kinds)


def test_new_rows_without_any_value_in_a_column(frame: pd.DataFrame) -> None:
    transformer = make_preprocessor(frame).fit(frame)
    empty = frame.assign(real=None, object=np.nan)
    output = transformer.transform(check_columns(empty, column_kinds(frame)))
    names = list(transformer.get_feature_names_out())
    assert set(output[:, names.index("number__real")]) == {2.0}
    assert set(output[:, names.index("category__object_nan")]) == {1.0}


def test_categories_read_back_from_a_file_mean_the_same(tmp_path: Any) -> None:
    (tmp_path / "train.csv").write_text("code,flag\n01,TRUE\nA,FALSE\n01,TRUE\nA,FALSE\n")
    (tmp_path / "new.csv").write_text("flag,code\nTRUE,01\nTRUE,\n")
    train = read_table(tmp_path / "train.csv")
    kinds = column_kinds(train)
    transformer = make_preprocessor(train).fit(train)
    text = [name for name, kind in kinds.items() if kind == "category"]
    new = check_columns(read_table(tmp_path / "new.csv", text=text), kinds)
    assert transformer.transform(new).tolist() == [[1, 0, 0, 1], [0, 0, 0, 1]]
