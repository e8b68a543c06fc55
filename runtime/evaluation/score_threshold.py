"""Precision, recall and F1 of the detections from a score on, and the score from which on F1 is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import GroundTruth
from stale_runtime.evaluation.matching import ForeignRule, MatchedClass, match_detections


@dataclass(frozen=True, kw_only=True)
class ScorePoint:
    """How right the detections with at least this score are, all classes together."""

    score: float
    precision: float
    """True positives a detection, in [0, 1]; 0 if there is no detection."""
    recall: float
    """True positives an annotation, in [0, 1]."""
    f1: float
    """Harmonic mean of precision and recall."""


@dataclass(frozen=True, kw_only=True)
class ScoreCurve:
    """Precision, recall and F1 over the score that a detection needs to count."""

    scores: tuple[float, ...]
    """Falling: each score that a detection has."""
    precision: tuple[float, ...]
    """Of the detections with at least that score; in [0, 1]."""
    recall: tuple[float, ...]
    """Never falling; in [0, 1]."""
    tiou: float
    """Overlap that a true positive needs."""

    @cached_property
    def f1(self) -> tuple[float, ...]:
        """Harmonic mean of precision and recall at each score; 0 if both are 0."""
        return tuple(map(harmonic_mean, self.precision, self.recall))

    @property
    def best(self) -> ScorePoint | None:
        """Where F1 is highest, and of several such scores the highest; None if there is no detection."""
        return self._point(int(np.argmax(self.f1))) if self.scores else None

    def at(self, score: float) -> ScorePoint:
        """What the detections with at least this score are like; zeros if there is none."""
        kept = int(np.searchsorted(-np.asarray(self.scores), -score, side="right"))
        point = self._point(kept - 1) if kept else ScorePoint(score=score, precision=0.0, recall=0.0, f1=0.0)
        return ScorePoint(score=score, precision=point.precision, recall=point.recall, f1=point.f1)

    def thin(self, most: int) -> "ScoreCurve":
        """Keep at most this many points: the first, the best and the last, and others at even steps of recall.

        Raises:
            ValueError: ``most`` is less than 3.
        """
        if most < 3:
            raise ValueError(f"thin({most}), expected 3 points or more")
        if len(self.scores) <= most:
            return self
        steps = np.linspace(self.recall[0], self.recall[-1], most - 1)[:-1]
        kept = {*np.searchsorted(self.recall, steps).tolist(), int(np.argmax(self.f1)), len(self.scores) - 1}
        scores, precision, recall = (
            tuple(values[i] for i in sorted(kept)) for values in (self.scores, self.precision, self.recall)
        )
        return ScoreCurve(scores=scores, precision=precision, recall=recall, tiou=self.tiou)

    def _point(self, i: int) -> ScorePoint:
        return ScorePoint(score=self.scores[i], precision=self.precision[i], recall=self.recall[i], f1=self.f1[i])


def score_curve(
    detections: Mapping[str, Sequence[Detection]],
    ground_truth: GroundTruth,
    *,
    tiou: float = 0.5,
    foreign_labels: ForeignRule = "published",
    foreign_videos: ForeignRule = "published",
) -> ScoreCurve:
    """Compute precision and recall for every score at which detections could be cut off.

    Detections of all classes are counted together, so that a frequent class weighs more than a rare one. They are
    matched as for mAP: within their class and video, best score first. Detections below the cut-off never
    change which of the others match.

    Args:
        detections: by video id, in the unit of the ground truth.
        ground_truth: the videos to evaluate, and their annotations.
        tiou: overlap that a true positive needs, in (0, 1].
        foreign_labels: detections of classes without annotations are false positives, unless they are ``ignored``.
            (``published`` is for mAP; precision never counts them for a class that is not theirs.)
        foreign_videos: the same of detections in videos outside the ground truth.

    Raises:
        ValueError: the ground truth contains no annotation, or the tIoU is out of range.
    """
    matches = match_detections(
        detections, ground_truth, tious=(tiou,), foreign_labels="ignored", foreign_videos=foreign_videos
    )
    groups = [*matches.classes.values(), *(matches.foreign.values() if foreign_labels == "published" else ())]
    return _pool(groups, tiou)


def harmonic_mean(precision: float, recall: float) -> float:
    """F1: the harmonic mean of precision and recall; 0 if both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _pool(groups: Sequence[MatchedClass], tiou: float) -> ScoreCurve:
    """The curve of the detections of several classes, which are matched at one threshold."""
    scores = np.concatenate([group.found.scores for group in groups])
    hits = np.concatenate([group.hits[:, 0] for group in groups])
    counted = hits | ~np.concatenate([group.excused for group in groups])
    best_first = np.argsort(-scores, kind="stable")
    best_first = best_first[counted[best_first]]
    scores = scores[best_first]
    true_positives = np.cumsum(hits[best_first])
    last_of_score = np.flatnonzero(np.append(scores[1:] != scores[:-1], np.ones(len(scores[:1]), dtype=np.bool_)))
    true_positives = true_positives[last_of_score]
    annotations = sum(len(group.truth.video) for group in groups)
    return ScoreCurve(
        scores=tuple(scores[last_of_score].tolist()),
        precision=tuple((true_positives / (last_of_score + 1)).tolist()),
        recall=tuple((true_positives / annotations).tolist()),
        tiou=tiou,
    )
