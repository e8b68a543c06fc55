"""Warning of features that are not like those of the training, once a run."""

from collections.abc import Iterable, Iterator

import numpy as np

from stale_runtime.batch.feature_comparison import Comparison
from stale_runtime.commands.run_preparation import NAME
from stale_runtime.errors import RecipeError
from stale_runtime.inputs.feature_check import FeatureCheck
from stale_runtime.inputs.feature_statistics import summarise_features
from stale_runtime.inputs.remote_files import Source
from stale_runtime.segments import FloatArray
from stale_runtime.terminal import console

STREAM_SNIPPETS = 64
"""Snippets of a stream that are looked at. They were enough for 1,000 drawn videos: the lowest cosine to the training's
direction was 0.66 where that of whole videos was 0.65, and that of single snippets 0.73."""


class FeatureWarnings:
    """What the user should know of the features of a run; the first problem and the first note are printed at once."""

    def __init__(self, videos: int) -> None:
        """Args: videos: how many the run has."""
        self._videos = videos
        self._printed: set[str] = set()
        self.by_path: dict[Source, str] = {}
        """The problem of each video, or else the note."""

    def add(self, path: Source, found: Comparison) -> None:
        """Keep what was found, and print it if it is the first of its kind."""
        text = found.problem or found.note
        if text is None:
            return
        self.by_path[path] = text
        kind = "warning: " if found.problem is not None else ""
        if kind not in self._printed:
            self._printed.add(kind)
            more = "" if self._videos == 1 else " (further videos are not warned of; --report lists them)"
            console.note(NAME, f"{kind}{text}{more}")


def compare_stream(
    rows: Iterable[FloatArray], check: FeatureCheck, *, snippet_s: float | None, strict: bool
) -> Iterator[FloatArray]:
    """Yield the pieces of a stream, and warn if its first snippets are not like those of the training.

    Args:
        rows: (n, C) each.
        check: what the network was trained on.
        snippet_s: seconds from a snippet to the next, if they are known.
        strict: whether to raise an error instead.

    Raises:
        RecipeError: they are not, and ``strict``; before any piece is yielded that completes what is looked at.
    """
    held: list[FloatArray] = []
    compared = False

    def compare() -> None:
        found = check.problem_with(summarise_features(np.concatenate(held)[:STREAM_SNIPPETS]), snippet_s=snippet_s)
        if found is not None and strict:
            raise RecipeError(f"stdin: {found}")
        if found is not None:
            console.note(NAME, f"warning: stdin: {found}")

    for piece in rows:
        if not compared:
            held.append(piece)
            if sum(map(len, held)) >= STREAM_SNIPPETS:
                compare()
                compared, held = True, []
        yield piece
    if held:
        compare()
