"""The score from which on detections are worth a person's reading: what a manifest says about it."""

import math
import reprlib
from dataclasses import dataclass

MOST_POINTS = 101
"""Most points of a precision/recall curve in a manifest."""
DEFAULT_READING_SCORE = 0.4
"""The score for people where a bundle has none; see ``docs/evaluation.md`` for how it was chosen."""


@dataclass(frozen=True, kw_only=True)
class ReadingScore:
    """The score from which on F1 is best on the validation videos, and what would be read from other scores on."""

    score: float
    precision: float
    """Share of the detections with at least this score that are right, in [0, 1]."""
    recall: float
    """Share of the annotations that they find, in [0, 1]."""
    f1: float
    tiou: float
    """Overlap with an annotation that a right detection has, in (0, 1]."""
    videos: int
    """Number of validation videos."""
    file: str
    """The graph that found the detections: the one that stale-run takes by default."""
    curve_scores: tuple[float, ...]
    """Falling; at most 101, so that most scores are left out."""
    curve_precision: tuple[float, ...]
    """At each of these scores."""
    curve_recall: tuple[float, ...]
    """At each of these scores; never falling."""

    def __post_init__(self) -> None:
        points = len(self.curve_scores)
        if not 1 <= points <= MOST_POINTS:
            raise ValueError(f"reading_score has {points} points, expected 1 to {MOST_POINTS}")
        if not len(self.curve_precision) == len(self.curve_recall) == points:
            raise ValueError(
                f"reading_score has {points} scores, {len(self.curve_precision)} precisions and "
                f"{len(self.curve_recall)} recalls, expected the same number of each"
            )
        shares = (self.precision, self.recall, self.f1, *self.curve_precision, *self.curve_recall)
        if bad := [share for share in shares if not 0 <= share <= 1]:
            raise ValueError(f"reading_score has a share of {bad[0]}, expected 0 to 1")
        if bad := [score for score in (self.score, *self.curve_scores) if not (math.isfinite(score) and score >= 0)]:
            raise ValueError(f"reading_score has a score of {bad[0]}, expected a number that is not negative")
        if not 0 < self.tiou <= 1 or self.videos < 1:
            raise ValueError(
                f"reading_score is of {reprlib.repr(self.videos)} videos at tIoU {self.tiou}, expected 1 or more, and "
                "a tIoU above 0 and at most 1"
            )
        falls = sorted(self.curve_scores, reverse=True) == list(self.curve_scores)
        if not falls or sorted(self.curve_recall) != list(self.curve_recall):
            raise ValueError(
                "reading_score has points out of order, expected falling scores and recall that never falls"
            )
