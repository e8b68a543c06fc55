from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.decoding.soft_nms import soft_nms
from stale_runtime.segments import FloatArray, Segments

Rows: TypeAlias = tuple[Segments, FloatArray, NDArray[np.intp]]


@st.composite
def candidates(draw: st.DrawFn) -> Rows:
    """Segments, scores and classes, with ties and empty segments among them."""
    N = draw(st.integers(0, 30))
    ends = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=N, max_size=N))
    scores = draw(st.lists(st.integers(1, 10), min_size=N, max_size=N))
    classes = draw(st.lists(st.integers(0, 2), min_size=N, max_size=N))
    segments = np.sort(np.array(ends, dtype=np.float64).reshape(N, 2), axis=1) / 8
    return segments, np.array(scores) / 10, np.array(classes, dtype=np.intp)


@given(candidates(), st.floats(0.05, 2))
def test_never_raises_a_score_and_takes_the_best_first(rows: Rows, sigma: float) -> None:
    segments, scores, classes = rows
    taken, taken_scores = soft_nms(segments, scores, classes, sigma=sigma, most=100)
    assert (taken_scores <= scores[taken]).all()
    assert (np.diff(taken_scores) <= 0).all()
    assert len(set(taken.tolist())) == len(taken)
    if len(scores):
        assert taken[0] == scores.argmax()
        assert taken_scores[0] == scores.max()


@given(candidates())
def test_classes_do_not_touch_one_another(rows: Rows) -> None:
    segments, scores, classes = rows
    taken, taken_scores = soft_nms(segments, scores, classes, sigma=0.5, most=100)
    for label in range(3):
        own = np.flatnonzero(classes == label)
        alone, alone_scores = soft_nms(segments[own], scores[own], classes[own], sigma=0.5, most=100)
        here = classes[taken] == label
        np.testing.assert_array_equal(taken[here], own[alone])
        np.testing.assert_array_equal(taken_scores[here], alone_scores)


def test_decay_by_value() -> None:
    segments = np.array([[0.0, 0.4], [0.2, 0.4], [0.6, 1.0]])  # the second has a tIoU of 0.5 with the first
    taken, scores = soft_nms(segments, np.array([0.9, 0.8, 0.5]), np.zeros(3, dtype=np.intp), sigma=0.5, most=3)
    np.testing.assert_array_equal(taken, [0, 2, 1])
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.8 * np.exp(-(0.5**2) / 0.5)])


def test_factors_of_several_taken_segments_multiply() -> None:
    segments = np.array([[0.0, 0.5], [0.5, 1.0], [0.0, 1.0]])
    taken, scores = soft_nms(segments, np.array([0.9, 0.8, 0.7]), np.zeros(3, dtype=np.intp), sigma=0.5, most=3)
    np.testing.assert_array_equal(taken, [0, 1, 2])
    np.testing.assert_allclose(scores[2], 0.7 * np.exp(-2 * 0.5**2 / 0.5))


def test_of_equal_scores_the_earlier_is_taken_first() -> None:
    segments = np.array([[0.5, 0.6], [0.1, 0.2], [0.8, 0.9]])
    taken, _ = soft_nms(segments, np.full(3, 0.5), np.zeros(3, dtype=np.intp), sigma=0.5, most=3)
    np.testing.assert_array_equal(taken, [0, 1, 2])


@given(candidates(), st.integers(0, 40))
def test_cap_keeps_the_first(rows: Rows, most: int) -> None:
    taken, scores = soft_nms(*rows, sigma=0.5, most=most)
    everything, every_score = soft_nms(*rows, sigma=0.5, most=100)
    assert len(everything) == len(rows[1])
    np.testing.assert_array_equal(taken, everything[:most])
    np.testing.assert_array_equal(scores, every_score[:most])


def test_stops_at_the_lowest_score() -> None:
    segments = np.array([[0.0, 0.4], [0.0, 0.4], [0.6, 1.0]])
    scores = np.array([0.9, 0.8, 0.2])
    taken, left = soft_nms(segments, scores, np.zeros(3, dtype=np.intp), sigma=0.2, most=3, lowest=0.1)
    np.testing.assert_array_equal(taken, [0, 2])
    assert (left > 0.1).all()


def test_leaves_its_inputs_alone() -> None:
    scores = np.array([0.9, 0.8])
    soft_nms(np.array([[0.0, 1.0], [0.0, 0.9]]), scores, np.zeros(2, dtype=np.intp), sigma=0.5, most=2)
    np.testing.assert_array_equal(scores, [0.9, 0.8])


def test_refuses_a_segment_that_ends_before_it_starts() -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        soft_nms(np.array([[0.5, 0.4]]), np.array([0.5]), np.zeros(1, dtype=np.intp), sigma=0.5, most=1)
