"""Computing the features of many videos, in this process or in several, and writing them into a folder."""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from numpy.lib import format as npy

from stale_runtime.batch.journal import file_state
from stale_runtime.batch.lost_work import Ended, why_lost
from stale_runtime.batch.worker_pool import WorkerPool
from stale_runtime.errors import FeatureError, OutOfMemoryError, OutputError, RecipeError, StaleError, VideoError
from stale_runtime.inputs.feature_file import open_features
from stale_runtime.inputs.feature_origin import FeatureOrigin, hash_video, read_sidecar, sidecar_path
from stale_runtime.inputs.remote_copies import fetched
from stale_runtime.inputs.remote_files import Source
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.long_calls import time_limit
from stale_runtime.system.workspace import sweep, sync_folder, workspace, write_durably
from stale_runtime.video.video_features import ImageEncoder, Rows, VideoFeatures, Watch

_REPLACE = "give --overwrite, or another -o"


class Extracted(NamedTuple):
    """What became of one video."""

    path: Source
    duration_s: float
    """How long it lasts; 0 if it failed."""
    kept: bool
    """Whether its features were there already."""
    error: StaleError | None
    elapsed_s: float
    """How long it took."""
    damage: str | None = None
    """What is damaged in the video; None if nothing is, or its features were there already."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What is to be done with each video; a ``Work`` for a ``WorkerPool``."""

    open_encoder: Callable[[], ImageEncoder]
    """Opens the vision tower; can be sent to other processes."""
    folder: Path
    """Gets ``ID.npy`` and ``ID.recipe.json`` for each video."""
    overwrite: bool = False
    """Whether to replace features that were made otherwise."""
    timeout_s: float | None = None
    """Most seconds for a video; None for no limit."""

    def extract(self, path: Source, encoder: ImageEncoder, watch: Watch | None = None) -> Extracted:
        """Write the features of one video, unless they are there.

        Args:
            path: the video.
            encoder: what ``open_encoder`` returned.
            watch: gets the blocks of features as they are computed.

        Returns:
            What became of it; a video that cannot be used is one of the outcomes.
        """
        started = time.perf_counter()
        error: StaleError
        try:
            with time_limit(self.timeout_s, str(path)), fetched(path) as local:
                found = self._extract(local, encoder, watch)
                return found._replace(path=path, elapsed_s=time.perf_counter() - started)
        except StaleError as problem:
            error = problem
        except MemoryError as problem:
            error = OutOfMemoryError(
                f"{path}: not enough memory ({problem}); take fewer --workers, or end other programs"
            )
        return Extracted(path, 0.0, False, error, time.perf_counter() - started)

    def extract_all(self, paths: Sequence[Source], encoder: ImageEncoder, *, workers: int = 1) -> Iterator[Extracted]:
        """Write the features of many videos; a bad one, or one that a worker does not survive, stops no others.

        Args:
            paths: the videos.
            encoder: what ``open_encoder`` returned; each of several workers opens its own.
            workers: how many processes work at once.

        Yields:
            What became of each, in order.

        Raises:
            WorkerError: no worker can be started.
        """
        if workers == 1:
            yield from (self.extract(path, encoder) for path in paths)
            return
        with WorkerPool(self, workers=workers, clean_up=lambda: sweep(self.folder)) as pool:
            yield from pool.process([path] for path in paths)

    def open(self) -> Callable[[Sequence[Source]], Iterable[Extracted]]:
        """Open the vision tower; see ``Work``.

        Raises:
            StaleError: it cannot be used.
        """
        encoder = self.open_encoder()
        return lambda paths: (self.extract(path, encoder) for path in paths)

    def lost(self, item: Source, ended: Ended) -> Extracted:
        """What became of a video whose worker has ended."""
        return Extracted(item, 0.0, False, why_lost(str(item), ended, timeout_s=self.timeout_s), 0.0)

    def _extract(self, path: Path, encoder: ImageEncoder, watch: Watch | None) -> Extracted:
        target = self.folder / f"{path.stem}.npy"
        state, digest = file_state(path), hash_video(path)
        origin = self._finished(target, digest, encoder)
        if origin is not None:
            return Extracted(path, origin.duration_s, True, None, 0.0)
        features = VideoFeatures(path, encoder)
        origin = FeatureOrigin(
            recipe=encoder.recipe,
            duration_s=features.duration_s,
            snippets=features.snippets,
            source_sha256=digest,
        )
        blocks: Iterable[Rows] = features.blocks()
        if watch is not None:
            blocks = watch(blocks, features.block_count)
        try:
            with workspace(self.folder) as space:
                _write_rows(space / target.name, blocks, (features.snippets, features.channels))
                if file_state(path) != state:
                    raise VideoError(f"{path}: changed while it was read; wait until it is written, and try again")
                _publish(space, target, origin)
        except OSError as problem:
            raise OutputError(f"{target}: {why_unwritten(problem)}") from problem
        return Extracted(path, features.duration_s, False, None, 0.0, features.damage)

    def _finished(self, target: Path, digest: str, encoder: ImageEncoder) -> FeatureOrigin | None:
        """The origin of features that are there already; None if there are none, or they are to be replaced.

        Raises:
            FeatureError: what is there was made otherwise, and must not be replaced.
        """
        beside, whole = sidecar_path(target), False
        for path in (target, beside):
            if path.is_dir():
                raise FeatureError(
                    f"{path}: a folder, but a file is to be written there; rename it, or give another -o"
                )
        there = [path for path in (target, beside) if os.path.lexists(path)]
        if not there:
            return None
        try:
            origin = read_sidecar(target)
            if origin is not None and target in there:
                with open_features(target, encoder.channels) as file:
                    whole = origin.snippets == file.snippets
        except (FeatureError, RecipeError):
            origin = None
        problem = _describe_origin(origin if whole or target not in there else None, digest, encoder)
        if problem is None and whole:
            return origin
        if problem is None or self.overwrite:  # an origin alone is left if a run is killed between the two files
            return None
        raise FeatureError(f"{there[0]}: it exists, {problem}; {_REPLACE}")


def _describe_origin(origin: FeatureOrigin | None, digest: str, encoder: ImageEncoder) -> str | None:
    """Why features are not those of a video with this digest; None if they are."""
    if origin is None:
        return "not what stale-features wrote"
    if origin.source_sha256 != digest:
        return "made from another video"
    if origin.recipe != encoder.recipe:
        names = ", ".join(encoder.recipe.differences(origin.recipe)) or "what is unknown"
        return f"made by another recipe ({names})"
    return None


def _write_rows(path: Path, blocks: Iterable[Rows], shape: tuple[int, int]) -> None:
    """Write a ``.npy`` file block by block, so that a long video takes no memory for all of its rows."""
    with open(path, "xb") as file:
        npy.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        for block in blocks:
            file.write(block.astype("<f2", copy=False).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _publish(space: Path, target: Path, origin: FeatureOrigin) -> None:
    """Give a finished file its name, and write its origin. Features never stand beside the origin of others."""
    beside = sidecar_path(target)
    write_durably(space / beside.name, origin.to_bytes())
    with _set_aside(space, (target, beside)):
        os.replace(space / beside.name, beside)
        os.replace(space / target.name, target)
    sync_folder(target.parent)


@contextmanager
def _set_aside(space: Path, paths: Iterable[Path]) -> Iterator[None]:
    """Move files into a workspace, one after the other, and back again if the block fails.

    Raises:
        OSError: one is a folder, or cannot be moved; then all are where they were.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for path in paths:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            if os.path.lexists(path):
                aside = space / f"old-{len(moved)}"
                os.replace(path, aside)
                moved.append((path, aside))
        yield
    except BaseException:
        for path, aside in reversed(moved):
            with suppress(OSError):
                os.replace(aside, path)
        raise
