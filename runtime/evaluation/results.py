"""Detections of many videos in ActivityNet's results format, written and read."""

import json
import math
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from stale_runtime.detections import SECONDS, Detection, VideoDetections, json_rows, unit_of
from stale_runtime.errors import DatasetError
from stale_runtime.evaluation.segment_rows import as_number, read_label, read_segment
from stale_runtime.evaluation.thumos14 import read_text_detections
from stale_runtime.inputs.videos import LARGEST_FILE, MOST_VIDEOS, check_count, video_id
from stale_runtime.system.files import read_json

MOST_DETECTIONS = 5_000_000
"""Most detections in a file: 100 for each of 50,000 videos."""

_RowsByName: TypeAlias = Iterable[tuple[str, Sequence[Detection]]]


def results_json(
    videos: Sequence[VideoDetections], *, version: str, external: str | None, run: Mapping[str, Any]
) -> str:
    """Write detections in ActivityNet's results format, together with the unit of the segments.

    Args:
        videos: detections of each video.
        version: program and version that made them.
        external: the external data that labels came from; None if there is none.
        run: how the detections were made; copied into the file.
    """
    members = map(results_member, videos)
    return "".join(join_results(members, version=version, external=external, unit=unit_of(videos), run=run))


def results_member(video: VideoDetections) -> str:
    """What ``results_json`` writes of one video."""
    return f"{_as_json(video.video)}: {_as_json(json_rows(video))}"


def join_results(
    members: Iterable[str], *, version: str, external: str | None, unit: str, run: Mapping[str, Any]
) -> Iterator[str]:
    """Like ``results_json``, piece by piece, for more videos than fit into memory.

    Args:
        members: what ``results_member`` returned for each video.
        version: as for ``results_json``, like ``external`` and ``run``.
        external: see above.
        unit: of all segments.
        run: see above.
    """
    yield f'{{"version": {_as_json(version)}, "results": {{'
    for n, member in enumerate(members):
        yield f", {member}" if n else member
    external_data = {"used": external is not None, "details": external or ""}
    rest = _as_json({"external_data": external_data, "unit": unit, "run": dict(run)})
    yield f"}}, {rest[1:]}\n"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class ResultsFile:
    """The detections in a file."""

    videos: Mapping[str, Sequence[Detection]]
    """By video id, in the order of the file."""
    unit: str
    """``SECONDS`` unless the file says otherwise."""
    swapped: int = 0
    """Number of detections whose start and end were swapped, because the end came first; see ``read_results``."""


def read_results(path: str | os.PathLike[str], *, class_numbers: Mapping[int, str] | None = None) -> ResultsFile:
    """Read detections in ActivityNet's results format, or in THUMOS14's text form, whatever program wrote them.

    Args:
        path: a JSON file, or a ``.txt`` file with lines of ``VIDEO START END CLASS_NUMBER CONFIDENCE``, in which start
            and end may be in either order.
        class_numbers: class names by number, which only the text form needs; see ``read_class_numbers``.

    Raises:
        DatasetError: the file does not have this format, or it is text and the class names are not given.
    """
    path = Path(path)
    videos: dict[str, Sequence[Detection]] = {}
    is_text = path.suffix.lower() == ".txt"
    unit, rows_by_name, swapped = _text_rows(path, class_numbers) if is_text else _json_rows(path)
    for name, rows in rows_by_name:
        if video_id(name) in videos:
            raise DatasetError(f"{path}: video {name[:60]!r} is listed twice, with and without v_; remove one of them")
        videos[video_id(name)] = rows
    return ResultsFile(videos=videos, unit=unit, swapped=swapped)


def _text_rows(path: Path, class_numbers: Mapping[int, str] | None) -> tuple[str, _RowsByName, int]:
    if class_numbers is None:
        raise DatasetError(f"{path}: its classes are numbers; give --class-numbers FILE, such as detclasslist.txt")
    videos, swapped = read_text_detections(path, class_numbers, most=MOST_DETECTIONS)
    return SECONDS, videos.items(), swapped


def _json_rows(path: Path) -> tuple[str, _RowsByName, int]:
    content = read_json(path, limit=LARGEST_FILE, error=DatasetError)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise DatasetError(f"{path}: no 'results', expected detections in ActivityNet's JSON format")
    check_count(len(results), MOST_VIDEOS, "videos", path)
    return str(content.get("unit", SECONDS)), _detections(results, path), 0


def _detections(results: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Sequence[Detection]]]:
    count = 0
    for name, rows in results.items():
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: video {name[:60]!r}, expected a list of detections")
        count += len(rows)
        check_count(count, MOST_DETECTIONS, "detections or more", path)
        yield name, [read_detection(row, f"{path}: video {name[:60]!r}") for row in rows]


def read_detection(row: Any, place: str) -> Detection:
    """A detection in ActivityNet's results format.

    Args:
        row: what should be an object with ``label``, ``segment`` and ``score``.
        place: where it is, for messages.

    Raises:
        DatasetError: it is something else.
    """
    label = read_label(row, place, "detection")
    if "score" not in row:
        raise DatasetError(f"{place}: detection {reprlib.repr(row)[:80]} without a 'score', expected a number")
    score = as_number(row["score"])
    if score is None or not math.isfinite(score):
        raise DatasetError(f"{place}: detection with score {reprlib.repr(row['score'])[:40]}, expected a number")
    return Detection(label, *read_segment(row, place), score)
