import pytest
from hypothesis import given, settings

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, Annotation, GroundTruth
from stale_runtime.evaluation.score_threshold import ScoreCurve, ScorePoint, score_curve
from tests.runtime.evaluation.test_mean_average_precision import Found, founds, slow_overlap, truth_of, truths

TRUTH = truth_of({"a": [Annotation("jump", 0, 2), Annotation("run", 3, 5)], "b": [Annotation("jump", 1, 4)]})
FOUND = {
    "a": [Detection("jump", 0, 2, 0.9), Detection("jump", 0, 2, 0.8), Detection("run", 3, 5, 0.5)],
    "b": [Detection("swim", 1, 4, 0.8), Detection("jump", 1, 4, 0.2)],
    "elsewhere": [Detection("jump", 0, 1, 0.1)],
}


def slow_point(found: Found, truth: GroundTruth, score: float, tiou: float) -> tuple[float, float]:
    """Precision and recall of the detections with at least a score, each matched in turn, best first."""
    rows = [(video, row) for video in found for row in found[video] if row.score >= score]
    rows = sorted(rows, key=lambda pair: pair[1].score)[::-1]
    free = {video: list(known.annotations) for video, known in truth.videos.items()}
    hits = 0
    for video, row in rows:
        overlaps = [
            (slow_overlap(row, known), i) for i, known in enumerate(free.get(video, [])) if known.label == row.label
        ]
        overlaps = [(2.0 if overlap != overlap else overlap, i) for overlap, i in overlaps]  # NaN is above all
        if overlaps and max(overlaps)[0] >= tiou:
            del free[video][max(overlaps)[1]]
            hits += 1
    annotations = sum(len(known.annotations) for known in truth.videos.values())
    return hits / len(rows) if rows else 0.0, hits / annotations


@settings(deadline=None, max_examples=200)
@given(founds, truths)
def test_each_point_is_that_of_the_detections_above_it_alone(found: Found, truth: GroundTruth) -> None:
    curve = score_curve(found, truth)
    assert list(curve.scores) == sorted({row.score for rows in found.values() for row in rows}, reverse=True)
    for score, precision, recall in zip(curve.scores, curve.precision, curve.recall, strict=True):
        assert (precision, recall) == pytest.approx(slow_point(found, truth, score, 0.5))
    for score in (0.0, 1.5, 9.0):
        point = curve.at(score)
        assert (point.precision, point.recall) == pytest.approx(slow_point(found, truth, score, 0.5))


def test_the_best_score_is_where_the_harmonic_mean_is_highest() -> None:
    curve = score_curve(FOUND, TRUTH)
    assert curve.scores == (0.9, 0.8, 0.5, 0.2, 0.1)
    assert list(curve.precision) == [1, 1 / 3, 2 / 4, 3 / 5, 3 / 6]
    assert curve.recall == pytest.approx((1 / 3, 1 / 3, 2 / 3, 1, 1))
    assert curve.best is not None
    assert (curve.best.score, curve.best.precision, curve.best.recall) == (0.2, 0.6, 1.0)
    assert curve.best.f1 == pytest.approx(0.75)
    point = curve.at(0.3)
    assert (point.precision, point.recall, point.f1) == pytest.approx((0.5, 2 / 3, 4 / 7))
    assert curve.at(1.0) == ScorePoint(score=1.0, precision=0, recall=0, f1=0)


def test_of_equally_good_scores_the_highest_is_best() -> None:
    curve = ScoreCurve(scores=(0.9, 0.5), precision=(1.0, 0.5), recall=(0.5, 1.0), tiou=0.5)
    assert curve.f1[0] == curve.f1[1]
    assert curve.best == curve.at(0.9)


def test_classes_and_videos_without_ground_truth_are_false_positives_unless_ignored() -> None:
    everything = score_curve(FOUND, TRUTH).at(0)
    assert everything.precision == 3 / 6
    assert score_curve(FOUND, TRUTH, foreign_labels="ignored").at(0).precision == 3 / 5
    ignored = score_curve(FOUND, TRUTH, foreign_labels="ignored", foreign_videos="ignored").at(0)
    assert (ignored.precision, ignored.recall) == (3 / 4, everything.recall)


def test_a_detection_is_never_counted_for_a_class_that_is_not_its_own() -> None:
    """The published mAP counts ``Beer pong``, number 0 in its list, for the class that is annotated first."""
    truth = truth_of({"a": [Annotation("jump", 0, 2)]})
    assert score_curve({"a": [Detection("Beer pong", 0, 2, 0.9)]}, truth).at(0).recall == 0


def test_what_overlaps_an_ambiguous_segment_is_neither_right_nor_wrong() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 2), Annotation(AMBIGUOUS, 4, 6)]})
    found = {"a": [Detection("run", 4, 5, 0.9), Detection("jump", 5, 6, 0.8), Detection("jump", 0, 2, 0.7)]}
    curve = score_curve(found, truth)
    assert (curve.scores, curve.precision, curve.recall) == ((0.7,), (1,), (1,))


def test_without_detections_there_is_no_best_score() -> None:
    curve = score_curve({}, TRUTH)
    assert (curve.scores, curve.best, curve.at(0).f1) == ((), None, 0)


@settings(deadline=None)
@given(founds, truths)
def test_thinning_keeps_the_first_best_and_last_point(found: Found, truth: GroundTruth) -> None:
    curve = score_curve(found, truth)
    thinned = curve.thin(3)
    assert len(thinned.scores) == min(3, len(curve.scores)) or len(curve.scores) > 3 > len(thinned.scores) > 0
    assert thinned.best == curve.best
    assert (thinned.scores[:1], thinned.scores[-1:]) == (curve.scores[:1], curve.scores[-1:])
    assert {*zip(thinned.scores, thinned.precision, thinned.recall, strict=True)} <= {
        *zip(curve.scores, curve.precision, curve.recall, strict=True)
    }


def test_thinning_to_fewer_than_three_points_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 points or more"):
        score_curve(FOUND, TRUTH).thin(2)
