"""People: how they look, and how they stand, walk, kneel and reach for something."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from stale_model.demo.drawing.canvas import Canvas, Colour, Point, darker

SKINS: Final = ((245, 205, 170), (226, 172, 128), (165, 110, 74), (104, 68, 48))
HAIRS: Final = ((40, 30, 25), (112, 72, 34), (200, 162, 84), (92, 92, 94))
TROUSERS: Final = ((50, 60, 112), (62, 62, 64), (112, 88, 62), (32, 32, 44))
SHIRTS: Final = (
    *((205, 45, 45), (40, 95, 195), (235, 180, 40), (45, 145, 80), (230, 120, 40)),
    *((130, 65, 165), (235, 235, 232), (70, 70, 82), (30, 155, 165), (225, 110, 160)),
)
ARM = 0.4
"""Length of an arm, in parts of the person's height."""
_SHOULDER, _HEAD = 0.8, 0.905


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours of a person."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Look":
        """Draw the colours of somebody."""
        skin, hair, shirt, trousers = (
            colours[rng.integers(len(colours))] for colours in (SKINS, HAIRS, SHIRTS, TROUSERS)
        )
        return cls(skin=skin, hair=hair, shirt=shirt, trousers=trousers)


@dataclass(frozen=True, kw_only=True)
class Posture:
    """Where somebody is, and how they hold themselves. Lengths are in units of the canvas."""

    feet: Point
    height: float
    facing: int
    """1 to the right, -1 to the left."""
    lean: float = 0.0
    """How far the shoulders are in front of the hips, in parts of the height."""
    kneels: bool = False
    stride: float = 0.15
    """From -1 to 1, how far one foot is before the other."""
    hands: tuple[Point | None, Point | None] = (None, None)
    """What the far and the near hand reach for; None for a hand that hangs down."""

    @property
    def hip(self) -> Point:
        """Where the legs begin."""
        return self.feet[0], self.feet[1] + (0.3 if self.kneels else 0.48) * self.height

    @property
    def shoulder(self) -> Point:
        """Where the arms begin."""
        x, y = self.hip
        return x + self.facing * self.lean * self.height, y + (_SHOULDER - 0.48) * self.height

    def hand(self, number: int) -> Point:
        """Where a hand is: what it reaches for, or as near as the arm is long."""
        x, y = self.shoulder
        side = 0.09 if number else -0.07
        target = self.hands[number] or (self.hip[0] + self.facing * side * self.height, self.hip[1])
        distance, length = math.dist((x, y), target), ARM * self.height
        part = min(1.0, length / max(distance, 1e-9))
        return x + part * (target[0] - x), y + part * (target[1] - y)


def draw_person(canvas: Canvas, look: Look, posture: Posture) -> None:
    """Draw somebody: the far arm, legs, body and head, and the near arm."""
    _draw_arm(canvas, look, posture, 0)
    _draw_legs(canvas, look, posture)
    height, (x, y), facing = posture.height, posture.shoulder, posture.facing
    canvas.limb([posture.hip, (x, y - 0.02 * height)], 0.16 * height, look.shirt)
    head = (x + facing * 0.3 * posture.lean * height, y + (_HEAD - _SHOULDER) * height)
    canvas.line([(x, y), head], 0.07 * height, darker(look.skin, 0.9))
    canvas.ellipse(head, (0.078 * height, 0.092 * height), look.skin)
    canvas.ellipse(
        (head[0] - facing * 0.018 * height, head[1] + 0.05 * height), (0.08 * height, 0.052 * height), look.hair
    )
    canvas.disc((head[0] + facing * 0.045 * height, head[1]), 0.012 * height, (20, 20, 22))
    _draw_arm(canvas, look, posture, 1)


def draw_hand(canvas: Canvas, look: Look, point: Point, height: float) -> None:
    """Draw a hand of somebody of a height."""
    canvas.disc(point, 0.042 * height, look.skin)


def _draw_arm(canvas: Canvas, look: Look, posture: Posture, number: int) -> None:
    """Draw an arm whose elbow bends downwards."""
    shoulder, hand, length = posture.shoulder, posture.hand(number), ARM * posture.height
    x, y = (hand[0] - shoulder[0]) / 2, (hand[1] - shoulder[1]) / 2
    half = math.hypot(x, y)
    bend = math.sqrt(max((length / 2) ** 2 - half**2, 0.0)) / max(half, 1e-9)
    side = 1 if x > 0 or (x == 0 and posture.facing > 0) else -1
    elbow = (shoulder[0] + x + side * bend * y, shoulder[1] + y - side * bend * x)
    canvas.limb([shoulder, elbow, hand], 0.066 * posture.height, darker(look.shirt, 0.85 if number else 0.65))
    draw_hand(canvas, look, hand, posture.height)


def _draw_legs(canvas: Canvas, look: Look, posture: Posture) -> None:
    height, facing = posture.height, posture.facing
    (x, y), ground = posture.hip, posture.feet[1]
    if posture.kneels:
        back = [(x, y), (x + facing * 0.02 * height, ground + 0.03 * height), (x - facing * 0.22 * height, ground)]
        knee = (x + facing * 0.19 * height, ground + 0.26 * height)
        legs = [back, [(x, y), knee, (x + facing * 0.17 * height, ground)]]
    else:
        legs = []
        for side in (-1, 1):
            foot = (x + side * 0.13 * posture.stride * height, ground)
            knee = ((x + foot[0]) / 2 + facing * 0.02 * height, (y + ground) / 2)
            legs.append([(x, y), knee, foot])
    for leg, shade in zip(legs, (0.75, 1.0), strict=True):
        canvas.limb(leg, 0.085 * height, darker(look.trousers, shade))
        foot = leg[-1]
        canvas.limb([foot, (foot[0] + facing * 0.05 * height, foot[1])], 0.05 * height, (45, 38, 34))
