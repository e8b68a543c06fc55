"""What a run found, with all that an output format may say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_runtime.detections import VideoDetections, unit_of
from stale_runtime.errors import StaleError

if TYPE_CHECKING:
    from stale_runtime.evaluation.ground_truth import GroundTruth
    from stale_runtime.formats.result_rows import FailedVideo
    from stale_runtime.formats.shard_end import ShardEnd


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The detections of a run's videos, and how they were made."""

    videos: tuple[VideoDetections, ...]
    """All detections of each video, whatever they score. What a page draws beside them is in ``evidence``."""
    paths: tuple[Path, ...]
    """The video or feature file of each of ``videos``."""
    failed: tuple[tuple[Path, StaleError], ...] = ()
    """The files of videos that failed, each with the reason."""
    min_score: float | None = None
    """Score from which on detections are written, or where a page's slider starts; None for all of them."""
    top: int | None = None
    """Detections a video that were asked for; None if nothing was said."""
    version: str
    """Program and version that made the detections."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Settings that the detections depend on, for JSON: bundle, backend, decoder and so on."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Like ``run``, with all that must be the same in other shards for the detections to belong together."""
    end: "ShardEnd | None" = None
    """What the file says of the shard whose videos these are; None if it is no shard, or an incomplete one."""
    recipe: str | None = None
    """How the features of videos were made, on one line; None if the bundle does not say."""
    external: str | None = None
    """The external data that labels came from; None if there is none."""
    ground_truth: "GroundTruth | None" = None
    """Annotations to compare with; None if there are none."""
    frame_rates: Mapping[str, float] = field(default_factory=dict)
    """Frames a second by video id, as far as they are known."""
    output: Path | None = None
    """The file that is written, which paths to videos are relative to; None for stdout."""

    @cached_property
    def shown(self) -> tuple[VideoDetections, ...]:
        """The videos with the detections that score at least ``min_score``."""
        if self.min_score is None:
            return self.videos
        return tuple(video.min_score(self.min_score) for video in self.videos)

    def failures(self) -> "list[FailedVideo]":
        """The videos that failed, as their rows have them."""
        from stale_runtime.formats.result_rows import failed_video  # only rows need it

        return [failed_video(path, error) for path, error in self.failed]

    @property
    def below(self) -> int:
        """Number of detections that score less than ``min_score``."""
        return sum(map(len, self.videos)) - sum(map(len, self.shown))

    @property
    def is_all_below(self) -> bool:
        """Whether something was found, but nothing that scores at least ``min_score``."""
        return self.below > 0 and not any(map(len, self.shown))

    @property
    def unit(self) -> str:
        """The unit of all segments.

        Raises:
            ValueError: the durations of some videos are known, and those of others are not.
        """
        return unit_of(self.videos)

    def of_video(self, n: int, *, output: Path | None) -> "RunResult":
        """The result of the ``n``-th video alone, for a file of its own."""
        return replace(self, videos=(self.videos[n],), paths=(self.paths[n],), failed=(), output=output)
