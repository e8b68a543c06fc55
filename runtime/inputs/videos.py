"""Video ids, what a video file is called, and files of the durations of videos."""

import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stale_runtime.errors import DatasetError
from stale_runtime.inputs.remote_files import Source
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.system.files import MEGABYTE, read_json, read_text
from stale_runtime.system.text import as_text

LARGEST_FILE = 512 * MEGABYTE
MOST_VIDEOS = 1_000_000
"""Most videos that any file may list."""

VIDEO_PREFIX = "v_"
"""What the names of ActivityNet's files begin with, and their ids do not."""
VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
)
"""How the names of video files end, in lower case."""
VIDEO_COLUMNS = ("videoid", "videoname", "id", "name", "file", "filename", "youtubeid", "vid")
"""Other names of the column of a table that has the ids of videos, in small letters and without blanks."""
SECONDS_COLUMNS = (
    *("second", "secs", "sec", "s", "durationseconds", "durationsecond", "durationsecs", "durationsec", "durations"),
    *("duration", "lengthseconds", "lengthsec"),
)
"""Other names of the column that has their durations in seconds."""


def is_video(path: Source) -> bool:
    """Whether a file's name is that of a video, in small or capital letters."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def video_id(name: str) -> str:
    """The id of a video, from a file's stem or an annotation's key: ActivityNet's ``v_`` prefix is optional.

    A name that is nothing but the prefix stays as it is. Bytes of a file name that are not UTF-8 are replaced by
    hexadecimal escapes, so that every id is valid text.
    """
    return as_text(name.removeprefix(VIDEO_PREFIX) or name)


def check_count(count: int, most: int, what: str, path: Path) -> None:
    """Make sure that a file does not list too many items.

    Raises:
        DatasetError: it does.
    """
    if count > most:
        raise DatasetError(f"{path}: {count:,} {what}, expected at most {most:,}; split the file")


def read_durations(path: Path) -> dict[str, float]:
    """Read the durations of videos.

    Args:
        path: a JSON file in ActivityNet's format (``database``) or the original code's (``v_...`` keys with
            ``duration_second``), or a table of ``video,seconds`` with or without a header, separated by commas,
            semicolons, tabs or blanks. What begins with a brace or bracket, or is called ``.json``, is JSON.

    Returns:
        Seconds by video id.

    Raises:
        DatasetError: the file has neither format, or a duration is not a positive number.
    """
    rows = _json_durations(path) if _is_json(path) else _table_durations(path)
    durations: dict[str, float] = {}
    for place, name, value in rows:
        seconds = _seconds(value)
        shown = str(value if isinstance(value, str) else reprlib.repr(value))[:40]
        if not name.strip():
            raise DatasetError(f"{place}: a duration of {shown}, expected the id of its video before it")
        if seconds is None:
            wanted = f"expected a positive number of seconds, at most {LONGEST_S:.0e}"
            if isinstance(value, str) and "," in value:
                wanted = "whose comma may separate decimals or thousands; write it with a decimal point, or without"
            raise DatasetError(f"{place}: duration {shown!r}, {wanted}")
        if durations.setdefault(video_id(name), seconds) != seconds:
            raise DatasetError(
                f"{place}: {name} has two durations, {durations[video_id(name)]} and {seconds}; remove one"
            )
    return durations


def _is_json(path: Path) -> bool:
    if path.suffix.lower() == ".json":
        return True
    return read_text(path, limit=LARGEST_FILE, error=DatasetError).lstrip()[:1] in ("{", "[")


def _json_durations(path: Path) -> Iterator[tuple[str, str, Any]]:
    content = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    database = content.get("database", content) if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise DatasetError(
            f"{path}: no videos, expected ActivityNet's JSON format with a 'database', or a CSV file of video,seconds"
        )
    check_count(len(database), MOST_VIDEOS, "videos", path)
    for name, video in database.items():
        if not isinstance(video, Mapping) or not {"duration", "duration_second"} & video.keys():
            raise DatasetError(f"{path}: video {name[:60]!r} has no 'duration', expected ActivityNet's JSON format")
        yield f"{path}, video {name[:60]}", name, video.get("duration", video.get("duration_second"))


def _table_durations(path: Path) -> Iterator[tuple[str, str, Any]]:
    from stale_runtime.inputs.delimited_table import read_table, with_decimal_points  # only tables need it

    columns = {"video": VIDEO_COLUMNS, "seconds": SECONDS_COLUMNS}
    rows = read_table(path, columns, limit=LARGEST_FILE, most=MOST_VIDEOS, headless=True)
    seconds = with_decimal_points([row.cells[1] for row in rows])
    for (place, (name, _)), value in zip(rows, seconds, strict=True):
        yield place, name, value


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= LONGEST_S else None
