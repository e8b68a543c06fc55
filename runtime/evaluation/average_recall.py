"""Average recall over the average number of proposals (AR@AN), as ActivityNet defines it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, GroundTruth
from stale_runtime.segments import FloatArray, temporal_iou

MOST_PROPOSALS = 100
"""Largest average number of proposals of a video."""
SHOWN_PROPOSALS = (1, 5, 10, 100)
"""Average numbers of proposals at which reports show recall."""
_TIOUS = np.linspace(0.5, 0.95, 10)
_CELLS = 2**20
"""Most overlaps that are held at once."""


@dataclass(frozen=True, kw_only=True)
class AverageRecall:
    """Recall whatever the class, averaged over tIoU 0.5:0.05:0.95."""

    recall: tuple[float, ...]
    """In [0, 1], for an average of 1, 2, ... 100 proposals of a video."""

    @property
    def area(self) -> float:
        """Area under the curve, divided by 100 proposals; in [0, 0.99]."""
        return float(np.trapezoid(self.recall) / MOST_PROPOSALS)

    def at(self, proposals: int) -> float:
        """AR@AN for an average number of proposals from 1 to 100.

        Raises:
            ValueError: the number is out of range.
        """
        if not 1 <= proposals <= MOST_PROPOSALS:
            raise ValueError(f"average of {proposals} proposals, expected 1 to {MOST_PROPOSALS}")
        return self.recall[proposals - 1]


def average_recall(
    detections: Mapping[str, Sequence[Detection]], ground_truth: GroundTruth, *, proposals: int | None = None
) -> AverageRecall:
    """Compute AR@AN of detections, each of which is a proposal; labels do not count.

    An annotation is found if any of the proposals that are kept reaches the tIoU, even if that proposal finds others,
    too. For an average of N proposals, the same share of each video's proposals is kept, best score first: of a video
    with many proposals more than of one with few. Only videos with annotations count. One segment that is detected
    as several classes is several proposals.

    Args:
        detections: by video id, in the unit of the ground truth.
        ground_truth: the videos to evaluate, and their annotations; ambiguous ones do not count.
        proposals: number of all proposals, which the share is computed from; None for those in the ground truth's
            videos. ActivityNet's evaluation takes all in the file, whatever videos they are in.

    Raises:
        ValueError: the ground truth contains no annotation.

    Source: ``average_recall_vs_avg_nr_proposals`` in ``Evaluation/eval_proposal.py`` of ActivityNet, with its
    ``max_avg_nr_proposals`` at 100.
    """
    truth = {video: segments for video, known in ground_truth.videos.items() if len(segments := _segments(known))}
    if not truth:
        raise ValueError("the ground truth contains no annotation")
    total = sum(len(detections.get(v, ())) for v in ground_truth.videos) if proposals is None else proposals
    most = MOST_PROPOSALS * len(truth) / max(total, 1)
    found = {}
    for video in truth:
        segments = _best_first(detections.get(video, ()))
        found[video] = segments[: min(int(len(segments) * most), len(segments))]
    retrieved = sum(map(len, found.values()))
    share = np.arange(1, MOST_PROPOSALS + 1) / 100.0 * (MOST_PROPOSALS * float(len(truth)) / max(retrieved, 1))
    hits = np.zeros((len(_TIOUS), MOST_PROPOSALS))
    for video, annotated in truth.items():
        kept = np.minimum((len(found[video]) * share).astype(int), len(found[video]))  # (100,)
        first = np.sort(_first_hit(found[video], annotated), axis=1)  # (thresholds, N)
        hits += [np.searchsorted(ranks, kept) for ranks in first]
    recall = hits / sum(map(len, truth.values()))  # (thresholds, 100)
    return AverageRecall(recall=tuple(recall.mean(axis=0).tolist()))


def _segments(video: AnnotatedVideo) -> FloatArray:
    rows = [(row.start_s, row.end_s) for row in video.annotations if row.label != AMBIGUOUS]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _best_first(rows: Sequence[Detection]) -> FloatArray:
    """Segments of the detections of a video, (P, 2); of equal scores, the later one first, as for mAP."""
    segments = np.array([(row.start, row.end) for row in rows], dtype=np.float64).reshape(-1, 2)
    return segments[np.argsort([row.score for row in rows], kind="stable")[::-1]]


def _first_hit(found: FloatArray, truth: FloatArray) -> NDArray[np.int64]:
    """Rank of the best proposal that finds each annotation at each threshold, (thresholds, N); P if none does."""
    first = np.full((len(_TIOUS), len(truth)), len(found))
    if not len(found):
        return first
    step = max(1, _CELLS // len(found))
    for start in range(0, len(truth), step):
        part = truth[start : start + step]
        overlap = temporal_iou(found[:, None], part)  # (P, n)
        has_length = (found[:, None, 0] < found[:, None, 1]) | (
            part[:, 0] < part[:, 1]
        )  # else 0/0, which finds nothing
        for row, tiou in zip(first, _TIOUS, strict=True):
            reached = (overlap >= tiou) & has_length
            row[start : start + step] = np.where(reached.any(axis=0), reached.argmax(axis=0), len(found))
    return first
