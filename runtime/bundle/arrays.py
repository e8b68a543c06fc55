"""Arrays in the ``.npz`` files of a bundle."""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stale_runtime.errors import COPY_AGAIN, BundleError


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of an uncompressed ``.npz`` file; the same arrays always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            npy.write_array(member, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()


def unpack_arrays(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an uncompressed ``.npz`` file.

    Compressed or overlapping members are refused, so that no array can be larger than the file.

    Args:
        data: the file's content.
        name: name of the file, for messages.

    Raises:
        BundleError: it is not such a file, or contains pickled objects.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("compressed")
            if sum(member.file_size for member in members) > len(data):
                raise ValueError("members that overlap")
            return {member.filename.removesuffix(".npy"): _read_array(archive.read(member)) for member in members}
    except Exception as problem:  # zipfile and numpy raise many kinds for malformed files
        raise BundleError(f"{name}: not an archive of plain arrays ({problem}); {COPY_AGAIN}") from problem


def _read_array(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("unknown .npy version")
    shape, fortran, dtype = npy.read_array_header_1_0(stream)
    too_large = any(not 0 <= size <= len(data) for size in shape) or math.prod(shape) * dtype.itemsize > len(data)
    if dtype.hasobject or dtype.itemsize == 0 or too_large:
        raise ValueError("shape and size disagree")
    order: Literal["F", "C"] = "F" if fortran else "C"
    shared: NDArray[Any] = np.ndarray(shape, dtype, buffer=data, offset=stream.tell(), order=order)
    array = shared.copy(order)  # PyTorch and others expect arrays that can be written
    if dtype.kind == "U":
        array.tolist()  # raises ValueError for a number that is not a character
    return array
