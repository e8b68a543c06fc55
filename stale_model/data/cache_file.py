"""The file of a feature cache: the features of many videos as one array, and what each was made from.

It is laid out as a safetensors file, whose header is JSON and in which nothing is ever executed:

- ``features``: (N, T, C) of float32, resampled;
- ``directions``: (M, C) of float32, mean directions of the videos' features, which ``Entry`` refers to;
- ``index``: JSON as bytes, which says what the features were made from.

The features are mapped into memory, and each video is copied from there, so that nobody can write into the map. If the
file is cut, the kernel kills the process that looks at what is gone, so its size is looked at before each video. What
this module writes is never cut: a new cache is a new file that gets the name of the former.
"""

import json
import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.features import check_values
from stale_runtime.inputs.videos import MOST_VIDEOS
from stale_runtime.system.files import JSON_GROWTH, MEGABYTE, open_without_blocking, reason, refuse_irregular
from stale_runtime.system.memory import require_memory

HEADER_BYTES: Final = 1024
"""Bytes before the features; the header is padded, because it is written again once all sizes are known."""
LARGEST_INDEX: Final = 2048 * MEGABYTE
"""Bytes of the index: 2,000 for each of a million videos."""
NUMBER: Final = np.dtype("<f4")


class DamagedCacheError(Exception):
    """A file that is not a whole feature cache; the message says why."""


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """The sizes of a feature cache."""

    videos: int
    """N"""
    length: int
    """T, in snippets."""
    channels: int
    """C"""
    directions: int
    """M"""
    index_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of the features of one video."""
        return self.length * self.channels * NUMBER.itemsize

    @property
    def directions_from(self) -> int:
        """Offset of the directions in the file."""
        return HEADER_BYTES + self.videos * self.row_bytes

    @property
    def index_from(self) -> int:
        """Offset of the index in the file."""
        return self.directions_from + self.directions * self.channels * NUMBER.itemsize

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.index_from + self.index_bytes

    def header(self) -> bytes:
        """The first ``HEADER_BYTES`` of the file: the size of the JSON in 8 bytes, the JSON, and spaces."""
        first, second, end = (at - HEADER_BYTES for at in (self.directions_from, self.index_from, self.file_bytes))
        tensors = {
            "features": ("F32", [self.videos, self.length, self.channels], [0, first]),
            "directions": ("F32", [self.directions, self.channels], [first, second]),
            "index": ("U8", [self.index_bytes], [second, end]),
        }
        content = {
            name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            for name, (dtype, shape, offsets) in tensors.items()
        }
        text = json.dumps(content, separators=(",", ":")).encode()
        return (HEADER_BYTES - 8).to_bytes(8, "little") + text.ljust(HEADER_BYTES - 8)

    @classmethod
    def from_header(cls, header: bytes) -> "CacheShape":
        """Read what ``header`` returned; anything else is refused, valid safetensors, too.

        Raises:
            DamagedCacheError: it is something else.
        """
        try:
            content = json.loads(header[8:])
            videos, length, channels = content["features"]["shape"]
            directions, _ = content["directions"]["shape"]
            (index_bytes,) = content["index"]["shape"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DamagedCacheError("no header of a feature cache") from None
        sizes = (videos, length, channels, directions, index_bytes)
        if any(type(size) is not int or size < 0 for size in sizes) or videos > MOST_VIDEOS:
            raise DamagedCacheError("impossible sizes in its header")
        shape = cls(videos=videos, length=length, channels=channels, directions=directions, index_bytes=index_bytes)
        if shape.header() != header or directions > 2 * videos or index_bytes > LARGEST_INDEX:
            raise DamagedCacheError("impossible sizes in its header")
        return shape


class CacheFile:
    """An open feature cache. It stays as it is if another file gets its name; copies of it in other processes, too."""

    def __init__(self, path: Path) -> None:
        """Open a file, and check its header and size.

        Raises:
            DamagedCacheError: it is not a whole feature cache.
            FileNotFoundError: there is none.
        """
        self.path = path
        self._hold(_open(path))
        try:
            self.shape = CacheShape.from_header(os.pread(self._descriptor, HEADER_BYTES, 0))
            status = os.fstat(self._descriptor)
            if status.st_size != self.shape.file_bytes:
                raise DamagedCacheError(f"{status.st_size:,} bytes, its header promises {self.shape.file_bytes:,}")
        except BaseException:
            self.close()
            raise
        self._identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        self._map()

    def __getstate__(self) -> dict[str, Any]:
        """For a process that does not inherit the open file."""
        return {name: value for name, value in vars(self).items() if name not in ("_descriptor", "close", "_features")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._hold(_open(self.path))
        status = os.fstat(self._descriptor)
        if (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) != self._identity:
            raise FeatureError(f"{self.path}: was replaced meanwhile; run the command again, with --resume")
        self._map()

    def _hold(self, descriptor: int) -> None:
        """Keep a file open until ``close`` is called, or nobody has this object any more."""
        self._descriptor = descriptor
        self.close = weakref.finalize(self, os.close, descriptor)

    def _map(self) -> None:
        """Map the features (N, T, C) into memory."""
        shape = self.shape
        mapped = mmap.mmap(self._descriptor, shape.file_bytes, access=mmap.ACCESS_READ)
        flat = np.frombuffer(mapped, np.float32, shape.videos * shape.length * shape.channels, HEADER_BYTES)
        self._features = flat.reshape(shape.videos, shape.length, shape.channels)  # (N, T, C)

    def read_video(self, row: int) -> NDArray[np.float32]:
        """The features of the video in a row: a copy (T, C).

        Raises:
            FeatureError: the file can no longer be read, or contains NaN, infinity or values that are too large.
        """
        try:
            if os.fstat(self._descriptor).st_size < self.shape.file_bytes:
                raise DamagedCacheError("was cut short")
            features = self._features[row].copy()
            check_values([features], f"row {row}")
        except (DamagedCacheError, FeatureError, OSError) as problem:
            why = reason(problem) if isinstance(problem, OSError) else str(problem).partition(";")[0]
            raise FeatureError(f"{self.path}: {why}; delete it, and it is made again") from problem
        return features

    def read_directions(self) -> NDArray[np.float32]:
        """The directions (M, C), each of length 1 or 0.

        Raises:
            DamagedCacheError: they are not.
            OutOfMemoryError: there is not enough memory for them.
        """
        shape = self.shape
        require_memory(shape.index_from - shape.directions_from, str(self.path), "train on fewer videos")
        directions = self._read(shape.directions_from, (shape.directions, shape.channels))
        if not (np.abs(np.linalg.norm(directions, axis=1) - 0.5) < 0.51).all():
            raise DamagedCacheError("directions that are not of length 1")
        return directions

    def read_index(self) -> Any:
        """The parsed index.

        Raises:
            DamagedCacheError: it is not JSON.
            OutOfMemoryError: there is not enough memory for it.
        """
        require_memory(JSON_GROWTH * self.shape.index_bytes, str(self.path), "train on fewer videos")
        data = os.pread(self._descriptor, self.shape.index_bytes, self.shape.index_from)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise DamagedCacheError("no index of a feature cache") from None

    def _read(self, offset: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        values = np.empty(shape, NUMBER)
        if values.size and os.preadv(self._descriptor, [values.data], offset) != values.nbytes:
            raise DamagedCacheError("was cut short")
        return values.astype(np.float32, copy=False)


class CacheWriter:
    """Writes a feature cache video by video; it is whole once ``finish`` has returned."""

    def __init__(self, path: Path, *, length: int, channels: int) -> None:
        """Create a file, which must not exist.

        Raises:
            OSError: it cannot be written.
        """
        self._length, self._channels = length, channels
        self._file = open(path, "xb")  # noqa: SIM115 -- closed by finish and close
        self._file.write(bytes(HEADER_BYTES))

    def add(self, features: NDArray[np.float32]) -> None:
        """Write the features (T, C) of the next video.

        Raises:
            OSError: they cannot be written.
        """
        assert features.shape == (self._length, self._channels)
        self._file.write(np.ascontiguousarray(features, NUMBER).data)

    def finish(self, directions: Sequence[NDArray[np.float32]], index: Any) -> None:
        """Write the rest, and wait until all would survive a power cut.

        Args:
            directions: M of them, each (C,).
            index: plain values.

        Raises:
            OSError: it cannot be written.
        """
        row_bytes = self._length * self._channels * NUMBER.itemsize
        videos = (self._file.tell() - HEADER_BYTES) // row_bytes
        for direction in directions:
            self._file.write(np.ascontiguousarray(direction, NUMBER).data)
        text = json.dumps(index, separators=(",", ":"), allow_nan=False).encode()
        self._file.write(text)
        shape = CacheShape(
            videos=videos,
            length=self._length,
            channels=self._channels,
            directions=len(directions),
            index_bytes=len(text),
        )
        self._file.seek(0)
        self._file.write(shape.header())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close the file, whole or not."""
        with suppress(OSError):  # what could not be written before cannot be written now
            self._file.close()


def _open(path: Path) -> int:
    """Open a regular file for reading, and return its descriptor.

    Raises:
        DamagedCacheError: it is not a regular file, or cannot be read.
        FileNotFoundError: there is none.
    """
    try:
        descriptor = open_without_blocking(str(path), os.O_RDONLY)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise DamagedCacheError(reason(problem)) from problem
    try:
        refuse_irregular(descriptor, path, FeatureError)
    except FeatureError:
        os.close(descriptor)
        raise DamagedCacheError("not a regular file") from None
    return descriptor
