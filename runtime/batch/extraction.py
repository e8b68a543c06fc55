"""Computing the features of many videos, in this process or in several, and writing them into a folder."""

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

from numpy.lib import format as npy

from stale_runtime.batch.journal import file_state
from stale_runtime.errors import FeatureError, OutOfMemoryError, OutputError, RecipeError, StaleError, VideoError
from stale_runtime.inputs.feature_file import open_features
from stale_runtime.inputs.feature_origin import FeatureOrigin, read_sidecar, sidecar_path
from stale_runtime.system.files import open_without_blocking, reason, refuse_irregular, why_unwritten
from stale_runtime.system.workspace import sweep, sync_folder, workspace, write_durably
from stale_runtime.video.video_features import ImageEncoder, Rows, VideoFeatures, Watch

_REPLACE = "give --overwrite, or another -o"


class Extracted(NamedTuple):
    """What became of one video."""

    path: Path
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
    """What is to be done with each video. It can be sent to other processes."""

    open_encoder: Callable[[], ImageEncoder]
    """Opens the vision tower; can be sent to other processes, and hashed."""
    folder: Path
    """Gets ``ID.npy`` and ``ID.recipe.json`` for each video."""
    overwrite: bool = False
    """Whether to replace features that were made otherwise."""

    def extract(self, path: Path, encoder: ImageEncoder, watch: Watch | None = None) -> Extracted:
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
            return self._extract(path, encoder, watch)._replace(elapsed_s=time.perf_counter() - started)
        except StaleError as problem:
            error = problem
        except MemoryError as problem:
            error = OutOfMemoryError(
                f"{path}: not enough memory ({problem}); take fewer --workers, or end other programs"
            )
        return Extracted(path, 0.0, False, error, time.perf_counter() - started)

    def extract_all(self, paths: Iterable[Path], encoder: ImageEncoder, *, workers: int = 1) -> Iterator[Extracted]:
        """Write the features of many videos; a bad one does not stop the others.

        Args:
            paths: the videos.
            encoder: what ``open_encoder`` returned; each of several workers opens its own.
            workers: how many processes work at once.

        Yields:
            What became of each, in order.

        Raises:
            OutOfMemoryError: a worker was killed.
        """
        if workers == 1:
            yield from (self.extract(path, encoder) for path in paths)
            return
        with _pool(workers, self.folder) as pool:
            try:
                for future in [pool.submit(_extract_in_worker, self, path) for path in paths]:
                    yield future.result()
            except BrokenProcessPool as problem:
                raise OutOfMemoryError(
                    f"a worker process was killed, as it happens if memory runs out; the videos before are done: take "
                    f"fewer --workers than {workers}, and repeat the command"
                ) from problem

    def _extract(self, path: Path, encoder: ImageEncoder, watch: Watch | None) -> Extracted:
        target = self.folder / f"{path.stem}.npy"
        state, digest = file_state(path), _digest(path)
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
        if not os.path.lexists(target):
            return None
        try:
            origin = read_sidecar(target)
            with open_features(target, encoder.channels) as file:
                whole = origin is not None and origin.snippets == file.snippets
        except (FeatureError, RecipeError):
            origin, whole = None, False
        if origin is None or not whole:
            problem = "not what stale-features wrote"
        elif origin.source_sha256 != digest:
            problem = "made from another video"
        elif origin.recipe != encoder.recipe:
            names = ", ".join(encoder.recipe.differences(origin.recipe)) or "what is unknown"
            problem = f"made by another recipe ({names})"
        else:
            return origin
        if self.overwrite:
            return None
        raise FeatureError(f"{target}: it exists, {problem}; {_REPLACE}")


def _digest(path: Path) -> str:
    try:
        with open(path, "rb", opener=open_without_blocking) as file:
            refuse_irregular(file.fileno(), path, VideoError)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise VideoError(f"{path}: {reason(problem)}") from problem


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
    target.unlink(missing_ok=True)
    os.replace(space / beside.name, beside)
    os.replace(space / target.name, target)
    sync_folder(target.parent)


@contextmanager
def _pool(workers: int, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; if the block ends with an error or is interrupted, they are ended, and what they began removed.

    The block must not cancel futures: in Python 3.11, a pool whose workers end prints a traceback for each of those.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        for worker in multiprocessing.active_children():
            worker.terminate()
        pool.shutdown(cancel_futures=True)
        sweep(folder)
        raise


def _start_worker() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@cache
def _opened(open_encoder: Callable[[], ImageEncoder]) -> ImageEncoder:
    """The vision tower of this worker process, which does nothing else and ends with its run."""
    return open_encoder()


def _extract_in_worker(extraction: Extraction, path: Path) -> Extracted:
    return extraction.extract(path, _opened(extraction.open_encoder))
