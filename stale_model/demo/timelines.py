"""What happens when in each video: timelines with statistics like ActivityNet's, only shorter."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stale_model.demo.demo_classes import SEEN, UNSEEN
from stale_runtime.evaluation.ground_truth import Annotation

SHORTEST_S, LONGEST_S = 20.0, 60.0
STEP_S = 0.5
"""Videos last a multiple of this."""
_TIMELINE = 1


@dataclass(frozen=True, kw_only=True)
class DemoVideo:
    """A video's timeline."""

    name: str
    duration_s: float
    annotations: tuple[Annotation, ...]
    """Sorted; they do not overlap."""

    def entry(self, subset: str) -> dict[str, Any]:
        """Its entry in ActivityNet's ``database``."""
        rows = [{"segment": [row.start_s, row.end_s], "label": row.label} for row in self.annotations]
        return {"subset": subset, "duration": self.duration_s, "annotations": rows}


def draw_timelines(subset: str, count: int, seed: int) -> list[DemoVideo]:
    """Draw the timelines of a subset: seen classes for training, seen and unseen ones alternating for validation."""
    kinds = [SEEN] if subset == "training" else [SEEN, UNSEEN]
    timelines = []
    for number in range(count):
        turn, kind = divmod(number, len(kinds))
        classes = kinds[kind]
        timelines.append(draw_timeline(f"{subset}_{number:04}", classes[turn % len(classes)], classes, seed))
    return timelines


def draw_timeline(name: str, label: str, others: Sequence[str], seed: int) -> DemoVideo:
    """Draw the actions of a video: one that takes most of the time in a third of the videos, up to three in others.

    Args:
        name: the video's id, which decides the timeline together with the seed.
        label: the video's class.
        others: classes that may also occur.
        seed: seed of the data set.
    """
    rng = generator_for(name, seed, _TIMELINE)
    duration_s = STEP_S * round((SHORTEST_S + (LONGEST_S - SHORTEST_S) * rng.beta(1.2, 1.5)) / STEP_S)
    if rng.random() < 1 / 3:
        spans = [_place_span(rng.uniform(0.6, 0.98), (0.0, 1.0), rng)]
    else:
        count = int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
        spans = [_place_span(rng.uniform(0.2, 0.75), slot, rng) for slot in pairwise(np.linspace(0, 1, count + 1))]
    labels = [label] * len(spans)
    if len(spans) > 1 and rng.random() < 0.15:
        labels[-1] = str(rng.choice(others))
    return DemoVideo(
        name=name,
        duration_s=duration_s,
        annotations=tuple(
            Annotation(what, round(start * duration_s, 2), round(end * duration_s, 2))
            for what, (start, end) in zip(labels, spans, strict=True)
        ),
    )


def generator_for(name: str, seed: int, purpose: int) -> np.random.Generator:
    """The random numbers of a video for one purpose, whatever other videos there are."""
    return np.random.default_rng([seed, purpose, zlib.crc32(name.encode())])


def _place_span(share: float, slot: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
    """A span that takes a share of a slot, at a random place in it; in fractions of the video."""
    start, end = slot
    length = share * (end - start)
    start = rng.uniform(start, end - length)
    return start, start + length
