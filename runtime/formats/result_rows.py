"""The result of a video as one record of plain values: a row of a Parquet file, or of what Ray hands on.

Every video of a run has one, also a video that failed: then ``error`` and ``message`` say why.
"""

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypedDict

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.errors import DatasetError, StaleError
from stale_runtime.evaluation.segment_rows import check_segment
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.timeline import LONGEST_S
from stale_runtime.inputs.videos import video_id
from stale_runtime.system.text import as_text

OK: Final = "ok"
FAILED: Final = "failed"
LONGEST_ID: Final = 4096
"""Characters of a video id; a file's name has at most 255 bytes."""
LONGEST_MESSAGE: Final = 10_000
"""Characters that are kept of why a video failed."""
_RUN_DETAILS: Final = (
    *("bundle_sha256", "backend", "length", "window", "most_detections", "classes", "decoder", "split_names"),
    "external_mode",
)
_LARGEST_COUNT: Final = 2**31 - 1
"""Snippets of a window, or how often something was recomputed."""


class DetectionRow(TypedDict):
    """One action, like ``Detection``."""

    label: str
    start: float
    end: float
    score: float


class ResultRow(TypedDict):
    """What became of one video."""

    video: str
    """Video id, without ActivityNet's ``v_`` prefix."""
    status: str
    """``ok`` or ``failed``."""
    error: str | None
    """Name of the error's class, such as FeatureError; None if the video did not fail."""
    message: str | None
    """Why it failed."""
    duration_s: float | None
    """Seconds; None if unknown, and then ``start`` and ``end`` are fractions of the video."""
    window: int | None
    """As in ``VideoDetections``."""
    recomputed: int
    """As in ``VideoDetections``."""
    detections: list[DetectionRow]
    """Best score first; empty if the video failed."""
    settings: str
    """What the run's detections depend on, see ``settings_text``; the same for all rows of a run."""


class FailedVideo(NamedTuple):
    """A video that has no detections, and why."""

    video: str
    error: str
    """Name of the error's class."""
    message: str


VideoResult: TypeAlias = VideoDetections | FailedVideo


def settings_text(settings: Mapping[str, Any]) -> str:
    """The settings of a run as JSON, so that equal settings are equal text.

    Args:
        settings: JSON values by name, such as ``BatchRun.journal_settings()``.
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def result_row(outcome: Outcome, settings: str) -> ResultRow:
    """What became of one video, as a record.

    Args:
        outcome: its detections, or its error.
        settings: what ``settings_text`` returned.
    """
    return row_of_result(video_result(outcome), settings)


def video_result(outcome: Outcome) -> VideoResult:
    """The detections of a video, or what is known of its failure."""
    return outcome.result() if outcome.error is None else failed_video(outcome.path, outcome.error)


def failed_video(path: Path, error: StaleError) -> FailedVideo:
    """What is known of a video that failed, given its file."""
    message = as_text(str(error))[:LONGEST_MESSAGE]
    return FailedVideo(video_id(path.stem), type(error).__name__, message)


def run_details(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a results file says of the run, always in the same order."""
    return {name: settings[name] for name in _RUN_DETAILS if name in settings}


def row_of_result(result: VideoResult, settings: str) -> ResultRow:
    """Like ``result_row``, of a video whose file is not known any more."""
    failed = result if isinstance(result, FailedVideo) else None
    found = None if isinstance(result, FailedVideo) else result
    return {
        "video": result.video,
        "status": OK if failed is None else FAILED,
        "error": None if failed is None else failed.error,
        "message": None if failed is None else failed.message,
        "duration_s": None if found is None else found.duration_s,
        "window": None if found is None else found.window,
        "recomputed": 0 if found is None else found.recomputed,
        "detections": [] if found is None else [_detection_row(row) for row in found],
        "settings": settings,
    }


def read_result_row(row: Mapping[str, Any], place: str) -> VideoResult:
    """Read a record that anybody may have written. Its ``settings`` are left to the caller.

    Args:
        row: the record; every field of ``ResultRow`` but ``settings`` is looked at.
        place: where it is, for messages.

    Raises:
        DatasetError: a field is missing, or has a value that no run writes.
    """
    video = check_video_id(row.get("video"), place)
    place = f"{place}: video {video[:60]!r}"
    status = row.get("status")
    if status == FAILED:
        error, message = (_text(row, name, LONGEST_MESSAGE, place) for name in ("error", "message"))
        return FailedVideo(video, error, message)
    if status != OK:
        raise DatasetError(f"{place}: status {reprlib.repr(status)[:40]}, expected {OK} or {FAILED}")
    rows = row.get("detections")
    if not isinstance(rows, list):
        raise DatasetError(f"{place}: detections {reprlib.repr(rows)[:40]}, expected a list")
    return read_video_row(row, [_read_detection(detection, place) for detection in rows], place)


def read_video_row(row: Mapping[str, Any], detections: Iterable[Detection], place: str) -> VideoDetections:
    """What a record says of a video beside its detections, which were checked before.

    Args:
        row: as for ``read_result_row``, without ``status``.
        detections: of the video.
        place: where it is, for messages.

    Raises:
        DatasetError: a field is missing, or has a value that no run writes.
    """
    return VideoDetections(
        video=check_video_id(row.get("video"), place),
        duration_s=check_duration(row.get("duration_s"), place),
        detections=tuple(detections),
        window=None if row.get("window") is None else _count(row, "window", 1, place),
        recomputed=_count(row, "recomputed", 0, place),
    )


def check_video_id(value: Any, place: str) -> str:
    """A video id from an untrusted file.

    Raises:
        DatasetError: it is not text, or longer than ``LONGEST_ID``.
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID or not _is_valid(value):
        shown = reprlib.repr(value)[:60]
        raise DatasetError(f"{place}: video {shown}, expected an id of 1 to {LONGEST_ID:,} characters")
    return value


def check_duration(value: Any, place: str) -> float | None:
    """Seconds that a video lasts, from an untrusted file; None if they are unknown.

    Raises:
        DatasetError: it is not a positive number of at most ``LONGEST_S``.
    """
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value <= LONGEST_S:
        shown = reprlib.repr(value)[:40]
        raise DatasetError(f"{place}: duration_s {shown}, expected a number of seconds up to {LONGEST_S:.0e}, or null")
    return float(value)


def _detection_row(row: Detection) -> DetectionRow:
    return {"label": row.label, "start": float(row.start), "end": float(row.end), "score": float(row.score)}


def _read_detection(row: Any, place: str) -> Detection:
    try:
        label, numbers = row["label"], (row["start"], row["end"], row["score"])
    except (TypeError, KeyError, IndexError):
        shown = reprlib.repr(row)[:60]
        raise DatasetError(f"{place}: detection {shown}, expected label, start, end and score") from None
    if not isinstance(label, str) or not _is_valid(label):
        raise DatasetError(f"{place}: detection with label {reprlib.repr(label)[:60]}, expected the name of a class")
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise DatasetError(f"{place}: detection {reprlib.repr(row)[:80]}, expected finite numbers")
    start, end, score = map(float, numbers)
    return Detection(label, *check_segment(start, end, place), score)


def _text(row: Mapping[str, Any], name: str, longest: int, place: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not _is_valid(value):
        raise DatasetError(f"{place}: {name} {reprlib.repr(value)[:40]}, expected text of 1 to {longest:,} characters")
    return value


def _count(row: Mapping[str, Any], name: str, least: int, place: str) -> int:
    value = row.get(name)
    if type(value) is not int or not least <= value <= _LARGEST_COUNT:
        raise DatasetError(f"{place}: {name} {reprlib.repr(value)[:40]}, expected a whole number from {least} on")
    return value


def _is_valid(text: str) -> bool:
    """Whether text can be written as UTF-8; JSON may contain halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
