import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_bench.reporting.axes import linear_axis, log_axis
from stale_bench.reporting.curves import LEAST_POINTS


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=9))
def test_an_axis_from_0_shows_every_value(values: list[float]) -> None:
    axis = linear_axis("memory", values, whole=(0, float("inf")))
    assert axis.low == 0
    assert all(0 <= axis.position(value) <= 1 for value in values)
    assert 1 <= len(axis.ticks) <= 10
    assert all(0 <= axis.position(tick) <= 1 for tick in axis.ticks)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_an_axis_of_map_does_not_exaggerate(values: list[float]) -> None:
    axis = linear_axis("mAP", values, least=LEAST_POINTS, whole=(0, 100))
    assert axis.high - axis.low >= min(LEAST_POINTS, 100) / 2  # at 0 or 100, half of it is impossible
    assert axis.low >= 0
    assert axis.high <= 100
    assert all(0 <= axis.position(value) <= 1 for value in values)
    assert 2 <= len(axis.ticks) <= 12


@given(st.lists(st.floats(1e-4, 1e9), min_size=1, max_size=9))
def test_a_logarithmic_axis_spans_a_factor_of_ten_and_says_what_it_is(values: list[float]) -> None:
    axis = log_axis("time", values)
    assert axis.label == "time (logarithmic)"
    assert axis.high >= 10 * axis.low * (1 - 1e-6)
    assert all(-1e-6 <= axis.position(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(axis.ticks) <= 14
    assert list(axis.ticks) == sorted(axis.ticks)


def test_equal_factors_are_equal_distances_on_a_logarithmic_axis() -> None:
    axis = log_axis("time", [1, 100])
    assert axis.position(10) - axis.position(1) == pytest.approx(axis.position(100) - axis.position(10))


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((3.0, 40.0), (2, 5, 10, 20, 50)),
        ((1.0, 1000.0), (1, 10, 100, 1000)),
        ((7.0,), (2, 5, 10, 20)),
        ((0.3, 0.4), (0.1, 0.2, 0.5, 1)),
    ],
)
def test_a_logarithmic_axis_is_labelled_at_round_numbers(values: tuple[float, ...], ticks: tuple[float, ...]) -> None:
    axis = log_axis("time", values)
    assert axis.ticks == ticks
    assert (axis.low, axis.high) == (ticks[0], ticks[-1])
