"""Finding out whether a figure drifts over a long run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stale_bench.statistics.intervals import student_quantile

FEWEST_POINTS = 5


class Trend(NamedTuple):
    """The slope of a figure, with its confidence interval."""

    slope: float
    low: float
    high: float


def trend(at: Sequence[float], values: Sequence[float]) -> Trend:
    """Fit a straight line to a series by least squares.

    Memory grows in steps, so each point adds little information to the point before it. The number of points is reduced
    accordingly, by how much neighbouring residuals are correlated.

    Args:
        at: N positions, not all equal.
        values: N figures.

    Returns:
        The slope: change of the figure for each unit of position.

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
    margin = student_quantile(int(free)) * (squares / free / float(x @ x)) ** 0.5
    return Trend(slope, slope - margin, slope + margin)
