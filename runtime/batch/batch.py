"""Many videos in one run: which files they are, what an interrupted run has done of them, and how they came out."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_runtime.batch.journal import Journal, file_state
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import FeatureError, StaleError
from stale_runtime.inference.localizer import EncodedPrompts, Localizer, Outcome
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import video_id
from stale_runtime.system.files import reason
from stale_runtime.version import __version__

MOST_FILES = 100_000
"""Videos of one run: all their detections are held until the end, 30 kB a video at most."""
SOME_FAILED = 5


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How the videos of a run came out."""

    paths: tuple[Path, ...]
    outcomes: tuple[Outcome, ...]
    """In the order of the paths, and fewer where the run stopped at a problem."""
    fail_fast: bool = False
    """Whether it was to stop there."""

    @property
    def found(self) -> list[VideoDetections]:
        """Detections of the videos that came out well."""
        return [outcome.detections for outcome in self.outcomes if outcome.detections is not None]

    @property
    def problems(self) -> list[StaleError]:
        """What was wrong with the others."""
        return [outcome.error for outcome in self.outcomes if outcome.error is not None]

    @property
    def stopped(self) -> bool:
        """Whether some videos were not reached."""
        return len(self.outcomes) < len(self.paths)

    @property
    def exit_code(self) -> int:
        """What a command ends with: the problem's code if nothing came out or the run stopped there."""
        problems = self.problems
        if not problems:
            return 0
        return problems[0].exit_code if self.fail_fast or not self.found else SOME_FAILED


def find_files(given: Sequence[Path]) -> list[Path]:
    """The feature files of a run: those given, and those in the folders given, in order of name.

    Raises:
        FeatureError: a folder holds none or cannot be read, two files are of one video, or there are too many.
    """
    paths: list[Path] = []
    for path in given:
        paths += _inside(path) if os.path.isdir(path) else [path]
    if len(paths) > MOST_FILES:
        raise FeatureError(f"{len(paths):,} feature files, expected at most {MOST_FILES:,} in one run; make several")
    first: dict[str, Path] = {}
    for path in paths:
        other = first.setdefault(video_id(path.stem), path)
        if other is not path:
            raise FeatureError(f"{path}: the same video id as {other}; rename or leave out one")
    return paths


def _inside(folder: Path) -> list[Path]:
    """A folder's feature files but hidden ones, which file systems and their tools put beside others."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as problem:
        raise FeatureError(f"{folder}: {reason(problem)}; give a folder of .npy files") from problem
    found = [folder / name for name in names if name.endswith(".npy") and not name.startswith(".")]
    if not found:
        raise FeatureError(f"{folder}: no .npy files in this folder")
    return found


def run_settings(localizer: Localizer, prompts: EncodedPrompts) -> dict[str, Any]:
    """What detections of a run depend on beside features and durations."""
    return {
        "bundle_sha256": localizer.bundle.manifest_sha256,
        "backend": localizer.backend,
        "length": localizer.length,
        "decoder": localizer.decoder,
        "threads": localizer.threads,
        "prompts": len(prompts.names),
        "prompts_sha256": hashlib.sha256("\n".join(prompts.names).encode()).hexdigest(),
    }


def journal_settings(localizer: Localizer, prompts: EncodedPrompts, timeline: Timeline) -> dict[str, Any]:
    """What must be the same for an interrupted run to go on; durations by video are compared one by one."""
    import onnxruntime  # loaded with the localizer

    return {
        "stale-edge": __version__,
        "onnxruntime": onnxruntime.__version__,
        **run_settings(localizer, prompts),
        "seconds a snippet": timeline.snippet_s,
        "durations": timeline.durations_s is not None,
    }


def finished_videos(paths: Sequence[Path], journal: Journal, timeline: Timeline) -> dict[Path, VideoDetections]:
    """What a journal knows of these videos, where neither the feature file nor the duration has changed since."""
    found = {path: journal.finished(video_id(path.stem), file_state(path)) for path in paths}
    return {
        path: video
        for path, video in found.items()
        if video is not None and timeline.agrees(video.video, video.duration_s)
    }


def detect_batch(
    localizer: Localizer,
    paths: Iterable[Path],
    prompts: EncodedPrompts,
    *,
    timeline: Timeline,
    journal: Journal | None,
    finished: Mapping[Path, VideoDetections],
    finish: Callable[[VideoDetections], VideoDetections],
    fail_fast: bool,
) -> Iterator[Outcome]:
    """Find actions in many videos, one after the other, but not again in those that are finished.

    Args:
        localizer: finds them.
        paths: feature files, each of another video.
        prompts: class names.
        timeline: how long videos last.
        journal: gets each video as it is finished; None to do without.
        finished: what ``finished_videos`` found.
        finish: what becomes of a video's detections at last; may raise a StaleError.
        fail_fast: whether to stop after the first problem.

    Yields:
        For each path what came of it, in order.

    Raises:
        JournalError: the journal cannot be written.
    """
    for path in paths:
        outcome = Outcome(path, finished.get(path), None)
        if path not in finished:
            state = file_state(path)  # before it is read: what changes later is then seen to have changed
            (outcome,) = localizer.detect_many([path], prompts, timeline=timeline)
            if journal is not None and state is not None and outcome.detections is not None:
                journal.add(state, outcome.detections)
        outcome = _finished(outcome, finish)
        yield outcome
        if fail_fast and outcome.error is not None:
            return


def _finished(outcome: Outcome, finish: Callable[[VideoDetections], VideoDetections]) -> Outcome:
    try:
        return outcome._replace(detections=finish(outcome.result()))
    except StaleError as problem:
        return Outcome(outcome.path, None, problem)
