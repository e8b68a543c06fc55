"""The decoders by name."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.standard_decoder import decode_standard
from stale_runtime.decoding.upstream_decoder import decode_upstream
from stale_runtime.detections import Detection
from stale_runtime.segments import FloatArray

Decoder: TypeAlias = Callable[[FloatArray, FloatArray], Ranked]
"""Class activation sequence (K+1, T) and action masks (T, T) of a video -> segments, best first."""

DECODERS: Mapping[str, Decoder] = {"standard": decode_standard, "upstream": decode_upstream}
DEFAULT_DECODER = "standard"


def label_segments(ranked: Ranked, names: Sequence[str], duration_s: float | None) -> tuple[Detection, ...]:
    """Turn a decoder's ranked segments into detections.

    Args:
        ranked: segments in fractions of the video.
        names: names of the K classes.
        duration_s: seconds that the video lasts; None to leave segments in fractions.
    """
    unit = 1.0 if duration_s is None else duration_s
    segments = ranked.segments.clip(0, 1) * unit
    rows = zip(ranked.classes.tolist(), segments.tolist(), ranked.scores.tolist(), strict=True)
    return tuple(Detection(names[label], start, end, score) for label, (start, end), score in rows)
