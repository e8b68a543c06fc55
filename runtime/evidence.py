"""What a page draws beside the detections of a video: how sure the network was over time, and what the video shows."""

from dataclasses import dataclass

from stale_runtime.segments import FloatArray

MOST_CLASSES = 8
"""Classes that have a curve."""
MOST_POINTS = 512
"""Points of a curve."""
MOST_FRAMES_SHOWN = 24
"""Frames of a poster strip."""


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """How sure the network was of a few classes over the time of a video.

    A score is the softmax of the class activation sequence over all classes and the background, before any detection is
    made of it. The curves of a video that was looked at through windows come from the largest window at each moment;
    where two overlap, the scores fade from one to the other. A curve of more points than ``MOST_POINTS`` is cut into
    stretches of equal length and has the highest score of each, so that a short action in hours of footage stays
    visible.
    """

    labels: tuple[str, ...]
    """At most ``MOST_CLASSES`` names: those of the best detections, best first; of a video without detections, those
    with the highest mean score."""
    times: FloatArray
    """(n,) ascending, n from 1 to ``MOST_POINTS``: the middle of each stretch, in the unit of the detections."""
    scores: FloatArray
    """(classes, n) in [0, 1], a row for each label."""


@dataclass(frozen=True, kw_only=True)
class PosterFrame:
    """A small picture of a moment of a video."""

    time_s: float
    """Seconds from the first frame of the video."""
    jpeg: bytes
    """A JPEG file of at most 160 by 128 pixels."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a page draws beside the detections of a video."""

    class_scores: ClassScores | None = None
    """Curves of the classes that were found; None if they are not known."""
    poster: tuple[PosterFrame, ...] = ()
    """At most ``MOST_FRAMES_SHOWN`` frames, evenly spread and in order; none if features were given."""
