"""What people use: buckets, a sponge, a roller, a board, a toolbox, a wrench and a camera."""

import math
from typing import Final

from stale_model.demo.drawing.canvas import Canvas, Colour, Point, darker
from stale_model.demo.drawing.things import BLACK

WATER: Final = (226, 243, 252)
BLUE: Final = (45, 95, 190)
STEEL: Final = (176, 178, 184)
_WOOD: Final = (150, 104, 56)
_FLASH, _SPARK = (255, 255, 205), (255, 172, 30)


def draw_bucket(canvas: Canvas, place: Point, colour: Colour, filling: Colour) -> None:
    """Draw a full bucket that stands somewhere."""
    at = canvas.placed(*place, size=0.13)
    at.line([(-0.5, 0.95), (-0.3, 1.4), (0.3, 1.4), (0.5, 0.95)], 0.07, (90, 90, 96))
    at.polygon([(-0.55, 1), (0.55, 1), (0.42, 0), (-0.42, 0)], colour, darker(colour))
    at.ellipse((0, 1), (0.55, 0.16), filling, darker(colour))


def draw_board(canvas: Canvas, middle: Point, half: float) -> None:
    """Draw the board that something is carried on, given half its length."""
    x, y = middle
    canvas.box((x - half, y - 0.028), (x + half, y + 0.004), _WOOD, darker(_WOOD))


def draw_toolbox(canvas: Canvas, place: Point) -> None:
    """Draw a red toolbox that stands somewhere."""
    at = canvas.placed(*place, size=0.17)
    at.line([(-0.25, 0.5), (-0.2, 0.78), (0.2, 0.78), (0.25, 0.5)], 0.09, BLACK)
    at.box((-0.58, 0), (0.58, 0.55), (205, 32, 32), (92, 12, 12))
    at.box((-0.58, 0.26), (0.58, 0.34), (250, 212, 64))


def draw_tripod(canvas: Canvas, foot: Point, height: float) -> None:
    """Draw three legs that carry a camera."""
    x, y = foot
    for spread in (-0.075, 0.0, 0.075):
        canvas.line([(x, y + height), (x + spread, y)], 0.014, (42, 42, 46))


def draw_camera(canvas: Canvas, place: Point, facing: int, *, flashes: bool) -> None:
    """Draw a camera that looks left or right, and its flash."""
    at = canvas.placed(*place, facing=facing)
    at.box((-0.06, -0.045), (0.05, 0.045), BLACK, (92, 92, 98))
    at.box((-0.03, 0.04), (0.015, 0.065), BLACK)
    at.box((0.045, -0.032), (0.085, 0.032), (52, 52, 58))
    at.ellipse((0.085, 0), (0.012, 0.034), (125, 175, 215))
    if flashes:
        draw_rays(at, (0.05, 0.085), 0.145, _FLASH, turn=0.2, width=0.016)
        at.disc((0.05, 0.085), 0.045, (255, 255, 246))


def draw_rays(canvas: Canvas, centre: Point, radius: float, colour: Colour, *, turn: float, width: float) -> None:
    """Draw nine rays around a point."""
    x, y = centre
    for number in range(9):
        angle = turn + number * 2 * math.pi / 9
        across, up = math.cos(angle), math.sin(angle)
        inner, outer = 0.3 * radius, radius
        canvas.line([(x + inner * across, y + inner * up), (x + outer * across, y + outer * up)], width, colour)


def draw_sparks(canvas: Canvas, centre: Point, time_s: float) -> None:
    """Draw the sparks of a repair, which come and go."""
    if math.sin(11 * time_s) > -0.5:
        radius = 0.1 + 0.02 * math.sin(23 * time_s)
        draw_rays(canvas, centre, radius, _SPARK, turn=3 * time_s, width=0.013)


def draw_wrench(canvas: Canvas, hand: Point, spot: Point) -> None:
    """Draw a wrench from a hand to what it turns."""
    metal, edge = (128, 132, 142), (70, 70, 80)
    canvas.limb([hand, spot], 0.034, metal)
    canvas.disc(spot, 0.045, metal, edge)
    canvas.disc(spot, 0.02, edge)


def draw_sponge(canvas: Canvas, hand: Point) -> None:
    """Draw a yellow sponge in a hand."""
    x, y = hand
    canvas.box((x - 0.045, y - 0.028), (x + 0.045, y + 0.028), (255, 220, 64), (188, 150, 24))


def draw_roller(canvas: Canvas, hand: Point, tip: Point, colour: Colour) -> None:
    """Draw a paint roller with a long handle."""
    canvas.line([hand, tip], 0.02, _WOOD)
    x, y = tip
    canvas.box((x - 0.028, y - 0.06), (x + 0.028, y + 0.06), colour, (34, 34, 36))
