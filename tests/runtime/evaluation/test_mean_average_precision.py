import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.detections import Detection
from stale_runtime.evaluation.activitynet import CLASSES
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.evaluation.matching import ACTIVITYNET_TIOUS, THUMOS14_TIOUS
from stale_runtime.evaluation.mean_average_precision import mean_average_precision

Found = Mapping[str, Sequence[Detection]]
LABELS = ("jump", "run", "swim")
TIOUS = (0.2, 0.5, 0.75, 1.0)

segments = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda pair: (float(min(pair)), float(max(pair))))
annotations = st.builds(lambda label, segment: Annotation(label, *segment), st.sampled_from(LABELS), segments)
detections = st.builds(
    lambda label, segment, score: Detection(label, segment[0], segment[1], score),
    st.sampled_from((*LABELS, "unheard of")),
    segments,
    st.integers(1, 5).map(float),
)


def truth_of(videos: Mapping[str, Sequence[Annotation]]) -> GroundTruth:
    return GroundTruth(
        videos={name: AnnotatedVideo(duration_s=6.0, annotations=tuple(rows)) for name, rows in videos.items()}
    )


videos = st.sampled_from("abcd")
truths = (
    st.dictionaries(st.sampled_from("abc"), st.lists(annotations, max_size=5), min_size=1)
    .filter(lambda rows: any(rows.values()))
    .map(truth_of)
)
founds = st.dictionaries(videos, st.lists(detections, max_size=8))


def slow_average_precision(found: Found, truth: GroundTruth, label: str, tiou: float) -> float:
    """ActivityNet's definition for one class and threshold, one detection at a time, with 0/0 as it comes out there."""
    rows = [(video, row) for video in found for row in found[video] if row.label == label]
    rows = sorted(rows, key=lambda pair: pair[1].score)[::-1]  # of equal scores, the later one first
    left = {name: [row for row in video.annotations if row.label == label] for name, video in truth.videos.items()}
    total = sum(map(len, left.values()))
    hits = []
    for video, row in rows:
        annotated = left.get(video, [])
        overlaps = [slow_overlap(row, known) for known in annotated]
        order = np.argsort(overlaps, kind="stable")[::-1]  # NaN, which is not below any threshold, first
        hits.append(len(order) > 0 and not overlaps[order[0]] < tiou)
        if hits[-1]:
            del annotated[order[0]]
    precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precisions[n:]) for n in range(len(hits)) if hits[n]) / total


def slow_overlap(found: Detection, known: Annotation) -> float:
    shared = max(0.0, min(found.end, known.end_s) - max(found.start, known.start_s))
    union = (found.end - found.start) + (known.end_s - known.start_s) - shared
    return shared / union if union else math.nan


@settings(deadline=None, max_examples=200)
@given(founds, truths)
def test_equals_the_definition_followed_one_detection_at_a_time(found: Found, truth: GroundTruth) -> None:
    result = mean_average_precision(found, truth, tious=TIOUS)
    labels = {row.label for video in truth.videos.values() for row in video.annotations}
    assert result.classes == len(labels)
    for tiou in TIOUS:
        expected = np.mean([slow_average_precision(found, truth, label, tiou) for label in labels])
        assert result.per_tiou[tiou] == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(founds, truths)
def test_is_between_0_and_1(found: Found, truth: GroundTruth) -> None:
    values = list(mean_average_precision(found, truth, tious=TIOUS).per_tiou.values())
    assert all(0 <= value <= 1 for value in values)


@settings(deadline=None)
@given(truths, st.lists(st.floats(0.1, 1), min_size=20, max_size=20))
def test_ground_truth_itself_has_an_map_of_1(truth: GroundTruth, scores: list[float]) -> None:
    found = {
        name: [Detection(*row, score) for row, score in zip(video.annotations, scores, strict=False)]
        for name, video in truth.videos.items()
    }
    result = mean_average_precision(found, truth, tious=(*ACTIVITYNET_TIOUS, 1.0))
    assert set(result.per_tiou.values()) == {1.0}
    assert result.average == 1


@settings(deadline=None)
@given(founds, truths)
def test_only_the_order_of_scores_counts(found: Found, truth: GroundTruth) -> None:
    scaled = {
        name: [row._replace(score=math.exp(row.score) / 1000 - 7) for row in rows] for name, rows in found.items()
    }
    assert mean_average_precision(scaled, truth, tious=TIOUS) == mean_average_precision(found, truth, tious=TIOUS)


@settings(deadline=None)
@given(founds, truths)
def test_detections_of_other_classes_change_nothing(found: Found, truth: GroundTruth) -> None:
    without = {name: [row for row in rows if row.label != "run"] for name, rows in found.items()}
    others = truth.of_classes({"jump", "swim"})
    if any(video.annotations for video in others.videos.values()):
        before = mean_average_precision(without, others, tious=TIOUS, foreign_labels="ignored")
        after = mean_average_precision(found, others, tious=TIOUS, foreign_labels="ignored")
        assert before.per_tiou == after.per_tiou


def test_a_hand_worked_example() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4), Annotation("jump", 10, 14)]})
    found = {"a": [Detection("jump", 0, 4, 0.9), Detection("jump", 20, 24, 0.8), Detection("jump", 10, 13, 0.7)]}
    result = mean_average_precision(found, truth, tious=(0.5, 0.8))
    assert result.per_tiou == {0.5: pytest.approx((1 + 2 / 3) / 2), 0.8: pytest.approx(1 / 2)}
    assert result.average == pytest.approx((5 / 6 + 1 / 2) / 2)


def test_an_annotation_is_taken_once() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4), Annotation("jump", 5, 9)]})
    found = {"a": [Detection("jump", 0, 4, 0.9), Detection("jump", 0, 4, 0.8)]}
    assert mean_average_precision(found, truth, tious=(0.5,)).average == 0.5


def test_a_threshold_is_met_by_a_tiou_equal_to_it() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4)]})
    found = {"a": [Detection("jump", 0, 2, 1.0)]}
    assert mean_average_precision(found, truth, tious=(0.5, 0.51)).per_tiou == {0.5: 1.0, 0.51: 0.0}


def test_of_equal_scores_the_later_goes_first() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4)]})
    wrong, right = Detection("jump", 8, 9, 0.5), Detection("jump", 0, 4, 0.5)
    assert mean_average_precision({"a": [wrong, right]}, truth, tious=(0.5,)).average == 1
    assert mean_average_precision({"a": [right, wrong]}, truth, tious=(0.5,)).average == 1 / 2


def test_of_equally_overlapped_annotations_the_later_is_taken() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 2), Annotation("jump", 2, 4)]})
    between = Detection("jump", 1, 3, 0.9)
    first, second = Detection("jump", 0, 2, 0.5), Detection("jump", 2, 4, 0.5)
    assert mean_average_precision({"a": [between, first]}, truth, tious=(0.3,)).average == 1
    assert mean_average_precision({"a": [between, second]}, truth, tious=(0.3,)).average == 0.5


def test_a_video_without_detections_counts_against_the_result() -> None:
    rows = [Annotation("jump", 0, 4)]
    found = {"a": [Detection("jump", 0, 4, 0.5)]}
    result = mean_average_precision(found, truth_of({"a": rows, "b": rows}), tious=(0.5,))
    assert (result.average, result.videos) == (0.5, 2)


def test_detections_in_videos_outside_the_ground_truth_are_false_positives_unless_ignored() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4)]})
    found = {
        "a": [Detection("jump", 0, 4, 0.5)],
        "elsewhere": [Detection("jump", 0, 4, 0.9), Detection("jump", 5, 6, 0.1)],
        "empty": [],
    }
    result = mean_average_precision(found, truth, tious=(0.5,))
    assert (result.average, result.videos, result.foreign_videos, result.foreign_video_detections) == (0.5, 1, 1, 2)
    ignored = mean_average_precision(found, truth, tious=(0.5,), foreign_videos="ignored")
    assert (ignored.average, ignored.foreign_videos, ignored.foreign_video_detections) == (1, 1, 2)


def test_a_video_without_annotations_can_only_give_false_positives() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4)], "empty": []})
    found = {"a": [Detection("jump", 0, 4, 0.5)], "empty": [Detection("jump", 0, 4, 0.9)]}
    assert mean_average_precision(found, truth, tious=(0.5,)).average == 0.5


def test_an_annotation_without_length_is_matched_by_any_detection_without_length_of_its_video() -> None:
    truth = truth_of({"a": [Annotation("jump", 3, 3)]})
    assert mean_average_precision({"a": [Detection("jump", 3, 3, 0.5)]}, truth).average == 1
    assert mean_average_precision({"a": [Detection("jump", 9, 9, 0.5)]}, truth, tious=(1.0,)).average == 1
    assert mean_average_precision({"a": [Detection("jump", 2, 4, 0.5)]}, truth).average == 0
    assert mean_average_precision({"b": [Detection("jump", 3, 3, 0.5)]}, truth).average == 0


def test_evenly_spaced_thresholds_are_rounded_as_by_linspace() -> None:
    """At 0.9 ActivityNet's evaluation accepts a tIoU of 0.9 - 1e-16, because its threshold is not larger."""
    just_below = np.nextafter(0.9, 0)
    truth = truth_of({"a": [Annotation("jump", 0, 1)]})
    found = {"a": [Detection("jump", 0, just_below, 0.5)]}
    assert mean_average_precision(found, truth).per_tiou[0.9] == 1
    assert mean_average_precision(found, truth, tious=(0.9,)).per_tiou[0.9] == 0
    assert mean_average_precision(found, truth, tious=(0.5, 0.9, 1.0)).per_tiou[0.9] == 0


def test_a_detection_that_overlaps_an_ambiguous_segment_is_no_false_positive() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4), Annotation("Ambiguous", 10, 12)], "b": []})
    right, ambiguous = Detection("jump", 0, 4, 0.5), Detection("jump", 11.9, 20, 0.9)
    result = mean_average_precision({"a": [right, ambiguous]}, truth, tious=(0.5,))
    assert (result.average, result.classes) == (1, 1)
    assert (result.ambiguous_segments, result.ambiguous_detections) == (1, 1)
    assert mean_average_precision({"a": [right, ambiguous]}, truth.without_ambiguous(), tious=(0.5,)).average == 0.5
    elsewhere = {"a": [right], "b": [ambiguous]}
    assert mean_average_precision(elsewhere, truth, tious=(0.5,)).average == 0.5
    touching = {"a": [right, ambiguous._replace(start=12)]}
    assert mean_average_precision(touching, truth, tious=(0.5,)).average == 0.5


def test_a_detection_that_matches_counts_even_if_it_overlaps_an_ambiguous_segment() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4), Annotation("jump", 6, 8), Annotation("Ambiguous", 3, 5)]})
    found = {"a": [Detection("jump", 0, 4, 0.9), Detection("jump", 0, 4, 0.8), Detection("jump", 6, 8, 0.1)]}
    assert mean_average_precision(found, truth, tious=(0.5,)).average == 1
    assert mean_average_precision(found, truth.without_ambiguous(), tious=(0.5,)).average == pytest.approx(5 / 6)


def test_a_detection_that_is_labelled_ambiguous_is_of_a_foreign_class() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 4), Annotation("Ambiguous", 10, 12)]})
    found = {"a": [Detection("jump", 0, 4, 0.5), Detection("Ambiguous", 10, 12, 0.9)]}
    result = mean_average_precision(found, truth, tious=(0.5,))
    assert (result.average, result.foreign_label_detections) == (1, 1)


@settings(deadline=None)
@given(founds, truths)
def test_ambiguous_segments_never_lower_the_result(found: Found, truth: GroundTruth) -> None:
    ambiguous = Annotation("Ambiguous", 1.0, 3.0)
    with_ambiguous = truth_of({name: [*known.annotations, ambiguous] for name, known in truth.videos.items()})
    before = mean_average_precision(found, truth, tious=TIOUS)
    after = mean_average_precision(found, with_ambiguous, tious=TIOUS)
    assert all(after.per_tiou[tiou] >= before.per_tiou[tiou] - 1e-12 for tiou in TIOUS)


def test_surfing_without_ground_truth_is_charged_to_the_twelfth_class() -> None:
    names = [f"class {n}" for n in range(13)]
    truth = truth_of({"a": [Annotation(name, 0, 4) for name in names]})
    right = [Detection(name, 0, 4, 0.5) for name in names]
    found = {"a": [Detection("Surfing", 0, 1, 0.9), *right]}
    assert CLASSES.index("Surfing") == 11
    charged = mean_average_precision(found, truth, tious=(0.5,))
    ignored = mean_average_precision(found, truth, tious=(0.5,), foreign_labels="ignored")
    assert charged.average == pytest.approx((12 + 1 / 2) / 13)
    assert ignored.average == 1
    assert charged.foreign_label_detections == ignored.foreign_label_detections == 1
    twelfth = {"a": [*found["a"][:1], *(row for row in right if row.label != "class 11")]}
    assert mean_average_precision(twelfth, truth, tious=(0.5,)).average == pytest.approx(12 / 13)


@pytest.mark.parametrize("label", ["Surfing", "Juggling"])
def test_a_foreign_label_beyond_the_evaluated_classes_counts_for_nothing(label: str) -> None:
    truth = truth_of({"a": [Annotation(f"class {n}", 0, 4) for n in range(11)]})
    found = {"a": [Detection(label, 0, 4, 0.9), *(Detection(f"class {n}", 0, 4, 0.5) for n in range(11))]}
    result = mean_average_precision(found, truth, tious=(0.5,))
    assert (result.average, result.foreign_label_detections) == (1, 1)


def test_activitynet_has_200_different_classes() -> None:
    assert len(set(CLASSES)) == len(CLASSES) == 200
    assert (CLASSES[0], CLASSES[199]) == ("Beer pong", "Laying tile")


def test_published_thresholds() -> None:
    assert ACTIVITYNET_TIOUS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert THUMOS14_TIOUS == (0.3, 0.4, 0.5, 0.6, 0.7)


@pytest.mark.parametrize("tious", [(), (0.0,), (0.5, 1.1), (-0.5,), (math.nan,)])
def test_refuses_thresholds_out_of_range(tious: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="tIoU thresholds"):
        mean_average_precision({}, truth_of({"a": [Annotation("jump", 0, 4)]}), tious=tious)


@pytest.mark.parametrize("rows", [[], [Annotation("Ambiguous", 0, 1)]])
def test_refuses_ground_truth_without_annotations(rows: list[Annotation]) -> None:
    with pytest.raises(ValueError, match="no annotation"):
        mean_average_precision({}, truth_of({"a": rows}))
