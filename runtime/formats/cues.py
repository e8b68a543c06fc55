"""Subtitle cues: what is on at each time, without overlaps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from stale_runtime.detections import Detection, VideoDetections

SHORTEST_CUE_MS: Final = 833
"""No cue is shorter, unless the video is.

Source: Netflix's guide for timed text asks for at least 5/6 of a second, so that a reader can notice a subtitle.
"""


@dataclass(frozen=True, kw_only=True)
class Cue:
    """What is on in one stretch of a video."""

    start_ms: int
    """Milliseconds from the start of the video, at least the end of the cue before."""
    end_ms: int
    """After ``start_ms``."""
    labels: tuple[tuple[str, float], ...]
    """Labels and their scores, each label once, best score first."""


def make_cues(video: VideoDetections) -> list[Cue]:
    """Cut a video where actions begin and end, and list what is on in each piece.

    An action that is shorter than ``SHORTEST_CUE_MS`` is shown for that long. Where actions begin or end less than that
    apart, they are taken to do so together, at the first of these times: so every action is shown, by cues that are off
    by less than ``SHORTEST_CUE_MS`` in a crowd, and exact to the millisecond elsewhere.

    Args:
        video: detections in seconds.

    Returns:
        Cues in order of time, none shorter than ``SHORTEST_CUE_MS`` unless the video is, and none without a label.
    """
    spans = _spans(video)
    cuts = _group({time for span in spans for time in span}, _shortest(video))
    changes: dict[int, list[int]] = {}
    for n, span in enumerate(spans):
        for time in span:
            changes.setdefault(cuts[time], []).append(n)
    on: set[int] = set()
    cues: list[Cue] = []
    for start, end in pairwise(sorted(changes)):
        on.symmetric_difference_update(changes[start])
        if on:
            _append(cues, Cue(start_ms=start, end_ms=end, labels=_best([video.detections[n] for n in on])))
    return cues


def _shortest(video: VideoDetections) -> int:
    """The shortest length of a cue in milliseconds: a very short video has a single cue."""
    return SHORTEST_CUE_MS if video.duration_s is None else min(SHORTEST_CUE_MS, _milliseconds(video.duration_s))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _spans(video: VideoDetections) -> list[tuple[int, int]]:
    """Start and end of each detection in milliseconds, lengthened to the shortest cue, and within the video."""
    shortest = _shortest(video)
    spans = []
    for row in video:
        start, end = max(0, round(row.start * 1000)), round(row.end * 1000)
        if end - start < shortest:
            last = end if video.duration_s is None else max(end, _milliseconds(video.duration_s))
            end = start + shortest
            if end > last and video.duration_s is not None:
                start, end = max(0, last - shortest), max(last, shortest)
        spans.append((start, end))
    return spans


def _group(times: set[int], shortest: int) -> dict[int, int]:
    """The first of the times that each time is less than ``shortest`` after; these are at least that far apart."""
    first: dict[int, int] = {}
    current: int | None = None
    for time in sorted(times):
        if current is None or time - current >= shortest:
            current = time
        first[time] = current
    return first


def _best(rows: Sequence[Detection]) -> tuple[tuple[str, float], ...]:
    scores: dict[str, float] = {}
    for row in rows:
        scores[row.label] = max(row.score, scores.get(row.label, row.score))
    return tuple(sorted(scores.items(), key=lambda known: (-known[1], known[0])))


def _append(cues: list[Cue], cue: Cue) -> None:
    """Add a cue, or lengthen the last one if that ends where this begins and has the same labels."""
    last = cues[-1] if cues else None
    touches = last is not None and last.end_ms == cue.start_ms
    if last is None or not touches or dict(last.labels).keys() != dict(cue.labels).keys():
        cues.append(cue)
        return
    rows = [Detection(label, 0.0, 0.0, score) for label, score in (*last.labels, *cue.labels)]
    cues[-1] = Cue(start_ms=last.start_ms, end_ms=cue.end_ms, labels=_best(rows))
