"""Soft-NMS: lower the scores of segments that overlap a better one, the more the larger the overlap is."""

import numpy as np
from numpy.typing import NDArray

from stale_runtime.segments import FloatArray, Segments, temporal_iou


def soft_nms(
    segments: Segments, scores: FloatArray, classes: NDArray[np.intp], *, sigma: float, most: int, lowest: float = 0.0
) -> tuple[NDArray[np.intp], FloatArray]:
    """Take the best segment again and again, each time multiplying the others' scores by exp(-tIoU² / sigma).

    Only segments of the same class lose score, and no score ever rises. The function needs an (N, N) matrix, so the
    caller has to limit N.

    Args:
        segments: (N, 2) start and end, any unit, start <= end.
        scores: (N,); if scores are equal, the first is taken first.
        classes: (N,) index of each segment's class.
        sigma: tolerance of overlap, > 0; a larger value suppresses less.
        most: most segments to take.
        lowest: the function stops when no score is above this value, >= 0.

    Returns:
        Indices of the segments in the order in which they are taken, (M,), and their scores at that moment, (M,), which
        never increase.

    Raises:
        ValueError: a segment ends before it starts.

    Source: Bodla et al., Soft-NMS, ICCV 2017, the Gaussian form.
    """
    decay = np.exp(-(temporal_iou(segments[:, None], segments) ** 2) / sigma)  # (N, N)
    decay[classes[:, None] != classes] = 1
    np.fill_diagonal(decay, 0)  # a segment is not taken twice
    remaining = scores.astype(np.float64)
    taken = np.empty(min(most, len(scores)), dtype=np.intp)
    taken_scores = np.empty(len(taken))
    for n in range(len(taken)):
        best = remaining.argmax()
        if remaining[best] <= lowest:
            return taken[:n], taken_scores[:n]
        taken[n], taken_scores[n] = best, remaining[best]
        remaining *= decay[best]
    return taken, taken_scores
