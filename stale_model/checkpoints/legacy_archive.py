"""Reading what ``torch.save`` wrote before PyTorch 1.6, without executing anything in it.

Such a file is a row of pickles (a magic number, a version, the sizes of C's types, the content, the storages' names)
and then the numbers of each storage. Nothing in it has a checksum.
"""

import pickletools
import struct
from types import SimpleNamespace
from typing import Any, BinaryIO

from torch import Tensor

from stale_model.checkpoints.tensor_pickle import Storage, as_numbers, build_tensors, load_pickle, read_exactly

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION = b"\x80\x02M\xe9\x03."
HEAD = _MAGIC + _VERSION
"""What every such file begins with: the pickles of the magic number and of version 1001, the only one."""


class LegacyArchive:
    """The content and the storages of a checkpoint in the format before PyTorch 1.6."""

    def __init__(self, file: BinaryIO) -> None:
        """Args: file: it begins with ``HEAD``, and has to stay open while the content is read."""
        self.size = file.seek(0, 2)
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}

    def content(self, *, quantized: bool) -> Any:
        """Tensors on the CPU, and plain values.

        Args:
            quantized: whether tensors may be of int8 with scales; if so, nothing is skipped, but refused.

        Raises:
            Exception: the file ends early, or contains anything else. ``pickle`` and PyTorch raise many kinds.
        """
        self._file.seek(len(HEAD))
        self._read_pickle()  # the sizes of C's types, which do not matter here
        described, types = load_pickle(self._read_pickle(), quantized=quantized)
        names, _ = load_pickle(self._read_pickle(), quantized=False)
        for name in names:
            if name not in types or name in self._places:
                raise ValueError("numbers whose type is not known, or two storages with one name")
            (count,) = struct.unpack("<Q", self._file.read(8))
            place, size = self._file.tell(), count * types[name].itemsize
            if place + size > self.size:
                raise ValueError("numbers beyond the end of the file")
            self._places[name] = place, size
            self._file.seek(size, 1)
        if self._file.tell() != self.size:
            raise ValueError("bytes after the last tensor")
        return build_tensors(described, self)

    def storage(self, storage: Storage) -> Tensor:
        """All numbers of a storage, which are in little-endian order on any machine: (N,)."""
        place, size = self._places[storage.key]
        self._file.seek(place)
        return as_numbers(read_exactly(self._file, size), storage.dtype, "little")

    def _read_pickle(self) -> bytes:
        """The bytes of the pickle that begins here."""
        start = self._file.tell()
        bounded: Any = SimpleNamespace(  # a pickle can ask for 2**64 bytes, for which ``read`` would take memory
            read=lambda size: self._file.read(min(size, self.size - self._file.tell())),
            readline=self._file.readline,
            tell=self._file.tell,
        )
        for _ in pickletools.genops(bounded):
            pass
        size = self._file.tell() - start
        self._file.seek(start)
        return self._file.read(size)
