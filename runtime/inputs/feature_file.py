"""Reading snippet features from untrusted files, as a whole or in blocks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stale_runtime.errors import FeatureError
from stale_runtime.inputs import npz_archive
from stale_runtime.inputs.feature_statistics import FeatureSummary, is_square, sample_spans, summarise_sample
from stale_runtime.inputs.features import check_features, check_shape, check_values, cut_into_pieces, squeeze_shape
from stale_runtime.inputs.npy_header import read_npy_header
from stale_runtime.segments import FloatArray
from stale_runtime.system.files import open_without_blocking, reason, refuse_irregular
from stale_runtime.system.memory import require_memory

BLOCK_BYTES = 2**22
"""A block has as many snippets as fit into this, but at least one."""


class FeatureFile:
    """An open ``.npy`` file, or the one in an ``.npz`` archive, with the snippet features of one video.

    Header and size have been checked. It is read with ordinary reads. A memory map would be shorter, but if the file is
    cut meanwhile, the kernel kills a process that looks at what is gone.
    """

    def __init__(self, file: BinaryIO, path: Path, channels: int) -> None:
        """Read the header; ``open_features`` is more convenient.

        Raises:
            FeatureError: it is not the header of snippet features, or the file has another size than it says.
            OSError: the file cannot be read.
        """
        self.path = path
        self._file = file
        self._state = _state(file)
        header = read_npy_header(file.read, str(path))
        shape = squeeze_shape(header.shape)
        check_shape(shape, header.dtype, channels, path)
        self.note = None if shape == header.shape else f"{path}: shape {header.shape} is taken as {shape}"
        """What the user should know of the file; None if there is nothing."""
        self._dtype, self._fortran_order = header.dtype, header.fortran_order
        self.snippets, self.channels = shape
        self.bytes = self.snippets * self.channels * self._dtype.itemsize
        """Size of the features."""
        self._data_from = file.tell()
        held = self._state[0] - self._data_from
        if held != self.bytes:
            problem = "truncated" if held < self.bytes else "too long"
            raise FeatureError(
                f"{path}: {problem}, {held:,} bytes of data, its header promises {self.bytes:,}; copy it again, or "
                "extract it again"
            )

    @property
    def block_snippets(self) -> int:
        """Snippets of all blocks but the last."""
        return max(BLOCK_BYTES // (self.channels * self._dtype.itemsize), 1)

    @property
    def block_count(self) -> int:
        """How many blocks there are."""
        return -(-self.snippets // self.block_snippets)

    def read(self) -> FloatArray:
        """Read the whole video.

        Returns:
            (T0, C) in the precision of the file, T0 >= 1, all finite.

        Raises:
            FeatureError: it contains NaN, infinity or a value that is too large, or changed while it was read.
            OutOfMemoryError: there is not enough memory for it.
        """
        return check_features(self._read_whole(), self.channels, name=str(self.path))

    def blocks(self) -> Iterator[FloatArray]:
        """Read the video block by block; memory is taken for one of them, unless the file is in Fortran order.

        First all values are checked, so that a bad one at the end of a long video is found before hours of work.

        Yields:
            (n, C) consecutive pieces in the precision of the file.

        Raises:
            FeatureError, OutOfMemoryError: as for ``read``.
        """
        if self._fortran_order:
            yield from cut_into_pieces(self.read(), self.block_snippets)
            return
        check_values(self._read_blocks(), str(self.path))
        for block in self._read_blocks():
            check_values([block], str(self.path))  # it may have changed since
            yield block
        self._require_unchanged()

    def summarise(self) -> FeatureSummary | None:
        """Summarise the features from a sample of their snippets, which takes no longer for a long video.

        Returns:
            None if the sample has values that are not finite.

        Raises:
            FeatureError: the file changed while it was read.
        """
        whole = is_square((self.snippets, self.channels))
        spans = [slice(0, self.snippets)] if whole else sample_spans(self.snippets)
        return summarise_sample(np.concatenate([self._read_span(span) for span in spans]), self.snippets)

    def _read_span(self, span: slice) -> FloatArray:
        """Some consecutive snippets (n, C), without moving the position of the file."""
        n, size = span.stop - span.start, self._dtype.itemsize
        if self._fortran_order:
            columns = (self._pread(n, (c * self.snippets + span.start) * size) for c in range(self.channels))
            return np.stack(list(columns), axis=1)
        return self._pread(n * self.channels, span.start * self.channels * size).reshape(n, self.channels)

    def _pread(self, count: int, offset: int) -> FloatArray:
        """So many numbers from an offset in bytes on, in the order of the file: (count,)."""
        try:
            data = os.pread(self._file.fileno(), count * self._dtype.itemsize, self._data_from + offset)
        except OSError as problem:
            raise FeatureError(f"{self.path}: {reason(problem)}") from problem
        if len(data) != count * self._dtype.itemsize:
            raise self._changed()
        return np.frombuffer(data, self._dtype).astype(self._dtype.newbyteorder("="), copy=False)

    def _read_blocks(self) -> Iterator[FloatArray]:
        self._file.seek(self._data_from)
        for n in range(0, self.snippets, self.block_snippets):
            yield self._read_snippets(min(self.block_snippets, self.snippets - n)).reshape(-1, self.channels)

    def _read_whole(self) -> FloatArray:
        require_memory(self.bytes, str(self.path), "cut the video, or end other programs")
        self._file.seek(self._data_from)
        flat = self._read_snippets(self.snippets)
        self._require_unchanged()
        return flat.reshape((self.snippets, self.channels), order="F" if self._fortran_order else "C")

    def _read_snippets(self, snippets: int) -> FloatArray:
        """The next snippets in the order of the file, flat."""
        count = snippets * self.channels
        try:
            flat = np.fromfile(self._file, dtype=self._dtype, count=count)
        except OSError as problem:
            raise FeatureError(f"{self.path}: {reason(problem)}") from problem
        if len(flat) != count:
            raise self._changed()
        return flat.astype(self._dtype.newbyteorder("="), copy=False)

    def _require_unchanged(self) -> None:
        if _state(self._file) != self._state:
            raise self._changed()

    def _changed(self) -> FeatureError:
        return FeatureError(
            f"{self.path}: changed while it was read; wait until it is written, then run the command again"
        )


@contextmanager
def open_features(path: str | os.PathLike[str], channels: int) -> Iterator[FeatureFile]:
    """Open the snippet features of one video, and check all but their values.

    Args:
        path: a ``.npy`` file, (snippets, channels) of float16, float32 or float64; or an ``.npz`` archive of one such
            array. Further axes of length 1 are left out.
        channels: C, the width that the bundle was exported for.

    Raises:
        FeatureError: the file cannot be read, or is not such an array.
    """
    path = Path(path)
    try:
        file = open(path, "rb", opener=open_without_blocking)  # noqa: SIM115 -- closed below
    except OSError as problem:
        raise FeatureError(f"{path}: {reason(problem)}") from problem
    with file:
        try:
            refuse_irregular(file.fileno(), path, FeatureError)
            packed = file.read(len(npz_archive.MAGIC)) == npz_archive.MAGIC
            file.seek(0)
            array = npz_archive.unpack_array(file, path) if packed else file
        except OSError as problem:
            raise FeatureError(f"{path}: {reason(problem)}") from problem
        with array:
            try:
                opened = FeatureFile(array, path, channels)
            except OSError as problem:
                raise FeatureError(f"{path}: {reason(problem)}") from problem
            yield opened


def read_features(path: str | os.PathLike[str], channels: int) -> FloatArray:
    """Read the snippet features of one video.

    Args:
        path: a ``.npy`` file, (snippets, channels) of float16, float32 or float64; or an ``.npz`` archive of one such
            array. Further axes of length 1 are left out.
        channels: C, the width that the bundle was exported for.

    Returns:
        (T0, C) in the precision of the file, T0 >= 1, all finite.

    Raises:
        FeatureError: the file cannot be read, is not such an array, or contains NaN or infinity.
        OutOfMemoryError: there is not enough memory for it.
    """
    with open_features(path, channels) as file:
        return file.read()


def _state(file: BinaryIO) -> tuple[int, int]:
    """Size and time of an open file, to notice later changes."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
