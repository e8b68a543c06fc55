"""What the toolkit finds: labelled, scored segments of a video."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from stale_runtime.evidence import Evidence

SECONDS, FRACTION, SNIPPETS = "seconds", "fraction of the video", "snippets"
"""Units of start and end."""


class Detection(NamedTuple):
    """One action found in a video."""

    label: str
    """Class name, as in the prompt list."""
    start: float
    """In seconds, or as a fraction of the video if its duration is unknown; in a stream, then, in snippets."""
    end: float
    """In the unit of ``start``, and not before it."""
    score: float
    """Higher means more certain; scores of the ``upstream`` decoder may exceed 1."""


@dataclass(frozen=True, kw_only=True)
class VideoDetections:
    """All detections of a video, best first. Iterating over it yields the detections, and ``len`` counts them."""

    video: str
    """Video id, without ActivityNet's ``v_`` prefix."""
    duration_s: float | None
    """Seconds; None if unknown, and then segments are fractions of the video."""
    detections: tuple[Detection, ...]
    """Best score first."""
    window: int | None = None
    """Snippets of the largest windows that the video was looked at through; None if it was looked at as a whole."""
    recomputed: int = 0
    """How often ``ort-fast`` was too far off and left it to the exact graph: 1 for a video that was looked at as a
    whole, else the number of such windows. 0 with other backends, which approximate nothing."""
    damage: str | None = None
    """What is damaged in the video file; None if nothing is, or features were given instead."""
    evidence: "Evidence | None" = field(default=None, compare=False, repr=False)
    """What a page draws beside the detections; None unless it was asked for. It is in neither ``to_json`` nor
    ``to_csv``, takes up to 200 kB a video, and ``replace(video, evidence=None)`` lets go of it."""

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.detections)

    def __len__(self) -> int:
        return len(self.detections)

    @property
    def unit(self) -> str:
        """The unit of starts and ends: ``seconds`` or ``fraction of the video``."""
        return FRACTION if self.duration_s is None else SECONDS

    def top(self, n: int) -> "VideoDetections":
        """Keep only the ``n`` best detections.

        Raises:
            ValueError: ``n`` is negative.
        """
        if n < 0:
            raise ValueError(f"top({n}), expected 0 or more")
        return replace(self, detections=self.detections[:n])

    def min_score(self, score: float) -> "VideoDetections":
        """Keep only detections with at least this score."""
        return replace(self, detections=tuple(row for row in self.detections if row.score >= score))

    def to_json(self) -> str:
        """One JSON object: ``video``, ``duration_s``, ``unit`` and ``detections``.

        Each detection is written as in ActivityNet's results format: ``label``, ``score``, and ``segment`` as
        ``[start, end]``.
        """
        content = {"video": self.video, "duration_s": self.duration_s, "unit": self.unit, "detections": json_rows(self)}
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> str:
        """Comma-separated rows, like ``stale-run --format csv``: a header, then one line a detection."""
        return detections_csv([self])


def json_rows(video: VideoDetections) -> list[dict[str, Any]]:
    """The detections of a video as ActivityNet's results format has them."""
    return [{"label": row.label, "score": row.score, "segment": [row.start, row.end]} for row in video]


def unit_of(videos: Iterable[VideoDetections]) -> str:
    """The unit of the segments of these videos.

    Raises:
        ValueError: the durations of some videos are known, and those of others are not.
    """
    units = {video.unit for video in videos}
    if len(units) > 1:
        raise ValueError("some videos are in seconds and some in fractions, expected one unit for all")
    return FRACTION if units == {FRACTION} else SECONDS


def detections_csv(videos: Sequence[VideoDetections]) -> str:
    """Comma-separated rows with a header that says the unit.

    The columns are video, label, start_s, end_s and score; start_fraction and end_fraction instead if the times are
    fractions of the video.

    Raises:
        ValueError: the durations of some videos are known, and those of others are not.
    """
    unit = unit_of(videos)
    return csv_header(unit) + "".join(map(csv_rows, videos))


def csv_header(unit: str) -> str:
    """The first line of ``detections_csv`` for segments in this unit."""
    short = "fraction" if unit == FRACTION else "s"
    return f"video,label,start_{short},end_{short},score\n"


def csv_rows(video: VideoDetections) -> str:
    """The lines of ``detections_csv`` for one video."""
    import csv  # only this format needs it

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([video.video, *row] for row in video)
    return buffer.getvalue()
