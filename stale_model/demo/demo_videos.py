"""The demo's videos: timelines with statistics like ActivityNet's, and drawn features that look like CLIP's."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_runtime.evaluation.ground_truth import Annotation
from stale_runtime.inputs.features import CLIP_NORM
from stale_runtime.segments import FloatArray

FRAMES_PER_SNIPPET, FRAMES_PER_SECOND = 16, 30
FEWEST, MOST = 60, 400
SHORTEST_S, LONGEST_S = 20.0, 220.0
COMMON, SCENE, DRIFT, NOISE = 0.8, 0.25, 0.35, 0.45
"""Lengths of the parts of a feature besides actions: common to all images, the video's scene, its drift, and noise."""
ACTION, LOOK, LEAK = (0.15, 0.35), 0.2, 0.03
"""Lengths of a class's direction inside an action (from, to), of the action's own look, and of the class's direction
outside actions."""
_TIMELINE, _FEATURES = 1, 2


@dataclass(frozen=True, kw_only=True)
class DemoVideo:
    """A video's timeline."""

    name: str
    duration_s: float
    annotations: tuple[Annotation, ...]

    def entry(self, subset: str) -> dict[str, Any]:
        """Its entry in ActivityNet's ``database``."""
        rows = [{"segment": [row.start_s, row.end_s], "label": row.label} for row in self.annotations]
        return {"subset": subset, "duration": self.duration_s, "annotations": rows}


def draw_timeline(name: str, label: str, others: Sequence[str], seed: int) -> DemoVideo:
    """Draw the actions of a video: one that takes most of the time in a third of the videos, up to three in others.

    Args:
        name: the video's id, which decides the timeline together with the seed.
        label: the video's class.
        others: classes that may also occur.
        seed: seed of the data set.
    """
    rng = _generator(name, seed, _TIMELINE)
    duration = round(SHORTEST_S + (LONGEST_S - SHORTEST_S) * rng.beta(1.2, 1.5), 2)
    if rng.random() < 1 / 3:
        spans = [_place_span(rng.uniform(0.6, 0.98), (0.0, 1.0), rng)]
    else:
        count = int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
        slots = np.linspace(0, 1, count + 1)
        spans = [_place_span(rng.uniform(0.2, 0.75), slot, rng) for slot in pairwise(slots)]
    labels = [label] * len(spans)
    if len(spans) > 1 and rng.random() < 0.15:
        labels[-1] = str(rng.choice(others))
    return DemoVideo(
        name=name,
        duration_s=duration,
        annotations=tuple(
            Annotation(what, round(start * duration, 2), round(end * duration, 2))
            for what, (start, end) in zip(labels, spans, strict=True)
        ),
    )


def draw_video_features(video: DemoVideo, directions: Mapping[str, FloatArray], seed: int) -> NDArray[np.float16]:
    """Draw a video's snippet features.

    Args:
        video: the timeline.
        directions: (C,) unit vector of each class, along its prompt's embedding.
        seed: seed of the data set.

    Returns:
        (snippets, C), 60 to 400 snippets of length about 10.
    """
    rng = _generator(video.name, seed, _FEATURES)
    C = len(directions[video.annotations[0].label])
    count = int(np.clip(round(video.duration_s * FRAMES_PER_SECOND / FRAMES_PER_SNIPPET), FEWEST, MOST))
    time_s = (np.arange(count) + 0.5) / count * video.duration_s
    common = _unit_rows(np.random.default_rng([seed, 0]), 1, C)
    features = COMMON * common + SCENE * _unit_rows(rng, 1, C) + DRIFT * _random_walk(rng, count, C)  # (snippets, C)
    features += LEAK * directions[video.annotations[0].label]
    for label, start_s, end_s in video.annotations:
        action = rng.uniform(*ACTION) * directions[label] + LOOK * _unit_rows(rng, 1, C)
        features += _presence(time_s, start_s, end_s, softness_s=0.01 * video.duration_s) * action
    for start_s in rng.uniform(0, 0.9, size=rng.integers(0, 3)) * video.duration_s:  # an action of no class
        end_s = start_s + rng.uniform(0.03, 0.15) * video.duration_s
        features += (
            _presence(time_s, start_s, end_s, softness_s=0.01 * video.duration_s) * ACTION[1] * _unit_rows(rng, 1, C)
        )
    features += NOISE * _unit_rows(rng, count, C)
    lengths = CLIP_NORM * rng.normal(1, 0.03, size=(count, 1))
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True) * lengths, dtype=np.float16)


def _generator(name: str, seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose, zlib.crc32(name.encode())])


def _place_span(share: float, slot: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
    """A span that takes a share of a slot, at a random place in it; in fractions of the video."""
    start, end = slot
    length = share * (end - start)
    start = rng.uniform(start, end - length)
    return start, start + length


def _unit_rows(rng: np.random.Generator, count: int, C: int) -> FloatArray:
    """Random directions: (count, C), each of length about 1."""
    return rng.standard_normal((count, C)) / np.sqrt(C)


def _random_walk(rng: np.random.Generator, count: int, C: int) -> FloatArray:
    """A random walk with a memory of about 30 snippets, and vectors of length about 1: (count, C)."""
    memory = np.exp(-1 / 30)
    steps = _unit_rows(rng, count, C) * np.sqrt(1 - memory**2)
    steps[0] /= np.sqrt(1 - memory**2)
    for n in range(1, count):
        steps[n] += memory * steps[n - 1]
    return steps


def _presence(time_s: FloatArray, start_s: float, end_s: float, *, softness_s: float) -> FloatArray:
    """The part of an action that each snippet shows, from 0 to 1 with soft edges: (snippets,) -> (snippets, 1)."""
    inside = np.minimum(time_s - start_s, end_s - time_s)
    return 1 / (1 + np.exp(-np.clip(inside / softness_s, -50, 50)))[:, None]
