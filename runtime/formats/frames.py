"""Frames and files of a video, for formats of editors and annotation tools."""

import math
import os
from pathlib import Path
from typing import Final

from stale_runtime.detections import Detection
from stale_runtime.formats.run_result import RunResult
from stale_runtime.inputs.remote_files import RemoteFile, Source
from stale_runtime.inputs.videos import is_video
from stale_runtime.system.text import as_text

USUAL_RATE: Final = 25.0
"""Frames a second where nothing says how many: Label Studio's default, and that of European television."""
_STANDARD_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60000 / 1001, 60.0, 120.0)
_TOLERANCE = 2e-4
"""Relative; a fifth of what is between 30 and 29.97 frames a second."""


def round_frame_rate(rate: float) -> float:
    """The standard frame rate that a measured one stands for; a rate that is near none stays as it is."""
    nearest = min(_STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return nearest if abs(nearest - rate) <= _TOLERANCE * nearest else rate


def frame_rate_of(result: RunResult, video: str) -> float:
    """Frames a second of a video of the run; ``USUAL_RATE`` if nobody knows."""
    return result.frame_rates.get(video, USUAL_RATE)


def frame_span(row: Detection, rate: float) -> tuple[int, int]:
    """The frames that a detection touches, counted from 0.

    Args:
        row: times in seconds.
        rate: frames a second.

    Returns:
        The first frame, and the one after the last; at least one frame.
    """
    tolerance = 1e-6  # a time that is a whole number of frames stays one, whatever floating point makes of it
    first = max(0, math.floor(row.start * rate + tolerance))
    return first, max(first + 1, math.ceil(row.end * rate - tolerance))


def media_url(path: Source) -> str | None:
    """The address of a video file; None for features, whose video is not known."""
    if not is_video(path):
        return None
    return str(path) if isinstance(path, RemoteFile) else path.absolute().as_uri()


def relative_media_path(path: Source, output: Path | None) -> str:
    """The path to a video from the folder of the output, or from the current one, with ``/`` between folders.

    That of a video in object storage is its name: programs look there for a copy.
    """
    if isinstance(path, RemoteFile):
        return as_text(path.name)
    folder = Path() if output is None else output.parent
    return as_text(Path(os.path.relpath(path, folder)).as_posix())
