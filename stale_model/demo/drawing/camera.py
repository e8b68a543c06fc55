"""Filming a scene: the place is drawn once, and each frame adds what moves, light, and the sensor's noise."""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stale_model.demo.drawing.canvas import WIDTH, Canvas, Point
from stale_model.demo.drawing.doings import draw_doing
from stale_model.demo.drawing.places import MARGIN, draw_place
from stale_model.demo.drawing.scene import Scene

Frame: TypeAlias = NDArray[np.uint8]
"""(height, width, 3), red, green and blue."""
_NOISE = np.random.default_rng(0).standard_normal(2**20).astype(np.float32)
"""Drawn once, because frames would take longer to be drawn otherwise."""


class Camera:
    """Films one scene."""

    def __init__(self, scene: Scene, *, height: int, finer: int = 1) -> None:
        """Draw the scene's place.

        Args:
            scene: what is in the picture.
            height: of a frame, in pixels; a multiple of 12, so that its width is even.
            finer: how many times larger frames are drawn than they are returned, for smooth edges.
        """
        self._scene, self._height, self._finer = scene, height, finer
        self._scale = height * finer
        size = (round((WIDTH + 2 * MARGIN) * self._scale), round((1 + 2 * MARGIN) * self._scale))
        self._place = Image.new("RGB", size)
        canvas = Canvas.on(self._place, scale=self._scale, shift=(MARGIN, MARGIN))
        draw_place(canvas, scene.place, scene.horizon, np.random.default_rng(scene.backdrop_seed))

    def film(self, doing: str, *, time_s: float, since_s: float, rng: np.random.Generator) -> Frame:
        """A frame of the scene.

        Args:
            doing: one of ``VERBS`` or ``IDLE``.
            time_s: since the start of the video.
            since_s: since the start of what is done.
            rng: decides the noise.
        """
        across, up = self._shift(time_s)
        left, upper = round((MARGIN - across) * self._scale), round((MARGIN + up) * self._scale)
        width, height = round(WIDTH * self._height) * self._finer, self._height * self._finer
        image = self._place.crop((left, upper, left + width, upper + height))
        shift = (MARGIN - left / self._scale, upper / self._scale - MARGIN)
        draw_doing(Canvas.on(image, scale=self._scale, shift=shift), self._scene, doing, time_s, since_s)
        return self._expose(image.reduce(self._finer) if self._finer > 1 else image, rng)

    def _shift(self, time_s: float) -> Point:
        """How far the picture is moved to the right and up: the camera pans slowly, and shakes a little."""
        reach, speed, phase = self._scene.pan
        across = reach * math.sin(speed * time_s + phase) + self._scene.shake * math.sin(13 * time_s)
        up = 0.3 * reach * math.sin(0.7 * speed * time_s + 2 * phase) + self._scene.shake * math.cos(17 * time_s)
        return across, up

    def _expose(self, image: Image.Image, rng: np.random.Generator) -> Frame:
        scene, pixels = self._scene, np.asarray(image, dtype=np.float32) * np.float32(self._scene.gain)
        height, width, _ = pixels.shape
        start = int(rng.integers(_NOISE.size - height * width))
        noise = _NOISE[start : start + height * width].reshape(height, width, 1)
        return np.clip(pixels + scene.offset + scene.grain * noise, 0, 255).astype(np.uint8)
