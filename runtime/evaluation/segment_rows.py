"""Times of segments in untrusted files."""

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from stale_runtime.errors import DatasetError
from stale_runtime.inputs.timeline import LONGEST_S

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_label(row: Any, place: str, what: str) -> str:
    """A row's ``label``.

    Args:
        row: what should be an object.
        place: where it is, for messages.
        what: what the row is, for messages.

    Raises:
        DatasetError: it is no object, or its label is not text.
    """
    if not isinstance(row, dict) or "label" not in row:
        shown = reprlib.repr(row)[:60]
        raise DatasetError(f"{place}: {what} {shown}, expected an object with a 'label' and a 'segment'")
    label = row["label"]
    if type(label) in (int, float):
        raise DatasetError(
            f"{place}: {what} with label {str(label)[:20]}, expected the name of a class, not its number"
        )
    if not isinstance(label, str):
        raise DatasetError(f"{place}: {what} with label {reprlib.repr(label)[:60]}, expected the name of a class")
    return label


def read_segment(row: Mapping[str, Any], place: str) -> tuple[float, float]:
    """Start and end of a row's ``segment``.

    Raises:
        DatasetError: it is not two numbers in order, at most ``LONGEST_S``. Text such as ``"18.6"`` is a number.
    """
    segment = row.get("segment")
    times = [as_number(x) for x in segment] if isinstance(segment, list) else []
    if len(times) != 2 or times[0] is None or times[1] is None:
        raise DatasetError(f"{place}: segment {reprlib.repr(segment)[:60]}, expected [start, end]")
    return check_segment(times[0], times[1], place)


def check_segment(start: float, end: float, place: str) -> tuple[float, float]:
    """Make sure that two times are in order, and at most ``LONGEST_S``.

    Raises:
        DatasetError: they are not.
    """
    if max(abs(start), abs(end)) > LONGEST_S:
        raise DatasetError(f"{place}: segment [{start}, {end}], expected times of at most {LONGEST_S:.0e}")
    if end < start:
        raise DatasetError(f"{place}: segment [{start}, {end}] ends before it starts")
    return start, end


def as_number(value: Any) -> float | None:
    """A number, or text that is one in decimal digits, as a float; None for anything else, such as ``"nan"``."""
    if type(value) in (int, float):
        return float(value)
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else None
