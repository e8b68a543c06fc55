"""The page of one video: its picture, what was found when, how sure the network was, and what annotators marked."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from stale_runtime.detections import FRACTION, VideoDetections
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation
from stale_runtime.evaluation.marked_actions import annotations_in_unit_of
from stale_runtime.evidence import ClassScores
from stale_runtime.page.html_document import html_document, read_asset
from stale_runtime.system.text import one_line

_SCRIPTS = ("common.js", "table.js", "matching.js", "timeline.js", "video_page.js")
_STYLES = ("table.css", "uplot.css", "video_page.css")


@dataclass(frozen=True, kw_only=True)
class PageSettings:
    """What the pages of one run have in common."""

    run: str
    """A line about the run: bundle, backend, recipe."""
    min_score: float = 0.0
    """Where the slider starts. All detections are on the page, so it can be moved below."""
    judged: bool = False
    """Whether there is ground truth, so that a video without annotations has none right."""


def video_page(
    video: VideoDetections,
    settings: PageSettings,
    *,
    media: str | None = None,
    annotated: AnnotatedVideo | None = None,
    notes: Sequence[str] = (),
) -> str:
    """A page for a browser, in one file.

    Args:
        video: what was found, and the evidence beside it, if there is any.
        settings: of the run.
        media: the video's URL, relative to the page, see ``relative_url``; None for a page without video.
        annotated: what annotators marked in the video; None if that is not known. Ambiguous segments are not shown, but
            excuse the detections that overlap them, as in the evaluation.
        notes: sentences that the reader should see first, such as what is damaged.

    Returns:
        The text of the page.
    """
    labels: dict[str, int] = {}
    evidence = video.evidence
    scores = evidence.class_scores if evidence is not None else None
    poster = evidence.poster if evidence is not None and video.duration_s is not None else ()
    known, why_not = _annotations(video, annotated) if settings.judged else (None, None)
    damage = None if video.damage is None else f"The video is damaged: {video.damage}"
    # Of equal scores, the later one first, as for mAP, so that the page marks the same ones as right.
    ranked = sorted(video.detections, key=lambda row: row.score)[::-1]
    data = {
        "video": video.video,
        "in_seconds": video.unit != FRACTION,
        "end": video.duration_s or 1.0,
        "min_score": _digits(settings.min_score),
        "run": settings.run,
        "notes": [one_line(note) for note in (*notes, damage, why_not) if note is not None],
        "media": media,
        "media_name": None if media is None else one_line(unquote(media)),
        "poster": [[round(frame.time_s, 3), _jpeg_url(frame.jpeg)] for frame in poster],
        "detections": [
            [_number(labels, row.label), _time(row.start), _time(row.end), _digits(row.score)] for row in ranked
        ],
        "truth": None
        if known is None
        else [
            [_number(labels, row.label), _time(row.start_s), _time(row.end_s)]
            for row in known
            if row.label != AMBIGUOUS
        ],
        "ambiguous": [[_time(row.start_s), _time(row.end_s)] for row in known or () if row.label == AMBIGUOUS],
        "curves": None if scores is None else _curves(scores, labels),
        "labels": list(labels),
    }
    drawn = () if scores is None else (_uplot(), read_asset("curves.js"))
    return html_document(
        title=f"{video.video[:200]}: actions",
        body=read_asset("video_page.html"),
        styles=[read_asset(name) for name in _STYLES],
        scripts=[*drawn, *map(read_asset, _SCRIPTS)],
        data=data,
        plays_media=media is not None,
    )


def _annotations(
    video: VideoDetections, annotated: AnnotatedVideo | None
) -> tuple[list[Annotation] | None, str | None]:
    """Annotations in the unit of the detections, or why there are none."""
    if annotated is None:
        return None, "The ground truth does not have this video, so nothing is marked right or wrong."
    known = annotations_in_unit_of(video, annotated)
    if known is None:
        return None, "Nothing says how long the video is, so its annotations, which are in seconds, are not shown."
    return known, None


def _curves(scores: ClassScores, labels: dict[str, int]) -> dict[str, Any]:
    return {
        "labels": [_number(labels, label) for label in scores.labels],
        "times": [_time(time) for time in scores.times.tolist()],
        "scores": [[round(score, 3) for score in row] for row in scores.scores.tolist()],
    }


def _uplot() -> str:
    """The library that draws curves, with its licence, which has to go wherever it goes."""
    return f"/*! {read_asset('uplot.LICENSE.txt')}*/\n{read_asset('uplot.js')}"


def _number(labels: dict[str, int], label: str) -> int:
    """The number of a class in the page's list of names, which grows with it."""
    return labels.setdefault(label, len(labels))


def _time(value: float) -> float:
    """Six digits, but never less than milliseconds: in hours of footage, six digits would move an action visibly."""
    return round(value, 3) if value >= 1000 else _digits(value)


def _digits(value: float) -> float:
    """Six digits, which is more than anyone sees, and keeps the page small."""
    return float(f"{value:.6g}")


def _jpeg_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
