"""Tables of a report before they are drawn: headers, lines and notes, for a terminal or a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stale_bench.reporting.benchmark_results import Row
from stale_runtime.system.text import one_line

_LONGEST_CELL = 120
"""Characters of a cell, whose text may come from a file."""


class Column(NamedTuple):
    """A column of a table; it is left out if it is empty in all rows."""

    header: str
    text: Callable[[Row], str | None]


@dataclass(frozen=True, kw_only=True)
class ReportTable:
    """A table whose first ``left`` columns are text and whose others are numbers."""

    caption: str
    headers: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    """One for each row, as long as the headers."""
    left: int = 1


@dataclass(frozen=True, kw_only=True)
class ReportText:
    """What a report says: tables, and sentences on how to read them."""

    tables: tuple[ReportTable, ...]
    """The first needs no caption above it in a terminal."""
    notes: tuple[str, ...]


def table_of(rows: Sequence[Row], columns: Sequence[Column], caption: str, left: int = 1) -> ReportTable:
    """Make a table of rows, without columns that are empty in all of them, except the first two.

    Args:
        rows: what the columns show.
        columns: the first ``left`` of them are text.
        caption: what the table shows.
        left: how many columns are text.
    """
    cells = [[column.text(row) for row in rows] for column in columns]
    shown = [n for n, column in enumerate(cells) if n < 2 or any(text is not None for text in column)]
    lines = [tuple(cells[n][row] or "" for n in shown) for row in range(len(rows))]
    return ReportTable(caption=caption, headers=tuple(columns[n].header for n in shown), lines=tuple(lines), left=left)


def draw_table(rows: Sequence[Sequence[str]], headers: Sequence[str], style: str, left: int = 1) -> str:
    """Draw a table whose first ``left`` columns are text and whose others are numbers."""
    from tabulate import tabulate  # late, because only tables need it

    align = ("left",) * left + ("right",) * (len(headers) - left)
    return tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=align if rows else None)


def draw_report(report: ReportText, style: str) -> str:
    """Draw tables and notes as text.

    Args:
        report: what to draw.
        style: a table format of ``tabulate``.
    """
    first, *others = (_draw(table, style) for table in report.tables)
    captions = [table.caption for table in report.tables[1:]]
    parts = [first, *(f"{caption}:\n\n{text}" for caption, text in zip(captions, others, strict=True))]
    return "\n\n".join([*parts, *(["\n".join(map(one_line, report.notes))] if report.notes else [])]) + "\n"


def _draw(table: ReportTable, style: str) -> str:
    lines = [[one_line(text)[:_LONGEST_CELL] for text in line] for line in table.lines]
    headers = [one_line(text)[:_LONGEST_CELL] for text in table.headers]
    return draw_table(lines, headers, style, table.left)
