"""Mean average precision of detections, as ActivityNet defines it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import GroundTruth
from stale_runtime.evaluation.matching import ACTIVITYNET_TIOUS, ForeignRule, MatchedClass, Matches, match_detections
from stale_runtime.segments import FloatArray


@dataclass(frozen=True, kw_only=True)
class MeanAveragePrecision:
    """mAP over the classes that have ground truth, in [0, 1]."""

    per_tiou: Mapping[float, float]
    """mAP at each tIoU threshold."""
    per_class: Mapping[str, float]
    """Average precision of each class that has ground truth, averaged over the thresholds."""
    videos: int
    """Number of evaluated videos, including those without any detection."""
    classes: int
    """Number of classes that have annotations in those videos."""
    foreign_videos: int
    """Number of videos with detections that are not in the ground truth."""
    foreign_video_detections: int
    """Number of detections in those videos; see ``mean_average_precision``."""
    foreign_label_detections: int
    """Number of detections of classes without annotations, in the videos that count; see there, too."""
    ambiguous_segments: int
    """Number of segments that are labelled ``Ambiguous``, which is no class."""
    ambiguous_detections: int
    """Number of detections that overlap one of them; where such a detection matches nothing, it is ignored."""

    @property
    def average(self) -> float:
        """Mean over the thresholds."""
        return float(np.mean(list(self.per_tiou.values())))


def mean_average_precision(
    detections: Mapping[str, Sequence[Detection]],
    ground_truth: GroundTruth,
    *,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    foreign_labels: ForeignRule = "published",
    foreign_videos: ForeignRule = "published",
) -> MeanAveragePrecision:
    """Evaluate detections over the videos of the ground truth.

    For each class, the detections of all videos are matched to annotations, best score first. Each takes the unmatched
    annotation of its video that has the highest tIoU, if that is at least the threshold. The average precision is
    interpolated. A video without detections lowers the result, and so does a detection in a video without annotations,
    or in one outside the ground truth (or outside the subset that it was read with). If scores are equal, the later
    detection comes first. A detection without length matches every annotation without length of its video, because
    their tIoU is 0/0. docs/evaluation.md compares these rules with those of other evaluations.

    The definition does not say what to do with a detection of a class without annotations. The evaluation in
    the original code takes the class's number in its own list of ActivityNet's classes, and counts the detection for
    the evaluated class that has this number in order of appearance. So the detection becomes a false positive of an
    unrelated class, or is ignored. That evaluation stops at a class outside its list; here, such a detection is
    ignored.

    Segments that are labelled ``Ambiguous`` are of no class. A detection that overlaps one and matches nothing is
    neither a true nor a false positive, as in the toolkit of THUMOS14.

    Args:
        detections: by video id, in the unit of the ground truth.
        ground_truth: the videos to evaluate, and their annotations.
        tious: thresholds in (0, 1].
        foreign_labels: what to do with detections of classes without annotations.
        foreign_videos: what to do with detections in videos outside the ground truth.

    Raises:
        ValueError: the ground truth contains no annotation, or a threshold is out of range.

    Source: ``Evaluation/eval_detection.py`` of ActivityNet (Heilbron et al., CVPR 2015); for foreign labels
    ``ANETdetection._import_prediction`` in the authors' ``evaluation/eval_detection.py``; for ambiguous segments
    ``TH14eventdetpr.m`` of THUMOS14's toolkit.
    """
    matches = match_detections(
        detections, ground_truth, tious=tious, foreign_labels=foreign_labels, foreign_videos=foreign_videos
    )
    return average_matches(matches, tious)


def average_matches(matches: Matches, tious: Sequence[float]) -> MeanAveragePrecision:
    """The mAP of detections that are matched already, at these thresholds of tIoU."""
    precision = {label: average_precision(matched) for label, matched in matches.classes.items()}
    return MeanAveragePrecision(
        per_tiou=dict(zip(tious, np.mean(list(precision.values()), axis=0).tolist(), strict=True)),
        per_class={label: float(values.mean()) for label, values in precision.items()},
        videos=matches.videos,
        classes=len(matches.classes),
        foreign_videos=matches.foreign_videos,
        foreign_video_detections=matches.foreign_video_detections,
        foreign_label_detections=sum(len(matched.found.video) for matched in matches.foreign.values()),
        ambiguous_segments=matches.ambiguous_segments,
        ambiguous_detections=sum(int(matched.excused.sum()) for matched in matches.classes.values()),
    )


def average_precision(matched: MatchedClass) -> FloatArray:
    """Interpolated average precision of one class at each threshold of tIoU: (thresholds,) in [0, 1]."""
    hits = matched.hits
    counted = np.cumsum(hits | ~matched.excused[:, None], axis=0)  # (D, thresholds)
    precision = np.cumsum(hits, axis=0) / np.maximum(counted, 1)  # (D, thresholds)
    interpolated = np.maximum.accumulate(precision[::-1], axis=0)[::-1]  # (D, thresholds)
    return np.asarray((interpolated * hits).sum(axis=0) / len(matched.truth.video))
