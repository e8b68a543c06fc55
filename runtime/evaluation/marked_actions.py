"""What annotators marked in a video, beside what was found in it."""

from collections.abc import Sequence

import numpy as np

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation
from stale_runtime.segments import FloatArray, temporal_iou

FOUND_TIOU = 0.5
"""Overlap from which on a marked action counts as found, the lowest of ActivityNet's evaluation."""


def annotations_in_unit_of(video: VideoDetections, annotated: AnnotatedVideo) -> list[Annotation] | None:
    """The annotations of a video in the unit of its detections, ambiguous ones among them.

    Returns:
        None if the detections are fractions, and nothing says how long the video is.
    """
    if video.duration_s is not None:
        return list(annotated.annotations)
    if not annotated.duration_s:
        return None
    scale = 1 / annotated.duration_s
    return [Annotation(row.label, row.start_s * scale, row.end_s * scale) for row in annotated.annotations]


def overlaps_with_marked(found: Sequence[Detection], marked: Sequence[Annotation]) -> FloatArray:
    """Overlap of detections with the marked actions of the same class.

    Args:
        found: D detections.
        marked: G annotations in the same unit.

    Returns:
        (D, G) tIoU; 0 where the classes differ, and for ambiguous segments.
    """
    if not found or not marked:
        return np.zeros((len(found), len(marked)))
    segments = np.array([(row.start, row.end) for row in found])  # (D, 2)
    others = np.array([(row.start_s, row.end_s) for row in marked])  # (G, 2)
    same = np.array([[row.label == other.label != AMBIGUOUS for other in marked] for row in found])  # (D, G)
    return np.where(same, temporal_iou(segments[:, None], others[None]), 0.0)
