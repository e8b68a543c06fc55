"""Comparing features with those that the network was trained on: of files before, of videos while they are computed."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stale_runtime.bundle.manifest import Manifest
from stale_runtime.errors import RecipeError, StaleError
from stale_runtime.inference.detector import Watch
from stale_runtime.inputs.feature_check import FeatureCheck
from stale_runtime.inputs.feature_file import open_features
from stale_runtime.inputs.feature_origin import read_sidecar, sidecar_path
from stale_runtime.inputs.feature_statistics import SAMPLE_SNIPPETS, FeatureSummary, summarise_sample
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import video_id
from stale_runtime.segments import FloatArray

_SAY_DURATION = "make the features again with stale-features, or give --duration"


class Comparison(NamedTuple):
    """What the user should know of the features of a video, with the path."""

    problem: str | None = None
    """What is likely to be wrong with them, and the remedy; None if nothing is."""
    note: str | None = None
    """How they are taken; None if as they are."""

    def named(self, rename: Callable[[str], str]) -> "Comparison":
        """The same with other names of files in its texts."""
        return Comparison(*(None if text is None else rename(text) for text in self))


NOTHING_FOUND = Comparison()


def compare_file(path: Path, manifest: Manifest, timeline: Timeline) -> Comparison:
    """Compare the features of a video with those of the training.

    At most ``SAMPLE_SNIPPETS`` of its snippets are read, so that this is cheap however long it is. A file that cannot
    be read is no problem here: detection says so.

    Args:
        path: a ``.npy`` file; what ``stale-features`` wrote beside it is compared too.
        manifest: says what the network was trained on.
        timeline: how long videos last.
    """
    try:
        with open_features(path, manifest.channels) as file:
            summary, snippets, note = file.summarise(), file.snippets, file.note
        duration_s = timeline.duration_of(video_id(path.stem), snippets)
    except StaleError:
        return NOTHING_FOUND
    return Comparison(problem=_find_problem(path, manifest.feature_check, summary, snippets, duration_s), note=note)


def _find_problem(
    path: Path, check: FeatureCheck, summary: FeatureSummary | None, snippets: int, duration_s: float | None
) -> str | None:
    try:
        origin = read_sidecar(path, snippets=snippets)
    except RecipeError as problem:
        told = duration_s is not None and check.knows_anything
        return str(problem) if told else None  # detection needs the duration from it, and says so
    if duration_s is None and origin is not None and origin.duration_problem is not None:
        return f"{sidecar_path(path)}: {origin.duration_problem}, so times may be wrong; {_SAY_DURATION}"
    found = check.problem_with(
        summary, origin=origin, snippet_s=duration_s / snippets if duration_s is not None else None
    )
    return f"{path}: {found}" if found is not None else None


class RowSample:
    """The first features of a video, which are kept while they are computed."""

    def __init__(self) -> None:
        self._held: list[FloatArray] = []

    def watch(self, inner: Watch | None) -> Watch:
        """Keep some of the blocks that pass by.

        Args:
            inner: gets them too; None for nothing.
        """

        def keep(blocks: Iterable[FloatArray], total: int) -> Iterator[FloatArray]:
            for block in blocks if inner is None else inner(blocks, total):
                if sum(map(len, self._held)) < SAMPLE_SNIPPETS:
                    self._held.append(block)
                yield block

        return keep

    def find_problem(self, path: Path, manifest: Manifest) -> str | None:
        """What is likely to be wrong with them; about the vision tower or its recipe."""
        if not self._held:
            return None
        sample = np.concatenate(self._held)
        found = manifest.feature_check.problem_with(summarise_sample(sample, len(sample)))
        return f"{path}: {found}" if found is not None else None
