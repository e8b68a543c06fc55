"""Putting the shards of a run together: checks that they belong together and are all, and each video is there once."""

import json
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from stale_runtime.batch.result_store import FAILED_KIND, FRACTION_KIND, SECONDS_KIND, Kind, ResultStore, Stored
from stale_runtime.detections import FRACTION, SECONDS, VideoDetections
from stale_runtime.errors import DatasetError
from stale_runtime.formats.json_lines_shard import JsonLinesShard
from stale_runtime.formats.merged_formats import MergedFormat, MergedRun, failed_piece, read_failed_piece
from stale_runtime.formats.parquet_results import ParquetResults, is_parquet
from stale_runtime.formats.result_rows import FailedVideo
from stale_runtime.formats.shard_end import ShardEnd
from stale_runtime.inputs.shards import Listing
from stale_runtime.system.text import setting_differences

MOST_MERGED: Final = 10_000_000
"""Videos in one file; their ids are in memory."""
LONGEST_SETTINGS: Final = 100_000
"""Characters of a run's settings."""
_NAMED = 10
"""How many ids or files a message names."""
_MIXED = (
    "nothing says how long its video lasts, but other times of this run are in seconds; give --durations FILE to the "
    "run of every shard"
)

ResultFile = JsonLinesShard | ParquetResults
"""A file that is merged."""


def open_results(path: Path) -> ResultFile:
    """Read what a file says of its run.

    Raises:
        DatasetError: it cannot be read.
    """
    return ParquetResults.open(path) if is_parquet(path) else JsonLinesShard.open(path)


@dataclass(kw_only=True)
class Merge:
    """Files of results that belong together, and what was found in them."""

    files: Sequence[ResultFile]
    form: MergedFormat
    """What is written."""
    expected: Collection[str] | None = None
    """Ids of all videos that have to be there; None if nobody says."""
    incomplete: bool = False
    """Whether shards, or videos of ``expected``, may be missing."""
    run: MergedRun = field(init=False)
    """What the files have in common; its unit is known after ``collect``."""
    repeated: int = field(init=False, default=0)
    """How often a video was there once more, with the same result."""

    def __post_init__(self) -> None:
        """Check all that is known before the rows are read.

        Raises:
            DatasetError: files are missing, or do not belong together.
        """
        ends = _require_ends(self.files, or_list=self.expected is not None or self.incomplete)
        _check_same_run(ends)
        _check_shards(ends, incomplete=self.incomplete)
        text = _common_settings(self.files)
        self.run = MergedRun(settings=_parse_settings(text), text=text, unit=SECONDS)
        self._ends = [end for _, end in ends]

    def collect(self, store: ResultStore, watch: Callable[[Iterable[ResultFile]], Iterable[ResultFile]] = iter) -> None:
        """Read all rows, and check that each video is there once.

        Args:
            store: gets all videos.
            watch: sees the files pass by.

        Raises:
            DatasetError: a file is damaged, a video is missing, or there more than once.
            OSError: the store's file cannot be written.
        """
        for source, file in enumerate(watch(self.files)):
            self._collect_file(file, source, store)
        if self._ends and not self.incomplete and Listing.of(store.videos) != self._ends[0].listing:
            listed = self._ends[0].listing.videos
            raise DatasetError(
                f"the shards have {len(store):,} videos, but not the {listed:,} that were listed when they ran; run "
                "all shards again over the same files"
            )
        if self.expected is not None:
            self._check_expected(store.videos)
        unit = SECONDS if store.has_kind(SECONDS_KIND) or not store.has_kind(FRACTION_KIND) else FRACTION
        self.run = MergedRun(settings=self.run.settings, text=self.run.text, unit=unit)

    def failed(self, store: ResultStore) -> Iterator[FailedVideo]:
        """The videos that failed, in order of their ids.

        Like ``stale-run``, that is also who has no duration where others have one.
        """
        for stored in store.in_order():
            if stored.kind == FAILED_KIND:
                yield read_failed_piece(stored.piece)
            elif self._is_odd(stored):
                yield self._odd(stored)

    def pieces(self, store: ResultStore) -> Iterable[bytes]:
        """The content of the merged file."""
        kept = self._kept(store)
        return kept if self.form.join is None else self.form.join(kept, self.run)

    def _kept(self, store: ResultStore) -> Iterator[bytes]:
        for stored in store.in_order():
            if self._is_odd(stored):
                if self.form.has_failed:
                    yield failed_piece(self._odd(stored))
            elif stored.kind != FAILED_KIND or self.form.has_failed:
                yield stored.piece

    def _is_odd(self, stored: Stored) -> bool:
        return stored.kind == FRACTION_KIND and self.run.unit == SECONDS

    def _odd(self, stored: Stored) -> FailedVideo:
        return FailedVideo(stored.video, DatasetError.__name__, f"{stored.video}: {_MIXED}")

    def _collect_file(self, file: ResultFile, source: int, store: ResultStore) -> None:
        count = 0
        for result in file.results():
            count += 1
            if file.end is not None and not file.end.shard.has(result.video):
                raise DatasetError(
                    f"{file.path}: video {result.video[:60]!r} belongs to another shard than {file.end.shard}; run "
                    "that shard again"
                )
            kind: Kind
            if isinstance(result, VideoDetections):
                kind = FRACTION_KIND if result.duration_s is None else SECONDS_KIND
                piece = self.form.piece(result)
            else:
                kind, piece = FAILED_KIND, failed_piece(result)
            if not self._is_repeated(Stored(result.video, kind, piece), file, store):
                store.add(result.video, kind, piece, source=source)
            if len(store) > MOST_MERGED:
                raise DatasetError(f"more than {MOST_MERGED:,} videos, the most that one file gets; merge fewer shards")
        if file.end is not None and count != file.end.videos:
            raise DatasetError(
                f"{file.path}: {count:,} videos, but its end says {file.end.videos:,}; run shard {file.end.shard} again"
            )

    def _is_repeated(self, result: Stored, file: ResultFile, store: ResultStore) -> bool:
        """Whether a video is there already with the same result, as if a part was written twice.

        Raises:
            DatasetError: it is there with another result, or in a shard.
        """
        source = store.source_of(result.video)
        if source is None:
            return False
        if file.end is not None or store.get(result.video) != result:
            other = self.files[source].path
            raise DatasetError(
                f"{file.path}: video {result.video[:60]!r} is also in {other}; give only the files of one run, each "
                "once"
            )
        self.repeated += 1
        return True

    def _check_expected(self, found: Collection[str]) -> None:
        assert self.expected is not None
        missing = [] if self.incomplete else [video for video in self.expected if video not in found]
        if missing:
            raise DatasetError(
                f"{len(missing):,} of {len(self.expected):,} videos of --videos are missing: {_name(missing)}; run "
                "them again, or give --incomplete"
            )
        expected = set(self.expected)
        unknown = [video for video in found if video not in expected]
        if unknown:
            raise DatasetError(
                f"{len(unknown):,} videos are not in --videos: {_name(unknown)}; add them, or remove the files of "
                "another run"
            )


def _require_ends(files: Sequence[ResultFile], *, or_list: bool) -> list[tuple[Path, ShardEnd]]:
    """The ends of all shards; none if the files are parts of another kind.

    Raises:
        DatasetError: some have none, and it is not known otherwise what has to be there.
    """
    ends = [(file.path, file.end) for file in files if file.end is not None]
    endless = [file for file in files if file.end is None]
    torn = [str(file.path) for file in endless if isinstance(file, JsonLinesShard)]
    others = [str(file.path) for file in endless if not isinstance(file, JsonLinesShard)]
    if torn:
        raise DatasetError(
            f"{_name(torn, quoted=False)}: without the last line of a complete shard; run that shard again with "
            "--shard and --resume"
        )
    if others and ends:
        raise DatasetError(f"{_name(others, quoted=False)}: not of a complete shard, as the others are; run it again")
    if others and not or_list:
        raise DatasetError(
            f"{_name(others, quoted=False)}: not of a complete shard; run that shard again with --shard and --resume, "
            "or, for what Ray wrote, say with --videos FILE which videos have to be there"
        )
    return ends


def _check_same_run(ends: Sequence[tuple[Path, ShardEnd]]) -> None:
    """Make sure that all shards are of the same number of shards, and of the same videos."""
    for path, end in ends[1:]:
        first_path, first = ends[0]
        if end.shard.count != first.shard.count:
            raise DatasetError(
                f"{path}: shard {end.shard}, but {first_path} is shard {first.shard}; give the shards of one run"
            )
        if end.listing != first.listing:
            raise DatasetError(
                f"{path}: of other files than {first_path} ({end.listing.videos:,} and {first.listing.videos:,} videos "
                "in all); run the shards again over the same files"
            )


def _check_shards(ends: Sequence[tuple[Path, ShardEnd]], *, incomplete: bool) -> None:
    """Make sure that each shard is there once."""
    counts = Counter(end.shard.index for _, end in ends)
    twice = [index for index, count in sorted(counts.items()) if count > 1]
    if twice:
        paths = [str(path) for path, end in ends if end.shard.index == twice[0]]
        raise DatasetError(f"shard {twice[0]} is there more than once: {_name(paths, quoted=False)}; give it once")
    if ends and not incomplete and len(counts) < (count := ends[0][1].shard.count):
        missing = [index for index in range(count) if index not in counts]
        raise DatasetError(
            f"{len(missing):,} of {count:,} shards are missing: {_ranges(missing)}; run them with --shard I/{count}"
        )


def _common_settings(files: Sequence[ResultFile]) -> str:
    """The settings that all files have.

    Raises:
        DatasetError: they differ, or are nowhere.
    """
    known = [(file.path, file.settings) for file in files if file.settings is not None]
    if not known:
        raise DatasetError("no videos; give the files that a run wrote")
    first_path, first = known[0]
    for path, text in known[1:]:
        if text != first:
            differences = setting_differences(_parse_settings(text), _parse_settings(first))
            differ = ", ".join(f"{name} {own} and {others}" for name, own, others in differences)
            raise DatasetError(
                f"{path}: of a run with other settings than {first_path} ({differ}); run one of them again"
            )
    return first


def _parse_settings(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text, parse_constant=float) if len(text) <= LONGEST_SETTINGS else None
        json.dumps(content, allow_nan=False).encode()
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DatasetError(f"settings {reprlib.repr(text)[:60]}, expected those of a run as JSON")
    return content


def _name(names: Sequence[str], *, quoted: bool = True) -> str:
    shown = ", ".join(repr(name[:60]) if quoted else name for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED:,} more"


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, such as ``3, 7-9``: what ``sbatch --array`` takes without the blanks."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
