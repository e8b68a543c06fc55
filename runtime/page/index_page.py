"""The index of many videos: a table that can be sorted, with a small timeline and a link for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stale_runtime.detections import VideoDetections
from stale_runtime.page.html_document import html_document, read_asset
from stale_runtime.page.video_page import PageSettings
from stale_runtime.system.text import one_line

_BINS = 60
"""Of a small timeline."""
_CLASSES = 3
"""Best classes of a video that a row names."""
_LONGEST_NAME = 300
"""Characters of a name that the index keeps."""
_LONGEST_REASON = 1000


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """What the index says of a video; a few hundred bytes, so that its detections need not be kept."""

    video: str
    href: str
    """Relative URL of its page."""
    duration_s: float | None
    found: int
    """Detections that score enough."""
    classes: tuple[tuple[str, float], ...]
    """Those of its best detections, best first, each with its best score."""
    timeline: str
    """A digit for each sixtieth of the video: the best score there, in tenths rounded up; 9 for more than 0.8."""

    @classmethod
    def of(cls, video: VideoDetections, href: str, min_score: float) -> "IndexRow":
        """The row of a video, with the detections that have at least a score."""
        rows = [row for row in video if row.score >= min_score]
        best: dict[str, float] = {}
        for row in rows:
            best.setdefault(row.label, row.score)
        end = video.duration_s or 1.0
        bins = [0] * _BINS
        for row in rows:
            first, last = (min(_BINS - 1, max(0, int(_BINS * time / end))) for time in (row.start, row.end))
            height = min(9, max(1, int(10 * row.score) + 1))
            for i in range(first, last + 1):
                bins[i] = max(bins[i], height)
        return cls(
            video=video.video[:_LONGEST_NAME],
            href=href,
            duration_s=video.duration_s,
            found=len(rows),
            classes=tuple((label[:_LONGEST_NAME], score) for label, score in list(best.items())[:_CLASSES]),
            timeline="".join(map(str, bins)),
        )


def index_page(rows: Sequence[IndexRow], settings: PageSettings, *, failed: Sequence[tuple[str, str]] = ()) -> str:
    """The index of a folder of pages, in one file.

    Args:
        rows: a row a video, in the order of the run.
        settings: of the run.
        failed: videos without a page, each with the reason.

    Returns:
        The text of the page: about 200 bytes a video.
    """
    labels: dict[str, int] = {}
    data = {
        "run": settings.run,
        "min_score": settings.min_score,
        "videos": [_compact(row, labels) for row in rows],
        "failed": [[video[:_LONGEST_NAME], one_line(reason)[:_LONGEST_REASON]] for video, reason in failed],
        "labels": list(labels),
    }
    return html_document(
        title=f"Actions in {len(rows):,} videos",
        body=read_asset("index_page.html"),
        styles=[read_asset(name) for name in ("table.css", "index_page.css")],
        scripts=[read_asset(name) for name in ("common.js", "table.js", "index_page.js")],
        data=data,
    )


def _compact(row: IndexRow, labels: dict[str, int]) -> list[Any]:
    classes = [[labels.setdefault(label, len(labels)), round(score, 4)] for label, score in row.classes]
    duration = None if row.duration_s is None else round(row.duration_s, 2)
    return [row.video, row.href, duration, row.found, classes, row.timeline]
