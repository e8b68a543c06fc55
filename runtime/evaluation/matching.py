"""Which detections match which annotations, as ActivityNet defines it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stale_runtime.detections import Detection
from stale_runtime.evaluation.activitynet import CLASSES
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, GroundTruth
from stale_runtime.segments import FloatArray, temporal_iou
from stale_runtime.system.memory import require_memory

ACTIVITYNET_TIOUS = tuple(round(0.50 + 0.05 * i, 2) for i in range(10))
THUMOS14_TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)
ForeignRule: TypeAlias = Literal["published", "ignored"]
"""What happens to detections that have nothing to match: as in published evaluations, or ignored."""
_OUTSIDE = -1
"""Index of every video outside the ground truth."""
_MATCHING_BYTES = 60
"""Bytes for each cell of a table of annotations, in addition to ten for each threshold."""


class SegmentTable(NamedTuple):
    """Detections or annotations of all videos, N of them."""

    video: NDArray[np.int64]
    """(N,) index of the video in the ground truth; -1 for every video outside it."""
    segments: FloatArray
    """(N, 2) start and end."""
    scores: FloatArray
    """(N,) of the detections; 0 for annotations."""

    def take(self, rows: NDArray[Any]) -> "SegmentTable":
        """Some of the rows, by their numbers or by a mask."""
        return SegmentTable(self.video[rows], self.segments[rows], self.scores[rows])


NO_SEGMENTS = SegmentTable(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class MatchedClass:
    """The detections of one class, and which annotation each of them matches."""

    found: SegmentTable
    """D detections, best score first."""
    truth: SegmentTable
    """The annotations."""
    taken: NDArray[np.int32]
    """(D, thresholds) number of the annotation that the detection matches at each threshold of tIoU; -1 for none."""
    excused: NDArray[np.bool_]
    """(D,) whether the detection is ignored where it matches nothing, because it overlaps an ambiguous segment."""

    @property
    def hits(self) -> NDArray[np.bool_]:
        """(D, thresholds) whether the detection is a true positive."""
        return self.taken >= 0


@dataclass(frozen=True, kw_only=True)
class Matches:
    """All detections, matched to the annotations of their class and video."""

    classes: Mapping[str, MatchedClass]
    """By name, each class that has annotations, in the order of the ground truth."""
    foreign: Mapping[str, MatchedClass]
    """By name, each other class that has detections, none of which can match."""
    videos: int
    """Number of videos of the ground truth."""
    foreign_videos: int
    """Number of videos with detections that are not in the ground truth."""
    foreign_video_detections: int
    """Number of detections in those videos."""
    ambiguous_segments: int
    """Number of segments that are labelled ``Ambiguous``."""


def match_detections(
    detections: Mapping[str, Sequence[Detection]],
    ground_truth: GroundTruth,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    foreign_labels: ForeignRule = "published",
    foreign_videos: ForeignRule = "published",
) -> Matches:
    """Match detections to annotations; ``mean_average_precision`` says how, and explains the arguments.

    Detections are matched best score first, so leaving out all of those below a score changes nothing for the others.

    Raises:
        ValueError: the ground truth contains no annotation, or a threshold is out of range.
    """
    asked = np.asarray(tious, dtype=np.float64)
    if not len(asked) or not ((asked > 0) & (asked <= 1)).all():
        raise ValueError(f"tIoU thresholds {list(tious)}: expected numbers in (0, 1]")
    thresholds = _spaced_as_published(asked)
    index = {video: i for i, video in enumerate(ground_truth.videos)}
    annotations = _group_by_label(
        (i, annotation.label, annotation.start_s, annotation.end_s, 0.0)
        for i, video in enumerate(ground_truth.videos.values())
        for annotation in video.annotations
    )
    ambiguous = annotations.pop(AMBIGUOUS, NO_SEGMENTS)
    if not annotations:
        raise ValueError("the ground truth contains no annotation")
    outside = {video: len(rows) for video, rows in detections.items() if video not in index and rows}
    ignored = outside if foreign_videos == "ignored" else {}
    counted = {video: rows for video, rows in detections.items() if video not in ignored}
    foreign = {row.label for rows in counted.values() for row in rows} - annotations.keys()
    stands_for = _published_mix_up(foreign, tuple(annotations)) if foreign_labels == "published" else {}
    found = _group_by_label(
        (index.get(video, _OUTSIDE), stands_for.get(row.label, row.label), row.start, row.end, row.score)
        for video, rows in counted.items()
        for row in rows
    )
    foreign_found = _group_by_label(
        (index.get(video, _OUTSIDE), row.label, row.start, row.end, row.score)
        for video, rows in counted.items()
        for row in rows
        if row.label in foreign
    )
    return Matches(
        classes={
            label: match_segments(found.get(label, NO_SEGMENTS), truth, ambiguous, thresholds)
            for label, truth in annotations.items()
        },
        foreign={
            label: match_segments(rows, NO_SEGMENTS, ambiguous, thresholds) for label, rows in foreign_found.items()
        },
        videos=len(index),
        foreign_videos=len(outside),
        foreign_video_detections=sum(outside.values()),
        ambiguous_segments=len(ambiguous.video),
    )


def match_segments(
    found: SegmentTable, truth: SegmentTable, ambiguous: SegmentTable, thresholds: FloatArray
) -> MatchedClass:
    """Match the detections of one class to its annotations, at each threshold of tIoU."""
    best_first = found.take(np.argsort(found.scores, kind="stable")[::-1])  # of equal scores, the later one first
    return MatchedClass(
        found=best_first,
        truth=truth,
        taken=_take_annotations(best_first, truth, thresholds),
        excused=_overlaps_any(best_first, ambiguous),
    )


def _spaced_as_published(thresholds: FloatArray) -> FloatArray:
    """Evenly spaced thresholds as ``numpy.linspace`` rounds them in ActivityNet's evaluation: 0.9 - 1e-16 for 0.9."""
    spaced = np.linspace(thresholds[0], thresholds[-1], len(thresholds))
    return spaced if np.allclose(spaced, thresholds, rtol=0, atol=1e-9) else thresholds


def _published_mix_up(foreign: Iterable[str], evaluated: Sequence[str]) -> dict[str, str]:
    """For each class without annotations, the class that the original's evaluation counts its detections for."""
    number = {name: i for i, name in enumerate(CLASSES)}
    return {name: evaluated[number[name]] for name in foreign if name in number and number[name] < len(evaluated)}


def _group_by_label(rows: Iterable[tuple[int, str, float, float, float]]) -> dict[str, SegmentTable]:
    """Group rows of video index, label, start, end and score by their label."""
    grouped: dict[str, list[tuple[int, float, float, float]]] = {}
    for video, label, start, end, score in rows:
        grouped.setdefault(label, []).append((video, start, end, score))
    tables = {label: np.array(group, dtype=np.float64) for label, group in grouped.items()}
    return {
        label: SegmentTable(table[:, 0].astype(np.int64), table[:, 1:3], table[:, 3]) for label, table in tables.items()
    }


def _overlaps_any(found: SegmentTable, ambiguous: SegmentTable) -> NDArray[np.bool_]:
    """Which detections overlap an ambiguous segment of their video, however little: (D,)."""
    overlaps = np.zeros(len(found.video), dtype=np.bool_)
    if not len(ambiguous.video) or not len(found.video):
        return overlaps
    padded, _, row_of_video = _padded_by_video(ambiguous, 1)  # padding has no length, so nothing overlaps it
    rows = np.array([row_of_video.get(v, -1) for v in found.video.tolist()])
    candidates = np.flatnonzero(rows >= 0)
    starts, ends = found.segments[candidates].T
    for segments in np.moveaxis(padded, 1, 0):  # (V, 2), one of each video at a time
        other_starts, other_ends = segments[rows[candidates]].T
        overlaps[candidates] |= np.minimum(ends, other_ends) > np.maximum(starts, other_starts)
    return overlaps


def _overlap(found: FloatArray, truth: FloatArray) -> FloatArray:
    """tIoU, and 1 if neither segment has a length: in ActivityNet's evaluation 0/0 is above every threshold."""
    no_length = (found[..., 0] == found[..., 1]) & (truth[..., 0] == truth[..., 1])
    return np.where(no_length, 1.0, temporal_iou(found, truth))


def _take_annotations(best_first: SegmentTable, truth: SegmentTable, thresholds: FloatArray) -> NDArray[np.int32]:
    """The annotation that each detection matches, -1 for none: (D, thresholds).

    Detections of different videos never compete for an annotation. So the best detections of all videos are matched in
    one step, then the second best, and so on.
    """
    taken = np.full((len(best_first.video), len(thresholds)), -1, dtype=np.int32)
    if not len(best_first.video) or not len(truth.video):
        return taken
    truth_segments, number, row_of_video = _padded_by_video(truth, len(thresholds))
    rows = np.array([row_of_video.get(v, -1) for v in best_first.video.tolist()])
    candidates = np.flatnonzero(rows >= 0)
    rank = _rank_within(rows[candidates])
    free = np.repeat((number >= 0)[:, :, None], len(thresholds), axis=2)  # (V, G, thresholds)
    for detections in _split_by_rank(candidates, rank):
        row = rows[detections]  # (n,), each video at most once
        overlap = _overlap(best_first.segments[detections, None], truth_segments[row])  # (n, G)
        overlap = np.where(free[row], overlap[:, :, None], -1.0)  # (n, G, thresholds)
        chosen = overlap.argmax(axis=1)  # (n, thresholds)
        hit = np.take_along_axis(overlap, chosen[:, None], axis=1)[:, 0] >= thresholds
        taken[detections] = np.where(hit, number[row[:, None], chosen], -1)
        n, threshold = np.nonzero(hit)
        free[row[n], chosen[n, threshold], threshold] = False
    return taken


def _padded_by_video(truth: SegmentTable, thresholds: int) -> tuple[FloatArray, NDArray[np.int64], dict[int, int]]:
    """Annotations of V videos, padded to G each, (V, G, 2); their numbers, -1 for padding, (V, G); each video's row.

    The annotations of each video are in reverse order, because the evaluation takes the later annotation if overlaps
    are equal.
    """
    videos, row = np.unique(truth.video, return_inverse=True)
    backwards = np.arange(len(row))[::-1]
    place = np.empty_like(row)
    place[backwards] = _rank_within(row[backwards])
    V, G = len(videos), int(place.max()) + 1
    what = f"{V:,} videos of one class, one of them with {G:,} annotations"
    require_memory(V * G * (_MATCHING_BYTES + 10 * thresholds), what, "evaluate fewer videos at once")
    padded = np.zeros((V, G, 2))
    padded[row, place] = truth.segments
    number = np.full(padded.shape[:2], -1)
    number[row, place] = np.arange(len(row))
    return padded, number, {video: i for i, video in enumerate(videos.tolist())}


def _rank_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each element among the elements of its group: [7, 3, 7, 7] -> [0, 0, 1, 2]."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    rank = np.empty_like(groups)
    rank[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    return rank


def _split_by_rank(items: NDArray[np.int64], rank: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The items of rank 0, those of rank 1, and so on."""
    order = np.argsort(rank, kind="stable")
    return np.split(items[order], np.flatnonzero(np.diff(rank[order])) + 1) if len(items) else []
