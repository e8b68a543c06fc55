"""Reading snippet features from a stream of bytes, such as standard input, while they arrive."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.inputs.features import check_shape, squeeze_shape
from stale_runtime.inputs.npy_header import MAGIC, read_npy_header
from stale_runtime.segments import FloatArray
from stale_runtime.system.files import reason

PIECE_BYTES = 2**16
"""Bytes that are read at once."""
RAW = np.dtype("<f4")
"""Type of the numbers in a stream without a header."""

Read = Callable[[int], bytes]
"""Returns at least one byte and at most as many as asked for, as soon as there are any; none at the end."""


def read_rows(
    read: Read, channels: int, *, raw: bool, name: str = "stdin", say: Callable[[str], object] | None = None
) -> Iterator[FloatArray]:
    """Read snippets while they arrive; never more than a few are held.

    Args:
        read: where they come from.
        channels: C, the width that the bundle was exported for.
        raw: whether rows of little-endian float32 without a header are accepted. A ``.npy`` stream always is.
        name: name of the stream, for messages.
        say: called with one line if axes of length 1 are left out.

    Yields:
        (n, C) with n >= 1, of float16, float32 or float64; the values are not checked.

    Raises:
        FeatureError: it is not such a stream, it cannot be read, or it ends early or late. All whole snippets have been
            yielded before.
    """
    read = partial(_read_piece, read, name)
    start = _read_exactly(read, len(MAGIC))
    if not start:
        raise FeatureError(f"{name}: empty, expected snippet features; check the program that writes them")
    if start == MAGIC or (not raw and start[:2] == b"PK"):
        header = read_npy_header(partial(_read_exactly, read), name, start=start)
        shape = squeeze_shape(header.shape)
        check_shape(shape, header.dtype, channels, name)
        if shape != header.shape and say is not None:
            say(f"{name}: shape {header.shape} is taken as {shape}")
        if header.fortran_order and shape[0] > 1:
            raise FeatureError(
                f"{name}: an array in Fortran order, whose rows are complete only at its end; save "
                "numpy.ascontiguousarray(features), or give the file itself instead of -"
            )
        yield from _cut_rows(read, header.dtype, channels, b"", promised=shape[0], name=name)
    elif raw:
        yield from _cut_rows(read, RAW, channels, start, promised=None, name=name)
    else:
        raise FeatureError(
            f"{name}: not a .npy stream, expected an array (snippets, {channels}) as numpy.save writes it; for rows of "
            f"float32 without a header give --width {channels}"
        )


def _cut_rows(
    read: Read, dtype: "np.dtype[np.floating]", channels: int, rest: bytes, *, promised: int | None, name: str
) -> Iterator[FloatArray]:
    """Cut bytes into snippets.

    Args:
        read: where they come from.
        dtype: type of the numbers.
        channels: C
        rest: the first bytes.
        promised: how many snippets there must be; None if that is unknown.
        name: name of the stream.
    """
    size, snippets = channels * dtype.itemsize, 0
    while data := read(PIECE_BYTES):
        rest += data
        whole = len(rest) // size if promised is None else min(len(rest) // size, promised - snippets)
        if whole:
            flat: NDArray[np.floating] = np.frombuffer(rest, dtype, whole * channels)
            yield flat.reshape(whole, channels).astype(dtype.newbyteorder("="), copy=False)
            rest = rest[whole * size :]
            snippets += whole
        if snippets == promised and rest:
            raise FeatureError(
                f"{name}: too long, more than the {promised:,} snippets that its header promises; a writer that does "
                f"not know their number can write float32 without a header, with --width {channels}"
            )
    if promised is not None and snippets < promised:
        raise FeatureError(
            f"{name}: truncated, {snippets:,} snippets and {len(rest):,} bytes of the {promised:,} snippets that its "
            "header promises; check the program that writes them"
        )
    if rest:
        raise FeatureError(
            f"{name}: ended after {len(rest):,} of the {size:,} bytes of snippet {snippets}; check the program that "
            f"writes them, and that they are {channels} numbers of {dtype.name} each"
        )


def _read_piece(read: Read, name: str, size: int) -> bytes:
    try:
        return read(size)
    except OSError as problem:
        raise FeatureError(f"{name}: {reason(problem)}; give a stream that can be read") from problem


def _read_exactly(read: Read, size: int) -> bytes:
    """Read so many bytes, or fewer at the end of the stream."""
    found = b""
    while len(found) < size and (data := read(size - len(found))):
        found += data
    return found
