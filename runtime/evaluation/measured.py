"""All figures of one evaluation together."""

from dataclasses import dataclass

from stale_runtime.evaluation.average_recall import AverageRecall
from stale_runtime.evaluation.matching import ForeignRule
from stale_runtime.evaluation.mean_average_precision import MeanAveragePrecision
from stale_runtime.evaluation.score_threshold import ScoreCurve, ScorePoint


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of the detections of one file, and by which rules."""

    precision: MeanAveragePrecision
    """Over all detections."""
    curve: ScoreCurve
    """Precision, recall and F1 over scores."""
    recall: AverageRecall
    """Over all detections."""
    min_score: float | None
    """The score that was asked for; None for the one where F1 is best."""
    foreign_labels: ForeignRule
    foreign_videos: ForeignRule

    @property
    def point(self) -> ScorePoint:
        """Precision, recall and F1 from the score on that was asked for, or else from where F1 is best."""
        if self.min_score is not None:
            return self.curve.at(self.min_score)
        return self.curve.best or self.curve.at(0.0)
