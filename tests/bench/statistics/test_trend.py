import numpy as np
import pytest
from numpy.typing import NDArray

from stale_bench.statistics.trend import trend

N = 100
AT = list(range(0, 200 * N, 200))


def noise(seed: int, kept: float = 0.0) -> NDArray[np.float64]:
    """Values that keep a share of the one before."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(N)
    for n in range(1, N):
        values[n] += kept * values[n - 1]
    return values


def test_a_straight_line_is_found_exactly() -> None:
    found = trend(AT, [80 + 0.001 * at for at in AT])
    assert found == pytest.approx((0.001, 0.001, 0.001))
    assert trend(AT, [80.0] * N) == (0, 0, 0)


@pytest.mark.parametrize("slope", [0.0, 0.002, -0.002])
@pytest.mark.parametrize("kept", [0.0, 0.7])
def test_the_interval_holds_the_slope_about_as_often_as_it_says(slope: float, kept: float) -> None:
    found = [trend(AT, (slope * np.array(AT) + noise(seed, kept)).tolist()) for seed in range(200)]
    assert all(low < middle < high for middle, low, high in found)
    assert sum(low <= slope <= high for _, low, high in found) >= 192


def test_values_that_stay_where_they_are_say_less() -> None:
    widths = []
    for kept in (0.0, 0.7):
        _, low, high = trend(AT, noise(0, kept) / noise(0, kept).std())
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match="4 points, expected at least 5"):
        trend(AT[:4], [1, 2, 3, 4])
