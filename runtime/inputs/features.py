"""Snippet features of a video: checking them, and resampling them to a temporal scale."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_runtime.errors import FeatureError
from stale_runtime.segments import FloatArray
from stale_runtime.system.sorted_values import distinct_values

MOST_SNIPPETS = 2**30
"""Most snippets of a video that are accepted: six years at 5 snippets a second."""
LARGEST_VALUE = 1e6
"""Largest magnitude that is accepted. CLIP features are far smaller; larger values may overflow in float32."""
CLIP_NORM = 10.0
"""Euclidean length that made-up features get. CLIP's are not normalised; that theirs is about this is an assumption."""
_CHECKED_AT_ONCE = 4096
"""Snippets; checking a long video takes no memory for a copy of it."""


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
    check_shape(features.shape, features.dtype, channels, name)
    check_values(cut_into_pieces(features, _CHECKED_AT_ONCE), name)
    return features


def cut_into_pieces(features: FloatArray, snippets: int) -> Iterable[FloatArray]:
    """A video (T0, C) in pieces of at most so many snippets, without copying it."""
    return (features[n : n + snippets] for n in range(0, len(features), snippets))


def check_values(pieces: Iterable[FloatArray], name: str) -> None:
    """Make sure that the network can take all values of a video.

    Args:
        pieces: (n, C) consecutive pieces of it.
        name: name of the video, for messages.

    Raises:
        FeatureError: NaN, infinity, or values above ``LARGEST_VALUE``.
    """
    largest = np.concatenate([largest_values(piece) for piece in pieces])  # (T0,)
    in_range = largest <= LARGEST_VALUE
    if not in_range.all():
        snippet = int(in_range.argmin())
        raise FeatureError(
            f"{name}: {describe_value(largest[snippet])} in {np.count_nonzero(~in_range)} of {len(in_range)} snippets, "
            f"the first is snippet {snippet}; {EXTRACT_AGAIN}"
        )


EXTRACT_AGAIN = "CLIP features are far smaller, extract the features again"
"""The remedy for values that are too large."""


def largest_values(features: FloatArray) -> NDArray[np.float64]:
    """The largest magnitude in each snippet, NaN where it contains NaN: (n, C) -> (n,)."""
    with np.errstate(invalid="ignore"):  # numpy warns about signalling NaN
        return np.asarray(np.abs(features).max(axis=1).astype(np.float64))


def describe_value(largest: float) -> str:
    """What is wrong with a snippet whose largest magnitude is this, for messages."""
    what = "a value beyond" if np.isfinite(largest) else "NaN or infinity, not within"
    return f"{what} ±{LARGEST_VALUE:.0e}"


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
    lower, upper, weight = _neighbours(T0, length)
    before, after = features[lower].astype(np.float32), features[upper].astype(np.float32)  # (T, C)
    return np.asarray((1 - weight[:, None]) * before + weight[:, None] * after)


def rows_read(snippets: int, length: int, channels: int) -> NDArray[np.intp]:
    """The rows of a video that ``resample_for_graph`` reads; the others may hold anything finite.

    Args:
        snippets: T0
        length: T, in snippets.
        channels: C

    Returns:
        Ascending; all T0 rows, or at most 2T of them.
    """
    if snippets == length or _is_resampled_by_graph(snippets, channels, length=length):
        return np.arange(snippets)
    lower, upper, weight = _neighbours(snippets, length)
    return distinct_values(np.concatenate([lower, upper[weight > 0]]))


def _neighbours(snippets: int, length: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Of each of T positions: the rows before and after it, and the weight of the one after; (T,) each."""
    scale = np.float64(np.float32(snippets) / np.float32(length))  # PyTorch rounds here, and again after a fused
    position = (scale * (np.arange(length) + 0.5) - 0.5).clip(min=0).astype(np.float32)  # multiply-add
    lower = np.minimum(position.astype(np.intp), snippets - 1)
    upper = np.minimum(lower + 1, snippets - 1)
    return lower, upper, position - lower.astype(np.float32)


def resample_for_graph(features: FloatArray, length: int) -> NDArray[np.float32]:
    """What a localizer's graph gets of a video: features resampled to T, unless the graph does that faster.

    Args:
        features: (T0, C)
        length: T, in snippets.

    Returns:
        (T0, C) if the video has fewer snippets than T and than channels, else (T, C). In int8 the result of the network
        depends on this.
    """
    if _is_resampled_by_graph(*features.shape, length=length):
        return np.asarray(features, np.float32)
    return resample(features, length)


def _is_resampled_by_graph(snippets: int, channels: int, *, length: int) -> bool:
    return snippets < min(length, channels)


def squeeze_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of length 1, if it has more than two axes: (1, T0, C) and (T0, C, 1, 1) are (T0, C)."""
    if len(shape) <= 2:
        return shape
    longer = tuple(size for size in shape if size != 1)
    return longer if len(longer) >= 2 else (1, 1, *longer)[-2:]


def _explain_axes(shape: tuple[int, ...], channels: int) -> str | None:
    """What the axes of an array of more than two probably are, and what to do with them."""
    if len(shape) == 3 and shape[2] == channels and 1 in shape[:2]:
        return f"leave out the axis of length 1: features.reshape(-1, {channels})"
    if len(shape) == 3 and shape[2] == channels:
        crops = 0 if shape[0] < shape[1] else 1
        return f"{shape[crops]} crops of each snippet? Average them: features.mean(axis={crops})"
    if len(shape) > 2:
        return "maps or tokens of an image? Take the one vector that CLIP's encode_image gives of it"
    return None


def check_shape(shape: tuple[int, ...], dtype: np.dtype[Any], channels: int, name: Path | str) -> None:
    """Make sure that an array of this shape and type can be the snippet features of a video.

    Args:
        shape: expected (T0, C).
        dtype: expected float16, float32 or float64.
        channels: C, the width that the bundle was exported for.
        name: name of the array, for messages.

    Raises:
        FeatureError: it cannot.
    """
    if dtype.hasobject:
        raise FeatureError(f"{name}: contains pickled objects, which are never loaded; save a plain array of float32")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise FeatureError(
            f"{name}: type {str(dtype)[:40]}, expected float16, float32 or float64; convert it with astype('float32')"
        )
    if len(shape) != 2 or shape[1] != channels:
        remedy = (
            _explain_axes(shape, channels)
            or f"this bundle was exported for {channels}-wide CLIP features, extract the features with that CLIP"
        )
        if len(shape) == 2 and shape[0] == channels:
            remedy = "transpose it: features.T"
        raise FeatureError(f"{name}: shape {shape}, expected (snippets, {channels}); {remedy}")
    if not 1 <= shape[0] <= MOST_SNIPPETS:
        remedy = "cut the video into shorter ones" if shape[0] else "extract the features again"
        raise FeatureError(f"{name}: {shape[0]:,} snippets, expected 1 to {MOST_SNIPPETS:,}; {remedy}")
