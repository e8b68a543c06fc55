import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.segments import FloatArray, temporal_iou

ends = st.floats(-1e6, 1e6)
segments = st.tuples(ends, ends).map(lambda pair: np.sort(np.array(pair)))


@given(segments, segments)
def test_is_symmetric_and_bounded(a: FloatArray, b: FloatArray) -> None:
    overlap = temporal_iou(a, b)
    assert 0 <= overlap <= 1
    assert overlap == temporal_iou(b, a)


@given(segments)
def test_is_1_of_a_segment_with_itself(a: FloatArray) -> None:
    assert temporal_iou(a, a) == 1


@given(segments, segments, st.integers(-1000, 1000), st.integers(-4, 4))
def test_does_not_depend_on_the_unit(a: FloatArray, b: FloatArray, shift: int, power: int) -> None:
    a, b = a.round(), b.round()
    moved = temporal_iou((a + shift) * 2.0**power, (b + shift) * 2.0**power)
    assert moved == temporal_iou(a, b)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 2], [1, 3], 1 / 3),
        ([0, 4], [1, 2], 1 / 4),
        ([0, 1], [1, 2], 0),
        ([0, 1], [5, 6], 0),
        ([1, 1], [0, 2], 0),
        ([1, 1], [1, 1], 1),
        ([1, 1], [2, 2], 0),
    ],
)
def test_overlap_by_value(a: list[float], b: list[float], expected: float) -> None:
    assert temporal_iou(np.array(a, dtype=np.float64), np.array(b, dtype=np.float64)) == expected


def test_leading_axes_broadcast() -> None:
    a = np.array([[0.0, 2.0], [4.0, 6.0], [1.0, 3.0]])
    b = np.array([[0.0, 2.0], [5.0, 6.0]])
    np.testing.assert_array_equal(temporal_iou(a[:, None], b), [[1, 0], [0, 0.5], [1 / 3, 0]])


def test_no_segments_give_no_overlaps() -> None:
    assert temporal_iou(np.zeros((0, 1, 2)), np.zeros((3, 2))).shape == (0, 3)


@pytest.mark.parametrize("backwards", ["a", "b"])
def test_refuses_a_segment_that_ends_before_it_starts(backwards: str) -> None:
    good, bad = np.array([0.0, 1.0]), np.array([1.0, 0.5])
    with pytest.raises(ValueError, match="ends before it starts"):
        temporal_iou(*((bad, good) if backwards == "a" else (good, bad)))
