"""A scene: all that stays the same in a shot of somebody and a thing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from stale_model.demo.demo_classes import PLACES, VERBS
from stale_model.demo.drawing.canvas import WIDTH, Colour, Point
from stale_model.demo.drawing.people import SHIRTS, Look
from stale_model.demo.drawing.things import EXTENTS

SIZES: Final[Mapping[str | None, float]] = {
    "car": 1.0,
    "window": 1.0,
    "dog": 1.0,
    "fence": 0.88,
    "bicycle": 1.02,
    "bench": 0.95,
}
"""How large things are in the middle."""
_TINTS: Final[Mapping[str | None, Sequence[Colour]]] = {
    "dog": ((150, 96, 52), (92, 62, 42), (214, 170, 112), (58, 54, 56), (224, 214, 200), (184, 122, 64)),
    "fence": ((166, 116, 72), (240, 240, 234), (122, 82, 52), (92, 140, 102), (200, 160, 112), (150, 150, 156)),
    "window": ((240, 240, 240), (122, 78, 48), (62, 92, 130), (170, 62, 52), (72, 112, 82), (92, 92, 96)),
}
_ROOM = 0.31
"""Beside the thing, for whoever does something to it."""
_EDGE = 0.05
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Lengths are in heights of the picture, angles in radians."""

    place: str
    backdrop_seed: int
    horizon: float
    ground: float
    """Height of the point where the thing and the people stand."""
    thing: str | None
    """None for an empty place."""
    thing_x: float
    size: float
    """Of the thing."""
    facing: int
    """Of the thing: 1 to the right, -1 to the left."""
    colour: Colour
    """Of the thing."""
    paint: Colour
    """Of a painter in this scene; clearly another than the thing's."""
    side: int
    """1 if people stand to the right of the thing, -1 if to its left."""
    people: tuple[Look, Look, Look]
    """Whoever does something, a helper, and a passer-by."""
    height: float
    """Of a person."""
    phase: float
    """Where all movements begin."""
    tempo: float
    """How fast people move."""
    pan: tuple[float, float, float]
    """How far, how fast and from which angle the camera moves."""
    shake: float
    gain: float
    """Factor on the light."""
    offset: float
    """Added to each pixel, of 255."""
    grain: float
    """Standard deviation of the sensor's noise, of 255."""
    left_behind: str | None
    """The verb whose tool stands around while nothing happens, to mislead."""
    has_passer: bool
    """Whether somebody walks by in the background."""
    bubbles: tuple[tuple[float, float, float], ...]
    """Where water and foam are, each in [0, 1]: across the thing, up, and in time."""

    @classmethod
    def draw(cls, seed: int, thing: str | None) -> "Scene":
        """Draw a scene at random.

        Args:
            seed: decides everything else.
            thing: one of ``THINGS`` or ``OTHER_THINGS``; None for an empty place.
        """
        rng = np.random.default_rng(seed)
        size = SIZES.get(thing, 1.0) * rng.uniform(0.88, 1.12)
        side = 1 if rng.random() < 0.5 else -1
        half = size * EXTENTS[thing][0] if thing is not None else 0.25
        slack = max(WIDTH - 2 * half - _ROOM - _EDGE, 0.0)
        far = _EDGE + half + rng.uniform(0.25, 0.75) * slack  # from the edge that nobody stands at
        colour = _pick(_TINTS.get(thing, SHIRTS), rng)
        return cls(
            place=_pick(PLACES, rng),
            backdrop_seed=int(rng.integers(2**31)),
            horizon=rng.uniform(0.4, 0.5),
            ground=rng.uniform(0.09, 0.17),
            thing=thing,
            thing_x=far if side > 0 else WIDTH - far,
            size=size,
            facing=1 if rng.random() < 0.5 else -1,
            colour=colour,
            paint=_pick([other for other in SHIRTS if _difference(other, colour) > 180], rng),
            side=side,
            people=(Look.draw(rng), Look.draw(rng), Look.draw(rng)),
            height=rng.uniform(0.47, 0.58),
            phase=rng.uniform(0, 9),
            tempo=rng.uniform(0.8, 1.3),
            pan=(rng.uniform(0, 0.05), rng.uniform(0.1, 0.4), rng.uniform(0, 6)),
            shake=rng.uniform(0, 0.005),
            gain=rng.uniform(0.84, 1.1),
            offset=rng.uniform(-14, 14),
            grain=rng.uniform(1, 5),
            left_behind=_pick(VERBS, rng) if rng.random() < 0.12 else None,
            has_passer=rng.random() < 0.2,
            bubbles=tuple((a, b, c) for a, b, c in rng.random((22, 3)).tolist()),
        )

    @property
    def extent(self) -> Point:
        """Half the width of the thing, and its height."""
        half, high = EXTENTS[self.thing] if self.thing is not None else (0.2, 0.2)
        return half * self.size, high * self.size


def _pick(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.integers(len(options)))]


def _difference(first: Colour, second: Colour) -> int:
    return sum(abs(a - b) for a, b in zip(first, second, strict=True))
