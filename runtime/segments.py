"""Overlap of temporal segments."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating]
Segments: TypeAlias = NDArray[np.floating]
"""(..., 2) start and end, in one unit, start <= end."""


def temporal_iou(a: Segments, b: Segments) -> FloatArray:
    """Overlap of segments as intersection over union, element by element.

    Args:
        a: (..., 2) start and end, any unit, start <= end.
        b: (..., 2) in the same unit; its leading axes broadcast against those of ``a``.

    Returns:
        (...) in [0, 1]; 0 where segments are disjoint or only touch, 1 where they are equal, even if their length is
        zero (as in a few of ActivityNet's annotations).

    Raises:
        ValueError: a segment ends before it starts.

    Source: ActivityNet's evaluation (Heilbron et al., CVPR 2015).
    """
    if (a[..., 1] < a[..., 0]).any() or (b[..., 1] < b[..., 0]).any():
        raise ValueError("a segment ends before it starts")
    starts = np.maximum(a[..., 0], b[..., 0])
    ends = np.minimum(a[..., 1], b[..., 1])
    intersection = (ends - starts).clip(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - intersection
    union = np.where(union > 0, union, 1)
    equal = (a == b).all(axis=-1)
    return np.asarray(np.where(equal, 1.0, intersection / union))
