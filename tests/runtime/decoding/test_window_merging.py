from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.window_merging import (
    EDGE_PENALTY,
    LOWEST_SCORE,
    MISSING_VOTES,
    SAME,
    SIGMA,
    VOTE_POWER,
    Candidates,
    distinct,
    judge,
    suppress,
)
from stale_runtime.segments import temporal_iou

Row = tuple[float, float, int, float, bool, int]
"""Start, end, class, score, whether a window's edge cuts it off, window."""
WINDOWS = np.array([[0, 100], [50, 150], [100, 200], [0, 200]])


def candidates(rows: Sequence[Row]) -> Candidates:
    rows = sorted(rows, key=lambda row: row[5])
    starts, ends, classes, scores, cut_off, windows = zip(*rows, strict=True) if rows else ((),) * 6
    return Candidates(
        np.array([starts, ends], np.float64).T.reshape(-1, 2),
        np.array(classes, np.intp),
        np.array(scores, np.float64),
        np.array(cut_off, bool),
        np.array(windows, np.intp),
    )


def judged(rows: Sequence[Row], windows: Sequence[Sequence[int]] | None = None) -> Ranked:
    """The candidates, ordered by window, with the scores that all windows give them."""
    some = candidates(rows)
    places = WINDOWS if windows is None else np.array(windows)
    return judge(some, places, np.ones(len(some.scores), bool))


def ranked(rows: Sequence[tuple[int, float, float, float]]) -> Ranked:
    """Class, start, end and score of each."""
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Ranked(table[:, 0].astype(np.intp), table[:, 1:3], table[:, 3])


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    """Up to 30 candidates of three classes within ``WINDOWS``, and one at least."""
    rows: list[Row] = []
    for _ in range(draw(st.integers(1, 30))):
        window = draw(st.integers(0, 3))
        first, last = WINDOWS[window].tolist()
        start = draw(st.integers(first, last))
        end = draw(st.integers(start, last))
        cut_off = bool(draw(st.booleans()))
        rows.append((start, end, draw(st.integers(0, 2)), draw(st.floats(LOWEST_SCORE, 1)), cut_off, window))
    return rows


def some_ranked() -> st.SearchStrategy[Ranked]:
    row = st.builds(
        lambda label, start, length, score: (label, start, start + length, score),
        st.integers(0, 2), st.integers(0, 50), st.integers(0, 50), st.floats(0, 1),
    )  # fmt: skip
    return st.lists(row, max_size=30).map(ranked)


def test_what_one_window_alone_holds_keeps_its_score_and_its_place() -> None:
    for segment in ((10, 40), (0, 49), (30, 30)):
        found = judged([(*segment, 0, 0.7, False, 0)], [[0, 100], [50, 150]])
        np.testing.assert_allclose(found.scores, 0.7)
        np.testing.assert_array_equal(found.segments, [segment])


def test_windows_that_agree_are_surer_than_one_of_two() -> None:
    both = judged([(60, 90, 0, 0.6, False, 0), (60, 90, 0, 0.6, False, 1)], [[0, 100], [50, 150]])
    one = judged([(60, 90, 0, 0.6, False, 0)], [[0, 100], [50, 150]])
    alone = judged([(60, 90, 0, 0.6, False, 0)], [[0, 100]])
    np.testing.assert_allclose(both.scores, 2 * 0.6 * (1 + MISSING_VOTES) / (2 + MISSING_VOTES))
    np.testing.assert_allclose(one.scores, 0.6 * (1 + MISSING_VOTES) / (2 + MISSING_VOTES))
    assert (both.scores > alone.scores).all()
    assert (alone.scores > one.scores).all()


def test_a_window_has_a_say_if_it_holds_nine_tenths() -> None:
    row: Row = (80, 100, 0, 0.6, False, 0)
    with_say = judged([row], [[0, 100], [82, 200]])
    without = judged([row], [[0, 100], [83, 200]])
    np.testing.assert_allclose(without.scores, 0.6)
    assert (with_say.scores < 0.5).all()


def test_support_is_by_overlap_and_score_of_the_most_alike() -> None:
    rows: list[Row] = [(60, 100, 0, 0.5, False, 0), (60, 90, 0, 0.4, False, 1), (90, 100, 0, 0.9, False, 1)]
    found = judged(rows, [[0, 100], [50, 150]])
    supports = [0.5 + 0.75**VOTE_POWER * 0.4, 0.75**VOTE_POWER * 0.5 + 0.4, 0.25**VOTE_POWER * 0.5 + 0.9]
    np.testing.assert_allclose(found.scores, np.array(supports) * (1 + MISSING_VOTES) / (2 + MISSING_VOTES))


def test_a_candidate_that_an_edge_cuts_off_counts_less() -> None:
    windows = [[0, 100], [50, 150]]
    alone = judged([(10, 40, 0, 0.8, True, 0)], windows)
    np.testing.assert_allclose(alone.scores, 0.8 * EDGE_PENALTY)
    as_support = [
        judged([(60, 90, 0, 0.5, False, 0), (60, 90, 0, 0.5, cut_off, 1)], windows).scores[0]
        for cut_off in (False, True)
    ]
    assert as_support[0] > as_support[1]


def test_edges_are_means_of_those_of_similar_candidates() -> None:
    rows: list[Row] = [(60, 100, 0, 0.5, False, 0), (64, 96, 0, 0.5, False, 1), (60, 70, 0, 0.9, False, 3)]
    found = judged(rows)
    weight = 0.8**8
    np.testing.assert_allclose(found.segments[0], [60 + 4 * weight / (1 + weight), 100 - 4 * weight / (1 + weight)])
    np.testing.assert_allclose(found.segments[2], [60, 70])
    cut_off = judged([rows[0], (64, 96, 0, 0.5, True, 1)])
    assert 60 < cut_off.segments[0, 0] < found.segments[0, 0]


@given(some_rows())
def test_edges_stay_between_those_of_the_candidates_and_scores_are_bounded(rows: list[Row]) -> None:
    some, found = candidates(rows), judged(rows)
    for label in range(3):
        of_class = some.classes == label
        if of_class.any():
            starts, ends = some.segments[of_class].T
            assert (found.segments[of_class, 0] >= starts.min() - 1e-9).all()
            assert (found.segments[of_class, 1] <= ends.max() + 1e-9).all()
            best = some.scores[of_class].max()
            assert (found.scores[of_class] <= best * (1 + MISSING_VOTES) + 1e-9).all()
    assert (found.segments[:, 0] <= found.segments[:, 1] + 1e-9).all()
    assert (temporal_iou(found.segments, some.segments) >= 0).all()
    assert (found.scores > 0).all()


@given(some_rows(), st.permutations(range(3)))
def test_the_order_of_classes_does_not_matter(rows: list[Row], order: list[int]) -> None:
    found = judged(rows)
    other = judged([(start, end, order[label], *rest) for start, end, label, *rest in rows])  # type: ignore[misc]
    np.testing.assert_array_equal(other.classes, np.array(order)[found.classes])
    np.testing.assert_array_equal(other.segments, found.segments)
    np.testing.assert_array_equal(other.scores, found.scores)
    kept, other_kept = suppress(found, found.best(3), 50), suppress(other, other.best(3), 50)
    assert sorted(kept.scores.tolist()) == sorted(other_kept.scores.tolist())


@given(some_rows(), st.integers(0, 2**32 - 1))
def test_only_the_chosen_are_returned_and_judged_as_if_all_were(rows: list[Row], seed: int) -> None:
    some, found = candidates(rows), judged(rows)
    chosen = np.random.default_rng(seed).random(len(rows)) < 0.5
    part = judge(some, WINDOWS, chosen)
    np.testing.assert_array_equal(part.classes, found.classes[chosen])
    np.testing.assert_allclose(part.segments, found.segments[chosen], rtol=1e-12)
    np.testing.assert_allclose(part.scores, found.scores[chosen], rtol=1e-12)


def test_no_candidates_are_no_segments() -> None:
    none = Candidates.joined([])
    found = judge(none, np.zeros((0, 2), np.int64), np.zeros(0, bool))
    assert found.segments.shape == (0, 2)
    assert len(suppress(found, found, 10).scores) == 0
    assert distinct(found, 10).shape == (0, 2)
    assert len(judge(candidates([(0, 5, 0, 0.5, False, 0)]), WINDOWS, np.array([False])).scores) == 0


@given(some_rows(), st.lists(st.booleans(), min_size=4, max_size=4))
def test_candidates_of_some_windows_are_numbered_anew(rows: list[Row], chosen: list[bool]) -> None:
    alive = np.array(chosen)
    found = candidates(rows).of_windows(alive)
    places = WINDOWS[alive][found.windows]
    expected = [row for row in sorted(rows, key=lambda row: row[5]) if alive[row[5]]]
    assert [tuple(row) for row in found.segments.tolist()] == [row[:2] for row in expected]
    assert [row[3] for row in expected] == found.scores.tolist()
    np.testing.assert_array_equal(places.reshape(-1, 2), np.array([WINDOWS[row[5]] for row in expected]).reshape(-1, 2))


@given(some_ranked(), some_ranked(), st.integers(1, 40))
def test_suppression_raises_no_score(some: Ranked, earlier: Ranked, most: int) -> None:
    before = {(label, *segment): 0.0 for label, segment in zip(some.classes, map(tuple, some.segments), strict=True)}
    for label, segment, score in zip(some.classes, map(tuple, some.segments), some.scores, strict=True):
        before[label, *segment] = max(before[label, *segment], score)
    found = suppress(some, earlier, most)
    assert len(found.scores) <= min(most, len(some.scores))
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores > LOWEST_SCORE).all()
    for label, segment, score in zip(found.classes, map(tuple, found.segments), found.scores, strict=True):
        assert score <= before[label, *segment] * (1 + 1e-12)


@given(some_ranked(), some_ranked())
def test_earlier_detections_lower_scores_and_raise_none(some: Ranked, earlier: Ranked) -> None:
    free, after = suppress(some, earlier.where(np.zeros(0, np.intp)), 100), suppress(some, earlier, 100)
    assert after.scores.sum() <= free.scores.sum() * (1 + 1e-9)


def test_earlier_detections_do_not_lower_better_scores() -> None:
    """As in soft-NMS. Otherwise an action that lies across two tiles would lose its best candidate to worse ones."""
    some = ranked([(0, 10, 20, 0.8), (0, 10, 19, 0.3)])
    found = suppress(some, ranked([(0, 9, 20, 0.1), (0, 9, 19, 0.5)]), 10)
    assert found.scores[0] == 0.8
    alone = suppress(some, ranked([]), 10)
    assert found.scores[1] < alone.scores[1]


def test_what_was_returned_before_is_not_returned_again() -> None:
    some = ranked([(0, 10, 20, 0.8), (1, 10, 20, 0.7), (0, 30, 40, 0.6)])
    found = suppress(some, ranked([(0, 10, 20, 0.8)]), 10)
    np.testing.assert_array_equal(found.classes, [1, 0, 0])
    np.testing.assert_allclose(found.scores, [0.7, 0.6, 0.8 * np.exp(-1 / SIGMA)])
    twice = suppress(some, ranked([(0, 10, 20, 0.8), (0, 10, 20, 0.9)]), 10)
    np.testing.assert_allclose(twice.scores[2], 0.8 * np.exp(-2 / SIGMA))
    assert len(suppress(some, ranked([]), 2).scores) == 2


@given(some_ranked(), st.integers(0, 8))
def test_distinct_segments_overlap_little_and_are_the_best(some: Ranked, most: int) -> None:
    found = distinct(some, most)
    assert len(found) <= most
    overlap = temporal_iou(found[:, None], found)
    np.fill_diagonal(overlap, 0)
    assert (overlap <= SAME).all()
    best = some.where(some.scores > LOWEST_SCORE).best(None)
    places = [next(n for n, other in enumerate(best.segments) if (other == segment).all()) for segment in found]
    assert places == sorted(places)
    if len(found) < most:  # every other one is like a better one
        assert all((temporal_iou(segment, found) > SAME).any() or segment in found for segment in best.segments)


def test_distinct_segments_are_of_any_class() -> None:
    some = ranked([(0, 10, 20, 0.5), (1, 11, 20, 0.8), (2, 15, 25, 0.3), (0, 50, 60, 0.4), (0, 70, 80, LOWEST_SCORE)])
    np.testing.assert_array_equal(distinct(some, 10), [[11, 20], [50, 60], [15, 25]])
    np.testing.assert_array_equal(distinct(some, 2), [[11, 20], [50, 60]])


@pytest.mark.parametrize("score", [1e-300, 1.0, 1e6])
def test_scores_of_any_size_give_numbers(score: float) -> None:
    found = judged([(60, 90, 0, score, False, 0), (60, 95, 0, score, True, 1)])
    assert np.isfinite(found.segments).all()
    assert np.isfinite(found.scores).all()
