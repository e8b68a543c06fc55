"""How long videos last, from whatever the user knows."""

from collections.abc import Mapping
from dataclasses import dataclass

from stale_runtime.errors import DatasetError

LONGEST_S = 1e9
"""Seconds that a video may last, thirty years."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One way to know the durations of videos; without any, times are fractions of the video."""

    duration_s: float | None = None
    """Seconds, the same for every video."""
    snippet_s: float | None = None
    """Seconds from a snippet to the next: the stride in frames over the frames a second."""
    durations_s: Mapping[str, float] | None = None
    """Seconds by video id."""

    def __post_init__(self) -> None:
        ways = (self.duration_s, self.snippet_s, self.durations_s)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("more than one of duration_s, snippet_s and durations_s, expected at most one")
        for name in ("duration_s", "snippet_s"):
            check_seconds(getattr(self, name), name)

    def duration_of(self, video: str, snippets: int) -> float | None:
        """Seconds that a video lasts, None if nothing is known.

        Args:
            video: its id.
            snippets: T0, as extracted.

        Raises:
            DatasetError: durations are known, but not this video's.
        """
        if self.durations_s is not None:
            if video not in self.durations_s:
                raise DatasetError(f"video {video}: no duration in the file of durations; add it there")
            return self.durations_s[video]
        if self.snippet_s is not None:
            return min(self.snippet_s * snippets, LONGEST_S)
        return self.duration_s

    def agrees(self, video: str, duration_s: float | None) -> bool:
        """Whether a duration that was found before is still that of the video, as far as it is known by its id."""
        return self.durations_s is None or self.durations_s.get(video) == duration_s


def check_seconds(value: float | None, name: str) -> None:
    """Make sure that a time is unknown, or a positive number of at most ``LONGEST_S``.

    Raises:
        ValueError: it is neither.
    """
    if value is not None and not 0 < value <= LONGEST_S:
        raise ValueError(f"{name} {value}, expected a positive number of seconds, at most {LONGEST_S:.0e}")
