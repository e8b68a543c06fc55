from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_bench.statistics.map_difference import MapDifference, map_difference

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=50)


def test_the_interval_is_the_middle_of_the_differences_of_the_same_draws() -> None:
    ours = [n / 1000 for n in range(1000)]
    theirs = [n / 2000 for n in range(1000)]  # the n-th differs by n / 2000
    change = map_difference(0.6, 0.35, ours, theirs)
    assert change.points == pytest.approx(25)
    assert (change.low, change.high) == pytest.approx((100 * 0.025 * 0.4995, 100 * 0.975 * 0.4995))
    assert change.may_be_chance is False


@given(SHARES)
def test_a_backend_does_not_differ_from_itself(draws: list[float]) -> None:
    change = map_difference(0.5, 0.5, draws, draws)
    assert (change.points, change.low, change.high, change.may_be_chance) == (0, 0, 0, True)
    assert str(change) == "+0.00"


@given(SHARES, st.randoms())
def test_exchanging_the_two_turns_the_interval_around(draws: list[float], random: Random) -> None:
    others = random.sample(draws, len(draws))
    one, other = map_difference(0.5, 0.4, draws, others), map_difference(0.4, 0.5, others, draws)
    assert one.low is not None
    assert one.high is not None
    assert (one.low, one.high) == pytest.approx((-(other.high or 0), -(other.low or 0)))


def test_draws_without_annotations_do_not_count() -> None:
    change = map_difference(0.5, 0.4, [0.5, None, 0.5], [0.4, 0.1, None])
    assert (change.low, change.high) == pytest.approx((10, 10))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(None, [0.5]), ([0.5], None), ([], []), ([None], [0.5]), ([0.5], [0.5, 0.6])]
)
def test_without_pairs_there_is_no_interval(ours: list[float] | None, theirs: list[float] | None) -> None:
    change = map_difference(0.5, 0.4, ours, theirs)
    assert (change.low, change.high, change.may_be_chance) == (None, None, None)
    assert str(change) == "+10.00"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((-0.6, -1.52, 0.306), "-0.60 [-1.52, +0.31] noise"),
        ((-0.6, -1.52, -0.3), "-0.60 [-1.52, -0.30]"),
        ((-0.001, -0.002, 0.0), "+0.00 [+0.00, +0.00] noise"),
    ],
)
def test_a_table_says_which_changes_may_be_chance(values: tuple[float, float, float], text: str) -> None:
    difference, low, high = values
    assert str(MapDifference(points=difference, low=low, high=high)) == text


@pytest.mark.parametrize(
    "values", [(0.0, 1.0, -1.0), (0.0, None, 1.0), (0.0, -1.0, None), (101.0, None, None), (0.0, -101.0, 0.0)]
)
def test_impossible_differences_are_refused(values: tuple[float, float | None, float | None]) -> None:
    difference, low, high = values
    with pytest.raises(ValueError, match="expected -100 to 100"):
        MapDifference(points=difference, low=low, high=high)


def test_an_interval_without_width_tells_nothing() -> None:
    change = map_difference(0.4, 0.5, [0.4] * 5, [0.5] * 5)  # as of a single video
    assert change.low == change.high
    assert change.may_be_chance is True
    assert str(change) == "-10.00 [-10.00, -10.00] noise"
