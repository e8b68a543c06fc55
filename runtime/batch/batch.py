"""Running over many videos: skipping finished ones, and collecting the outcomes."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stale_runtime.batch.detection_work import DetectionWork, VideoTask, process_tasks
from stale_runtime.batch.feature_comparison import Comparison
from stale_runtime.batch.group_detection import Processed, group_size, has_no_duration
from stale_runtime.batch.journal import Journal, file_state
from stale_runtime.detections import VideoDetections
from stale_runtime.errors import RecipeError, StaleError
from stale_runtime.evaluation.video_labels import ExternalMode, VideoLabel, override_labels
from stale_runtime.exit_codes import DONE, SOME_FAILED
from stale_runtime.inference.detector import Watch
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import NO_TIMELINE, Localizer
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inputs.feature_origin import read_sidecar
from stale_runtime.inputs.remote_files import RemoteFile, Source
from stale_runtime.inputs.timeline import Timeline
from stale_runtime.inputs.videos import is_video, video_id
from stale_runtime.system.workspace import sweep
from stale_runtime.version import __version__


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The outcomes of a run's videos."""

    paths: tuple[Source, ...]
    outcomes: tuple[Outcome, ...]
    """In the order of the paths; fewer of them if the run stopped at an error."""
    fail_fast: bool = False
    """Whether the run had to stop at the first error."""
    warnings: Mapping[Source, str] = field(default_factory=dict)
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


@dataclass(frozen=True, kw_only=True)
class BatchRun:
    """A run over many videos, ready to start."""

    localizer: Localizer
    prompts: EncodedPrompts
    paths: tuple[Source, ...]
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
    workers: int = 1
    """Processes that work at once; with 1, this one does all itself."""

    @property
    def has_videos(self) -> bool:
        """Whether some of the files are videos."""
        return any(map(is_video, self.paths))

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

    def finished(self, journal: Journal | None) -> dict[Source, VideoDetections]:
        """The videos of this run that a journal contains, if neither feature file nor duration has changed since."""
        if journal is None:
            return {}
        found = {path: journal.finished(video_id(path.stem), file_state(path)) for path in self.paths}
        return {
            path: video for path, video in found.items() if video is not None and self._duration_agrees(path, video)
        }

    def _duration_agrees(self, path: Source, video: VideoDetections) -> bool:
        """Whether a video would get the same duration again."""
        if is_video(path):
            return True
        if self.timeline != NO_TIMELINE:
            return self.timeline.agrees(video.video, video.duration_s)
        if isinstance(path, RemoteFile):  # the recipe beside it is part of its state
            return True
        try:
            origin = read_sidecar(path)
        except RecipeError:  # which detecting will report
            return False
        return video.duration_s == (None if origin is None else origin.duration_s)

    def detect(
        self,
        journal: Journal | None,
        finished: Mapping[Source, VideoDetections],
        *,
        watch: Watch | None = None,
        warn: Callable[[Source, Comparison], object] | None = None,
    ) -> Iterator[Outcome]:
        """Find actions in the videos, skipping those that are finished.

        Args:
            journal: receives each video as soon as it is finished; None for no journal.
            finished: what ``finished`` returned.
            watch: as for ``Localizer.detect_file``; it needs a single worker.
            warn: called for each video with what the user should know of its features.

        Yields:
            The outcome of each path, in order.

        Raises:
            JournalError: the journal cannot be written.
            LostWorkerError: no worker can be started.
        """

        def keep(_: VideoTask, done: Processed) -> None:
            if journal is not None and done.state is not None and done.outcome is not None and not done.outcome.error:
                journal.add(done.state, done.outcome.result())

        for path, done in zip(self.paths, self._process(finished, keep, watch), strict=True):
            outcome = Outcome(path, finished[path], None) if done.outcome is None else done.outcome
            if warn is not None and not (self.strict and done.compared.problem is not None):
                warn(path, done.compared)
            outcome = self._complete(outcome)
            yield outcome
            if self.fail_fast and outcome.error is not None:
                return

    def _process(
        self, finished: Collection[Source], keep: Callable[[VideoTask, Processed], object], watch: Watch | None
    ) -> Iterator[Processed]:
        """What became of each video, in order; ``keep`` gets each as soon as it is known."""
        tasks, work = [VideoTask(path, path in finished) for path in self.paths], self._work()
        size = group_size(self.paths)
        groups = [tasks[n : n + size] for n in range(0, len(tasks), size)]
        workers = min(self.workers, sum(not all(task.finished for task in group) for group in groups))
        if workers > 1:
            yield from self._process_in_workers(work, groups, workers, keep)
            return
        detection = work.using(self.localizer)
        for group in groups:
            for task, done in zip(group, process_tasks(detection, group, watch), strict=True):
                keep(task, done)
                yield done

    def _process_in_workers(
        self,
        work: DetectionWork,
        groups: Sequence[Sequence[VideoTask]],
        workers: int,
        keep: Callable[[VideoTask, Processed], object],
    ) -> Iterator[Processed]:
        from stale_runtime.batch.worker_pool import LOOK_AHEAD, WorkerPool  # only several workers need it

        def is_last(done: Processed) -> bool:
            return self.fail_fast and done.outcome is not None and done.outcome.error is not None

        look_ahead = LOOK_AHEAD // 8 if self.evidence else LOOK_AHEAD  # evidence takes up to 200 kB a video
        with WorkerPool(work, workers=workers, look_ahead=look_ahead, clean_up=sweep) as pool:
            yield from pool.process(groups, on_done=keep, is_last=is_last)

    def _work(self) -> DetectionWork:
        """What is done with the videos; if some files say how long their videos last, all have to."""
        bundle = self.localizer.bundle
        return DetectionWork(
            bundle=bundle.path,
            bundle_sha256=bundle.manifest_sha256,
            settings=replace(self.localizer.settings, backend=self.localizer.backend),
            prompts=self.prompts,
            timeline=self.timeline,
            in_seconds=not all(has_no_duration(path, self.timeline) for path in self.paths),
            strict=self.strict,
            evidence=self.evidence,
        )

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
