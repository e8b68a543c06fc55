"""The places where things happen: a sky, a horizon, a floor, and what happens to stand there."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from stale_model.demo.drawing.canvas import WIDTH, Canvas, Colour, darker

MARGIN: Final = 0.1
"""How far a place goes on outside the picture on each side, so that the camera can move."""
_LEFT, _RIGHT, _LOW, _HIGH = -MARGIN, WIDTH + MARGIN, -MARGIN, 1 + MARGIN
_SKIES: Final[Mapping[str, Colour]] = {
    "park": (150, 206, 240),
    "street": (186, 202, 216),
    "beach": (132, 202, 248),
    "yard": (172, 216, 236),
}
_FLOORS: Final[Mapping[str, Colour]] = {
    "park": (112, 168, 84),
    "street": (122, 122, 128),
    "beach": (230, 212, 158),
    "yard": (152, 172, 114),
}


def draw_place(canvas: Canvas, place: str, horizon: float, rng: np.random.Generator) -> None:
    """Draw a place, with its margins.

    Args:
        canvas: has room for the margins.
        place: one of ``PLACES``.
        horizon: height of the horizon.
        rng: decides colours and clutter.
    """
    floor = _tint(_FLOORS[place], rng)
    canvas.box((_LEFT, horizon), (_RIGHT, _HIGH), _tint(_SKIES[place], rng))
    _draw_sky(canvas, rng)
    canvas.box((_LEFT, _LOW), (_RIGHT, horizon), floor)
    _BACKGROUNDS[place](canvas, horizon, rng)
    for _ in range(rng.integers(1, 5)):
        _draw_clutter(canvas, rng.uniform(_LEFT, _RIGHT), horizon - rng.uniform(-0.01, 0.05), rng)
    for _ in range(rng.integers(4, 14)):
        stone = (rng.uniform(_LEFT, _RIGHT), rng.uniform(0, horizon - 0.03))
        canvas.ellipse(stone, (rng.uniform(0.006, 0.02), 0.006), darker(floor, 0.82))


def _draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        canvas.disc((rng.uniform(0, WIDTH), rng.uniform(0.82, 0.95)), 0.06, (255, 236, 130))
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(0, WIDTH), rng.uniform(0.78, 0.95)
        for offset, radius in ((-0.06, 0.028), (0.06, 0.03), (0, 0.042)):
            canvas.ellipse((x + offset, y), (0.062, radius), (246, 249, 251))


def _draw_park(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    for _ in range(3):
        hill = (rng.uniform(_LEFT, _RIGHT), horizon)
        canvas.ellipse(hill, (rng.uniform(0.2, 0.4), rng.uniform(0.03, 0.09)), _tint((96, 152, 88), rng))
    canvas.box((_LEFT, horizon - 0.12), (_RIGHT, horizon), _tint((104, 160, 80), rng, 6))


def _draw_street(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    x = _LEFT
    while x < _RIGHT:
        width, top, wall = rng.uniform(0.2, 0.4), rng.uniform(0.66, 0.9), _tint((168, 150, 140), rng, 35)
        canvas.box((x, horizon), (x + width, top), wall)
        for left in np.arange(x + 0.04, x + width - 0.05, 0.09):
            for low in np.arange(horizon + 0.06, top - 0.06, 0.11):
                canvas.box((left, low), (left + 0.035, low + 0.05), darker(wall, 0.6))
        x += width
    canvas.box((_LEFT, horizon - 0.025), (_RIGHT, horizon), (168, 168, 170))
    for left in np.arange(_LEFT, _RIGHT, 0.3):
        canvas.box((left, 0.015), (left + 0.16, 0.035), (236, 236, 226))


def _draw_beach(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    canvas.box((_LEFT, horizon - 0.03), (_RIGHT, horizon + 0.1), _tint((62, 132, 190), rng))
    for _ in range(6):
        x, y = rng.uniform(_LEFT, _RIGHT), rng.uniform(horizon - 0.01, horizon + 0.08)
        canvas.line([(x, y), (x + rng.uniform(0.04, 0.12), y)], 0.008, (200, 226, 242))


def _draw_yard(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    wall, x = _tint((220, 192, 164), rng, 25), rng.uniform(-0.1, 0.5)
    canvas.box((x, horizon), (x + 0.75, 0.8), wall)
    canvas.polygon([(x - 0.06, 0.8), (x + 0.375, 0.99), (x + 0.81, 0.8)], _tint((152, 72, 58), rng, 20))
    canvas.box((x + 0.3, horizon), (x + 0.42, horizon + 0.2), darker(wall))


def _draw_clutter(canvas: Canvas, x: float, y: float, rng: np.random.Generator) -> None:
    """Draw a tree, a bush or a street lamp."""
    at = canvas.placed(x, y)
    match rng.integers(3):
        case 0:
            at.line([(0, 0), (0, 0.2)], 0.03, (112, 78, 48))
            at.ellipse((0, 0.27), (0.1, 0.12), _tint((62, 130, 62), rng, 25))
        case 1:
            at.ellipse((0, 0.02), (0.09, 0.05), _tint((72, 140, 72), rng, 25))
        case _:
            at.line([(0, 0), (0, 0.3)], 0.014, (82, 82, 86))
            at.disc((0, 0.31), 0.028, (250, 240, 204))


def _tint(colour: Colour, rng: np.random.Generator, reach: int = 14) -> Colour:
    """A colour that is a little different."""
    red, green, blue = (int(min(max(part + rng.uniform(-reach, reach), 0), 255)) for part in colour)
    return red, green, blue


_BACKGROUNDS: Final[Mapping[str, Callable[[Canvas, float, np.random.Generator], None]]] = {
    "park": _draw_park,
    "street": _draw_street,
    "beach": _draw_beach,
    "yard": _draw_yard,
}
