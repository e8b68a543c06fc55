"""How much mAP differs, and whether these videos can tell that from chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stale_runtime.evaluation.map_change import COVERAGE


@dataclass(frozen=True, kw_only=True)
class MapDifference:
    """A difference of average mAP, in percent points, with its 95 % interval.

    The interval is a paired bootstrap over videos: how far the difference moves if other videos are drawn.
    """

    points: float
    low: float | None
    """Lower end of the interval; None if there is none, as in files of older versions."""
    high: float | None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None) or not -100 <= self.points <= 100:
            raise ValueError(
                f"a difference of {self.points:g} points, interval {self.low} to {self.high}, expected -100 to 100"
            )
        if self.low is not None and self.high is not None and not -100 <= self.low <= self.high <= 100:
            raise ValueError(f"an interval from {self.low:g} to {self.high:g} points, expected -100 to 100, in order")

    @property
    def may_be_chance(self) -> bool | None:
        """Whether the interval contains 0, or has no width, as that of a single video; None if there is no interval."""
        if self.low is None or self.high is None:
            return None
        return self.low <= 0 <= self.high or self.low == self.high

    @property
    def is_none(self) -> bool:
        """Whether nothing changed, whatever videos are drawn."""
        return self.low == self.high == 0

    def __str__(self) -> str:
        """For a table: ``-0.60 [-1.52, +0.31] noise``."""
        if self.low is None or self.high is None:
            return _signed(self.points)
        if self.is_none:
            return "+0.00"
        interval = f"[{_signed(self.low)}, {_signed(self.high)}]"
        return f"{_signed(self.points)} {interval}" + (" noise" if self.may_be_chance else "")


def map_difference(
    average: float,
    reference: float,
    resamples: Sequence[float | None] | None,
    reference_resamples: Sequence[float | None] | None,
) -> MapDifference:
    """How much one average mAP differs from another on the same videos.

    Args:
        average: in [0, 1].
        reference: what it is compared with, in [0, 1].
        resamples: the average mAP over each resample of the videos; None for a resample without annotations, or if it
            was not computed.
        reference_resamples: the same of the reference, over the same resamples.
    """
    points = 100 * (average - reference)
    pairs = zip(resamples or (), reference_resamples or (), strict=False)
    changes = [100 * (ours - theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    if not changes or len(resamples or ()) != len(reference_resamples or ()):
        return MapDifference(points=points, low=None, high=None)
    low, high = np.quantile(changes, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]).tolist()
    return MapDifference(points=points, low=low, high=high)


def _signed(points: float) -> str:
    """With two digits, and without a minus before 0."""
    return f"{round(points, 2) + 0.0:+.2f}"
