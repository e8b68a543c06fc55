"""Stills with captions, to train the demo's towers on: moments of scenes as the videos have them, other ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stale_model.demo.captions import Concept, draw_caption
from stale_model.demo.demo_classes import IDLE, OTHER_THINGS, THINGS, UNSEEN_PAIRS, VERBS
from stale_model.demo.demo_footage import HEIGHT
from stale_model.demo.demo_towers import SIDE
from stale_model.demo.drawing.camera import Camera
from stale_model.demo.drawing.scene import Scene

_ACTIONS = 0.72
"""Share of the stills that show an action."""
_WITH_THING = 0.85
_OTHER_THINGS = 0.4
_MOMENTS = 4
"""Stills of one scene. Different things happen in it, so that the scene itself says nothing about them."""
_LONGEST_S, _LONGEST_ACTION_S = 60.0, 20.0


@dataclass(frozen=True, kw_only=True)
class Stills:
    """N images, what they show, and a caption of each."""

    images: NDArray[np.uint8]
    """(N, SIDE, SIDE, 3)"""
    concepts: tuple[Concept, ...]
    captions: tuple[str, ...]


def draw_stills(count: int, seed: int, *, unseen: bool) -> Stills:
    """Draw stills.

    Args:
        count: how many.
        seed: other seeds give other stills.
        unseen: whether the pairs of the unseen classes are among them.
    """
    rng = np.random.default_rng([seed, count])
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    concepts: list[Concept] = []
    captions: list[str] = []
    while len(concepts) < count:
        thing = _draw_thing_name(rng)
        scene = Scene.draw(int(rng.integers(2**40)), thing)
        camera = Camera(scene, height=HEIGHT)
        for _ in range(min(_MOMENTS, count - len(concepts))):
            doing = _draw_doing(thing, rng, unseen=unseen)
            time_s, since_s = rng.uniform(0, _LONGEST_S), rng.uniform(0, _LONGEST_ACTION_S)
            frame = camera.film(doing, time_s=time_s, since_s=since_s, rng=rng)
            images[len(concepts)] = np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            concepts.append(Concept(doing, thing))
            captions.append(draw_caption(concepts[-1], scene.place, rng))
    return Stills(images=images, concepts=tuple(concepts), captions=tuple(captions))


def _draw_thing_name(rng: np.random.Generator) -> str | None:
    if rng.random() > _ACTIONS + (1 - _ACTIONS) * _WITH_THING:
        return None
    things = OTHER_THINGS if rng.random() < _OTHER_THINGS else THINGS
    return things[rng.integers(len(things))]


def _draw_doing(thing: str | None, rng: np.random.Generator, *, unseen: bool) -> str:
    verbs = [verb for verb in VERBS if unseen or (verb, thing) not in UNSEEN_PAIRS]
    if thing is not None and rng.random() < _ACTIONS:
        return verbs[rng.integers(len(verbs))]
    return IDLE[rng.integers(len(IDLE))]
