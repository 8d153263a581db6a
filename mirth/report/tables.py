"""One table for the terminal and for the page."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # only the terminal needs it
    from rich.table import Table as RichTable

Cell = str | int | float | None


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its heading, how numbers look, and which one is best.

    Parameters
    ----------
    heading : str
        Heading, with the unit if there is one.
    number_format : str, default=".3f"
        Format of the numbers, as for ``format``; text is left alone.
    best : {"highest", "lowest"}, float or None, default=None
        Which number is set in bold; a float means the number nearest to it.

    Examples
    --------
    >>> Column("covered", ".1%", best=0.9).show(0.875)
    '87.5%'
    """

    heading: str
    number_format: str = ".3f"
    best: Literal["highest", "lowest"] | float | None = None

    def show(self, cell: Cell) -> str:
        """Format a cell; None and NaN become a dash."""
        if isinstance(cell, str):
            return cell
        if cell is None or math.isnan(cell):
            return "–"
        return format(cell, self.number_format)

    def best_text(self, cells: Sequence[Cell]) -> str | None:
        """Give the text of the best number; equal texts are equally good."""
        numbers = [c for c in cells if isinstance(c, int | float) and not math.isnan(c)]
        if self.best is None or len(numbers) < 2:
            return None
        if isinstance(self.best, float):
            aim = self.best
            return self.show(min(numbers, key=lambda number: abs(number - aim)))
        return self.show(max(numbers) if self.best == "highest" else min(numbers))


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells under headings.

    Parameters
    ----------
    title : str
        What the table shows.
    columns : sequence of Column
        The columns.
    rows : sequence of sequences of str, int, float or None
        One cell for each column.

    Examples
    --------
    >>> table = Table("scores", [Column("method"), Column("RMSE", best="lowest")],
    ...               [["A", 0.5], ["B", 0.25]])
    >>> table.texts()
    [[('A', False), ('0.500', False)], [('B', False), ('0.250', True)]]
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def texts(self) -> list[list[tuple[str, bool]]]:
        """Format all cells: text, and whether it is the best of its column."""
        best = [
            column.best_text([row[k] for row in self.rows]) for k, column in enumerate(self.columns)
        ]
        return [
            [
                (text := column.show(cell), text == best[k] and not isinstance(cell, str))
                for k, (column, cell) in enumerate(zip(self.columns, row, strict=True))
            ]
            for row in self.rows
        ]

    def to_rich(self) -> RichTable:
        """Make the table for the terminal."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(self.title), title_justify="left", box=box.SIMPLE_HEAD)
        for k, column in enumerate(self.columns):
            table.add_column(Text(column.heading), justify="right" if k else "left")
        for row in self.texts():
            table.add_row(*(Text(text, style="bold" if best else "") for text, best in row))
        return table

    def to_html(self) -> str:
        """Make the table for the page; everything is escaped."""
        heads = "".join(f"<th>{html.escape(column.heading)}</th>" for column in self.columns)
        lines = []
        for row in self.texts():
            cells = (
                f'<td class="best">{html.escape(text)}</td>'
                if best
                else f"<td>{html.escape(text)}</td>"
                for text, best in row
            )
            lines.append(f"<tr>{''.join(cells)}</tr>")
        return (
            f"<table><caption>{html.escape(self.title)}</caption>"
            f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )
