"""Subsets of videos, for annotation files that have none: the original code's ``video_info_new.csv``."""

import os
from dataclasses import dataclass
from pathlib import Path

from stale_runtime.errors import DatasetError
from stale_runtime.inputs.delimited_table import read_table, with_decimal_points
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, SECONDS_COLUMNS, VIDEO_COLUMNS, video_id
from stale_runtime.system.text import has_unusable_characters

_COLUMNS = {"video": VIDEO_COLUMNS, "subset": ("split",), "seconds": SECONDS_COLUMNS}


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file of video information says of one video."""

    subset: str
    """Such as ``training``, ``validation`` or ``testing``."""
    duration_s: float
    """Seconds, positive."""


def read_video_info(path: str | os.PathLike[str]) -> dict[str, VideoInfo]:
    """Read the subset and duration of videos from a CSV file with the columns ``video``, ``subset`` and ``seconds``.

    The columns are found by the names in the first line, or by others such as ``id`` and ``duration``; further columns
    are ignored. Semicolons or tabs may separate them. The authors' repository has such a file,
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
    rows = read_table(path, _COLUMNS, limit=LARGEST_FILE, most=MOST_VIDEOS, headless=False)
    durations = with_decimal_points([row.cells[2] for row in rows])
    for (place, (video, subset, _)), seconds in zip(rows, durations, strict=True):
        if not video_id(video) or not subset or has_unusable_characters(video + subset):
            raise DatasetError(f"{place}: video {video[:60]!r}, subset {subset[:40]!r}, expected two names")
        info = VideoInfo(subset=subset, duration_s=_duration(seconds, place))
        if found.setdefault(video_id(video), info) != info:
            raise DatasetError(f"{place}: video {video[:60]!r} is listed twice, with different values; remove one line")
    if not found:
        raise DatasetError(f"{path}: no videos, expected one line for each below the header")
    return found


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
