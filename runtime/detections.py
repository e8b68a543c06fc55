"""What the toolkit finds: labelled, scored segments of a video."""

from dataclasses import dataclass
from typing import NamedTuple


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
