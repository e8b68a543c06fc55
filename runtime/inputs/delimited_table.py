"""Tables in text files whatever separates their columns: commas, semicolons, tabs or blanks."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stale_runtime.errors import DatasetError
from stale_runtime.system.files import read_text

_SEPARATORS = "\t;, "
"""In the order in which they are tried: the first that is in the first line separates all columns."""
_QUOTED = re.compile(r'"[^"]*"')
_DECIMAL_COMMA = re.compile(r"\d+,(\d{1,2}|\d{4,})|0,\d+")
"""A number whose comma cannot separate thousands."""
_TWO_READINGS = re.compile(r"\S+\s+\d+,\d+\s*")
"""A video and a number with a decimal comma, or a video with a blank in its name and a number."""


class TableRow(NamedTuple):
    """One line of a table."""

    place: str
    """File and line, for messages."""
    cells: tuple[str, ...]
    """The columns that were asked for, without blanks around them."""


def read_table(
    path: Path, columns: Mapping[str, Sequence[str]], *, limit: int, most: int, headless: bool
) -> list[TableRow]:
    """Read some columns of a table.

    Args:
        path: the file.
        columns: other names of each column, in small letters and without anything between words, by its own name. Of
            several columns that are there, the one whose name comes first is taken.
        limit: most bytes.
        most: most lines, without the header.
        headless: whether the first line need not be a header, if each line has these columns and no others.

    Returns:
        The lines that are not blank, with the columns in the order of ``columns``.

    Raises:
        DatasetError: it cannot be read, is no such table, or is too long.
    """
    text = read_text(path, limit=limit, error=DatasetError)
    lines = max(map(text.count, "\n\r")) + (not text.endswith(("\n", "\r")))
    if lines > most + 1:  # before the parser takes memory for them
        raise DatasetError(f"{path}: {lines:,} lines, expected at most {most + 1:,}; split the file")
    rows = _cut(path, text)
    place, first = next(rows, ("", []))
    if headless and any(map(_is_number, first)):
        _refuse_two_readings(path, text, place)
        return [_pick_headless(place, row, tuple(columns)) for place, row in ((place, first), *rows)]
    found = _find_columns(first, columns)
    if missing := [name for name in columns if name not in found]:
        wanted = f"expected a header such as {','.join(columns)}"
        if headless:
            wanted += f", or lines of {','.join(columns)}"
        shown = f", found {', '.join(map(repr, first))[:80]}" if first else ""
        raise DatasetError(f"{path}: no column {', '.join(missing)} in the first line{shown}; {wanted}")
    return [_pick(place, row, len(first), tuple(found[name] for name in columns)) for place, row in rows]


def with_decimal_points(numbers: Sequence[str]) -> Sequence[str]:
    """Replace decimal commas by points, if some of the numbers cannot be meant otherwise; ``1,234`` could be."""
    if not any(map(_DECIMAL_COMMA.fullmatch, numbers)):
        return numbers
    return [text.replace(",", ".") if re.fullmatch(r"\d+,\d+", text) else text for text in numbers]


def _cut(path: Path, text: str) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of each line that is not blank."""
    first = _QUOTED.sub("", next((line for line in text.splitlines() if line.strip()), "").strip())
    separator = next((mark for mark in _SEPARATORS if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1] and len(cells) > 1:
                cells.pop()  # as spreadsheets write them
            if any(cells):
                yield f"{path}, line {reader.line_num}", cells
    except csv.Error as problem:
        raise DatasetError(f"{path}, line {reader.line_num}: {problem}; save it as CSV") from problem


def _find_columns(header: Sequence[str], columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    plain = [re.sub("[^a-z0-9]", "", cell.casefold()) for cell in header]
    found = {}
    for name, others in columns.items():
        for known in (name, *others):
            if known in plain:
                found[name] = plain.index(known)
                break
    return found


def _refuse_two_readings(path: Path, text: str, place: str) -> None:
    line = text.strip().splitlines()[0]
    if path.suffix.lower() != ".csv" and _TWO_READINGS.fullmatch(line):
        raise DatasetError(
            f"{place}: {line[:60]!r} may end in a decimal comma or be of two columns; write numbers with a point"
        )


def _pick_headless(place: str, row: Sequence[str], columns: Sequence[str]) -> TableRow:
    if len(row) != len(columns):
        numbers = {1: "one", 2: "two", 3: "three"}
        count = f"{len(row)} column{'' if len(row) == 1 else 's'}"
        more = ", or a first line that names the columns" if len(row) > len(columns) else ""
        raise DatasetError(
            f"{place}: {count}, expected {numbers.get(len(columns), len(columns))}: {','.join(columns)}{more}"
        )
    return TableRow(place, tuple(row))


def _pick(place: str, row: Sequence[str], width: int, columns: Sequence[int]) -> TableRow:
    if not max(columns) < len(row) <= width:
        raise DatasetError(f"{place}: {len(row)} columns, expected {width} as in the first line")
    return TableRow(place, tuple(row[column] for column in columns))


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True
