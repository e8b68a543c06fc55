"""Tables of text, laid out like the ``simple`` ones of ``tabulate``."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

Alignment: TypeAlias = Literal["left", "right"]
_LEAST_ROOM = 2
"""Blanks that each column has beside its header."""


def text_table(rows: Sequence[Sequence[str]], headers: Sequence[str], align: Sequence[Alignment]) -> str:
    """A table with a header, a line below it, and at least one row.

    Of ASCII it is laid out here, because importing ``tabulate`` takes longer than a video does; other letters may be
    two columns wide, which ``tabulate`` knows if ``wcwidth`` is installed.

    Args:
        rows: cells on one line each, without blanks at their ends.
        headers: of the columns.
        align: of the columns.
    """
    if not all(cell.isascii() for row in rows for cell in row):
        from tabulate import tabulate

        return tabulate(rows, headers, disable_numparse=True, colalign=align)
    columns = zip(headers, *rows, strict=True)
    widths = [max(len(header) + _LEAST_ROOM, *map(len, cells)) for header, *cells in columns]
    lines = [headers, ["-" * width for width in widths], *rows]
    return "\n".join(_line(cells, widths, align) for cells in lines)


def _line(cells: Sequence[str], widths: Sequence[int], align: Sequence[Alignment]) -> str:
    padded = [
        cell.ljust(width) if side == "left" else cell.rjust(width)
        for cell, width, side in zip(cells, widths, align, strict=True)
    ]
    return "  ".join(padded).rstrip()
