"""Reading what ``torch.save`` writes, without PyTorch's own reader and without executing anything in it.

Readers of zip files disagree about crafted ones: which of two directories counts, or which of two members of a name.
What one reader has checked must therefore not be read again by another, so one reader does both here.
"""

import re
import sys
import zipfile
from typing import Any, BinaryIO

from torch import Tensor

from stale_model.checkpoints.tensor_pickle import Storage, as_numbers, build_tensors, load_pickle, read_exactly

_MEMBER = re.compile(r"([^/]*)/(data\.pkl|byteorder|data/.+)")


class TensorArchive:
    """The members of a checkpoint's zip file."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the directory, and the pickle.

        Args:
            file: what ``torch.save`` wrote, at any position. It has to stay open while the content is read.

        Raises:
            Exception: it is not such a zip file, is compressed, or has members that share bytes. ``zipfile`` raises
                many kinds.
        """
        self.size = file.seek(0, 2)
        self._archive = zipfile.ZipFile(file)
        named = [(found, entry) for entry in self._archive.infolist() if (found := _MEMBER.fullmatch(entry.filename))]
        self._members = {found[2]: entry for found, entry in named}
        if len(self._members) != len(named) or len({found[1] for found, _ in named}) != 1:
            raise ValueError("two members with one name, or members of several folders")
        stored = (
            entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size for _, entry in named
        )
        if not all(stored):
            raise ValueError("compressed, or of two sizes, of which reading would take memory for the larger")
        if sum(entry.file_size for _, entry in named) > self.size:
            raise ValueError("members that share bytes")
        self._pickle = self._archive.read(self._members["data.pkl"])

    def content(self, *, quantized: bool) -> Any:
        """Tensors on the CPU, and plain values.

        Args:
            quantized: whether tensors may be of int8 with scales; if so, nothing is skipped, but refused.

        Raises:
            Exception: the pickle contains anything else, or does not fit the members. ``pickle`` and PyTorch raise many
                kinds.
        """
        described, _ = load_pickle(self._pickle, quantized=quantized)
        return build_tensors(described, self)

    def storage(self, storage: Storage) -> Tensor:
        """All numbers of a storage: (N,)."""
        entry = self._members[f"data/{storage.key}"]
        with self._archive.open(entry) as member:
            buffer = read_exactly(member, entry.file_size)  # its last piece also compares the checksum
        return as_numbers(buffer, storage.dtype, self._byteorder())

    def _byteorder(self) -> str:
        """The byte order of the machine that wrote the numbers."""
        entry = self._members.get("byteorder")
        return sys.byteorder if entry is None else self._archive.read(entry).decode()
