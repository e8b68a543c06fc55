"""Running over many videos: finding their files, skipping finished ones, and collecting the outcomes."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from stale_runtime.batch.feature_comparison import NOTHING_FOUND, Comparison, RowSample, compare_file
from stale_runtime.batch.journal import FileState, Journal, file_state
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import DatasetError, FeatureError, RecipeError, StaleError
from stale_runtime.evaluation.video_labels import ExternalMode, VideoLabel, override_labels
from stale_runtime.exit_codes import DONE, SOME_FAILED
from stale_runtime.inference.detector import Watch
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import NO_TIMELINE, Localizer
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.feature_folder import is_feature_file, video_files
from stale_runtime.inputs.feature_origin import read_sidecar, sidecar_path, why_not_made_from
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import is_video, video_id
from stale_runtime.version import __version__

MOST_FILES = 100_000
"""Videos in one run: all their detections stay in memory until the end, at most 30 kB a video that is not long."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The outcomes of a run's videos."""

    paths: tuple[Path, ...]
    outcomes: tuple[Outcome, ...]
    """In the order of the paths; fewer of them if the run stopped at an error."""
    fail_fast: bool = False
    """Whether the run had to stop at the first error."""
    warnings: Mapping[Path, str] = field(default_factory=dict)
    """What is likely to be wrong with the features of videos, by path."""

    @property
    def found(self) -> list[VideoDetections]:
        """Detections of the videos that did not fail."""
        return [outcome.detections for outcome in self.outcomes if outcome.detections is not None]

    @property
    def problems(self) -> list[StaleError]:
        """The errors of the videos that failed."""
        return [outcome.error for outcome in self.outcomes if outcome.error is not None]

    @property
    def recomputed(self) -> int:
        """How many videos the approximate localizer left to the exact one, at least in part."""
        return sum(found.recomputed > 0 for found in self.found)

    @property
    def stopped(self) -> bool:
        """Whether some videos were not reached."""
        return len(self.outcomes) < len(self.paths)

    @property
    def exit_code(self) -> int:
        """The exit code for the run: the first error's code if all videos failed or the run stopped there."""
        problems = self.problems
        if not problems:
            return DONE
        return problems[0].exit_code if self.fail_fast or not self.found else SOME_FAILED


def find_files(
    given: Sequence[Path], *, features: bool = True, say: Callable[[str], object] | None = None
) -> list[Path]:
    """The files of a run: each as given, and those of each folder in order of name.

    Of a video and the features that ``stale-features`` made from it, only the features are taken.

    Args:
        given: files and folders.
        features: whether feature files are wanted; False for videos only.
        say: called with a line if features are taken instead of videos, or files of a folder are ignored.

    Raises:
        FeatureError: a folder has none or cannot be read, two files are of one video, or there are too many.
    """
    paths: list[Path] = []
    for path in given:
        paths += video_files(path, features=features, say=say) if os.path.isdir(path) else [path]
    if len(paths) > MOST_FILES:
        raise FeatureError(f"{len(paths):,} files, expected at most {MOST_FILES:,}; split them into several runs")
    found: dict[str, Path] = {}
    taken: list[tuple[Path, Path]] = []
    for path in paths:
        name = video_id(path.stem)
        other = found.setdefault(name, path)
        if other is not path:
            found[name], video = _require_made_from(path, other)
            taken.append((found[name], video))
    if taken and say is not None:
        say(_describe_taken(taken))
    return list(found.values())


def _require_made_from(path: Path, other: Path) -> tuple[Path, Path]:
    """Of two files with one video id, the features, and the video that they were made from.

    Raises:
        FeatureError: they are not that.
    """
    text = f"{path}: the same video id as {other}"
    features, video = (other, path) if is_video(path) else (path, other)
    if not is_video(video) or not is_feature_file(features):
        raise FeatureError(f"{text}; rename one of them, or leave it out")
    if (why := why_not_made_from(features, video)) is not None:
        raise FeatureError(f"{text}, and {why}; rename one if they are of two videos, else move one to another folder")
    return features, video


def _describe_taken(taken: Sequence[tuple[Path, Path]]) -> str:
    features, video = taken[0]
    if len(taken) == 1:
        return f"{features} is taken instead of {video}, which it was made from"
    return f"{features} and {len(taken) - 1:,} more are taken instead of the videos that they were made from"


class _Known(NamedTuple):
    """What is known of a video before anything is detected in it."""

    path: Path
    state: FileState | None
    """Before it is read, so that a later change of the file is noticed."""
    compared: Comparison
    """What is likely to be wrong with its features; nothing yet of a video file."""
    outcome: Outcome | None
    """None if it is to be detected."""


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """A run over many videos, ready to start."""

    localizer: Localizer
    prompts: EncodedPrompts
    paths: tuple[Path, ...]
    """Feature files and videos, one for each video."""
    timeline: Timeline
    """How long the videos of feature files last."""
    labels: Mapping[str, VideoLabel] | None = None
    """An external classifier's labels by video id, see ``override_labels``; None to keep the prompts' labels."""
    external_mode: ExternalMode = "surer"
    """Which detections take these labels."""
    split_names: bool = False
    """Whether the prompts were split into words, see ``Prompts``."""
    top: int | None = None
    """Number of detections to keep for each video; None for all."""
    fail_fast: bool = False
    """Whether to stop at the first error."""
    strict: bool = False
    """Whether features that are not like those of the training are an error."""
    evidence: bool = False
    """Whether the videos that are detected now have ``evidence``. Those that a journal contains have none."""

    @property
    def has_videos(self) -> bool:
        """Whether some of the files are videos."""
        return any(map(is_video, self.paths))

    @cached_property
    def _in_seconds(self) -> bool:
        """Whether some files say how long their videos last: then all have to, because a result has one unit."""
        return not all(map(self._has_no_duration, self.paths))

    def _has_no_duration(self, path: Path) -> bool:
        return not is_video(path) and self.timeline == NO_TIMELINE and not os.path.exists(sidecar_path(path))

    def settings(self) -> dict[str, Any]:
        """Everything that detections depend on except the files, durations and an external classifier, for JSON."""
        names = self.prompts.names
        return {
            "bundle_sha256": self.localizer.bundle.manifest_sha256,
            "backend": self.localizer.backend,
            "length": self.localizer.length,
            "window": self.localizer.window,
            "most_detections": self.localizer.settings.most_detections,
            "classes": self.localizer.settings.classes,
            "decoder": self.localizer.decoder,
            **({"vision_precision": self.localizer.settings.vision_precision} if self.has_videos else {}),
            "threads": self.localizer.threads,
            "prompts": len(names),
            "prompts_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            "split_names": self.split_names,
        }

    def report_settings(self) -> dict[str, Any]:
        """The settings, and how labels were replaced, for the report and the results."""
        return {**self.settings(), "external_mode": self.external_mode if self.labels is not None else None}

    def journal_settings(self) -> dict[str, Any]:
        """What must not change for an interrupted run to be resumed.

        Durations are compared video by video. A classifier's labels are not in the journal, so they may change.
        """
        import onnxruntime  # already loaded by the localizer

        return {
            "stale-edge": __version__,
            "onnxruntime": onnxruntime.__version__,
            **self.settings(),
            "seconds a snippet": self.timeline.snippet_s,
            "durations": self.timeline.durations_s is not None,
        }

    def finished(self, journal: Journal | None) -> dict[Path, VideoDetections]:
        """The videos of this run that a journal contains, if neither feature file nor duration has changed since."""
        if journal is None:
            return {}
        found = {path: journal.finished(video_id(path.stem), file_state(path)) for path in self.paths}
        return {
            path: video for path, video in found.items() if video is not None and self._duration_agrees(path, video)
        }

    def _duration_agrees(self, path: Path, video: VideoDetections) -> bool:
        """Whether a video would get the same duration again."""
        if is_video(path):
            return True
        if self.timeline != NO_TIMELINE:
            return self.timeline.agrees(video.video, video.duration_s)
        try:
            origin = read_sidecar(path)
        except RecipeError:  # which detecting will report
            return False
        return video.duration_s == (None if origin is None else origin.duration_s)

    def detect(
        self,
        journal: Journal | None,
        finished: Mapping[Path, VideoDetections],
        *,
        watch: Watch | None = None,
        warn: Callable[[Path, Comparison], object] | None = None,
    ) -> Iterator[Outcome]:
        """Find actions in one video after the other, skipping those that are finished.

        Short videos go through the network in groups, see ``Localizer.detect_many``.

        Args:
            journal: receives each video as soon as it is finished; None for no journal.
            finished: what ``finished`` returned.
            watch: as for ``Localizer.detect_file``.
            warn: called for each video with what the user should know of its features.

        Yields:
            The outcome of each path, in order.

        Raises:
            JournalError: the journal cannot be written.
        """
        for path, outcome, compared in self._detect_groups(journal, finished, watch):
            if compared.problem is not None and self.strict:
                outcome = Outcome(path, None, RecipeError(compared.problem))
            elif warn is not None:
                warn(path, compared)
            outcome = self._complete(outcome)
            yield outcome
            if self.fail_fast and outcome.error is not None:
                return

    def _detect_groups(
        self, journal: Journal | None, finished: Mapping[Path, VideoDetections], watch: Watch | None
    ) -> Iterator[tuple[Path, Outcome, Comparison]]:
        """Each path, its outcome, and what is likely to be wrong with its features."""
        size = self.localizer.group_size
        for n in range(0, len(self.paths), size):
            group = [self._look_at(path, finished.get(path)) for path in self.paths[n : n + size]]
            files = [known.path for known in group if known.outcome is None and not is_video(known.path)]
            outcomes = self.localizer.detect_many(
                files, self.prompts, timeline=self.timeline, watch=watch, evidence=self.evidence
            )
            for known in group:
                outcome, compared = known.outcome, known.compared
                if outcome is None:
                    if is_video(known.path):
                        outcome, compared = self._detect_video(known.path, watch)
                    else:
                        outcome = next(outcomes)
                    refused = compared.problem is not None and self.strict
                    if journal is not None and known.state is not None and outcome.error is None and not refused:
                        journal.add(known.state, outcome.result())
                yield known.path, outcome, compared

    def _look_at(self, path: Path, finished: VideoDetections | None) -> _Known:
        """What is known of a video before anything is detected in it."""
        if self._in_seconds and self._has_no_duration(path):
            text = f"{path}: nothing says how long its video lasts, but other times of this run are in seconds"
            problem = DatasetError(f"{text}; give --durations FILE, or run it alone")
            return _Known(path, None, NOTHING_FOUND, Outcome(path, None, problem))
        compared = NOTHING_FOUND
        if not is_video(path):
            compared = compare_file(path, self.localizer.bundle.manifest, self.timeline)
        if finished is not None or (compared.problem is not None and self.strict):
            return _Known(path, None, compared, Outcome(path, finished, None))
        return _Known(path, file_state(path), compared, None)

    def _detect_video(self, path: Path, watch: Watch | None) -> tuple[Outcome, Comparison]:
        """The outcome of a video file, and what is likely to be wrong with its features."""
        sample = RowSample()
        (outcome,) = self.localizer.detect_many([path], self.prompts, watch=sample.watch(watch), evidence=self.evidence)
        return outcome, Comparison(problem=sample.find_problem(path, self.localizer.bundle.manifest))

    def _complete(self, outcome: Outcome) -> Outcome:
        """Apply ``top`` and ``labels``; the journal contains the detections before them."""
        try:
            video = outcome.result()
            if self.top is not None:
                video = video.top(self.top)
            if self.labels is not None:
                rows = override_labels(video.detections, video.video, self.labels, mode=self.external_mode)
                video = replace(video, detections=rows)
            return outcome._replace(detections=video)
        except StaleError as problem:
            return Outcome(outcome.path, None, problem)
