"""What people do with a thing, drawn over a place: the five verbs, and what happens while there is no action."""

import math
from collections.abc import Callable, Mapping
from typing import Final

from PIL import Image

from stale_model.demo.demo_classes import IDLE
from stale_model.demo.drawing.canvas import WIDTH, Canvas, Colour
from stale_model.demo.drawing.people import Posture, draw_hand, draw_person
from stale_model.demo.drawing.scene import Scene
from stale_model.demo.drawing.things import draw_thing
from stale_model.demo.drawing.tools import (
    BLUE,
    STEEL,
    WATER,
    draw_board,
    draw_bucket,
    draw_camera,
    draw_roller,
    draw_sparks,
    draw_sponge,
    draw_toolbox,
    draw_tripod,
    draw_wrench,
)

_FOAM, _FOAM_EDGE, _DROP = (246, 250, 255), (150, 196, 236), (40, 122, 235)
_STROKE_S = 10.0
"""Seconds in which a thing is painted once."""


def draw_doing(canvas: Canvas, scene: Scene, doing: str, time_s: float, since_s: float) -> None:
    """Draw the thing of a scene, and who does what.

    Args:
        canvas: of the whole picture, with the place on it.
        scene: says where everything is, and how it looks.
        doing: one of ``VERBS`` or ``IDLE``.
        time_s: since the start of the video.
        since_s: since the start of the action.
    """
    if doing in IDLE and scene.left_behind is not None:
        _draw_left_behind(canvas, scene, scene.left_behind)
    if scene.has_passer:
        _draw_passer(canvas, scene, time_s)
    _DRAWINGS[doing](canvas, scene, time_s * scene.tempo + scene.phase, since_s)


def _draw_left_behind(canvas: Canvas, scene: Scene, verb: str) -> None:
    place = (0.12 if scene.thing_x > WIDTH / 2 else WIDTH - 0.12, scene.ground + 0.05)
    match verb:
        case "washing":
            draw_bucket(canvas, place, BLUE, WATER)
        case "painting":
            draw_bucket(canvas, place, STEEL, scene.paint)
        case "repairing":
            draw_toolbox(canvas, place)
        case "photographing":
            draw_tripod(canvas, place, 0.3)


def _draw_passer(canvas: Canvas, scene: Scene, time_s: float) -> None:
    x = ((0.12 * time_s + scene.phase) % 2) * 1.6 - 0.1  # out of the picture half of the time
    if -0.1 <= x <= WIDTH + 0.1:
        feet = (x, scene.horizon - 0.08)
        draw_person(canvas, scene.people[2], Posture(feet=feet, height=0.3, facing=1, stride=math.sin(6 * time_s)))


def _draw_scene_thing(canvas: Canvas, scene: Scene, t: float, colour: Colour | None = None) -> None:
    """Draw the thing where it stands, in its own colour or another."""
    if scene.thing is not None:
        at = canvas.placed(scene.thing_x, scene.ground, size=scene.size, facing=scene.facing)
        draw_thing(at, scene.thing, colour or scene.colour, t)


def _near(scene: Scene, distance: float) -> float:
    """The x at a distance from the thing's edge, on the side where people stand; inside the thing if negative."""
    return scene.thing_x + scene.side * (scene.extent[0] + distance)


def _draw_nobody(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    _draw_scene_thing(canvas, scene, t)


def _draw_standing(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    _draw_scene_thing(canvas, scene, t)
    feet = (_near(scene, 0.12), scene.ground)
    draw_person(canvas, scene.people[0], Posture(feet=feet, height=scene.height, facing=-scene.side))


def _draw_walking(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    _draw_scene_thing(canvas, scene, t)
    feet = (_near(scene, 0.02) + 0.2 * math.sin(0.6 * t), scene.ground - 0.03)
    facing = 1 if math.cos(0.6 * t) > 0 else -1
    stride = 1.3 * math.sin(6 * t)
    draw_person(canvas, scene.people[0], Posture(feet=feet, height=scene.height, facing=facing, stride=stride))


def _draw_waving(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    _draw_scene_thing(canvas, scene, t)
    x, height = _near(scene, 0.12), scene.height
    angle = 0.75 + 0.35 * math.sin(7 * t)  # of the raised arm, away from the thing and from the head
    hand = (x + scene.side * 0.5 * height * math.cos(angle), scene.ground + height * (0.8 + 0.5 * math.sin(angle)))
    posture = Posture(feet=(x, scene.ground), height=height, facing=-scene.side, hands=(hand, None))
    draw_person(canvas, scene.people[0], posture)


def _draw_washing(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    _draw_scene_thing(canvas, scene, t)
    half, high = scene.extent
    for across, up, when in scene.bubbles:
        grown = (3 * when + 0.5 * t) % 1
        centre = (scene.thing_x + (2 * across - 1) * 0.9 * half, scene.ground + 0.95 * up * high + 0.04 * grown)
        canvas.disc(centre, 0.012 + 0.026 * math.sin(math.pi * grown), _FOAM, _FOAM_EDGE)
    for across, up, _ in scene.bubbles[:12]:
        x, y = scene.thing_x + (2 * across - 1) * half, scene.ground + high * (1.1 - 1.15 * ((up + 0.9 * t) % 1))
        canvas.line([(x, y), (x, y + 0.035)], 0.013, _DROP)
    draw_bucket(canvas, (_near(scene, -0.06), scene.ground - 0.06), BLUE, WATER)
    target = (_near(scene, -0.12 - 0.08 * math.sin(4 * t)), scene.ground + high * (0.6 + 0.3 * math.cos(4 * t)))
    posture = Posture(
        feet=(_near(scene, 0.1), scene.ground),
        height=scene.height,
        facing=-scene.side,
        lean=0.14,
        hands=(None, target),
    )
    draw_person(canvas, scene.people[0], posture)
    draw_sponge(canvas, posture.hand(1))


def _draw_painting(canvas: Canvas, scene: Scene, t: float, since_s: float) -> None:
    half, high = scene.extent
    done = 0.15 + 0.7 * ((since_s / _STROKE_S + 0.37 * scene.phase) % 1)
    edge = _near(scene, -2 * half * done)
    _draw_scene_thing(canvas, scene, t)
    paint_over(canvas, scene, t, edge)
    draw_bucket(canvas, (_near(scene, -0.06), scene.ground - 0.06), STEEL, scene.paint)
    tip = (edge, scene.ground + high * (0.5 + 0.35 * math.sin(5 * t)))
    target = (_near(scene, 0.0), tip[1] + 0.04)
    posture = Posture(
        feet=(_near(scene, 0.1), scene.ground),
        height=scene.height,
        facing=-scene.side,
        lean=0.1,
        hands=(target, target),
    )
    draw_person(canvas, scene.people[0], posture)
    draw_roller(canvas, posture.hand(1), tip, scene.paint)


def paint_over(canvas: Canvas, scene: Scene, t: float, edge: float) -> None:
    """Give the part of the thing between the painter and ``edge`` the paint's colour, with wet streaks at its border.

    Only pixels of the thing itself change.
    """
    silhouette = canvas.onto(Image.new("L", canvas.image.size), silhouette=True)
    _draw_scene_thing(silhouette, scene, t)
    _, high = scene.extent
    outer = (_near(scene, 0.1), scene.ground + high + 0.1)
    painted = canvas.image.copy()
    over = canvas.onto(painted)
    _draw_scene_thing(over, scene, t, scene.paint)
    over.line([(edge, scene.ground), (edge, scene.ground + high)], 0.045, scene.paint)
    box = canvas.box_pixels((edge - scene.side * 0.0225, scene.ground - 0.05), outer)
    canvas.image.paste(painted.crop(box), box, silhouette.image.crop(box))


def _draw_carrying(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    half, _ = scene.extent
    room = max(WIDTH / 2 - half - 0.2, 0.0)
    x, lift = WIDTH / 2 + min(room, 0.2) * math.sin(0.8 * t), scene.ground + 0.42 * scene.height
    lift += 0.012 * math.sin(8 * t)
    facing = 1 if math.cos(0.8 * t) > 0 else -1
    carriers = []
    for side, look in zip((-1, 1), scene.people, strict=False):
        posture = Posture(
            feet=(x + side * (half + 0.1), scene.ground),
            height=scene.height,
            facing=facing,
            stride=1.2 * math.sin(7 * t + side),
            hands=((x + side * (half + 0.02), lift), (x + side * (half - 0.01), lift)),
        )
        draw_person(canvas, look, posture)
        carriers.append((look, posture))
    if scene.thing is not None:
        draw_thing(canvas.placed(x, lift, size=scene.size, facing=scene.facing), scene.thing, scene.colour, t)
    draw_board(canvas, (x, lift), half + 0.04)
    for look, posture in carriers:
        for number in (0, 1):
            draw_hand(canvas, look, posture.hand(number), scene.height)


def _draw_repairing(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    _draw_scene_thing(canvas, scene, t)
    half, high = scene.extent
    draw_toolbox(canvas, (_near(scene, -1.1 * half), scene.ground - 0.07))
    spot = (_near(scene, -0.12), scene.ground + 0.4 * high)
    turn = 0.6 * math.sin(5 * t)
    target = (spot[0] + scene.side * 0.13 * math.cos(turn), spot[1] + 0.02 + 0.13 * math.sin(turn))
    posture = Posture(
        feet=(_near(scene, 0.12), scene.ground),
        height=1.04 * scene.height,
        facing=-scene.side,
        lean=0.1,
        kneels=True,
        hands=(target, target),
    )
    draw_person(canvas, scene.people[0], posture)
    draw_wrench(canvas, posture.hand(1), spot)
    draw_sparks(canvas, spot, t)


def _draw_photographing(canvas: Canvas, scene: Scene, t: float, _since_s: float) -> None:
    _draw_scene_thing(canvas, scene, t)
    lens, eye = _near(scene, 0.09), scene.ground + 0.82 * scene.height
    draw_tripod(canvas, (lens, scene.ground - 0.01), eye - scene.ground)
    hand = (lens + 0.03 * scene.side, eye - 0.04)
    posture = Posture(
        feet=(_near(scene, 0.21), scene.ground),
        height=scene.height,
        facing=-scene.side,
        lean=0.03,
        hands=(hand, hand),
    )
    draw_person(canvas, scene.people[0], posture)
    draw_camera(canvas, (lens, eye), -scene.side, flashes=math.sin(4.5 * t) > 0.2)


_DRAWINGS: Final[Mapping[str, Callable[[Canvas, Scene, float, float], None]]] = {
    "nobody": _draw_nobody,
    "standing": _draw_standing,
    "walking": _draw_walking,
    "waving": _draw_waving,
    "washing": _draw_washing,
    "painting": _draw_painting,
    "carrying": _draw_carrying,
    "repairing": _draw_repairing,
    "photographing": _draw_photographing,
}
