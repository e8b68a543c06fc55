"""What an export verified about an approximate localizer graph."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ApproximationAtLength:
    """How far the approximation is from the exact network on the calibration videos, resampled to one length."""

    length: int
    """T, in snippets."""
    logits_rms_median: float
    """Root mean square difference of a video's class activations, the median over the videos."""
    logits_rms_worst: float
    """The same, the largest of all videos."""
    guarded_share: float
    """Share of the videos, 0 to 1, that are above the guard's limit and would be computed exactly."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"approximation at length {self.length}, expected at least 1 snippet")
        errors = self.logits_rms_median, self.logits_rms_worst
        if not all(math.isfinite(error) and error >= 0 for error in errors) or not 0 <= self.guarded_share <= 1:
            raise ValueError(f"approximation at length {self.length} has errors or a share that are out of range")


@dataclass(frozen=True, kw_only=True)
class ApproximationRecord:
    """How a localizer graph approximates the network, and what was verified about it."""

    file: str
    directions: int
    """r: strongest directions of each head's attention that are computed to first order."""
    landmarks: int
    """M: stretches of the video whose means stand for their snippets in the rest of the attention."""
    guard_rows: int
    """Snippets of a video that get exact attention too, to see how far the approximation is from it."""
    guard_limit: float
    """Largest difference of these rows, as a Euclidean length; above it a video is computed exactly."""
    lengths: tuple[ApproximationAtLength, ...]
    """What was measured at each length."""

    def __post_init__(self) -> None:
        for name in ("directions", "landmarks", "guard_rows"):
            if not 0 <= getattr(self, name) <= 2**16:
                raise ValueError(f"approximation has {name} {getattr(self, name)}, expected 0 to {2**16}")
        if not (math.isfinite(self.guard_limit) and self.guard_limit >= 0):
            raise ValueError(f"approximation has guard_limit {self.guard_limit}, expected a number from 0 on")
