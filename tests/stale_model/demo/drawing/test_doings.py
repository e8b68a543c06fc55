"""What is seen of the five verbs, and of what happens in between. The scenes have no noise, and the camera stands."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stale_model.demo.demo_classes import IDLE, OTHER_THINGS, THINGS, VERBS
from stale_model.demo.drawing.camera import Camera, Frame
from stale_model.demo.drawing.canvas import WIDTH, Canvas
from stale_model.demo.drawing.doings import paint_over
from stale_model.demo.drawing.people import Look
from stale_model.demo.drawing.scene import Scene
from stale_model.demo.drawing.things import draw_thing
from stale_model.demo.drawing.tools import BLUE, STEEL

HEIGHT = 120
SKIN, PAINT = (255, 0, 255), (0, 255, 1)
RED = (205, 32, 32)
WOOD = (150, 104, 56)
DARK_GLASS = (52, 52, 58)


def plain_scene(seed: int, thing: str | None) -> Scene:
    scene = Scene.draw(seed, thing)
    looks = tuple(Look(skin=SKIN, hair=(9, 9, 9), shirt=(8, 8, 80), trousers=(70, 70, 7)) for _ in scene.people)
    return replace(
        scene,
        people=(looks[0], looks[1], looks[2]),
        paint=PAINT,
        pan=(0.0, 0.2, 0.0),
        shake=0.0,
        gain=1.0,
        offset=0.0,
        grain=0.0,
        left_behind=None,
        has_passer=False,
    )


def film(scene: Scene, doing: str, *, time_s: float = 3.0, since_s: float = 2.0) -> NDArray[np.int64]:
    frame = Camera(scene, height=HEIGHT).film(doing, time_s=time_s, since_s=since_s, rng=np.random.default_rng(0))
    return frame.astype(np.int64)


def where(frame: NDArray[np.integer], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((frame == colour).all(axis=2))


def thing_mask(scene: Scene) -> NDArray[np.bool_]:
    """The pixels of the scene's thing."""
    image = Image.new("L", (round(WIDTH * HEIGHT), HEIGHT))
    canvas = Canvas.on(image, scale=HEIGHT).onto(image, silhouette=True)
    assert scene.thing is not None
    at = canvas.placed(scene.thing_x, scene.ground, size=scene.size, facing=scene.facing)
    draw_thing(at, scene.thing, scene.colour, 3.0 * scene.tempo + scene.phase)
    return np.asarray(image) > 0


@pytest.mark.parametrize("thing", [*THINGS, *OTHER_THINGS])
def test_the_thing_is_where_the_scene_says(thing: str) -> None:
    scene = plain_scene(1, thing)
    empty = film(replace(scene, thing=None), "nobody")
    changed = (film(scene, "nobody") != empty).any(axis=2)
    mask = thing_mask(scene)
    assert mask.sum() > 300
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.95
    columns = np.flatnonzero(mask.any(axis=0)) / HEIGHT
    half, high = scene.extent
    assert (columns.min(), columns.max()) == pytest.approx((scene.thing_x - half, scene.thing_x + half), abs=0.05)
    assert np.flatnonzero(mask.any(axis=1)).min() / HEIGHT == pytest.approx(1 - scene.ground - high, abs=0.03)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("thing", [*THINGS, *OTHER_THINGS])
def test_people_stand_on_the_scene_s_side_of_the_thing(thing: str, seed: int) -> None:
    scene = plain_scene(seed, thing)
    for doing in ("standing", "waving", "photographing"):
        changed = (film(scene, doing) != film(scene, "nobody")).any(axis=(0, 2))
        middle = np.flatnonzero(changed).mean() / HEIGHT
        assert (middle - scene.thing_x) * scene.side > 0.8 * scene.extent[0], doing


@pytest.mark.parametrize("thing", [*THINGS, *OTHER_THINGS])
def test_paint_covers_part_of_the_thing_and_nothing_else(thing: str) -> None:
    scene = plain_scene(2, thing)
    image = Image.new("RGB", (round(WIDTH * HEIGHT), HEIGHT), (1, 2, 3))
    canvas = Canvas.on(image, scale=HEIGHT)
    at = canvas.placed(scene.thing_x, scene.ground, size=scene.size, facing=scene.facing)
    draw_thing(at, thing, scene.colour, 3.0 * scene.tempo + scene.phase)
    before = np.asarray(image).copy()
    paint_over(canvas, scene, 3.0 * scene.tempo + scene.phase, scene.thing_x)
    changed = (np.asarray(image) != before).any(axis=2)
    mask = thing_mask(scene)
    assert not changed[~mask].any()
    painted, far = np.flatnonzero(changed.any(axis=0)) / HEIGHT - scene.thing_x, -0.04 * scene.side
    assert changed.sum() > 0.1 * mask.sum()
    assert ((painted - far) * scene.side > 0).all(), "only between the painter and the edge of the paint"


@pytest.mark.parametrize("thing", [*THINGS, *OTHER_THINGS])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_tells_a_verb_is_cut_at_the_edge(thing: str, seed: int) -> None:
    scene = replace(plain_scene(seed, thing), pan=(0.05, 0.4, 6.0), shake=0.005)
    tools = {"washing": BLUE, "painting": STEEL, "repairing": RED, "photographing": DARK_GLASS}
    for doing, colour in tools.items():
        for time_s in (0.5, 4.0, 11.0):
            shown = where(film(scene, doing, time_s=time_s), colour)
            assert shown.sum() >= 6, doing
            edges = (shown[:, 0], shown[:, -1], shown[0], shown[-1])
            assert not any(edge.any() for edge in edges), f"{doing} at {time_s}"


@pytest.mark.parametrize("thing", [*THINGS, *OTHER_THINGS])
@pytest.mark.parametrize("seed", range(6))
def test_carriers_hold_both_ends_of_what_they_carry(thing: str, seed: int) -> None:
    frame = film(plain_scene(seed, thing), "carrying", time_s=1.7 * seed)
    hands, board = where(frame, SKIN), where(frame, WOOD)
    assert board.any()
    row = round(np.flatnonzero(board.any(axis=1)).mean())
    nearby = hands[row - 3 : row + 4]
    columns = np.flatnonzero(nearby.any(axis=0))
    for end in (np.flatnonzero(board.any(axis=0)).min(), np.flatnonzero(board.any(axis=0)).max()):
        assert np.abs(columns - end).min() <= 6, "no hand at this end of the board"


def test_whoever_waves_stretches_an_arm_beside_the_head() -> None:
    for seed in range(12):
        scene = plain_scene(seed, "dog")
        highest = []
        for time_s in np.arange(0, 2, 0.1):
            rows, columns = np.nonzero(where(film(scene, "waving", time_s=float(time_s)), SKIN))
            height = 1 - rows.min() / HEIGHT - scene.ground
            highest.append(height)
            person_x = scene.thing_x + scene.side * (scene.extent[0] + 0.12)
            outer = (columns / HEIGHT - person_x) * scene.side
            assert outer.max() > 0.12 * scene.height, "the hand is at the head"
        assert np.ptp(highest) > 0.02, "the hand does not move"


@pytest.mark.parametrize("thing", [*THINGS, *OTHER_THINGS])
def test_everything_that_can_be_done_looks_different(thing: str) -> None:
    frames = [film(plain_scene(3, thing), doing) for doing in (*VERBS, *IDLE)]
    for n, first in enumerate(frames):
        for second in frames[:n]:
            assert (np.abs(first - second).max(axis=2) > 30).mean() > 0.004


def test_what_people_do_moves() -> None:
    scene = plain_scene(4, "bicycle")
    for doing in (*VERBS, "walking", "waving"):
        pictures = [film(scene, doing, time_s=t, since_s=t) for t in (0.0, 0.25, 0.5, 0.75)]
        assert any((picture != pictures[0]).any() for picture in pictures[1:]), doing
    still = [film(scene, "standing", time_s=t) for t in (0.0, 1.0)]
    assert (still[0] == still[1]).all()


def test_a_still_camera_s_frames_are_bytes_of_the_wanted_size() -> None:
    frame: Frame = Camera(Scene.draw(0, "car"), height=60, finer=2).film(
        "washing", time_s=0, since_s=0, rng=np.random.default_rng(0)
    )
    assert frame.shape == (60, 80, 3)
    assert frame.dtype == np.uint8
