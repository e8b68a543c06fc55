"""The difference of two mAPs on the same videos, and how much of it may be chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import GroundTruth
from stale_runtime.evaluation.matching import ACTIVITYNET_TIOUS, ForeignRule, MatchedClass, Matches, match_detections
from stale_runtime.evaluation.mean_average_precision import average_matches

RESAMPLES = 1000
COVERAGE = 0.95
"""Share of such intervals that contain the difference that infinitely many videos would show."""
_CELLS = 2**23
"""Most numbers of a table, detections of a class times resamples, that are held at once."""


@dataclass(frozen=True, kw_only=True)
class MapChange:
    """By how much average mAP differs, in percent points, and the 95 % interval of that."""

    difference: float
    """Average mAP of the detections minus that of the baseline."""
    low: float
    high: float

    @property
    def may_be_chance(self) -> bool:
        """Whether these videos do not tell which of the two is better: the interval contains 0, or has no width.

        It has none if all draws are alike, as those of a single video are.
        """
        return self.low <= 0 <= self.high or self.low == self.high

    def describe(self) -> str:
        """Such as ``-0.61 (95 % interval -1.30 to +0.12)``."""
        return f"{self.difference:+.2f} (95 % interval {self.low:+.2f} to {self.high:+.2f})"


def map_change(
    detections: Mapping[str, Sequence[Detection]],
    baseline: Mapping[str, Sequence[Detection]],
    ground_truth: GroundTruth,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    foreign_labels: ForeignRule = "published",
    foreign_videos: ForeignRule = "published",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MapChange:
    """Compare two sets of detections of the same videos by mAP, with an interval from a paired bootstrap over videos.

    The videos of the ground truth are drawn with replacement, as many as there are, and both mAPs are computed on the
    same draw. The interval contains the middle 95 % of the differences. A class that a draw has no annotation of does
    not count in it, as in ``mean_average_precision``. Detections in videos outside the ground truth are in every draw.

    Args:
        detections: by video id, in the unit of the ground truth.
        baseline: what they are compared with, in the same form.
        ground_truth: the videos to evaluate, and their annotations.
        tious: thresholds in (0, 1]; mAP is averaged over them.
        foreign_labels: see ``mean_average_precision``. What is published stays as it is for all videos together.
        foreign_videos: see ``mean_average_precision``.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: the ground truth contains no annotation, a threshold is out of range, or ``resamples`` is not
            positive.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}, expected 1 or more")
    pair = [
        match_detections(found, ground_truth, tious=tious, foreign_labels=foreign_labels, foreign_videos=foreign_videos)
        for found in (detections, baseline)
    ]
    new, old = (100 * average_matches(matches, tious).average for matches in pair)
    draws = _draw_videos(len(ground_truth.videos), resamples, seed)
    changes = _resampled_maps(pair[0], draws) - _resampled_maps(pair[1], draws)
    low, high = 100 * np.nanquantile(changes, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return MapChange(difference=new - old, low=float(low), high=float(high))


def resampled_maps(
    detections: Mapping[str, Sequence[Detection]],
    ground_truth: GroundTruth,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Average mAP over each of the draws of videos that ``map_change`` compares two mAPs on.

    With the same ground truth, number and seed, the n-th draw is of the same videos. So the middle 95 % of the
    differences between two such arrays are the interval of ``map_change``, also between runs on different days.

    Args:
        detections: by video id, in the unit of the ground truth.
        ground_truth: the videos to evaluate, and their annotations.
        tious: thresholds in (0, 1]; mAP is averaged over them.
        resamples: number of draws, at least 1.
        seed: of the draws.

    Returns:
        (resamples,) in [0, 1]; NaN for a draw without annotations.

    Raises:
        ValueError: the ground truth contains no annotation, or a threshold is out of range.
    """
    matches = match_detections(detections, ground_truth, tious=tious)
    return _resampled_maps(matches, _draw_videos(len(ground_truth.videos), resamples, seed))


def _draw_videos(videos: int, resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each video is in each draw: (videos + 1, resamples). The last row is of videos outside, always 1."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(videos, np.full(videos, 1 / videos), size=resamples).T  # (videos, resamples)
    return np.concatenate([drawn, np.ones((1, resamples))]).astype(np.int32)


def _resampled_maps(matches: Matches, draws: NDArray[np.int32]) -> NDArray[np.float64]:
    """Average mAP in [0, 1] of each draw, (resamples,); NaN for a draw without annotations."""
    totals = np.zeros(draws.shape[1])
    counts = np.zeros(draws.shape[1])
    for matched in matches.classes.values():
        annotations = draws[matched.truth.video].sum(axis=0)  # (resamples,)
        step = max(1, _CELLS // max(1, len(matched.found.video)))
        parts = [draws[:, first : first + step] for first in range(0, draws.shape[1], step)]
        recalled = np.concatenate([_weighted_precision(matched, part) for part in parts])  # (resamples,)
        totals += np.divide(recalled, annotations, out=np.zeros_like(totals), where=annotations > 0)
        counts += annotations > 0
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def _weighted_precision(matched: MatchedClass, draws: NDArray[np.int32]) -> NDArray[np.float64]:
    """Interpolated precision, added up over the true positives and averaged over the thresholds: (resamples,).

    It is needed only where a detection is a true positive, because between those precision falls.
    """
    sums = np.zeros(draws.shape[1])
    all_hits = matched.hits
    right = np.flatnonzero(all_hits.any(axis=1))  # (P,) true positives at any threshold
    if not len(right):
        return sums
    weights = draws[matched.found.video[: right[-1] + 1]]  # (D, resamples)
    weights[matched.excused[: right[-1] + 1]] = 0
    counted = np.cumsum(np.add.reduceat(weights, [0, *(right[:-1] + 1)], axis=0), axis=0)  # (P, resamples)
    weights = draws[matched.found.video[right]]  # (P, resamples)
    excused = matched.excused[right, None]
    for hits in all_hits[right].T:  # (P,) at each threshold
        weight = weights[hits]
        excepted = np.cumsum(np.where(excused[hits], weight, 0), axis=0)  # those that are excused, but do match
        precision = np.cumsum(weight, axis=0) / np.maximum(counted[hits] + excepted, 1)
        interpolated = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        sums += (interpolated * weight).sum(axis=0)
    return np.asarray(sums / all_hits.shape[1])
