"""Small pictures of a video, made of frames that were decoded for its features."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stale_runtime.evidence import MOST_FRAMES_SHOWN, PosterFrame
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video.video_properties import VideoProperties

WIDEST, HIGHEST = 160, 128
"""Pixels of a picture."""
MOST_JPEG_BYTES = 6250
"""Bytes that a picture should have at most, so that ``MOST_FRAMES_SHOWN`` take 150 kB."""
QUALITIES = (70, 50, 30, 15, 5)
"""Of JPEG; the first that keeps to ``MOST_JPEG_BYTES`` is taken. Camera pictures need no more than the first."""


class PosterMaker:
    """Picks some of the frames that are decoded, evenly, and makes small pictures of them at once."""

    def __init__(
        self, recipe: FeatureRecipe, properties: VideoProperties, rows: Sequence[int] | NDArray[np.intp]
    ) -> None:
        """Decide which frames to take.

        Args:
            recipe: by which frames are read.
            properties: of the video.
            rows: indices of the rows whose frames are read, ascending and evenly spread over the video.
        """
        assert recipe.snippet_s is not None
        assert recipe.frames is not None
        middle = recipe.frames // 2  # of a row's frames
        self._size = _picture_size(recipe, properties)
        self._reversed = recipe.channel_order == "bgr"
        self._times: dict[int, float] = {}
        for part in range(MOST_FRAMES_SHOWN):
            place = (2 * part + 1) * len(rows) // (2 * MOST_FRAMES_SHOWN)
            time_s = (int(rows[place]) + (middle + 0.5) / recipe.frames) * recipe.snippet_s
            self._times[place * recipe.frames + middle] = min(time_s, properties.duration_s)
        self._seen = 0
        self._taken: list[PosterFrame] = []

    def take(self, images: NDArray[np.uint8]) -> None:
        """Look at the next frames (n, S, S, 3), and make pictures of those that are wanted."""
        for number, image in enumerate(images, self._seen):
            if number in self._times:
                shown = image[:, :, ::-1] if self._reversed else image
                self._taken.append(PosterFrame(time_s=self._times[number], jpeg=_encode(shown, self._size)))
        self._seen += len(images)

    @property
    def frames(self) -> tuple[PosterFrame, ...]:
        """The pictures so far."""
        return tuple(self._taken)


def _picture_size(recipe: FeatureRecipe, properties: VideoProperties) -> tuple[int, int]:
    """Width and height of a picture: square if frames were cropped, else in the proportions of a frame."""
    assert recipe.image_size is not None
    width, height = (properties.width, properties.height) if recipe.resize == "squash" else (1, 1)
    S = recipe.image_size
    scale = min(min(WIDEST, S) / width, min(HIGHEST, S) / height)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _encode(image: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """A JPEG file of an image (S, S, 3) in RGB."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BICUBIC)
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= MOST_JPEG_BYTES:
            break
    return file.getvalue()
