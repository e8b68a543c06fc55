"""A run over a listing: what is left to do, and what became of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stale_runtime.errors import JournalError, OutputError
from stale_runtime.formats.result_rows import FAILED
from stale_runtime.inputs.videos import is_video
from stale_runtime.ray_data.dataset_stages import detect_files, detect_videos, listing_dataset, write_parts
from stale_runtime.ray_data.detection_plan import DetectionPlan
from stale_runtime.ray_data.row_parts import UNWRITTEN, WARNING, read_finished, tidy_parts
from stale_runtime.ray_data.video_listing import ListedVideo
from stale_runtime.system.files import why_unwritten

if TYPE_CHECKING:
    from ray.data import Dataset

MOST_ROWS = 64
"""Videos that an actor does at once: less than a second, and what a part holds."""
_BLOCKS = 64
"""Least number of blocks of a listing with so many videos, so that all actors have something to do until the end."""


class Reported(NamedTuple):
    """What became of a video."""

    video: str
    status: str
    message: str | None
    """Why it failed."""
    warning: str | None


@dataclass(frozen=True, kw_only=True)
class ListingRun:
    """The videos of a listing that have no results yet, and where those go."""

    plan: DetectionPlan
    files: tuple[tuple[ListedVideo, ...], ...]
    """Feature files that are left, in blocks."""
    videos: tuple[tuple[ListedVideo, ...], ...]
    """Videos that are left, in blocks."""
    folder: Path
    finished: int
    """Videos that an earlier run had finished."""
    counts: Counter[str] = field(default_factory=Counter)
    """Videos of each status, as they are done."""

    @classmethod
    def prepare(
        cls, plan: DetectionPlan, listing: Sequence[ListedVideo], folder: Path, *, resume: bool
    ) -> "ListingRun":
        """Look at what is there. Videos that failed before are tried again.

        Args:
            plan: how to detect.
            listing: all videos.
            folder: gets the parts; it is made if it is missing.
            resume: whether to continue if there are some.

        Raises:
            JournalError: there are some, and they are not to be continued, or are of another run.
            DatasetError: a part is broken.
            OutputError: the folder cannot be written.
        """
        try:
            folder.mkdir(exist_ok=True)
        except OSError as problem:
            raise OutputError(f"{folder}: {why_unwritten(problem)}") from problem
        found = read_finished(folder)
        if not resume and found.settings:
            raise JournalError(
                f"{folder}: has results of {len(found.videos) + found.failed:,} videos already; give --resume to "
                "continue, or take another -o"
            )
        if found.settings - {plan.text}:
            raise JournalError(
                f"{folder}: has results with other settings ({_shorten(found.settings - {plan.text})}, now "
                f"{_shorten({plan.text})}); repeat the options of that run, or take another -o"
            )
        if strangers := found.videos - {video.video for video in listing}:
            raise JournalError(
                f"{folder}: has results of {len(strangers):,} videos that are not listed, such as "
                f"{min(strangers)[:60]!r}; give the whole listing, or take another -o"
            )
        tidy_parts(folder)
        files = [video for video in listing if not is_video(Path(video.path))]
        videos = [video for video in listing if is_video(Path(video.path))]
        return cls(
            plan=plan,
            files=_blocks_left(files, max(1, min(MOST_ROWS, len(files) // _BLOCKS)), found.videos),
            videos=_blocks_left(videos, 1, found.videos),
            folder=folder,
            finished=len(found.videos),
        )

    @property
    def left(self) -> int:
        """How many videos had no result when the run was prepared."""
        return sum(map(len, (*self.files, *self.videos)))

    def detect(self, *, actors: int, num_gpus: float = 0) -> Iterator[Reported]:
        """Find actions in what is left, feature files first, and write the results.

        Args:
            actors: as for ``detect_files`` and ``detect_videos``.
            num_gpus: as for ``detect_videos``.

        Yields:
            What became of each video, in no order. Videos whose process was killed again and again are left out.

        Raises:
            OutputError: results cannot be written.
        """
        if self.files:
            yield from self._write(detect_files(listing_dataset(self.files), self.plan, actors=actors))
        if self.videos:
            found = detect_videos(listing_dataset(self.videos), self.plan, actors=actors, num_gpus=num_gpus)
            yield from self._write(found)

    def _write(self, found: "Dataset") -> Iterator[Reported]:
        done = write_parts(found, self.folder)
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in batch.to_pylist():
                if row[UNWRITTEN] is not None:
                    raise OutputError(f"{row[UNWRITTEN]}; repeat the command with --resume")
                self.counts[row["status"]] += 1
                yield Reported(row["video"], row["status"], row["message"], row[WARNING])

    @property
    def failed(self) -> int:
        """How many videos failed."""
        return self.counts[FAILED]

    @property
    def missing(self) -> int:
        """How many have no result, because their process was killed again and again."""
        return self.left - self.counts.total()


def _blocks_left(
    videos: Sequence[ListedVideo], rows: int, finished: frozenset[str]
) -> tuple[tuple[ListedVideo, ...], ...]:
    """What is left of each block of the whole listing.

    A block has the same videos in every run, and so its part the same name: processes of a killed run may live a little
    longer than their driver, and what they still write must not be there twice.
    """
    blocks = (videos[start : start + rows] for start in range(0, len(videos), rows))
    left = (tuple(video for video in block if video.video not in finished) for block in blocks)
    return tuple(block for block in left if block)


def _shorten(settings: frozenset[str] | set[str]) -> str:
    return min(settings)[:200]
