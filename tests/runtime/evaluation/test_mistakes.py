from hypothesis import given, settings

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, Annotation, GroundTruth
from stale_runtime.evaluation.mistakes import Tally, find_mistakes
from stale_runtime.evaluation.score_threshold import score_curve
from tests.runtime.evaluation.test_mean_average_precision import Found, founds, truth_of, truths

TRUTH = truth_of(
    {
        "good": [Annotation("jump", 0, 2)],
        "confused": [Annotation("jump", 0, 2), Annotation("run", 3, 5), Annotation(AMBIGUOUS, 7, 9)],
        "empty": [],
    }
)
FOUND = {
    "good": [Detection("jump", 0, 2, 0.9)],
    "confused": [
        Detection("swim", 0, 2, 0.9),
        Detection("run", 0, 2, 0.8),
        Detection("run", 3, 5, 0.3),
        Detection("run", 8, 9, 0.9),
    ],
    "elsewhere": [Detection("jump", 0, 2, 0.9)],
}


def test_what_is_found_as_another_class_is_counted_once() -> None:
    mistakes = find_mistakes(FOUND, TRUTH, min_score=0.5)
    assert mistakes.videos == {
        "good": Tally(right=1),
        "confused": Tally(wrong=2, missed=2),
        "empty": Tally(),
    }
    assert mistakes.classes == {
        "jump": Tally(right=1, wrong=1, missed=1),
        "run": Tally(wrong=1, missed=1),
        "swim": Tally(wrong=1),
    }
    assert mistakes.confused == {("jump", "swim"): 1}, "the better of the two that were found there"
    assert mistakes.worst_videos(5) == [("confused", Tally(wrong=2, missed=2))]


def test_a_lower_score_lets_more_through() -> None:
    assert find_mistakes(FOUND, TRUTH, min_score=0.3).videos["confused"] == Tally(right=1, wrong=2, missed=1)


def test_foreign_classes_and_videos_can_be_ignored() -> None:
    mistakes = find_mistakes(FOUND, TRUTH, min_score=0.5, foreign_labels="ignored", foreign_videos="ignored")
    assert mistakes.confused == {("jump", "run"): 1}
    assert mistakes.classes["jump"].wrong == 0


def test_the_worst_videos_come_first_and_of_equals_those_with_more_mistakes() -> None:
    truth = truth_of({v: [Annotation("jump", i, i + 1) for i in range(n)] for v, n in (("a", 1), ("b", 3), ("c", 2))})
    mistakes = find_mistakes({"c": [Detection("jump", 0, 1, 0.9)]}, truth, min_score=0)
    assert [video for video, _ in mistakes.worst_videos(9)] == ["b", "a", "c"]
    assert [video for video, _ in mistakes.worst_videos(1)] == ["b"]


@settings(deadline=None, max_examples=100)
@given(founds, truths)
def test_the_counts_agree_with_precision_and_recall(found: Found, truth: GroundTruth) -> None:
    point = score_curve(found, truth).at(3)
    mistakes = find_mistakes(found, truth, min_score=3)
    right, wrong, missed = (
        sum(getattr(tally, field) for tally in mistakes.classes.values()) for field in ("right", "wrong", "missed")
    )
    assert (point.precision, point.recall) == (right / max(right + wrong, 1), right / (right + missed))
    assert sum(tally.right for tally in mistakes.videos.values()) == right
    assert sum(tally.missed for tally in mistakes.videos.values()) == missed
    assert sum(mistakes.confused.values()) <= min(wrong, missed)
    assert all(true != other for true, other in mistakes.confused)
