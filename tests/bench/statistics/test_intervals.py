import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_bench.statistics.intervals import CONFIDENCE, ratio_interval

TIMES = st.lists(st.lists(st.floats(0.01, 100), min_size=1, max_size=5), min_size=3, max_size=6)


@given(TIMES, st.floats(0.1, 10))
def test_a_constant_ratio_is_found_exactly(times: list[list[float]], factor: float) -> None:
    interval = ratio_interval([[factor * t for t in rounds] for rounds in times], times)
    assert interval == pytest.approx((factor, factor, factor))


@given(TIMES, TIMES)
def test_the_estimate_lies_in_its_interval_and_the_inverse_ratio_is_the_inverse(
    ours: list[list[float]], theirs: list[list[float]]
) -> None:
    interval = ratio_interval(ours, theirs)
    assert interval.low is not None
    assert interval.high is not None
    assert 0 < interval.low <= interval.median * (1 + 1e-12)
    assert interval.median <= interval.high * (1 + 1e-12)
    assert ratio_interval(theirs, ours).median == pytest.approx(1 / interval.median)


def test_pairs_cancel_what_both_suffer() -> None:
    drift = np.linspace(1, 5, 40).reshape(4, 10)
    interval = ratio_interval((2 * drift).tolist(), drift.tolist())
    assert interval == pytest.approx((2, 2, 2))


def test_it_is_the_same_for_the_same_seed() -> None:
    ours, theirs = np.random.default_rng(0).lognormal(size=(2, 5, 7)).tolist()
    assert ratio_interval(ours, theirs) == ratio_interval(ours, theirs)
    assert ratio_interval(ours, theirs) != ratio_interval(ours, theirs, seed=1)  # which it makes use of


def test_two_launches_give_no_interval_and_none_no_ratio() -> None:
    assert ratio_interval([[2.0], [2.0]], [[1.0], [1.0]])[1:] == (None, None)
    with pytest.raises(ValueError, match="no round"):
        ratio_interval([[]], [[1.0]])


def test_rounds_that_only_one_has_do_not_count() -> None:
    assert ratio_interval([[2.0, 2.0, 9.0]] * 3, [[1.0, 1.0]] * 4).median == pytest.approx(2)


@pytest.mark.parametrize("launches", [3, 5, 8])
def test_a_second_run_lies_in_the_interval_as_often_as_promised(launches: int) -> None:
    """Launches differ by 3 % and rounds by 10 %, as processes do; a bootstrap over rounds alone would fail this."""
    generator = np.random.default_rng(launches)

    def measure() -> tuple[float, float | None, float | None]:
        process = generator.normal(0, 0.03, (launches, 1))
        rounds = generator.normal(0, 0.10, (launches, 12))
        return ratio_interval(np.exp(process + rounds).tolist(), np.ones((launches, 12)).tolist())

    runs = [(measure(), measure()) for _ in range(150)]
    agree = [a[1] <= b[0] <= a[2] and b[1] <= a[0] <= b[2] for a, b in runs if a[1] and a[2] and b[1] and b[2]]
    true = [a[1] <= 1 <= a[2] for a, _ in runs if a[1] and a[2]]
    assert np.mean(agree) >= 0.9
    assert np.mean(true) >= CONFIDENCE - 0.03
