"""Whether a figure drifts over a long run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stale_bench.statistics.intervals import student

FEWEST_POINTS = 5


class Trend(NamedTuple):
    """Change of a figure per unit of what it is plotted over, and between what it lies."""

    slope: float
    low: float
    high: float


def trend(at: Sequence[float], values: Sequence[float]) -> Trend:
    """A straight line through a series by least squares, with the interval of its slope.

    Memory moves in steps that stay, so that a point says little that the one before it did not. The series counts as
    so many points fewer as its residuals are correlated from one to the next.

    Args:
        at: N places, not all equal.
        values: N figures.

    Raises:
        ValueError: fewer than five points.

    Source: Santer et al., "Statistical significance of trends and trend differences in layer-average atmospheric
        temperature time series", Journal of Geophysical Research 105(D6), 2000, equations 3 to 6.
    """
    N = len(values)
    if N < FEWEST_POINTS:
        raise ValueError(f"{N} points, expected at least {FEWEST_POINTS}")
    x = np.asarray(at, np.float64) - np.mean(at)
    y = np.asarray(values, np.float64) - np.mean(values)
    slope = float(x @ y / (x @ x))
    residuals = y - slope * x
    squares = float(residuals @ residuals)
    if not squares:
        return Trend(slope, slope, slope)
    correlation = max(float(residuals[:-1] @ residuals[1:]) / squares, 0.0)
    free = max(N * (1 - correlation) / (1 + correlation) - 2, 1.0)
    margin = student(int(free)) * (squares / free / float(x @ x)) ** 0.5
    return Trend(slope, slope - margin, slope + margin)
