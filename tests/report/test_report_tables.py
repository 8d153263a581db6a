"""Tables for the terminal and for the page, and the page."""

from __future__ import annotations

import base64
import io
import re

import pytest
from rich.console import Console

from mirth.report import Column, Picture, Section, Table, render_page

TABLE = Table(
    "Scores <1>",
    [Column("method"), Column("LPPD", ".2f", best="highest"), Column("covered", ".1%", best=0.9)],
    [["a & b", -1.234, 0.95], ["<script>", -1.0, 0.88], ["none", None, float("nan")]],
)


def test_best_numbers_and_dashes() -> None:
    assert TABLE.texts() == [
        [("a & b", False), ("-1.23", False), ("95.0%", False)],
        [("<script>", False), ("-1.00", True), ("88.0%", True)],
        [("none", False), ("–", False), ("–", False)],
    ]


@pytest.mark.parametrize(
    ("best", "expected"), [("lowest", "1.00"), ("highest", "3.00"), (2.2, "2.00"), (None, None)]
)
def test_best_of_a_column(best: str | float | None, expected: str | None) -> None:
    assert Column("x", ".2f", best=best).best_text([3, 1.0, 2, "text", None]) == expected


def test_one_number_is_not_the_best_of_anything() -> None:
    assert Column("x", best="lowest").best_text([1.0, None]) is None


def test_equal_texts_are_equally_good() -> None:
    table = Table("t", [Column("x", ".1f", best="lowest")], [[0.12], [0.11], [0.4]])
    assert [row[0][1] for row in table.texts()] == [True, True, False]


def test_terminal_shows_text_as_it_is() -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=80).print(Table("[b]t", [Column("[red]")], [["[x]"]]).to_rich())
    assert all(text in buffer.getvalue() for text in ("[b]t", "[red]", "[x]"))


def test_html_is_escaped() -> None:
    text = TABLE.to_html()
    assert "<script>" not in text and "&lt;script&gt;" in text and "a &amp; b" in text
    assert "<caption>Scores &lt;1&gt;</caption>" in text
    assert text.count('<td class="best">') == 2


def test_page_is_whole_and_escaped() -> None:
    png = b"\x89PNG some bytes"
    section = Section(
        "<h>", ["a < b", "$title costs"], [TABLE], [Picture("p", 'a "caption"', png)], [TABLE]
    )
    page = render_page("T & t", ["<i>"], [section], "<footer>")
    assert page.count("<h1>T &amp; t</h1>") == 1
    assert "&lt;h&gt;" in page and "<p>a &lt; b</p>" in page and "<p>$title costs</p>" in page
    assert "<footer>&lt;footer&gt;</footer>" in page and 'alt="a &quot;caption&quot;"' in page
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(data) == png
    assert page.count("<table>") == 2 and page.count("<details>") == 1
