import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stale_model.data.targets import snippet_span, video_targets
from stale_runtime.evaluation.ground_truth import Annotation

CLASSES = {"polo": 0, "archery": 1, "long jump": 2}
BACKGROUND = len(CLASSES)


def box(T: int, *spans: tuple[int, int]) -> torch.Tensor:
    mask = torch.zeros(T, T)
    for start, end in spans:
        for row in range(start, end):
            for column in range(start, end):
                mask[row, column] = 1
    return mask


def test_every_annotation_counts() -> None:
    targets = video_targets([Annotation("long jump", 10, 30), Annotation("polo", 60, 75)], 100, CLASSES, 10)
    assert targets.snippet_classes.tolist() == [3, 2, 2, 3, 3, 3, 0, 0, 3, 3]
    assert targets.snippet_classes.dtype == torch.int64
    assert targets.video_classes.tolist() == [1, 0, 1]
    assert targets.foreground.tolist() == [0, 1, 1, 0, 0, 0, 1, 1, 0, 0]
    assert torch.equal(targets.action_masks, box(10, (1, 3), (6, 8)))
    assert {part.dtype for part in targets[1:]} == {torch.float32}


def test_where_annotations_overlap_the_later_gives_the_class() -> None:
    targets = video_targets([Annotation("polo", 0, 6), Annotation("archery", 4, 8)], 10, CLASSES, 10)
    assert targets.snippet_classes.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 3, 3]
    assert targets.video_classes.tolist() == [1, 1, 0]
    assert torch.equal(targets.action_masks, box(10, (0, 6), (4, 8)))


def test_a_segment_of_two_classes_belongs_to_both() -> None:
    """THUMOS14 labels each dive from a cliff twice, with exactly equal times or nearly so."""
    targets = video_targets([Annotation("polo", 2, 4), Annotation("archery", 2, 4.1)], 10, CLASSES, 10)
    assert targets.snippet_classes.tolist() == [3, 3, 1, 1, 1, 3, 3, 3, 3, 3]
    assert targets.video_classes.tolist() == [1, 1, 0]
    assert torch.equal(targets.action_masks, box(10, (2, 4), (2, 5)))


def test_a_video_without_annotations_is_all_background() -> None:
    targets = video_targets([], 10, CLASSES, 4)
    assert targets.snippet_classes.tolist() == [BACKGROUND] * 4
    assert not any(part.any() for part in targets[1:])


@pytest.mark.parametrize(
    ("start_s", "end_s", "span"),
    [
        (0, 100, (0, 10)),
        (10, 30, (1, 3)),
        (19.9, 30.1, (1, 4)),
        (42, 43, (4, 5)),
        (49, 51, (4, 6)),
        (50, 50, (5, 6)),  # ActivityNet has a few annotations of length zero
        (0, 0, (0, 1)),
        (100, 100, (9, 10)),
        (95, 120, (9, 10)),
        (110, 120, (9, 10)),
        (-5, 5, (0, 1)),
        (-5, -2, (0, 1)),
    ],
)
def test_a_segment_spans_from_floor_to_ceiling(start_s: float, end_s: float, span: tuple[int, int]) -> None:
    assert snippet_span(start_s / 100, end_s / 100, 10) == span
    targets = video_targets([Annotation("polo", start_s, end_s)], 100, CLASSES, 10)
    on = targets.foreground.nonzero().flatten().tolist()
    assert on == list(range(*span))


def test_rounding_moves_no_edge() -> None:
    for duration_s, T in ((100, 100), (10, 100), (30, 200), (7, 49)):
        for second in range(duration_s):
            start = second * T // duration_s
            if start * duration_s != second * T:
                continue
            assert snippet_span(second / duration_s, 1, T) == (start, T)
            if second:
                assert snippet_span(0, second / duration_s, T) == (0, start)


@given(st.floats(-0.5, 1.5), st.floats(0, 1.5), st.integers(1, 4096))
def test_a_span_lies_within_the_video_and_covers_its_segment(start: float, length: float, T: int) -> None:
    first, last = snippet_span(start, start + length, T)
    assert 0 <= first < last <= T
    if start >= 0 and start + length <= 1:
        assert first <= T * start + 1e-5
        assert last >= T * (start + length) - 1e-5
        assert last - first <= math.ceil(T * length) + 1 + 1e-5
