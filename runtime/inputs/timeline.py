"""How long videos last, from what the user knows about them."""

from collections.abc import Mapping
from dataclasses import dataclass

from stale_runtime.errors import DatasetError

LONGEST_S = 1e9
"""Longest duration of a video that is accepted, in seconds (thirty years)."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One source of the durations of videos. Without any, detections are in fractions of the video."""

    duration_s: float | None = None
    """Seconds, the same for every video."""
    snippet_s: float | None = None
    """Seconds from one snippet to the next: the stride in frames, divided by the frames a second."""
    durations_s: Mapping[str, float] | None = None
    """Seconds by video id."""

    def __post_init__(self) -> None:
        ways = (self.duration_s, self.snippet_s, self.durations_s)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("more than one of duration_s, snippet_s and durations_s, expected at most one")
        for name in ("duration_s", "snippet_s"):
            check_seconds(getattr(self, name), name)

    def duration_of(self, video: str, snippets: int) -> float | None:
        """Seconds that a video lasts; None if nothing is known.

        Args:
            video: id of the video.
            snippets: T0, the snippets of the video before resampling.

        Raises:
            DatasetError: there is a list of durations, and the video is not in it.
        """
        if self.durations_s is not None:
            if video not in self.durations_s:
                raise DatasetError(f"video {video}: not in the file of durations; add its duration there")
            return self.durations_s[video]
        if self.snippet_s is not None:
            return min(self.snippet_s * snippets, LONGEST_S)
        return self.duration_s

    def agrees(self, video: str, duration_s: float | None) -> bool:
        """Whether a recorded duration of a video is still right; always true without a list of durations."""
        return self.durations_s is None or self.durations_s.get(video) == duration_s


def check_seconds(value: float | None, name: str) -> None:
    """Make sure that a time is None, or a positive number of at most ``LONGEST_S``.

    Raises:
        ValueError: it is neither.
    """
    if value is not None and not 0 < value <= LONGEST_S:
        raise ValueError(f"{name} {value}, expected a positive number of seconds, at most {LONGEST_S:.0e}")
