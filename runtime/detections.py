"""What the toolkit finds: labelled, scored segments of a video."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stale_runtime.decoding.proposals import Ranked


class Detection(NamedTuple):
    """One action found in a video."""

    label: str
    """Class name, as the prompt list has it."""
    start: float
    """Seconds, or the fraction of the video where its duration is not known."""
    end: float
    """In the unit of ``start``, and not before it."""
    score: float
    """Higher is surer; ``upstream`` scores may exceed 1."""


@dataclass(frozen=True, kw_only=True)
class VideoDetections:
    """All detections of a video, best first."""

    video: str
    """Video id, without ActivityNet's ``v_`` prefix."""
    duration_s: float | None
    """Seconds; None where unknown, and then segments are in fractions of the video."""
    detections: tuple[Detection, ...]
    """Best score first."""


def named(ranked: Ranked, names: Sequence[str], duration_s: float | None) -> tuple[Detection, ...]:
    """What a decoder ranked, with the names of the classes.

    Args:
        ranked: segments in fractions of the video.
        names: of the K classes.
        duration_s: the video's; without it segments stay fractions.
    """
    unit = 1.0 if duration_s is None else duration_s
    segments = ranked.segments.clip(0, 1) * unit
    rows = zip(ranked.classes.tolist(), segments.tolist(), ranked.scores.tolist(), strict=True)
    return tuple(Detection(names[label], start, end, score) for label, (start, end), score in rows)
