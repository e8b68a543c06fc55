"""Detections of many videos in ActivityNet's results format, written and read."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_runtime.detections import FRACTION, SECONDS, Detection, VideoDetections, json_rows
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.ground_truth import read_segment
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_json

MOST_DETECTIONS = 5_000_000
"""Of all videos of a file, as many as 50,000 videos have at most."""


def unit_of(videos: Sequence[VideoDetections]) -> str:
    """What the segments of these videos are measured in.

    Raises:
        ValueError: the duration of some is known, that of others is not.
    """
    units = {video.unit for video in videos}
    if len(units) > 1:
        raise ValueError("some videos are in seconds and some in fractions, expected the same for all")
    return FRACTION if units == {FRACTION} else SECONDS


def results_json(
    videos: Sequence[VideoDetections], *, version: str, external: str | None, run: Mapping[str, Any]
) -> str:
    """ActivityNet's results format.

    Args:
        videos: detections; an ``unit`` beside the results says what their segments are measured in.
        version: who made them.
        external: the external data that labels came from, if any.
        run: how they were made; kept as it is.
    """
    content = {
        "version": version,
        "results": {video.video: json_rows(video) for video in videos},
        "external_data": {"used": external is not None, "details": external or ""},
        "unit": unit_of(videos),
        "run": dict(run),
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Results:
    """Detections as a file holds them."""

    videos: Mapping[str, Sequence[Detection]]
    """By video id, in the order of the file."""
    unit: str
    """``SECONDS`` unless the file says otherwise."""


def read_results(path: str | os.PathLike[str]) -> Results:
    """Read detections in ActivityNet's results format, ours or anybody's.

    Raises:
        DatasetError: the file is not like that.
    """
    path = Path(path)
    content = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise DatasetError(f"{path}: no 'results', expected detections in ActivityNet's JSON format")
    check_count(len(results), MOST_VIDEOS, "videos", path)
    videos: dict[str, Sequence[Detection]] = {}
    count = 0
    for name, rows in results.items():
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: video {name[:60]!r}, expected a list of detections")
        count += len(rows)
        check_count(count, MOST_DETECTIONS, "detections and more", path)
        if video_id(name) in videos:
            raise DatasetError(f"{path}: video {name[:60]!r} is there twice, with and without v_; remove one")
        videos[video_id(name)] = [_detection(row, f"{path}: video {name[:60]!r}") for row in rows]
    return Results(videos=videos, unit=str(content.get("unit", SECONDS)))


def _detection(row: Any, place: str) -> Detection:
    if not isinstance(row, dict) or not isinstance(row.get("label"), str) or type(row.get("score")) not in (int, float):
        raise DatasetError(f"{place}: detection {str(row)[:80]}, expected 'label', 'score' and 'segment'")
    return Detection(row["label"], *read_segment(row, place), float(row["score"]))
