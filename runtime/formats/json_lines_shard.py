"""Reading the JSON lines of a shard: a line for each video, and a last one that says that they are all."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.results import read_detection
from stale_runtime.formats.result_rows import FAILED, FailedVideo, VideoResult, read_result_row, read_video_row
from stale_runtime.formats.shard_end import START, ShardEnd
from stale_runtime.system.files import (
    JSON_GROWTH,
    MEGABYTE,
    open_without_blocking,
    parse_json,
    reason,
    refuse_irregular,
)
from stale_runtime.system.memory import require_memory

LONGEST_LINE = 512 * MEGABYTE
"""Bytes; millions of detections of a long video."""
_STEP = MEGABYTE
"""Bytes that are read at once while the last line is looked for."""


@dataclass(frozen=True, kw_only=True)
class JsonLinesShard:
    """The file of a shard, of which so far only the end was read."""

    path: Path
    end: ShardEnd | None
    """None if the last line is not that of a complete shard."""
    failed: tuple[FailedVideo, ...]
    size: int
    """Bytes of the lines before the last one."""

    @classmethod
    def open(cls, path: Path) -> "JsonLinesShard":
        """Read the last line of a file.

        Raises:
            DatasetError: it cannot be read.
        """
        with _opened(path) as file:
            start = _start_of_last_line(file, path)
            file.seek(start)
            last = file.read(LONGEST_LINE)
        if not last.startswith(START) or not last.endswith(b"\n"):
            return cls(path=path, end=None, failed=(), size=0)
        content = _parse(last, str(path))
        rows = content.get("failed")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DatasetError(f"{path}: its last line has no list of videos that failed")
        failed = [read_result_row({**row, "status": FAILED}, str(path)) for row in rows]
        return cls(
            path=path,
            end=ShardEnd.read(content, str(path)),
            failed=tuple(row for row in failed if isinstance(row, FailedVideo)),
            size=start,
        )

    @property
    def settings(self) -> str | None:
        """The settings of the run, as ``settings_text`` has them; None if they are not known."""
        return None if self.end is None else self.end.settings_text

    def results(self) -> Iterator[VideoResult]:
        """Read all lines, and at last the videos that failed.

        Raises:
            DatasetError: a line is not what ``stale-run`` writes.
        """
        left, number = self.size, 0
        with _opened(self.path) as file:
            while left > 0 and (line := file.readline(min(left, LONGEST_LINE))):
                left, number = left - len(line), number + 1
                yield _read_line(line, f"{self.path}, line {number:,}")
        yield from self.failed


def _opened(path: Path) -> BinaryIO:
    try:
        file = open(path, "rb", opener=open_without_blocking)  # noqa: SIM115 -- the caller closes it
    except OSError as problem:
        raise DatasetError(f"{path}: {reason(problem)}") from problem
    try:
        refuse_irregular(file.fileno(), path, DatasetError)
    except BaseException:
        file.close()
        raise
    return file


def _start_of_last_line(file: BinaryIO, path: Path) -> int:
    """Where the last line begins, in bytes."""
    end = file.seek(0, os.SEEK_END)
    position = max(0, end - 1)  # the line's own end does not count
    while position:
        start = max(0, position - _STEP)
        if end - start > LONGEST_LINE:
            raise DatasetError(f"{path}: a last line of more than {LONGEST_LINE:,} bytes, expected that of a shard")
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _read_line(line: bytes, place: str) -> VideoResult:
    content = _parse(line, place)
    rows = content.get("detections")
    if not isinstance(rows, list):
        raise DatasetError(f"{place}: no list of detections, expected what stale-run --format jsonl writes")
    return read_video_row({"recomputed": 0, **content}, [read_detection(row, place) for row in rows], place)


def _parse(line: bytes, place: str) -> dict[str, Any]:
    if len(line) > MEGABYTE:
        require_memory(JSON_GROWTH * len(line), place, "use a machine with more")
    try:
        text = line.decode()
    except UnicodeDecodeError as problem:
        raise DatasetError(f"{place}: not UTF-8 text, expected what stale-run --format jsonl writes") from problem
    content = parse_json(text, place, error=DatasetError)
    if not isinstance(content, dict):
        raise DatasetError(f"{place}: not a JSON object, expected what stale-run --format jsonl writes")
    return content
