"""Subsets of videos, for annotation files that have none: the original code's ``video_info_new.csv``."""

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stale_runtime.errors import DatasetError
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_text
from stale_runtime.system.text import has_unusable_characters

_COLUMNS = ("video", "subset", "seconds")


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file of video information says of one video."""

    subset: str
    """Such as ``training``, ``validation`` or ``testing``."""
    duration_s: float
    """Seconds, positive."""


def read_video_info(path: str | os.PathLike[str]) -> dict[str, VideoInfo]:
    """Read the subset and duration of videos from a CSV file with the columns ``video``, ``subset`` and ``seconds``.

    The columns are found by the names in the first line; others are ignored. The authors' repository has such a file,
    ``data/activitynet_annotations/video_info_new.csv``, with the columns
    ``video,numFrame,seconds,fps,rfps,subset,featureFrame``.

    Returns:
        By video id, in the order of the file.

    Raises:
        DatasetError: the file does not have these columns, a value cannot be used, or a video is listed twice with
            different values.

    Source: ``STALEDataset.get_video_info`` in the authors' ``stale_lib/stale_dataloader.py``.
    """
    path = Path(path)
    found: dict[str, VideoInfo] = {}
    for line, video, subset, seconds in _rows(path):
        place = f"{path}, line {line}"
        if not video_id(video) or not subset or has_unusable_characters(video + subset):
            raise DatasetError(f"{place}: video {video[:60]!r}, subset {subset[:40]!r}, expected two names")
        info = VideoInfo(subset=subset, duration_s=_duration(seconds, place))
        if found.setdefault(video_id(video), info) != info:
            raise DatasetError(f"{place}: video {video[:60]!r} is listed twice, with different values; remove one line")
    if not found:
        raise DatasetError(f"{path}: no videos, expected one line for each below the header")
    return found


def _rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line number, video, subset and seconds of each row."""
    text = read_text(path, limit=LARGEST_FILE, error=DatasetError)
    check_count(max(map(text.count, "\n\r")), MOST_VIDEOS + 1, "lines", path)  # before the parser takes memory for them
    reader = csv.reader(io.StringIO(text, newline=None), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in _COLUMNS if name not in header]
        if missing:
            raise DatasetError(
                f"{path}: no column {', '.join(missing)} in the first line, expected a header such as "
                "video,numFrame,seconds,fps,rfps,subset,featureFrame"
            )
        video, subset, seconds = (header.index(name) for name in _COLUMNS)
        for row in reader:
            check_count(reader.line_num, MOST_VIDEOS + 1, "lines", path)
            if not any(map(str.strip, row)):
                continue
            if len(row) != len(header):
                raise DatasetError(
                    f"{path}, line {reader.line_num}: {len(row)} columns, expected {len(header)} as in the first line"
                )
            yield reader.line_num, row[video].strip(), row[subset].strip(), row[seconds].strip()
    except csv.Error as problem:
        raise DatasetError(f"{path}, line {reader.line_num}: {problem}; save it as CSV") from problem


def _duration(text: str, place: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_S:
        raise DatasetError(
            f"{place}: {text[:40]!r} seconds, expected a positive number, at most {LONGEST_S:.0e}; correct the line"
        )
    return seconds
