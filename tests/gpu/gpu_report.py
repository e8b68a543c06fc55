"""The report of ``make gpu``: what each section checked and measured, as dataclasses and as versioned JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stale_runtime.errors import DatasetError
from stale_runtime.system.files import MEGABYTE, read_json
from stale_runtime.system.json_dataclasses import build

FORMAT_VERSION = 1
LARGEST_FILE = 16 * MEGABYTE
PASSED, FAILED, NOT_MEASURED = "passed", "failed", "not measured"

Cell = float | str | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """A measured number and the largest that is accepted."""

    what: str
    value: float | None
    """None for NaN or infinity, which JSON does not have."""
    limit: float

    @classmethod
    def at_most(cls, limit: float, what: str, value: float) -> "Check":
        """Check a number that may be NaN or infinite."""
        return cls(what=what, value=value if math.isfinite(value) else None, limit=limit)

    @property
    def passed(self) -> bool:
        """Whether the number is at most the limit."""
        return self.value is not None and self.value <= self.limit

    def __str__(self) -> str:
        value = "not finite" if self.value is None else f"{self.value:.3g}"
        return f"{self.what}: {value} (limit {self.limit:.3g})"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers with the format that they are printed in."""

    headers: tuple[str, ...]
    formats: tuple[str, ...]
    """A format of Python for the numbers of each column; empty for a column of text."""
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        widths = {len(self.headers), len(self.formats), *map(len, self.rows)}
        if len(widths) > 1:
            raise ValueError(f"rows, headers and formats of {sorted(widths)} columns, expected the same number")

    def texts(self) -> list[tuple[str, ...]]:
        """Headers and rows as text; what was not measured is empty."""

        def text(cell: Cell, form: str) -> str:
            return "" if cell is None else cell if isinstance(cell, str) else format(cell, form)

        return [self.headers, *(tuple(map(text, row, self.formats)) for row in self.rows)]

    def draw(self) -> list[str]:
        """Lines of a Markdown table; numbers are to the right."""
        cells = self.texts()
        widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
        left = [not form for form in self.formats]

        def line(row: tuple[str, ...]) -> str:
            columns = zip(row, widths, left, strict=True)
            return (
                "| " + " | ".join(c.ljust(width) if is_left else c.rjust(width) for c, width, is_left in columns) + " |"
            )

        rule = tuple(
            "-" * width if is_left else "-" * (width - 1) + ":" for width, is_left in zip(widths, left, strict=True)
        )
        return [line(cells[0]), line(rule), *map(line, cells[1:])]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a section found."""

    text: str
    """One or two sentences that say what was done."""
    table: Table | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SectionReport:
    """How a section ended."""

    name: str
    status: str
    reason: str | None
    """Why it failed or was not measured; None if it passed."""
    seconds: float
    findings: Findings | None

    def __post_init__(self) -> None:
        if self.status not in (PASSED, FAILED, NOT_MEASURED):
            raise ValueError(f"status {self.status!r}, expected {PASSED}, {FAILED} or {NOT_MEASURED}")


@dataclass(frozen=True, kw_only=True)
class GpuReport:
    """Everything that a run found, and where it ran."""

    format_version: int = FORMAT_VERSION
    created: str
    """Time in UTC, ISO 8601."""
    device: str
    """``cuda``, or ``cpu`` where it stood in for a GPU."""
    machine: Mapping[str, str]
    """The card, and the versions of everything below."""
    sections: tuple[SectionReport, ...] = field(default=())

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the sections that failed."""
        return tuple(section.name for section in self.sections if section.status == FAILED)

    def to_json(self) -> str:
        """Everything as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_gpu_report(path: Path) -> GpuReport:
    """Read what ``GpuReport.to_json`` wrote.

    Raises:
        DatasetError: it is another file, or damaged.
    """
    content = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
        raise DatasetError(f"{path}: not a report of this version of make gpu; run make gpu again")
    try:
        return build(GpuReport, content)
    except ValueError as problem:
        raise DatasetError(f"{path}: damaged ({problem}); run make gpu again") from problem
