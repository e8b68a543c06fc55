"""``--cache-features``: the resampled features of all videos in one file, so that a step opens no others."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stale_model.data.cache_file import CacheFile, CacheWriter, DamagedCacheError
from stale_model.data.usable_features import UsableFeatures, examine_features
from stale_runtime.errors import FeatureError, OutputError
from stale_runtime.inputs.feature_file import read_features
from stale_runtime.inputs.feature_origin import FeatureOrigin, sidecar_path
from stale_runtime.inputs.feature_statistics import FeatureSummary
from stale_runtime.inputs.features import resample
from stale_runtime.system.files import why_unwritten
from stale_runtime.system.json_dataclasses import build
from stale_runtime.system.workspace import sync_folder, workspace

FORMAT_VERSION: Final = 1
"""Of the index; another resampling needs another one."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A video of the cache: the file that it was made from, and what is known of it."""

    file: str
    """Name of the feature file in its folder."""
    state: tuple[int, ...]
    """Size in bytes and time of its last change in nanoseconds; when either is another, it is read again."""
    sidecar: tuple[int, ...]
    """The same of the file beside it that says how it was made; empty if there is none."""
    origin: Any
    """What that file says, for JSON; None if there is none."""
    note: str | None
    summary: Mapping[str, Any] | None
    """A ``FeatureSummary`` with the numbers of its directions in place of them."""


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """The resampled features of videos, in an open file."""

    file: CacheFile
    rows: Mapping[str, int]
    """Which row of it is made from a feature file, by the file's name."""

    def read(self, path: Path) -> NDArray[np.float32]:
        """The features of the video in a feature file, resampled: (T, C).

        Raises:
            FeatureError: the cache can no longer be read, or contains NaN or infinity.
        """
        if path.name not in self.rows:
            raise FeatureError(f"{path}: changed while features were cached; run the command again")
        return self.file.read_video(self.rows[path.name])


def read_resampled(path: Path, *, channels: int, length: int, cache: FeatureCache | None = None) -> NDArray[np.float32]:
    """The features of a video, resampled: (T, C); from a cache, which has the same bits, if there is one.

    Args:
        path: the feature file.
        channels: C
        length: T, in snippets.
        cache: one that has the video.

    Raises:
        FeatureError: they cannot be read, or contain NaN or infinity.
    """
    return resample(read_features(path, channels), length) if cache is None else cache.read(path)


class CacheBuilder:
    """Takes what is known of videos from a cache; reads, and adds to it, those that it lacks or that have changed.

    A cache that lacks something is replaced by a new file, into which what is still right is copied.
    """

    def __init__(self, path: Path, features: Path, *, length: int, channels: int, say: Callable[[str], object]) -> None:
        """Look into the cache; ``feature_cache`` is more convenient.

        Args:
            path: its file, which may be missing.
            features: the folder of the feature files.
            length: T, in snippets.
            channels: C
            say: called with a line about what is found and done.
        """
        self._path, self._length, self._channels, self._say = path, length, channels, say
        self._folder = str(features.resolve())
        self._entries: list[_Entry] = []  # one for each row
        self._rows: dict[str, int] = {}  # by name of the feature file
        self._directions: list[NDArray[np.float32]] = []
        self._file: CacheFile | None = None
        self._writer: CacheWriter | None = None
        self._used: set[str] = set()
        self._stack = ExitStack()
        try:
            self._open_existing()
        except DamagedCacheError as problem:
            say(f"--cache-features: {path}: {problem}; it is made again")

    def examine(self, path: Path) -> UsableFeatures:
        """What is known of a feature file, which is in the cache afterwards.

        Raises:
            FeatureError, RecipeError: as for ``examine_features``.
            OutputError: the cache cannot be written.
        """
        entry = self._entries[self._rows[path.name]] if path.name in self._rows else None
        if entry is None or not _is_unchanged(entry, path):
            state, sidecar = _state(path), _state(sidecar_path(path))
            features, usable = examine_features(path, self._channels)
            resampled = resample(features, self._length)
            self._add(_Entry(file=path.name, state=state, sidecar=sidecar, **self._describe(usable)), resampled)
            self._used.add(path.name)
            return usable
        self._used.add(path.name)
        return self._recall(entry)

    def finish(self) -> FeatureCache:
        """Complete the file.

        Raises:
            OutputError: it cannot be written.
        """
        if self._writer is not None:
            with self._explain_unwritten():
                self._replace_file(self._writer)
        assert self._file is not None
        return FeatureCache(file=self._file, rows=self._rows)

    def close(self) -> None:
        """Remove what is not finished."""
        self._stack.close()

    def _open_existing(self) -> None:
        try:
            file = CacheFile(self._path)
        except FileNotFoundError:
            return
        try:
            if (file.shape.length, file.shape.channels) != (self._length, self._channels):
                raise DamagedCacheError(f"of T={file.shape.length}, C={file.shape.channels}")
            index = file.read_index()
            if not isinstance(index, dict) or index.get("format_version") != FORMAT_VERSION:
                raise DamagedCacheError("of another version of stale-edge")
            if index.get("folder") != self._folder or not isinstance(index.get("entries"), list):
                raise DamagedCacheError("of another folder")
            directions = list(file.read_directions())
            entries = _read_entries(index["entries"], directions)
            if len(entries) != file.shape.videos:
                raise DamagedCacheError(f"{len(entries):,} videos in its index, {file.shape.videos:,} in its header")
        except DamagedCacheError:
            file.close()
            raise
        self._file, self._entries, self._directions = file, entries, directions
        self._rows = _number(entries)

    def _recall(self, entry: _Entry) -> UsableFeatures:
        return UsableFeatures(
            summary=_read_summary(entry, self._directions),
            origin=None if entry.origin is None else FeatureOrigin.from_json(entry.origin),
            note=entry.note,
        )

    def _describe(self, usable: UsableFeatures) -> dict[str, Any]:
        """What is known of features, in plain values; directions are replaced by their number."""
        summary = None if usable.summary is None else {**vars(usable.summary)}
        for name in ("direction", "transposed") if summary is not None else ():
            assert summary is not None
            if summary[name] is not None:
                self._directions.append(summary[name])
                summary[name] = len(self._directions) - 1
        origin = None if usable.origin is None else json.loads(usable.origin.to_bytes())
        return {"summary": summary, "origin": origin, "note": usable.note}

    def _add(self, entry: _Entry, resampled: NDArray[np.float32]) -> None:
        with self._explain_unwritten():
            if self._writer is None:
                self._writer = self._start_file()
            self._writer.add(resampled)
        self._rows[entry.file] = len(self._entries)
        self._entries.append(entry)

    def _start_file(self) -> CacheWriter:
        """A new file with the videos of the old one that are still right."""
        folder = Path(self._folder)
        kept = [
            row
            for name, row in self._rows.items()
            if name in self._used or _is_unchanged(self._entries[row], folder / name)
        ]
        space = self._stack.enter_context(workspace(self._path.parent))
        writer = CacheWriter(space / self._path.name, length=self._length, channels=self._channels)
        self._stack.callback(writer.close)
        if self._file is not None:
            for row in kept:
                writer.add(self._file.read_video(row))
        self._entries = [self._entries[row] for row in kept]
        self._rows = _number(self._entries)
        self._made_in = space / self._path.name
        return writer

    def _replace_file(self, writer: CacheWriter) -> None:
        numbers: list[NDArray[np.float32]] = []
        index = {
            "format_version": FORMAT_VERSION,
            "folder": self._folder,
            "entries": [self._renumber(entry, numbers) for entry in self._entries],
        }
        writer.finish(numbers, index)
        if self._file is not None:
            self._file.close()
        self._file = CacheFile(self._made_in)  # before another one can get the name
        os.replace(self._made_in, self._path)
        sync_folder(self._path.parent)
        self._file.path = self._path
        size = self._file.shape.file_bytes / 1e6
        self._say(f"--cache-features: {self._path}: {len(self._entries):,} videos, {size:,.0f} MB")

    def _renumber(self, entry: _Entry, directions: list[NDArray[np.float32]]) -> dict[str, Any]:
        """An entry for JSON, whose directions are appended to those of the new file."""
        summary = None if entry.summary is None else dict(entry.summary)
        for name in ("direction", "transposed") if summary is not None else ():
            assert summary is not None
            if summary[name] is not None:
                directions.append(self._directions[summary[name]])
                summary[name] = len(directions) - 1
        return {**asdict(entry), "summary": summary}

    @contextmanager
    def _explain_unwritten(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            size = self._length * self._channels * 4
            raise OutputError(
                f"--cache-features {self._path.parent}: {why_unwritten(problem)}; each video takes {size:,} bytes, and "
                "while a cache is made the old one stays"
            ) from problem


@contextmanager
def feature_cache(
    folder: Path, features: Path, *, length: int, channels: int, say: Callable[[str], object]
) -> Iterator[CacheBuilder]:
    """Open the cache of a folder of features, while no other process does.

    The cache is a file whose name follows from the folder of the features, T and C. A process waits until another one
    that makes it is done, and then finds all in it. On a file system without locks, each makes its own, and the last
    one stays.

    Args:
        folder: where caches are; it is created.
        features: the folder of the feature files.
        length: T, in snippets.
        channels: C
        say: called with a line about what is found and done.

    Raises:
        OutputError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(f"--cache-features {folder}: {why_unwritten(problem)}") from problem
    digest = hashlib.sha256(os.fsencode(features.resolve())).hexdigest()[:16]
    path = folder / f"features_{digest}_T{length}_C{channels}.safetensors"
    with _lock(path, say):
        builder = CacheBuilder(path, features, length=length, channels=channels, say=say)
        try:
            yield builder
        finally:
            builder.close()


@contextmanager
def _lock(path: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Lock a file against other processes, if its folder may be written to and its file system has locks."""
    descriptor = None
    with suppress(OSError):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # over NFS, only who may write has a lock
        descriptor = os.open(path.with_suffix(".lock"), flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"--cache-features: waiting for another stale-train that is looking into, or making, {path}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _read_entries(rows: list[Any], directions: list[NDArray[np.float32]]) -> list[_Entry]:
    """The entries of an index, one for each row; all that they say is checked.

    Raises:
        DamagedCacheError: they are not entries.
    """
    try:
        entries = [build(_Entry, row) for row in rows]
        for entry in entries:
            _read_summary(entry, directions)
            if entry.origin is not None:
                FeatureOrigin.from_json(entry.origin)
    except (ValueError, TypeError, LookupError) as problem:
        raise DamagedCacheError(f"an entry of its index is damaged ({str(problem)[:200]})") from None
    return entries


def _number(entries: Sequence[_Entry]) -> dict[str, int]:
    """The row of each feature file, by its name."""
    return {entry.file: row for row, entry in enumerate(entries)}


def _read_summary(entry: _Entry, directions: list[NDArray[np.float32]]) -> FeatureSummary | None:
    """The summary of an entry.

    Raises:
        ValueError, TypeError, LookupError: it is damaged.
    """
    if entry.summary is None:
        return None
    numbers = dict(entry.summary)
    transposed = numbers.pop("transposed")
    snippets, zero_channels, direction = (numbers.pop(name) for name in ("snippets", "zero_channels", "direction"))
    if any(type(n) is not int or n < 0 for n in (snippets, zero_channels, direction, transposed or 0)) or not snippets:
        raise ValueError("a summary with numbers that are none")
    if any(type(value) is not float or not 0 <= value < 1e12 for value in numbers.values()):
        raise ValueError("a summary with impossible values")
    return FeatureSummary(
        snippets=snippets,
        zero_channels=zero_channels,
        direction=directions[direction],
        transposed=None if transposed is None else directions[transposed],
        norm=numbers["norm"],
        zero_rows=numbers["zero_rows"],
    )


def _is_unchanged(entry: _Entry, path: Path) -> bool:
    return entry.state == _state(path) and entry.sidecar == _state(sidecar_path(path))


def _state(path: Path) -> tuple[int, ...]:
    """Size and time of the last change of a file; empty if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ()
    return status.st_size, status.st_mtime_ns
