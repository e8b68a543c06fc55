"""Detections as a table to read, and as subtitles."""

from collections.abc import Sequence

from stale_runtime.detections import FRACTION, Detection, VideoDetections
from stale_runtime.evaluation.results import unit_of
from stale_runtime.system.text import one_line

_FRACTION_NOTE = "Times are fractions of the video; give --duration, --fps with --stride, or --durations for seconds."


def detections_table(videos: Sequence[VideoDetections], *, top: int) -> str:
    """A table of the best detections of each video, with a note on how many are left out.

    Args:
        videos: detections, best first.
        top: rows for each video.
    """
    from tabulate import tabulate  # only tables need it

    in_fractions = unit_of(videos) == FRACTION
    rows = [
        (
            one_line(video.video),
            row.label,
            *(_format_time(t, in_fractions) for t in (row.start, row.end)),
            f"{row.score:.4f}",
        )
        for video in videos
        for row in video.top(top)
    ]
    headers = ("video", "label", "start", "end", "score")
    align = ("left", "left", "right", "right", "right")
    lines = ["No actions found."]
    if rows:
        lines = [tabulate(rows, headers, disable_numparse=True, colalign=align)]
    if in_fractions and rows:
        lines.append(_FRACTION_NOTE)
    left_out = sum(map(len, videos)) - len(rows)
    if left_out:
        lines.append(f"{left_out} weaker detections are not shown; --top N shows more, --format json all.")
    return "\n".join(lines) + "\n"


def detections_srt(video: VideoDetections) -> str:
    """SubRip subtitles that show the label of each action while it lasts, in order of time.

    Args:
        video: detections in seconds.
    """
    rows = sorted(video, key=lambda row: (row.start, row.end))
    return "\n".join(_cue(number, row) for number, row in enumerate(rows, start=1))


def _cue(number: int, row: Detection) -> str:
    return f"{number}\n{_timestamp(row.start, ',')} --> {_timestamp(row.end, ',')}\n{row.label} ({row.score:.2f})\n"


def _format_time(t: float, in_fractions: bool) -> str:
    return f"{t:.3f}" if in_fractions else _timestamp(t, ".")


def _timestamp(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
