"""What is known of a video before its frames are decoded, and the limits that it must keep."""

import math
from dataclasses import dataclass
from typing import Final

MOST_PIXELS: Final = 33_554_432
"""Of a frame: width times height, enough for 8K."""
MOST_ELONGATED: Final = 100
"""Longer side of a frame by its shorter side."""
LONGEST_VIDEO_S: Final = 86_400
"""A day."""
MOST_VIDEO_FRAMES: Final = 16_777_216
SPARSEST_FRAMES_S: Final = 60
"""Seconds a frame, on average; a file of a few bytes could otherwise claim to be hours long."""
MOST_SAMPLES: Final = 16_777_216
"""Frames that one call may ask for: rows times frames a row."""


@dataclass(frozen=True, kw_only=True)
class VideoProperties:
    """A video as it is shown. Times count from its first frame."""

    duration_s: float
    """From the start of the first frame to the end of the last one that is there, in seconds."""
    declared_s: float | None
    """The duration in seconds that the file claims; None if it claims none."""
    width: int
    """Pixels, once the frame is rotated."""
    height: int
    """Pixels, once the frame is rotated."""
    rotation: int
    """Degrees by which frames are turned clockwise to be shown: 0, 90, 180 or 270."""
    frames: int
    """Frames that are shown."""
    codec: str
    """FFmpeg's name of the decoder."""
    pixel_format: str
    """FFmpeg's name of the format of a decoded frame."""

    def __post_init__(self) -> None:
        if not 0 < self.duration_s <= LONGEST_VIDEO_S:
            raise ValueError(f"duration_s is {self.duration_s}, expected more than 0 and at most {LONGEST_VIDEO_S}")
        if self.declared_s is not None and not 0 <= self.declared_s < math.inf:
            raise ValueError(f"declared_s is {self.declared_s}, expected seconds")
        if self.width < 1 or self.height < 1 or self.width * self.height > MOST_PIXELS:
            raise ValueError(f"{self.width} x {self.height} pixels, expected 1 to {MOST_PIXELS}")
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation is {self.rotation}, expected 0, 90, 180 or 270")
        if not 1 <= self.frames <= MOST_VIDEO_FRAMES:
            raise ValueError(f"{self.frames} frames, expected 1 to {MOST_VIDEO_FRAMES}")

    @property
    def missing_s(self) -> float:
        """Seconds at the end that the file claims, but has no frames for; 0 if there are hardly any."""
        missing = (self.declared_s or 0) - self.duration_s
        return missing if missing > max(1.0, 0.02 * self.duration_s) else 0.0
