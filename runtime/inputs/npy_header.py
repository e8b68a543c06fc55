"""Headers of ``.npy`` files and streams, from untrusted sources."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.other_formats import describe_format

LARGEST_HEADER = 4096
"""Bytes; numpy writes 128."""
MAGIC = npy.MAGIC_PREFIX
_READERS = {(1, 0): (npy.read_array_header_1_0, 2), (2, 0): (npy.read_array_header_2_0, 4)}
"""By version of the format: the function that parses the header, and the number of bytes of its size."""
_ODD_LITERALS = re.compile(rb"\\|\d[A-Za-z_]")
"""Text that no valid header contains, and about which Python's parser would print a warning."""
_PYTHON_2_INTEGER = re.compile(rb"(\d\s*)L")
"""How Python 2 wrote long integers; numpy reads them too, but prints a warning."""


class NpyHeader(NamedTuple):
    """What a header says of the array that follows it."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


def read_npy_header(read: Callable[[int], bytes], name: str, *, start: bytes = b"") -> NpyHeader:
    """Read and parse a header, and not a byte of what follows it.

    Args:
        read: returns as many of the next bytes as asked for, or fewer at the end.
        name: where they come from, for messages.
        start: the first bytes, if they have been read already; at most as many as ``MAGIC`` has.

    Raises:
        FeatureError: it is not a header, or one that makes no sense.
    """
    start += read(len(MAGIC) - len(start))
    if start[:2] == b"PK":
        raise FeatureError(f"{name}: an .npz archive in a stream, expected one array; save it with numpy.save")
    if start != MAGIC and (known := describe_format(start)) is not None:
        raise FeatureError(f"{name}: {known}")
    if start != MAGIC:
        suffix = Path(name).suffix.lower()
        or_video = "" if suffix in ("", ".npy", ".npz") else ", or a video, whose name ends in .mp4, .mkv, .mov or so"
        raise FeatureError(
            f"{name}: not a .npy file, expected an array (snippets, channels) saved with numpy.save{or_video}"
        )
    try:
        parse, width = _READERS[npy.read_magic(io.BytesIO(start + read(npy.MAGIC_LEN - len(start))))]
        size = read(width)
        text = _PYTHON_2_INTEGER.sub(rb"\1 ", read(min(int.from_bytes(size, "little"), LARGEST_HEADER + 1)))
        if _ODD_LITERALS.search(text):
            raise ValueError("header")
        shape, fortran_order, dtype = parse(io.BytesIO(size + text), max_header_size=LARGEST_HEADER)
        if any(type(size) is not int or abs(size) >= 2**63 for size in shape):
            raise TypeError("shape")
    except OSError:
        raise
    except KeyError:
        raise FeatureError(
            f"{name}: an unknown version of the .npy format; save the array again with numpy.save"
        ) from None
    except Exception as problem:  # numpy's parser raises many types for crafted headers
        raise FeatureError(
            f"{name}: a broken .npy header; copy the file again, or save the array again with numpy.save"
        ) from problem
    return NpyHeader(shape, fortran_order, dtype)
