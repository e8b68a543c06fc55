"""Action masks between the trained rows of the mask kernel: which rows there are at another length, and their weights.

The last kernel of the mask localizer has a row for each of the T0 snippets of the trained length. At another length T
its rows are interpolated linearly, and so are the masks before the sigmoid. A graph computes the sigmoid of all T rows
if they are few. Of more rows, it computes only some at fixed places in each gap between two trained ones, which are
called nodes. The mean mask of a row is a smooth function of its place, so it is taken from the polynomial through the
means at the nodes of its gap. How many nodes a network needs is found at export; then nothing grows with T².
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RowPositions(NamedTuple):
    """Where T rows lie among the T0 trained ones."""

    lower: NDArray[np.intp]
    """(T,) index of the trained row below each of them."""
    share: NDArray[np.float32]
    """(T,) weight of the trained row after that one, from 0 to 1."""


class MaskInterpolation(NamedTuple):
    """What the localizer's graph needs to know of a length, besides the length itself."""

    rows: NDArray[np.float32]
    """(P, T0) weights of the trained rows in each of the P rows whose masks are computed."""
    lift: NDArray[np.float32]
    """(T, P) weights of these rows' means in those of the T rows; the identity if P = T."""


def mask_row_positions(trained: int, length: int) -> RowPositions:
    """Where the rows of the mask kernel lie at another length, with half-pixel centres and clamped edges.

    Args:
        trained: T0, the number of trained rows, at least 2.
        length: T, in snippets.

    Source: ``resample_rows`` of ``stale_model.network.stale``, rounded like there.
    """
    half = np.float32(0.5)
    position = (np.arange(length, dtype=np.float32) + half) * np.float32(trained / length) - half
    position = position.clip(0, trained - 1)
    lower = np.minimum(position.astype(np.intp), trained - 2)
    return RowPositions(lower, position - lower.astype(np.float32))


@lru_cache(maxsize=4)
def interpolate_masks(trained: int, length: int, nodes: int | None) -> MaskInterpolation:
    """The weights with which a graph computes its masks at a length; equal arguments give the same, read-only arrays.

    Args:
        trained: T0, the number of trained rows, at least 2.
        length: T, in snippets.
        nodes: how many nodes a gap has, its ends included, at least 2; None to compute the masks of all T rows.
    """
    lower, share = mask_row_positions(trained, length)
    if nodes is None or length <= most_exact_rows(trained, nodes):
        result = MaskInterpolation(_between(trained, lower, share), np.eye(length, dtype=np.float32))
    else:
        places = _places_in_a_gap(nodes)
        position = np.append((np.arange(trained - 1)[:, None] + places[:-1]).ravel(), trained - 1)  # (P,)
        below = np.minimum(position.astype(np.intp), trained - 2)
        rows = _between(trained, below, (position - below).astype(np.float32))
        lift = np.zeros((length, len(position)), np.float32)
        first = (nodes - 1) * lower[:, None]  # (T, 1)
        lift[np.arange(length)[:, None], first + np.arange(nodes)] = _polynomial_weights(share, places)
        result = MaskInterpolation(rows, lift)
    for weights in result:
        weights.setflags(write=False)
    return result


def rows_of_masks(trained: int, length: int, nodes: int | None) -> int:
    """P, how many rows of the masks are computed; arguments as for ``interpolate_masks``."""
    return length if nodes is None else min(length, most_exact_rows(trained, nodes))


def most_exact_rows(trained: int, nodes: int) -> int:
    """The largest T at which the masks of all T rows are computed, for T0 trained rows and so many nodes a gap."""
    return (nodes - 1) * (trained - 1) + 1


def _places_in_a_gap(nodes: int) -> NDArray[np.float64]:
    """Where nodes lie in a gap, from 0 to 1: Chebyshev's points of the second kind, which are also called Lobatto's.

    A polynomial through values there is nearly the best one, and neighbouring gaps share their ends.
    """
    return np.asarray((1 - np.cos(np.pi * np.arange(nodes) / (nodes - 1))) / 2)


def _between(trained: int, lower: NDArray[np.intp], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of T0 rows in linear interpolation at N positions: (N, T0)."""
    weights = np.zeros((len(lower), trained), np.float32)
    n = np.arange(len(lower))
    weights[n, lower] = 1 - share
    weights[n, lower + 1] = share
    return weights


def _polynomial_weights(share: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lagrange's weights of the nodes (n,) of a gap at positions (N,) in it: (N, n)."""
    x = share.astype(np.float64)[:, None]
    columns = []
    for n, place in enumerate(places):
        others = np.delete(places, n)
        columns.append(((x - others) / (place - others)).prod(axis=1))
    return np.stack(columns, axis=1)
