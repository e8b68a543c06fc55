"""What an approximate localizer reads of the prompts' queries: their mean, and how each differs from it."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class SplitQueries(NamedTuple):
    """The queries of K prompts in H heads."""

    mean: NDArray[np.float32]
    """(C, H, 1), of all prompts."""
    spread: NDArray[np.float32]
    """(H, K, C), the queries minus their mean."""


_Known = tuple["weakref.ref[NDArray[np.float32]]", SplitQueries]
_known: dict[int, _Known] = {}
"""By the id of the queries, for as long as these exist."""


def unchangeable(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy that cannot be written to, nor made writable."""
    return np.ndarray(array.shape, np.float32, buffer=array.tobytes())


def split_queries(queries: NDArray[np.float32], channels: int) -> SplitQueries:
    """Split queries (K, H*C), once for arrays of ``unchangeable``, and in each call for others."""
    memory: object = queries.base
    if not isinstance(memory, bytes):
        return _split(queries, channels)
    key = id(queries)
    found = _known.get(key)
    if found is None or found[0]() is not queries:
        forget: Callable[[Any], Any] = lambda _: _known.pop(key, None)  # noqa: E731
        found = weakref.ref(queries, forget), _split(queries, channels)
        _known[key] = found
    return found[1]


def _split(queries: NDArray[np.float32], C: int) -> SplitQueries:
    K, width = queries.shape
    H = width // C
    mean = queries.mean(axis=0, dtype=np.float64).astype(np.float32).reshape(H, C)
    spread = queries.reshape(K, H, C).transpose(1, 0, 2) - mean[:, None]  # (H, K, C)
    return SplitQueries(np.ascontiguousarray(mean.T[:, :, None]), np.ascontiguousarray(spread))
