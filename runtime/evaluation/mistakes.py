"""What is wrong with the detections from a score on: missed, false and confused ones, by class and by video."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import GroundTruth
from stale_runtime.evaluation.matching import (
    NO_SEGMENTS,
    ForeignRule,
    MatchedClass,
    SegmentTable,
    match_detections,
    match_segments,
)
from stale_runtime.evaluation.score_threshold import harmonic_mean


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many detections are right, how many are wrong, and how many annotations are missed."""

    right: int = 0
    """Detections that match an annotation of their class."""
    wrong: int = 0
    """Detections that match none."""
    missed: int = 0
    """Annotations that no detection matches."""

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]; 1 if nothing is annotated and nothing is found."""
        if not self.right + self.wrong + self.missed:
            return 1.0
        return harmonic_mean(
            self.right / max(self.right + self.wrong, 1), self.right / max(self.right + self.missed, 1)
        )


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """The mistakes of all detections with at least some score."""

    videos: Mapping[str, Tally]
    """By video id, each video of the ground truth."""
    classes: Mapping[str, Tally]
    """By name, each class that has annotations or detections."""
    confused: Mapping[tuple[str, str], int]
    """By true and found class, the most frequent first: annotations that were missed, and where another class was
    found instead."""

    def worst_videos(self, most: int) -> list[tuple[str, Tally]]:
        """The videos with the lowest F1, the worst first, those with more mistakes first where it is equal."""
        imperfect = [(video, tally) for video, tally in self.videos.items() if tally.f1 < 1]
        return sorted(imperfect, key=lambda pair: (pair[1].f1, -pair[1].wrong - pair[1].missed))[:most]


def find_mistakes(
    detections: Mapping[str, Sequence[Detection]],
    ground_truth: GroundTruth,
    *,
    min_score: float,
    tiou: float = 0.5,
    foreign_labels: ForeignRule = "published",
    foreign_videos: ForeignRule = "published",
) -> Mistakes:
    """Compare the detections with at least a score to the annotations.

    They are matched as for ``score_curve``, whose arguments these are. Then the detections that match nothing are
    matched, whatever their class, to the annotations that are still free: those are confused.

    Raises:
        ValueError: the ground truth contains no annotation, or the tIoU is out of range.
    """
    matches = match_detections(
        detections, ground_truth, tious=(tiou,), foreign_labels="ignored", foreign_videos=foreign_videos
    )
    groups = {**matches.classes, **(matches.foreign if foreign_labels == "published" else {})}
    groups = {label: _best_of(matched, min_score) for label, matched in groups.items()}
    names = tuple(ground_truth.videos)
    videos = {name: Tally() for name in names}
    for matched in groups.values():
        right, wrong, missed = _outcomes(matched)
        for field, rows in (("right", right), ("wrong", wrong), ("missed", missed)):
            for video, count in Counter(rows.video.tolist()).items():
                if video >= 0:  # else outside the ground truth
                    tally = videos[names[video]]
                    videos[names[video]] = replace(tally, **{field: getattr(tally, field) + count})
    return Mistakes(
        videos=videos,
        classes={
            label: Tally(**_counts(matched)) for label, matched in groups.items() if any(_counts(matched).values())
        },
        confused=_confuse(groups, tiou),
    )


def _best_of(matched: MatchedClass, min_score: float) -> MatchedClass:
    """Only the detections with at least this score."""
    kept = matched.found.scores >= min_score
    return replace(matched, found=matched.found.take(kept), taken=matched.taken[kept], excused=matched.excused[kept])


def _outcomes(matched: MatchedClass) -> tuple[SegmentTable, SegmentTable, SegmentTable]:
    """Right detections, wrong ones, and missed annotations."""
    hits = matched.hits[:, 0]
    missed = np.ones(len(matched.truth.video), dtype=np.bool_)
    missed[matched.taken[hits, 0]] = False
    return matched.found.take(hits), matched.found.take(~hits & ~matched.excused), matched.truth.take(missed)


def _counts(matched: MatchedClass) -> dict[str, int]:
    right, wrong, missed = _outcomes(matched)
    return {"right": len(right.video), "wrong": len(wrong.video), "missed": len(missed.video)}


def _confuse(groups: Mapping[str, MatchedClass], tiou: float) -> dict[tuple[str, str], int]:
    """Match wrong detections to missed annotations, which are of other classes: counts by true and found class."""
    outcomes = {label: _outcomes(matched) for label, matched in groups.items()}
    wrong, found_labels = _join({label: wrong for label, (_, wrong, _) in outcomes.items()})
    missed, true_labels = _join({label: missed for label, (_, _, missed) in outcomes.items()})
    order = np.argsort(wrong.scores, kind="stable")[::-1]
    taken = match_segments(wrong, missed, NO_SEGMENTS, np.array([tiou])).taken[:, 0]
    pairs = Counter(
        (true_labels[k], found_labels[i]) for i, k in zip(order.tolist(), taken.tolist(), strict=True) if k >= 0
    )
    return dict(pairs.most_common())


def _join(tables: Mapping[str, SegmentTable]) -> tuple[SegmentTable, list[str]]:
    """All rows of several tables, and the label of each row."""
    joined = SegmentTable(*(np.concatenate(column) for column in zip(NO_SEGMENTS, *tables.values(), strict=True)))
    return joined, [label for label, table in tables.items() for _ in table.video]
