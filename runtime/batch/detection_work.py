"""What is done with the videos of a run, in a form that can be sent to worker processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stale_runtime.batch.feature_comparison import NOTHING_FOUND
from stale_runtime.batch.group_detection import GroupDetection, Processed
from stale_runtime.batch.lost_work import Ended, why_lost
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.inference.detector import Watch
from stale_runtime.inference.forward_pass import EncodedPrompts
from stale_runtime.inference.localizer import Localizer
from stale_runtime.inference.outcome import Outcome
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.remote_files import Source
from stale_runtime.inputs.timeline import Timeline


class VideoTask(NamedTuple):
    """A video of a run."""

    path: Source
    finished: bool
    """Whether nothing is to be detected in it, because that was done before."""


def process_tasks(
    detection: GroupDetection, tasks: Sequence[VideoTask], watch: Watch | None = None
) -> Iterator[Processed]:
    """Find actions in the videos of a group, see ``GroupDetection.process``."""
    finished = {task.path for task in tasks if task.finished}
    return detection.process([task.path for task in tasks], finished=finished, watch=watch)


@dataclass(frozen=True, kw_only=True)
class DetectionWork:
    """What is done with each group of videos; a ``Work`` for a ``WorkerPool``."""

    bundle: Path
    bundle_sha256: str
    """Of the manifest, so that a worker opens the same bundle or none."""
    settings: Settings
    prompts: EncodedPrompts
    timeline: Timeline
    in_seconds: bool
    """This, and what follows, is as in ``GroupDetection``."""
    strict: bool
    evidence: bool

    def using(self, localizer: Localizer) -> GroupDetection:
        """What does the work, with a localizer that is open already."""
        return GroupDetection(
            localizer=localizer,
            prompts=self.prompts,
            timeline=self.timeline,
            in_seconds=self.in_seconds,
            strict=self.strict,
            evidence=self.evidence,
        )

    def open(self) -> Callable[[Sequence[VideoTask]], Iterable[Processed]]:
        """Open a localizer; see ``Work``.

        Raises:
            StaleError: the bundle cannot be used, or is another one by now.
        """
        localizer = Localizer(Bundle(self.bundle, expect_sha256=self.bundle_sha256), self.settings)
        return partial(process_tasks, self.using(localizer))

    def lost(self, item: VideoTask, ended: Ended) -> Processed:
        """The outcome of a video whose worker has ended."""
        problem = why_lost(str(item.path), ended, timeout_s=self.settings.timeout_s)
        return Processed(Outcome(item.path, None, problem), NOTHING_FOUND, None)
