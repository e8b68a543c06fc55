import numpy as np
import pytest

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation
from stale_runtime.evaluation.marked_actions import annotations_in_unit_of, overlaps_with_marked

FOUND = [Detection("polo", 0.0, 10.0, 0.9), Detection("chess", 5.0, 6.0, 0.5), Detection(AMBIGUOUS, 0.0, 10.0, 0.1)]
MARKED = [Annotation("polo", 5.0, 15.0), Annotation(AMBIGUOUS, 0.0, 10.0), Annotation("polo", 0.0, 10.0)]


def test_only_actions_of_the_same_class_overlap() -> None:
    overlaps = overlaps_with_marked(FOUND, MARKED)
    np.testing.assert_allclose(overlaps, [[1 / 3, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert overlaps_with_marked([], MARKED).shape == (0, 3)
    assert overlaps_with_marked(FOUND, []).shape == (3, 0)


@pytest.mark.parametrize(
    ("duration_s", "annotated_s", "expected"),
    [(20.0, None, Annotation("polo", 5.0, 15.0)), (None, 20.0, Annotation("polo", 0.25, 0.75)), (None, None, None)],
)
def test_annotations_are_in_the_unit_of_the_detections(
    duration_s: float | None, annotated_s: float | None, expected: Annotation | None
) -> None:
    video = VideoDetections(video="a", duration_s=duration_s, detections=())
    found = annotations_in_unit_of(video, AnnotatedVideo(duration_s=annotated_s, annotations=(MARKED[0],)))
    assert found == (None if expected is None else [expected])
