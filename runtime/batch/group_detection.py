"""What is done with a few videos of a run at once, in whichever process."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stale_runtime.batch.feature_comparison import NOTHING_FOUND, Comparison, RowSample, compare_file
from stale_runtime.batch.journal import FileState, file_state
from stale_runtime.errors import DatasetError, RecipeError
from stale_runtime.inference.detector import Watch
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import NO_TIMELINE, Localizer
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.feature_origin import sidecar_path
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import is_video

GROUP_FILES = 8
"""Files of a group, of which each is looked at before anything is detected in the first."""


class Processed(NamedTuple):
    """What became of a video."""

    outcome: Outcome | None
    """None if it was finished before."""
    compared: Comparison
    """What is likely to be wrong with its features."""
    state: FileState | None
    """Of the file before it was read, so that a later change is noticed; None if the outcome is not to be kept."""


class _Known(NamedTuple):
    """What is known of a video before anything is detected in it."""

    path: Path
    state: FileState | None
    compared: Comparison
    """Nothing yet of a video file."""
    outcome: Outcome | None
    """None if it is to be detected."""
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class GroupDetection:
    """Detects in the videos of a run, a few at a time."""

    localizer: Localizer
    prompts: EncodedPrompts
    timeline: Timeline
    """How long the videos of feature files last."""
    in_seconds: bool
    """Whether all videos have to say how long they last, because some of the run do."""
    strict: bool = False
    """Whether features that are not like those of the training are an error."""
    evidence: bool = False
    """Whether detections have ``evidence``."""

    def process(
        self, paths: Sequence[Path], *, finished: Collection[Path] = (), watch: Watch | None = None
    ) -> Iterator[Processed]:
        """Find actions in the videos of a group, one after the other.

        Args:
            paths: feature files and videos, about ``GROUP_FILES`` of them.
            finished: those of them in which nothing is to be detected, because that was done before.
            watch: as for ``Localizer.detect_file``.

        Yields:
            What became of each, in order, as soon as it is known.
        """
        group = [self._look_at(path, is_finished=path in finished) for path in paths]
        files = [known.path for known in group if _is_to_be_detected(known) and not is_video(known.path)]
        outcomes = self.localizer.detect_many(
            files, self.prompts, timeline=self.timeline, watch=watch, evidence=self.evidence
        )
        for known in group:
            outcome, compared = known.outcome, known.compared
            if _is_to_be_detected(known):
                if is_video(known.path):
                    outcome, compared = self._detect_video(known.path, watch)
                else:
                    outcome = next(outcomes)
            if compared.problem is not None and self.strict:
                yield Processed(Outcome(known.path, None, RecipeError(compared.problem)), compared, None)
            else:
                yield Processed(outcome, compared, known.state)

    def _look_at(self, path: Path, *, is_finished: bool) -> _Known:
        """What is known of a video before anything is detected in it."""
        if self.in_seconds and has_no_duration(path, self.timeline):
            text = f"{path}: nothing says how long its video lasts, but other times of this run are in seconds"
            problem = DatasetError(f"{text}; give --durations FILE, or run it alone")
            return _Known(path, None, NOTHING_FOUND, Outcome(path, None, problem))
        compared = NOTHING_FOUND
        if not is_video(path):
            compared = compare_file(path, self.localizer.bundle.manifest, self.timeline)
        if is_finished or (compared.problem is not None and self.strict):
            return _Known(path, None, compared, None, finished=True)
        return _Known(path, file_state(path), compared, None)

    def _detect_video(self, path: Path, watch: Watch | None) -> tuple[Outcome, Comparison]:
        """The outcome of a video file, and what is likely to be wrong with its features."""
        sample = RowSample()
        (outcome,) = self.localizer.detect_many([path], self.prompts, watch=sample.watch(watch), evidence=self.evidence)
        return outcome, Comparison(problem=sample.find_problem(path, self.localizer.bundle.manifest))


def has_no_duration(path: Path, timeline: Timeline) -> bool:
    """Whether nothing says how long the video of a file lasts.

    Args:
        path: a feature file or a video.
        timeline: how long the videos of feature files last.
    """
    return not is_video(path) and timeline == NO_TIMELINE and not os.path.exists(sidecar_path(path))


def _is_to_be_detected(known: _Known) -> bool:
    return known.outcome is None and not known.finished
