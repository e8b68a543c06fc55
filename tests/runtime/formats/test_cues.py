from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.detections import Detection, VideoDetections
from stale_runtime.formats.cues import SHORTEST_CUE_MS, Cue, make_cues
from tests.runtime.formats.results import video_of

TIMES = st.floats(0, 100)
ROWS = st.tuples(st.sampled_from("abcde"), TIMES, TIMES, st.floats(0, 1)).map(
    lambda row: (row[0], min(row[1], row[2]), max(row[1], row[2]), row[3])
)


def summary(video: VideoDetections) -> list[tuple[float, float, str]]:
    """The cues of a video as start and end in seconds, and the labels together."""
    return [(cue.start_ms / 1000, cue.end_ms / 1000, "".join(dict(cue.labels))) for cue in make_cues(video)]


def test_a_video_is_cut_where_actions_begin_and_end() -> None:
    video = video_of(("a", 0, 30, 0.5), ("b", 10, 20, 0.9), ("c", 40, 50.1234, 0.1))
    assert summary(video) == [(0, 10, "a"), (10, 20, "ba"), (20, 30, "a"), (40, 50.123, "c")]
    assert make_cues(video)[1].labels == (("b", 0.9), ("a", 0.5))


def test_neighbours_with_the_same_labels_are_one_cue() -> None:
    video = video_of(("a", 0, 30, 0.5), ("a", 10, 40, 0.9), ("a", 40, 50, 0.2))
    assert make_cues(video) == [Cue(start_ms=0, end_ms=50_000, labels=(("a", 0.9),))]
    assert summary(video_of(("a", 0, 10, 0.5), ("a", 12, 20, 0.9))) == [(0, 10, "a"), (12, 20, "a")]


def test_a_short_overlap_is_no_cue_of_its_own() -> None:
    assert summary(video_of(("a", 0, 60, 0.5), ("b", 59.8, 70, 0.9))) == [(0, 59.8, "a"), (59.8, 70, "b")]


def test_a_short_action_is_shown_long_enough_to_be_read() -> None:
    assert summary(video_of(("a", 0, 60, 0.9), ("b", 30, 30.2, 0.5))) == [
        (0, 30, "a"),
        (30, 30.833, "ab"),
        (30.833, 60, "a"),
    ]
    assert summary(video_of(("a", 99.9, 100, 0.9))) == [(99.167, 100, "a")]
    assert summary(video_of(("a", 50, 50, 0.9))) == [(50, 50.833, "a")]


@pytest.mark.parametrize("duration", [0.4, 0.0001])
def test_a_video_that_is_shorter_than_a_cue_has_one(duration: float) -> None:
    (cue,) = make_cues(video_of(("a", 0, duration / 2, 0.9), ("b", duration / 2, duration, 0.5), duration_s=duration))
    assert (cue.start_ms, cue.end_ms, dict(cue.labels)) == (0, max(1, round(duration * 1000)), {"a": 0.9, "b": 0.5})


def test_nothing_found_is_no_cue() -> None:
    assert make_cues(video_of()) == []


def check_laws(video: VideoDetections) -> None:
    """What holds for the cues of every video."""
    cues = make_cues(video)
    assert video.duration_s is not None
    end = max(1, round(video.duration_s * 1000))
    assert all(0 <= cue.start_ms < cue.end_ms <= end for cue in cues)
    assert all(cue.end_ms - cue.start_ms >= min(SHORTEST_CUE_MS, end) for cue in cues)
    for before, after in pairwise(cues):
        assert before.end_ms <= after.start_ms
        assert before.end_ms < after.start_ms or dict(before.labels).keys() != dict(after.labels).keys()
    for cue in cues:
        scores = [score for _, score in cue.labels]
        assert scores == sorted(scores, reverse=True)
        near = [row for row in video if _is_near(row, cue)]
        assert dict(cue.labels).keys() <= {row.label for row in near}
        assert all(any(row[::3] == known for row in near) for known in cue.labels)
    for row in video:
        assert any(row.label in dict(cue.labels) and _is_near(row, cue) for cue in cues)


def _is_near(row: Detection, cue: Cue) -> bool:
    """Whether a detection is on during a cue, or less than the length of the shortest cue from it."""
    margin = 2 * SHORTEST_CUE_MS
    return row.start * 1000 < cue.end_ms + margin and row.end * 1000 > cue.start_ms - margin


@given(st.lists(ROWS, max_size=30))
def test_cues_never_overlap_and_show_every_action_while_it_lasts(rows: list[tuple[Any, ...]]) -> None:
    check_laws(video_of(*rows))


@given(st.lists(ROWS, max_size=10), st.floats(1e-4, 2))
def test_the_laws_hold_for_very_short_videos(rows: list[tuple[Any, ...]], duration: float) -> None:
    scale = duration / 100
    check_laws(video_of(*((label, a * scale, b * scale, p) for label, a, b, p in rows), duration_s=duration))


@given(st.lists(ROWS, min_size=1, max_size=30), st.floats(0, 1))
def test_no_cue_is_below_the_score(rows: list[tuple[Any, ...]], score: float) -> None:
    cues = make_cues(video_of(*rows).min_score(score))
    assert all(p >= score for cue in cues for _, p in cue.labels)
