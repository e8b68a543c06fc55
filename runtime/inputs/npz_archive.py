"""Archives of one array, as ``numpy.savez`` and ``numpy.savez_compressed`` write them, from untrusted sources."""

import os
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

from stale_runtime.errors import FeatureError, OutOfMemoryError
from stale_runtime.inputs.other_formats import TORCH_ARCHIVE
from stale_runtime.system.memory import require_memory

MAGIC = b"PK"
LARGEST_UNPACKED = 512 * 2**20
"""Bytes of the array in an archive: 262,144 snippets of 512 numbers in float32. As a ``.npy`` file it may be larger."""
LARGEST_DIRECTORY = 2**17
"""Bytes of the archive's list of members, which the parser reads as a whole; at least the longest comment of a zip."""
_PIECE = 2**16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes. Others could take gigabytes to unpack, whatever the size of the array."""
_SHOWN = 4


def unpack_array(file: BinaryIO, path: Path) -> BinaryIO:
    """Unpack the only array of an archive.

    The size that the archive gives for the array is checked before anything is unpacked, and no more than that is.

    Args:
        file: the archive, open; it stays open.
        path: its path, for messages.

    Returns:
        A file that has no name, with the content of a ``.npy`` file, at its beginning.

    Raises:
        FeatureError: it is no such archive, or has another number of arrays, or a larger one.
        OutOfMemoryError: there is not enough memory for it.
    """
    unpacked = _unnamed_file()
    try:
        with zipfile.ZipFile(cast(BinaryIO, _BoundedReader(file))) as archive:
            member = _find_array(archive, path)
            require_memory(member.file_size, str(path), "save the array with numpy.save, which is read in pieces")
            with archive.open(member) as content:
                while piece := content.read(_PIECE):  # zipfile ends at the size given, and checks the sum
                    unpacked.write(piece)
        unpacked.seek(0)
        return unpacked
    except (FeatureError, OutOfMemoryError, OSError):
        unpacked.close()
        raise
    except Exception as problem:  # zipfile and zlib raise many types for crafted archives
        unpacked.close()
        raise FeatureError(
            f"{path}: a broken .npz archive ({problem}); copy it again, or save the array with numpy.save"
        ) from problem


def _find_array(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = archive.infolist()
    if any(member.filename.rpartition("/")[2] == "data.pkl" for member in members):
        raise FeatureError(f"{path}: {TORCH_ARCHIVE}")
    if len(members) != 1:
        names = [member.filename.removesuffix(".npy") for member in members]
        shown = ", ".join(repr(name[:40]) for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        which = f", {shown}; save the one of features: numpy.save('v.npy', numpy.load('v.npz')[NAME])" if names else ""
        raise FeatureError(f"{path}: an .npz archive of {len(names)} arrays, expected one{which}")
    (member,) = members
    if not member.filename.endswith(".npy"):
        raise FeatureError(
            f"{path}: a zip archive of {member.filename[:60]!r}, expected an array saved with numpy.save"
        )
    if member.compress_type not in _METHODS or member.flag_bits & 1:
        raise FeatureError(f"{path}: an archive packed in a way that numpy does not; save the array with numpy.save")
    if member.file_size > LARGEST_UNPACKED:
        raise FeatureError(
            f"{path}: an array of {member.file_size:,} bytes in an archive, expected at most {LARGEST_UNPACKED:,}; "
            "save it with numpy.save, which is read in pieces"
        )
    return member


class _BoundedReader:
    """The methods of a file that ``zipfile`` reads with; no read takes more memory than ``LARGEST_DIRECTORY``."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read = file.read

    def read(self, size: int = -1) -> bytes:
        data = self._read(LARGEST_DIRECTORY + 1 if size < 0 else min(size, LARGEST_DIRECTORY + 1))
        if len(data) > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of members has more than {LARGEST_DIRECTORY:,} bytes")
        return data


def _unnamed_file() -> BinaryIO:
    """An empty file in memory, or where there is no such thing, on disk."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("array", os.MFD_CLOEXEC), "w+b")
    import tempfile  # only these systems need it

    return cast(BinaryIO, tempfile.TemporaryFile())
