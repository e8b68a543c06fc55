"""The shots of a video: which scene is in the picture when, and what is done in it."""

from dataclasses import dataclass

import numpy as np

from stale_model.demo.demo_classes import IDLE, THINGS, verb_and_thing
from stale_model.demo.drawing.scene import Scene
from stale_model.demo.timelines import DemoVideo, generator_for
from stale_runtime.evaluation.ground_truth import Annotation

_SHOTS = 2


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Part of a video in which one thing is done in one scene."""

    scene: Scene
    doing: str
    """One of ``VERBS`` or ``IDLE``."""
    start_s: float
    end_s: float


def plan_shots(video: DemoVideo, seed: int) -> list[Shot]:
    """The shots of a video, one after the other from its start to its end.

    Actions with the same thing happen in the same scene, so that a scene says nothing about what is done in it. Between
    actions people do nothing to the thing, and now and then another thing or none is in the picture.

    Args:
        video: its timeline.
        seed: seed of the data set.
    """
    rng = generator_for(video.name, seed, _SHOTS)
    scenes: dict[str | None, Scene] = {}

    def scene_of(thing: str | None) -> Scene:
        if thing not in scenes:
            scenes[thing] = Scene.draw(int(rng.integers(2**40)), thing)
        return scenes[thing]

    shots: list[Shot] = []
    time_s = 0.0
    last = verb_and_thing(video.annotations[0].label)[1]
    for label, start_s, end_s in (*video.annotations, Annotation("", video.duration_s, video.duration_s)):
        verb, thing = verb_and_thing(label) if label else ("", last)
        around = (last, thing)[rng.integers(2)]
        for start, end in _idle_spans(time_s, start_s, rng):
            other = around if rng.random() < 0.85 else (None, *THINGS)[rng.integers(1 + len(THINGS))]
            doing = IDLE[rng.integers(len(IDLE))]
            shots.append(Shot(scene=scene_of(other), doing=doing, start_s=start, end_s=end))
        if label:
            shots.append(Shot(scene=scene_of(thing), doing=verb, start_s=start_s, end_s=end_s))
        time_s, last = end_s, thing
    return shots


def _idle_spans(start_s: float, end_s: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Cut a stretch without an action into parts of three to nine seconds, and a last one that may be shorter."""
    spans = []
    while start_s < end_s:
        cut_s = start_s + rng.uniform(3, 9)
        cut_s = end_s if end_s - cut_s < 1.5 else cut_s
        spans.append((start_s, cut_s))
        start_s = cut_s
    return spans
