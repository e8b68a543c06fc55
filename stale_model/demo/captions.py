"""What stills show, and the captions that say so."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stale_model.demo.demo_classes import IDLE, OTHER_THINGS, PLACES, THINGS, VERBS

_ACTION_CAPTIONS = (
    *("a video of action {}", "a video of action {} in the {place}", "{}", "{} in the {place}", "somebody {}"),
    *("a person {}", "a photo of a person {}", "a picture of somebody {}"),
)
_IDLE_CAPTIONS = ("{}", "{} in the {place}", "a photo of {}", "a photo of {} in the {place}", "a video of {}")
_EMPTY_CAPTIONS = ("a {place}", "an empty {place}", "a photo of the {place}", "nothing in the {place}")


class Concept(NamedTuple):
    """What a still shows, apart from the place."""

    doing: str
    """One of ``VERBS`` or ``IDLE``."""
    thing: str | None


def describe(concept: Concept) -> str:
    """What a still shows, in the words of a caption; of an action, the name of its class in lower case."""
    doing, thing = concept
    if doing in VERBS:
        return f"{doing} a {thing}"
    if doing == "nobody":
        return f"a {thing}" if thing else ""
    return f"a person {doing}" + (f" beside a {thing}" if thing else "")


def draw_caption(concept: Concept, place: str, rng: np.random.Generator) -> str:
    """One of the captions that fit a still."""
    described = describe(concept)
    captions = _ACTION_CAPTIONS if concept.doing in VERBS else _IDLE_CAPTIONS if described else _EMPTY_CAPTIONS
    return captions[rng.integers(len(captions))].format(described, place=place)


def all_words(names: Sequence[str]) -> list[str]:
    """All words of the captions, and of some class names, sorted."""
    concepts = [Concept(doing, thing) for doing in (*VERBS, *IDLE) for thing in (None, *THINGS, *OTHER_THINGS)]
    texts = [*names, *PLACES, *map(describe, concepts), *_ACTION_CAPTIONS, *_IDLE_CAPTIONS, *_EMPTY_CAPTIONS]
    words = {word for text in texts for word in text.lower().split() if "{" not in word}
    return sorted(words)


def number_concepts(concepts: Sequence[Concept]) -> NDArray[np.int64]:
    """A number for each still, equal for those that show the same: (N,)."""
    numbers: Mapping[Concept, int] = {concept: number for number, concept in enumerate(dict.fromkeys(concepts))}
    return np.array([numbers[concept] for concept in concepts], dtype=np.int64)
