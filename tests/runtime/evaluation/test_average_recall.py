import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.detections import Detection
from stale_runtime.evaluation.average_recall import average_recall
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, Annotation, GroundTruth
from tests.runtime.evaluation.test_mean_average_precision import Found, slow_overlap, truth_of, truths

rows = st.builds(
    lambda start, length, score: Detection("any", start, start + length, score),
    st.integers(0, 5),
    st.integers(0, 3),
    st.floats(0, 1),
)
proposals = st.dictionaries(st.sampled_from("abcd"), st.lists(rows, max_size=60, unique_by=lambda row: row.score))


def slow_recall(found: Found, truth: GroundTruth, most: float = 100.0) -> list[float]:
    """ActivityNet's ``average_recall_vs_avg_nr_proposals``, step by step, with one number at a time."""
    videos = [video for video, known in truth.videos.items() if known.annotations]
    everything = sum(map(len, found.values()))
    ratio = most * len(videos) / everything if everything else 0.0
    overlaps = {}
    for video in videos:
        best_first = sorted(found.get(video, []), key=lambda row: -row.score)
        retrieved = best_first[: min(int(len(best_first) * ratio), len(best_first))]
        overlaps[video] = [[slow_overlap(row, known) for row in retrieved] for known in truth.videos[video].annotations]
    total = sum(len(table[0]) for table in overlaps.values())
    if not total:
        return [0.0] * 100
    recalls = []
    for percent in range(1, 101):
        share = percent / 100.0 * (most * float(len(videos)) / total)
        recall = []
        for tiou in np.linspace(0.5, 0.95, 10):
            found_ones = 0
            for table in overlaps.values():
                kept = min(int(len(table[0]) * share), len(table[0]))
                found_ones += sum(any(overlap >= tiou for overlap in row[:kept]) for row in table)  # NaN is not
            recall.append(found_ones / sum(map(len, overlaps.values())))
        recalls.append(sum(recall) / len(recall))
    return recalls


@settings(deadline=None, max_examples=100)
@given(proposals, truths)
def test_equals_activitynets_evaluation_followed_step_by_step(found: Found, truth: GroundTruth) -> None:
    everything = sum(map(len, found.values()))
    measured = average_recall(found, truth, proposals=everything)
    assert measured.recall == pytest.approx(slow_recall(found, truth), abs=1e-12)
    expected = slow_recall({video: rows for video, rows in found.items() if video in truth.videos}, truth)
    assert average_recall(found, truth).recall == pytest.approx(expected, abs=1e-12)


def test_two_videos_worked_out_by_hand() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 10), Annotation("run", 20, 30)], "b": [Annotation("jump", 0, 10)]})
    found = {
        "a": [Detection("x", 0, 10, 0.5), Detection("y", 20, 27, 0.9)],  # 0.7 of the second one, then all of the first
        "b": [Detection("x", 5, 15, 0.9), Detection("x", 0, 10, 0.4)],
    }
    measured = average_recall(found, truth)
    assert measured.at(1) == pytest.approx(4 / 10 / 3, abs=0.04)  # 0.7 may fall short of 0.7
    assert measured.at(2) == pytest.approx((1 + 5 / 10 + 1) / 3, abs=0.04)
    assert measured.at(2) == measured.at(100) > measured.at(1)
    curve = np.array(measured.recall)
    assert measured.area == pytest.approx(((curve[1:] + curve[:-1]) / 2).sum() / 100)


def test_ambiguous_segments_need_not_be_found() -> None:
    truth = truth_of(
        {"a": [Annotation("jump", 0, 10), Annotation(AMBIGUOUS, 20, 30)], "b": [Annotation(AMBIGUOUS, 0, 1)]}
    )
    assert average_recall({"a": [Detection("jump", 0, 10, 0.5)]}, truth).at(1) == 1


def test_a_long_video_is_compared_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = truth_of({"a": [Annotation("jump", i, i + 1.5) for i in range(20)]})
    found = {"a": [Detection("jump", i + 0.1 * (i % 4), i + 1.5, i / 20) for i in range(20)]}
    whole = average_recall(found, truth)
    monkeypatch.setattr("stale_runtime.evaluation.average_recall._CELLS", 60)
    assert average_recall(found, truth) == whole
    assert 0 < whole.at(5) < whole.at(100)


def test_without_proposals_nothing_is_found() -> None:
    truth = truth_of({"a": [Annotation("jump", 0, 10)]})
    measured = average_recall({}, truth)
    assert (measured.at(1), measured.at(100), measured.area) == (0, 0, 0)


@pytest.mark.parametrize("proposals", [0, 101])
def test_only_1_to_100_proposals_are_known(proposals: int) -> None:
    measured = average_recall({}, truth_of({"a": [Annotation("jump", 0, 10)]}))
    with pytest.raises(ValueError, match=f"average of {proposals} proposals, expected 1 to 100"):
        measured.at(proposals)


def test_a_ground_truth_without_annotations_is_refused() -> None:
    with pytest.raises(ValueError, match="contains no annotation"):
        average_recall({}, truth_of({"a": []}))


def test_nothing_without_length_is_found() -> None:
    """0/0 is above no threshold here, although it is above all of them in ActivityNet's mAP."""
    assert math.isnan(slow_overlap(Detection("jump", 3, 3, 1), Annotation("jump", 3, 3)))
    truth = truth_of({"a": [Annotation("jump", 3, 3)]})
    assert average_recall({"a": [Detection("jump", 3, 3, 1)]}, truth).at(100) == 0
