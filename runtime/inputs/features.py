"""Snippet features: reading them from untrusted files, checking them, resampling them to a temporal scale."""

import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.segments import FloatArray
from stale_runtime.system.files import open_without_blocking, reason, refuse_irregular
from stale_runtime.system.memory import require_memory

MOST_SNIPPETS = 2**18
"""Most snippets of a video that are accepted: 14 hours at 5 snippets a second."""
LARGEST_VALUE = 1e6
"""Largest magnitude that is accepted. CLIP features are far smaller; larger values may overflow in float32."""
CLIP_NORM = 10.0
"""Euclidean length that made-up features get. CLIP's are not normalised; that theirs is about this is an assumption."""
_HEADER_BYTES = 4096
_READERS = {(1, 0): (npy.read_array_header_1_0, 2), (2, 0): (npy.read_array_header_2_0, 4)}
"""By version of the format: the function that parses the header, and the number of bytes of its size."""
_ODD_LITERALS = re.compile(rb"\\|\d[A-Za-z_]")
"""Text that no valid header contains, and about which Python's parser would print a warning."""
_PYTHON_2_INTEGER = re.compile(rb"(\d\s*)L")
"""How Python 2 wrote long integers; numpy reads them too, but prints a warning."""


def read_features(path: str | os.PathLike[str], channels: int) -> FloatArray:
    """Read the snippet features of one video.

    Args:
        path: a ``.npy`` file, (snippets, channels) of float16, float32 or float64.
        channels: C, the width that the bundle was exported for.

    Returns:
        (T0, C) in the precision of the file, T0 >= 1, all finite.

    Raises:
        FeatureError: the file cannot be read, is not such an array, or contains NaN or infinity.
        OutOfMemoryError: there is not enough memory for it.
    """
    path = Path(path)
    try:
        with open(path, "rb", opener=open_without_blocking) as file:
            refuse_irregular(file.fileno(), path, FeatureError)
            shape, fortran_order, dtype = _read_header(file, path)
            _check_shape(shape, dtype, channels, path)
            before = os.fstat(file.fileno())
            held = before.st_size - file.tell()
            wanted = shape[0] * shape[1] * dtype.itemsize
            if held != wanted:
                problem = "truncated" if held < wanted else "too long"
                raise FeatureError(
                    f"{path}: {problem}, {held:,} bytes of data, its header promises {wanted:,}; copy it again, or "
                    "extract it again"
                )
            require_memory(wanted, str(path), "cut the video, or end other programs")
            flat = np.fromfile(file, dtype=dtype, count=shape[0] * shape[1])
            after = os.fstat(file.fileno())
    except OSError as problem:
        raise FeatureError(f"{path}: {reason(problem)}") from problem
    if flat.nbytes != wanted or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FeatureError(f"{path}: changed while it was read; wait until it is written, then run the command again")
    features = flat.reshape(shape, order="F" if fortran_order else "C")
    return check_features(features.astype(dtype.newbyteorder("="), copy=False), channels, name=str(path))


def check_features(features: NDArray[Any], channels: int, *, name: str = "features") -> FloatArray:
    """Make sure that an array contains the snippet features of a video.

    Args:
        features: (T0, C) of float16, float32 or float64.
        channels: C, the width that the bundle was exported for.
        name: name of the array, for messages.

    Returns:
        The same array.

    Raises:
        FeatureError: wrong type or shape, no snippets or too many, NaN, infinity, or values above ``LARGEST_VALUE``.
    """
    _check_shape(features.shape, features.dtype, channels, name)
    with np.errstate(invalid="ignore"):  # numpy warns about signalling NaN
        largest = np.abs(features).max(axis=1).astype(np.float64)  # (T0,), NaN where a snippet contains NaN
    in_range = largest <= LARGEST_VALUE
    if not in_range.all():
        snippet = int(in_range.argmin())
        what = "a value beyond" if np.isfinite(largest[snippet]) else "NaN or infinity, not within"
        raise FeatureError(
            f"{name}: {what} ±{LARGEST_VALUE:.0e} in {np.count_nonzero(~in_range)} of {len(in_range)} snippets, the "
            f"first is snippet {snippet}; CLIP features are far smaller, extract the features again"
        )
    return features


def resample(features: FloatArray, length: int) -> NDArray[np.float32]:
    """Resample features linearly to a temporal scale, with half-pixel centres and clamped edges.

    Args:
        features: (T0, C)
        length: T, in snippets.

    Returns:
        (T, C) of float32. It equals the result of PyTorch's ``interpolate(mode="linear", align_corners=False)``, up
        to the last two bits, for builds of PyTorch that round positions once.
    """
    T0 = len(features)
    if length == T0:
        return features.astype(np.float32)
    scale = np.float64(np.float32(T0) / np.float32(length))  # PyTorch rounds here, and again after a fused
    position = (scale * (np.arange(length) + 0.5) - 0.5).clip(min=0).astype(np.float32)  # multiply-add
    lower = np.minimum(position.astype(np.intp), T0 - 1)  # (T,)
    upper = np.minimum(lower + 1, T0 - 1)  # (T,)
    weight = (position - lower.astype(np.float32))[:, None]  # (T, 1)
    return np.asarray((1 - weight) * features[lower].astype(np.float32) + weight * features[upper].astype(np.float32))


def resample_for_graph(features: FloatArray, length: int) -> NDArray[np.float32]:
    """What a localizer's graph gets of a video: features resampled to T, unless the graph does that faster.

    Args:
        features: (T0, C)
        length: T, in snippets.

    Returns:
        (T0, C) if the video has fewer snippets than T and than channels, else (T, C). In int8 the result of the network
        depends on this.
    """
    if len(features) < min(length, features.shape[1]):
        return np.asarray(features, np.float32)
    return resample(features, length)


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and type of the array in a ``.npy`` file, which is then positioned at the data."""
    start = file.read(len(npy.MAGIC_PREFIX))
    if start[:2] == b"PK":
        raise FeatureError(f"{path}: an .npz archive, expected one array; save it with numpy.save")
    if start != npy.MAGIC_PREFIX:
        raise FeatureError(f"{path}: not a .npy file, expected an array (snippets, channels) saved with numpy.save")
    head = io.BytesIO(start + file.read(_HEADER_BYTES))  # never more, whatever size the header claims
    try:
        reader, width = _READERS[npy.read_magic(head)]
        size = head.read(width)
        header = head.read(min(int.from_bytes(size, "little"), _HEADER_BYTES + 1))
        header = _PYTHON_2_INTEGER.sub(rb"\1 ", header)
        if _ODD_LITERALS.search(header):
            raise ValueError("header")
        shape, fortran_order, dtype = reader(io.BytesIO(size + header), max_header_size=_HEADER_BYTES)
        if any(type(size) is not int or abs(size) >= 2**63 for size in shape):
            raise TypeError("shape")
    except KeyError:
        raise FeatureError(
            f"{path}: an unknown version of the .npy format; save the array again with numpy.save"
        ) from None
    except Exception as problem:  # numpy's parser raises many types for crafted headers
        raise FeatureError(
            f"{path}: a broken .npy header; copy the file again, or save the array again with numpy.save"
        ) from problem
    file.seek(head.tell())
    return shape, fortran_order, dtype


def _check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], channels: int, name: Path | str) -> None:
    if dtype.hasobject:
        raise FeatureError(f"{name}: contains pickled objects, which are never loaded; save a plain array of float32")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise FeatureError(
            f"{name}: type {str(dtype)[:40]}, expected float16, float32 or float64; convert it with astype('float32')"
        )
    if len(shape) != 2 or shape[1] != channels:
        remedy = f"this bundle was exported for {channels}-wide CLIP features, extract the features with that CLIP"
        if len(shape) == 2 and shape[0] == channels:
            remedy = "transpose it: features.T"
        raise FeatureError(f"{name}: shape {shape}, expected (snippets, {channels}); {remedy}")
    if not 1 <= shape[0] <= MOST_SNIPPETS:
        remedy = "cut the video into shorter ones" if shape[0] else "extract the features again"
        raise FeatureError(f"{name}: {shape[0]:,} snippets, expected 1 to {MOST_SNIPPETS:,}; {remedy}")
