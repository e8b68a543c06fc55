"""What is done with a few videos of a run at once, in whichever process."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from stale_runtime.batch.feature_comparison import NOTHING_FOUND, Comparison, RowSample, compare_file
from stale_runtime.batch.journal import AnyState, file_state
from stale_runtime.errors import DatasetError, RecipeError, RemoteFileError, StaleError
from stale_runtime.inference.detector import Watch
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import NO_TIMELINE, Localizer
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.feature_origin import sidecar_path
from stale_runtime.inputs.remote_copies import FILES_AT_ONCE, Copy, fetched_together, parts_to_fetch
from stale_runtime.inputs.remote_files import RemoteFile, Source
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import is_video


class Processed(NamedTuple):
    """What became of a video."""

    outcome: Outcome | None
    """None if it was finished before."""
    compared: Comparison
    """What is likely to be wrong with its features."""
    state: AnyState | None
    """Of the file before it was read, so that a later change is noticed; None if the outcome is not to be kept."""


class _Known(NamedTuple):
    """What is known of a video before anything is detected in it."""

    path: Path
    """Of the file, or of its local copy."""
    state: AnyState | None
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
        self, paths: Sequence[Source], *, finished: Collection[Source] = (), watch: Watch | None = None
    ) -> Iterator[Processed]:
        """Find actions in the videos of a group, one after the other.

        Files in object storage are copied to this machine first, several at the same time.

        Args:
            paths: feature files and videos, about as many as ``group_size`` says.
            finished: those of them in which nothing is to be detected, because that was done before.
            watch: as for ``Localizer.detect_file``.

        Yields:
            What became of each, in order, as soon as it is known.
        """
        for part in parts_to_fetch(paths):
            wanted = [path for path in part if isinstance(path, RemoteFile) and self._is_read(path, finished)]
            with fetched_together(wanted) as copies:
                yield from self._process(part, copies, finished, watch)

    def _is_read(self, path: RemoteFile, finished: Collection[Source]) -> bool:
        """Whether a file has to be fetched: not only to warn of the features of a finished video once more."""
        return (self.strict or path not in finished) and not self._lacks_duration(path)

    def _lacks_duration(self, path: Source) -> bool:
        if isinstance(path, RemoteFile) and path.state is None:  # fetching it says what is wrong
            return False
        return self.in_seconds and has_no_duration(path, self.timeline)

    def _process(
        self,
        paths: Sequence[Source],
        copies: Mapping[RemoteFile, Copy | StaleError],
        finished: Collection[Source],
        watch: Watch | None,
    ) -> Iterator[Processed]:
        group = [self._look_at(path, copies, is_finished=path in finished) for path in paths]
        files = [known.path for known in group if _is_to_be_detected(known) and not is_video(known.path)]
        outcomes = self.localizer.detect_many(
            files, self.prompts, timeline=self.timeline, watch=watch, evidence=self.evidence
        )
        for path, known in zip(paths, group, strict=True):
            outcome, compared = known.outcome, known.compared
            if _is_to_be_detected(known):
                if is_video(known.path):
                    outcome, compared = self._detect_video(known.path, watch)
                else:
                    outcome = next(outcomes)
            copy = copies.get(path) if isinstance(path, RemoteFile) else None
            if isinstance(copy, Copy):
                outcome, compared = _of_source(path, copy, outcome), compared.named(copy.named)
            if compared.problem is not None and self.strict:
                yield Processed(Outcome(path, None, RecipeError(compared.problem)), compared, None)
            else:
                yield Processed(outcome, compared, known.state)

    def _look_at(self, source: Source, copies: Mapping[RemoteFile, Copy | StaleError], *, is_finished: bool) -> _Known:
        """What is known of a video before anything is detected in it."""
        if self._lacks_duration(source):
            text = f"{source}: nothing says how long its video lasts, but other times of this run are in seconds"
            missing = DatasetError(f"{text}; give --durations FILE, or run it alone")
            return _Known(Path(source.name), None, NOTHING_FOUND, Outcome(source, None, missing))
        if isinstance(source, Path):
            path = source
        else:
            copy = copies.get(source)
            if copy is None:
                return _Known(Path(source.name), None, NOTHING_FOUND, None, finished=True)
            if isinstance(copy, StaleError):
                return _Known(Path(source.name), None, NOTHING_FOUND, Outcome(source, None, copy))
            path = copy.path
            if source.state is None and not self.in_seconds and has_recipe(path):
                problem = RemoteFileError(f"{source}: could not be had at first, but later; run it again")
                return _Known(path, None, NOTHING_FOUND, Outcome(source, None, problem))
        compared = NOTHING_FOUND
        if not is_video(path):
            compared = compare_file(path, self.localizer.bundle.manifest, self.timeline)
        if is_finished or (compared.problem is not None and self.strict):
            return _Known(path, None, compared, None, finished=True)
        return _Known(path, file_state(source), compared, None)

    def _detect_video(self, path: Path, watch: Watch | None) -> tuple[Outcome, Comparison]:
        """The outcome of a video file, and what is likely to be wrong with its features."""
        sample = RowSample()
        (outcome,) = self.localizer.detect_many([path], self.prompts, watch=sample.watch(watch), evidence=self.evidence)
        return outcome, Comparison(problem=sample.find_problem(path, self.localizer.bundle.manifest))


def group_size(paths: Sequence[Source]) -> int:
    """How many videos of a run to give to ``process`` at once: several remote ones, which are fetched together.

    Args:
        paths: of all videos of the run.
    """
    return FILES_AT_ONCE if any(isinstance(path, RemoteFile) for path in paths) else 1


def has_no_duration(path: Source, timeline: Timeline) -> bool:
    """Whether nothing says how long the video of a file lasts.

    Args:
        path: a feature file or a video.
        timeline: how long the videos of feature files last.
    """
    return not is_video(path) and timeline == NO_TIMELINE and not has_recipe(path)


def has_recipe(path: Source) -> bool:
    """Whether there is something beside a feature file that says how it was made, and how long its video lasts."""
    if isinstance(path, RemoteFile):
        return path.recipe is not None
    return os.path.exists(sidecar_path(path))


def _of_source(source: Source, copy: Copy, outcome: Outcome | None) -> Outcome | None:
    """The outcome of a copy as that of its source."""
    if outcome is None:
        return None
    found, error = outcome.detections, outcome.error
    if found is not None and found.damage is not None:
        found = replace(found, damage=copy.named(found.damage))
    return Outcome(source, found, None if error is None else copy.blamed(error))


def _is_to_be_detected(known: _Known) -> bool:
    return known.outcome is None and not known.finished
