"""Detections as a table to read."""

from stale_runtime.detections import FRACTION
from stale_runtime.formats.run_result import RunResult
from stale_runtime.formats.text_table import Alignment, text_table
from stale_runtime.formats.times import time_in_unit
from stale_runtime.system.text import one_line

TABLE_ROWS = 10
"""Rows a video, unless a run asks for another number."""
_FRACTION_NOTE = "Times are fractions of the video; give --duration, --fps with --stride, or --durations for seconds."


def detections_table(result: RunResult) -> str:
    """A table of the best detections of each video, with notes on those that are left out.

    With ground truth, it has beside each detection the marked action of its class that it overlaps most, and below the
    marked actions that were not found.
    """
    headers = ["video", "label", "start", "end", "score"]
    align: list[Alignment] = ["left", "left", "right", "right", "right"]
    marked = None
    if result.ground_truth is not None:
        from stale_runtime.formats.marked_columns import HEADERS, MarkedColumns  # only these tables need it

        marked = MarkedColumns(result.ground_truth, result.shown)
        headers += HEADERS
        align += ["right"] * len(HEADERS)
    rows = []
    for video in result.shown:
        best = video.top(result.top or TABLE_ROWS)
        beside = [()] * len(best) if marked is None else marked.cells(best)
        for row, cells in zip(best, beside, strict=True):
            times = (time_in_unit(t, video.unit) for t in (row.start, row.end))
            rows.append((one_line(video.video), one_line(row.label), *times, f"{row.score:.4f}", *cells))
    lines = [text_table(rows, headers, align) if rows else "No actions found."]
    if result.unit == FRACTION and rows:
        lines.append(_FRACTION_NOTE)
    left_out = sum(map(len, result.shown)) - len(rows)
    if left_out:
        lines.append(f"{left_out:,} weaker detections are not shown; --top N shows more, --format json all.")
    if result.below and result.min_score is not None:
        those = "1 detection scores" if result.below == 1 else f"{result.below:,} detections score"
        see = "it" if result.below == 1 else "them"
        lines.append(f"{those} below {result.min_score:.4g}; --min-score 0 shows {see} too.")
    if marked is not None:
        lines += marked.notes()
    return "\n".join(lines) + "\n"
