"""Detections as a table to read."""

from stale_runtime.detections import FRACTION
from stale_runtime.formats.run_result import RunResult
from stale_runtime.formats.times import clock_time
from stale_runtime.system.text import one_line

TABLE_ROWS = 10
"""Rows a video, unless a run asks for another number."""
_FRACTION_NOTE = "Times are fractions of the video; give --duration, --fps with --stride, or --durations for seconds."


def detections_table(result: RunResult) -> str:
    """A table of the best detections of each video, with notes on those that are left out."""
    from tabulate import tabulate  # only tables need it

    in_fractions = result.unit == FRACTION
    rows = [
        (
            one_line(video.video),
            one_line(row.label),
            *(f"{t:.3f}" if in_fractions else clock_time(t) for t in (row.start, row.end)),
            f"{row.score:.4f}",
        )
        for video in result.shown
        for row in video.top(result.top or TABLE_ROWS)
    ]
    headers = ("video", "label", "start", "end", "score")
    align = ("left", "left", "right", "right", "right")
    lines = [tabulate(rows, headers, disable_numparse=True, colalign=align) if rows else "No actions found."]
    if in_fractions and rows:
        lines.append(_FRACTION_NOTE)
    left_out = sum(map(len, result.shown)) - len(rows)
    if left_out:
        lines.append(f"{left_out:,} weaker detections are not shown; --top N shows more, --format json all.")
    if result.below and result.min_score is not None:
        those = "1 detection scores" if result.below == 1 else f"{result.below:,} detections score"
        see = "it" if result.below == 1 else "them"
        lines.append(f"{those} below {result.min_score:.4g}; --min-score 0 shows {see} too.")
    return "\n".join(lines) + "\n"
