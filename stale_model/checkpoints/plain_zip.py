"""What ``torch.save`` wrote, in a zip file written anew.

Readers of zip files differ in what they make of a crafted one: which of two directories counts, which of two members of
a name. So the one that PyTorch gets to read is ours, around members that were looked through.
"""

import io
import re
import struct
import zipfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import BinaryIO, NamedTuple

_PICKLE = "data.pkl"
_NAME = re.compile(r"([^/]*)/(data\.pkl|version|byteorder|data/[0-9]+)")
"""All that tensors are read from. PyTorch finds names whatever their case, so a letter in ``data/`` is a name more."""
_FILLED = 0xFFFFFFFF
"""In place of a size or position: it stands in the zip64 field."""


class PlainZip(NamedTuple):
    """A checkpoint as a zip file."""

    pickle: bytes
    """The one that ``file`` has."""
    file: "PiecedFile"
    size: int
    """Of the file that it was made from, in bytes."""


class PiecedFile(io.RawIOBase):
    """Bytes, and pieces of another file between them, read as one file; takes no memory for those pieces."""

    def __init__(self, file: BinaryIO, pieces: Sequence["bytes | Piece"]) -> None:
        """Args: file: that pieces are of; pieces: in order."""
        self._file = file
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._ends = list(accumulate(map(_length, self._pieces)))
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere, as ``io.IOBase`` says."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # no Buffer before Python 3.12
        """Fill a buffer, or as much of it as there are bytes left."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._at < self._ends[-1]:
            number = bisect_right(self._ends, self._at)
            piece, left = self._pieces[number], self._ends[number] - self._at
            count = min(left, len(view) - done)
            start = _length(piece) - left
            if isinstance(piece, bytes):
                view[done : done + count] = piece[start : start + count]
            else:
                self._file.seek(piece.start + start)
                if self._file.readinto(view[done : done + count]) != count:  # type: ignore[attr-defined]
                    raise OSError("the file ends before its directory says")
            done += count
            self._at += count
        return done


class Piece(NamedTuple):
    """A part of a file."""

    start: int
    length: int


def open_plain_zip(file: BinaryIO) -> PlainZip:
    """Take a checkpoint's members out of their zip file.

    Args:
        file: what ``torch.save`` wrote, wherever it stands. It has to stay open for as long as the result is read.

    Raises:
        Exception: it is no such zip file, is compressed, or has members that share bytes. ``zipfile`` raises many
            kinds.
    """
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        members = {found[2]: entry for entry in entries if (found := _NAME.fullmatch(entry.filename))}
        prefixes = {entry.filename.partition("/")[0] for entry in members.values()}
        named = sum(_NAME.fullmatch(entry.filename) is not None for entry in entries)
        if _PICKLE not in members or len(prefixes) != 1 or named != len(members):
            raise ValueError("not exactly one member of each name")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in members.values()):
            raise ValueError("compressed")
        if sum(entry.file_size for entry in members.values()) > size:
            raise ValueError("members that share bytes")
        pickle = archive.read(members.pop(_PICKLE))
    contents: dict[str, bytes | Piece] = {_PICKLE: pickle}
    contents |= {name: _content(file, entry, size) for name, entry in members.items()}
    return PlainZip(pickle, PiecedFile(file, _written(contents)), size)


def _content(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> Piece:
    """Where the bytes of a stored member are: behind its own header."""
    file.seek(entry.header_offset)
    header = file.read(30)
    name_length, extra_length = struct.unpack("<26x2H", header)
    start = entry.header_offset + len(header) + name_length + extra_length
    if start + entry.file_size > size:
        raise ValueError("a member beyond the end")
    return Piece(start, entry.file_size)


def _written(contents: Mapping[str, bytes | Piece]) -> list[bytes | Piece]:
    """A zip file of stored members. Sums of the contents are left out, which PyTorch does not look at."""
    pieces, directory, at = list[bytes | Piece](), b"", 0
    for name, content in contents.items():
        label, length = f"archive/{name}".encode(), _length(content)
        sizes = (0, _FILLED, _FILLED, len(label))
        header = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0x21, *sizes, 0) + label
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 0x21, *sizes, 28, 0, 0, 0, 0, _FILLED)
        directory += label + struct.pack("<2H3Q", 1, 24, length, length, at)
        pieces += [header, content]
        at += len(header) + length
    count, end = len(contents), at + len(directory)
    record = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, count, count, len(directory), at)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, end, 1)
    last = b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, _FILLED, _FILLED, 0)
    return [*pieces, directory + record + locator + last]


def _length(piece: bytes | Piece) -> int:
    return piece.length if isinstance(piece, Piece) else len(piece)
