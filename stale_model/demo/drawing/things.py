"""The things that people do something with. Each stands on (0, 0) of its canvas, is about 0.4 high, and faces right."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from stale_model.demo.drawing.canvas import Canvas, Colour, Point, darker

_Draw = Callable[[Canvas, Colour, float], None]
BLACK: Final = (26, 26, 30)
GREY: Final = (150, 150, 156)
_GLASS, _SHINE = (170, 215, 242), (236, 248, 255)


def draw_thing(canvas: Canvas, thing: str, colour: Colour, time_s: float) -> None:
    """Draw a thing.

    Args:
        canvas: the thing stands on its origin.
        thing: one of ``THINGS`` or ``OTHER_THINGS``.
        colour: of its largest part.
        time_s: a dog wags its tail.
    """
    _DRAWINGS[thing](canvas, colour, time_s)


def _draw_car(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    edge = darker(colour)
    canvas.polygon([(-0.23, 0.19), (-0.15, 0.325), (0.09, 0.325), (0.2, 0.19)], colour, edge)
    for window in ([(-0.185, 0.2), (-0.13, 0.3), (-0.03, 0.3), (-0.03, 0.2)], _front_window()):
        canvas.polygon(window, _GLASS, edge)
    hull = [(-0.345, 0.06), (-0.35, 0.16), (-0.31, 0.205), (0.2, 0.205), (0.33, 0.165), (0.35, 0.11), (0.345, 0.06)]
    canvas.polygon(hull, colour, edge)
    canvas.line([(-0.03, 0.08), (-0.03, 0.195)], 0.008, edge)
    canvas.line([(0.01, 0.165), (0.05, 0.165)], 0.012, edge)
    canvas.disc((0.325, 0.13), 0.019, (255, 244, 160))
    canvas.disc((-0.335, 0.135), 0.013, (200, 30, 30))
    for axle in (-0.2, 0.205):
        canvas.disc((axle, 0.07), 0.074, BLACK)
        canvas.disc((axle, 0.07), 0.034, (196, 196, 202))


def _front_window() -> list[Point]:
    return [(0.0, 0.2), (0.0, 0.3), (0.08, 0.3), (0.155, 0.2)]


def _draw_window(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    edge, width, height, bar = darker(colour), 0.185, 0.45, 0.03
    canvas.box((-width, 0), (width, height), colour, edge)
    for left, right in ((-width + bar, -bar / 2), (bar / 2, width - bar)):
        for low, high in ((bar, 0.6 * height), (0.6 * height + bar, height - bar)):
            canvas.box((left, low), (right, high), _GLASS, edge)
            canvas.line([(left + 0.02, low + 0.03), (right - 0.03, high - 0.03)], 0.014, _SHINE)
    canvas.box((-width - 0.025, 0), (width + 0.025, 0.035), colour, edge)


def _draw_dog(canvas: Canvas, colour: Colour, time_s: float) -> None:
    shade = darker(colour, 0.7)
    canvas.limb([(-0.17, 0.2), (-0.26 + 0.04 * math.sin(8 * time_s), 0.33)], 0.03, shade)
    for x, fur in ((-0.1, shade), (0.1, shade), (-0.15, colour), (0.15, colour)):
        canvas.limb([(x, 0.16), (x + 0.005, 0.02)], 0.042, fur)
    canvas.ellipse((0, 0.195), (0.2, 0.083), colour, shade)
    canvas.limb([(0.14, 0.22), (0.205, 0.32)], 0.09, colour)
    canvas.ellipse((0.215, 0.345), (0.076, 0.067), colour, shade)
    canvas.ellipse((0.285, 0.325), (0.052, 0.034), colour, shade)
    canvas.disc((0.328, 0.338), 0.017, BLACK)
    canvas.ellipse((0.165, 0.335), (0.03, 0.062), shade)
    canvas.disc((0.232, 0.365), 0.012, BLACK)
    canvas.line([(0.15, 0.285), (0.23, 0.255)], 0.02, (200, 40, 50))


def _draw_fence(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    edge, rail = darker(colour, 0.6), darker(colour, 0.8)
    for height in (0.11, 0.24):
        canvas.box((-0.4, height - 0.02), (0.4, height + 0.02), rail, edge)
    for number in range(6):
        x = -0.36 + 0.144 * number
        board = [(x - 0.043, 0), (x - 0.043, 0.29), (x, 0.345), (x + 0.043, 0.29), (x + 0.043, 0)]
        canvas.polygon(board, colour, edge)


def _draw_bicycle(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    radius = 0.132
    for axle in (-0.2, 0.2):
        canvas.ring((axle, radius), radius, 0.023, BLACK)
        for turn in range(3):
            x, y = (0.85 * radius * part for part in (math.cos(turn * math.pi / 3), math.sin(turn * math.pi / 3)))
            canvas.line([(axle - x, radius - y), (axle + x, radius + y)], 0.006, GREY)
    back, front, pedals, saddle, head = (-0.2, radius), (0.2, radius), (-0.02, 0.12), (-0.09, 0.31), (0.14, 0.31)
    canvas.line([back, pedals, head, saddle, pedals], 0.028, colour)
    canvas.line([back, saddle], 0.022, colour)
    canvas.line([front, (0.115, 0.385)], 0.027, colour)
    canvas.line([(0.075, 0.395), (0.115, 0.39), (0.165, 0.36)], 0.024, BLACK)
    canvas.limb([(-0.14, 0.345), (-0.055, 0.34)], 0.034, BLACK)
    canvas.disc(pedals, 0.03, GREY)


def _draw_table(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    edge = darker(colour)
    for x in (-0.24, 0.24):
        canvas.box((x - 0.022, 0), (x + 0.022, 0.24), darker(colour, 0.8), edge)
    canvas.box((-0.3, 0.24), (0.3, 0.28), colour, edge)
    canvas.disc((0.05, 0.31), 0.03, (236, 236, 230), GREY)


def _draw_boat(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    edge = darker(colour)
    canvas.line([(-0.03, 0.1), (-0.03, 0.43)], 0.018, (120, 84, 50))
    canvas.polygon([(-0.01, 0.17), (-0.01, 0.42), (0.22, 0.17)], (244, 240, 226), GREY)
    canvas.polygon([(-0.35, 0.15), (-0.25, 0), (0.23, 0), (0.36, 0.15)], colour, edge)
    canvas.line([(-0.32, 0.11), (0.32, 0.11)], 0.014, edge)


def _draw_barrel(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    edge = darker(colour, 0.6)
    canvas.polygon([(-0.11, 0), (-0.16, 0.18), (-0.11, 0.36), (0.11, 0.36), (0.16, 0.18), (0.11, 0)], colour, edge)
    canvas.ellipse((0, 0.36), (0.11, 0.025), darker(colour, 0.75), edge)
    for height, half in ((0.08, 0.135), (0.27, 0.135)):
        canvas.line([(-half, height), (half, height)], 0.022, (88, 88, 94))


def _draw_bench(canvas: Canvas, colour: Colour, _time_s: float) -> None:
    edge = darker(colour, 0.6)
    for x in (-0.3, 0.3):
        canvas.line([(x, 0), (x, 0.33)], 0.026, BLACK)
    for height in (0.15, 0.23, 0.3):
        canvas.box((-0.35, height - 0.022), (0.35, height + 0.022), colour, edge)


_DRAWINGS: Final[Mapping[str, _Draw]] = {
    "car": _draw_car,
    "window": _draw_window,
    "dog": _draw_dog,
    "fence": _draw_fence,
    "bicycle": _draw_bicycle,
    "table": _draw_table,
    "boat": _draw_boat,
    "barrel": _draw_barrel,
    "bench": _draw_bench,
}
EXTENTS: Final[Mapping[str, Point]] = {
    "car": (0.35, 0.325),
    "window": (0.21, 0.45),
    "dog": (0.3, 0.41),
    "fence": (0.405, 0.345),
    "bicycle": (0.333, 0.4),
    "table": (0.3, 0.34),
    "boat": (0.36, 0.43),
    "barrel": (0.16, 0.385),
    "bench": (0.35, 0.33),
}
"""Half the width, and the height, of each thing."""
