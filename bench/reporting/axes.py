"""Axes of charts that do not exaggerate: their ranges, and where they are labelled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MOST_TICKS = 8
_ROOM = 1.06
"""How far an axis from 0 goes beyond the largest value, so that no mark is cut."""
_EDGE = 1e-9
"""What floating point may miss a round number by."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values, and where it is labelled."""

    label: str
    low: float
    high: float
    is_log: bool
    ticks: tuple[float, ...]

    def position(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_axis(label: str, values: Sequence[float], *, least: float = 0.0, whole: tuple[float, float]) -> Axis:
    """An axis for values.

    Args:
        label: what it shows.
        values: at least one.
        least: what it spans at least; 0 to begin at the lower end of ``whole``.
        whole: the values that are possible; the axis shows no others.
    """
    low, high = min(values), max(values)
    if not least:
        low = whole[0]
        high = low + _ROOM * (high - low) if high - low > _EDGE else low + 1
    missing = max(0.0, least - (high - low)) / 2
    low, high = low - missing, high + missing
    step = _next_round((high - low) / (_MOST_TICKS - 1))
    if least:
        low, high = math.floor(low / step + _EDGE) * step, math.ceil(high / step - _EDGE) * step
    low, high = max(low, whole[0]), min(high, whole[1])
    first, last = math.ceil(low / step - _EDGE), math.floor(high / step + _EDGE)
    ticks = tuple(round(n * step, 10) for n in range(first, last + 1))
    return Axis(label=label, low=low, high=high, is_log=False, ticks=ticks)


def log_axis(label: str, values: Sequence[float]) -> Axis:
    """A logarithmic axis from one of 1, 2, 5, 10, 20 … to another, which spans at least a factor of ten."""
    low, high = _previous_round(min(values)), _next_round(max(values))
    while high < 10 * low * (1 - _EDGE):
        low, high = _previous_round(low * 0.99), _next_round(high * 1.01)
    has_many = high / low >= 300
    shown = [number for number in _round_numbers(low, high) if low * (1 - _EDGE) <= number <= high * (1 + _EDGE)]
    ticks = tuple(number for number in shown if not has_many or f"{number:e}".startswith("1"))
    return Axis(label=f"{label} (logarithmic)", low=low, high=high, is_log=True, ticks=ticks)


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 … ascending, from below one value to above another."""
    powers = range(math.floor(math.log10(low)) - 1, math.floor(math.log10(high)) + 2)
    return [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]


def _previous_round(value: float) -> float:
    return max(number for number in _round_numbers(value, value) if number <= value * (1 + _EDGE))


def _next_round(value: float) -> float:
    return min(number for number in _round_numbers(value, value) if number >= value * (1 - _EDGE))
