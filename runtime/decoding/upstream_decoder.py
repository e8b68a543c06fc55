"""The post-processing of the authors' repository, quirks included.

It is reproduced for comparison, under this name only. Three of its traits are surprising. A video gets only one label.
Its soft-NMS raises scores at small overlap. And much depends on which of several proposals with equal scores is taken
first: the original leaves this order to Python's randomised string hashes, so that its mAP differs from run to run by a
point or two. Here the proposal that ends first is taken first.
"""

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.action_masks import ActionMasks
from stale_runtime.decoding.proposals import Proposals, Ranked, class_scores, longest_runs, reported_classes
from stale_runtime.segments import FloatArray, Segments

CAS_THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds on the class scores."""
MASK_THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)
"""Thresholds on the action masks."""
SNIPPETS = 10
"""Snippets whose masks become proposals."""
SHORTEST_FRAC = 0.02
"""Only longer runs of a mask become proposals; a fraction of the video."""
MOST_DETECTIONS = 100
"""Most detections of a video."""
DECAY = 10.0
"""How fast a score falls with the overlap in soft-NMS."""
RAISE = 0.6
"""Divisor of every score that soft-NMS changes; it raises scores at small overlap."""


def decode_upstream(cas_logits: FloatArray, masks: ActionMasks, *, reported: int | None = None) -> Ranked:
    """Turn the network's outputs for one video into ranked segments.

    Args:
        cas_logits: (K+1, T), background last.
        masks: that the T snippets propose.
        reported: as for a ``Decoder``.

    Returns:
        At most 100 segments in fractions of the video, best first, all of one class.

    Source: design section 8; the authors' repository, ``stale_inference.py`` (proposals) and
    ``utils/postprocess_utils.py``, ``Soft_NMS`` and ``multithread_detection``.
    """
    proposals = upstream_proposals(cas_logits, masks, reported=reported)
    taken, scores = upstream_soft_nms(proposals.segments, proposals.scores)
    best_first = np.argsort(-scores, kind="stable")
    taken = taken[best_first]
    return Ranked(proposals.classes[taken], proposals.segments[taken], scores[best_first])


def upstream_proposals(cas_logits: FloatArray, masks: ActionMasks, *, reported: int | None = None) -> Proposals:
    """Candidate segments of one video without duplicates, ordered by their ends.

    Args:
        cas_logits: (K+1, T), background last.
        masks: that the T snippets propose.
        reported: as for a ``Decoder``; ``num_class`` in the original's ``stale_inference.py``.
    """
    T = cas_logits.shape[1]
    K = reported_classes(cas_logits, reported)
    S = class_scores(cas_logits)[:K]  # (K, T)
    surest = S.max(axis=0)  # (T,)
    label = int(cas_logits[:K].mean(axis=1).argmax())
    snippets = _surest_snippets(surest)
    spans = _cas_spans(surest)
    rows = masks.rows(snippets)  # (L, T)
    span_masks = [rows[:, start:end].max(axis=1) for start, end, _ in spans]  # (L,) each

    on = rows[:, None] > np.array(MASK_THRESHOLDS, dtype=rows.dtype)[:, None]  # (L, thresholds, T)
    first, last = on.argmax(axis=2), T - 1 - on[:, :, ::-1].argmax(axis=2)  # (L, thresholds)
    a, b = longest_runs(on)  # (L, thresholds)
    long_enough = on.any(axis=2) & ((b - a) / T > SHORTEST_FRAC) & (a + 1 < b - 1)
    t = np.arange(T)
    inside = (t >= a[:, :, None]) & (t < b[:, :, None])  # (L, thresholds, T)
    label_score = np.where(inside, S[label], 0).max(axis=2)  # (L, thresholds)
    inside = (t > a[:, :, None]) & (t < b[:, :, None] - 1)
    mask_score = label_score * np.where(inside, rows[:, None], 0).max(axis=2)
    class_score = label_score * surest[snippets][:, None]

    found: dict[tuple[float, float, float, float], None] = {}
    for n, threshold in zip(*np.nonzero(long_enough), strict=True):
        at = (n, threshold)
        found[first[at] / T, last[at] / T, float(mask_score[at]), float(class_score[at])] = None
        for (start, end, score), span_mask in zip(spans, span_masks, strict=True):
            found[start / T, end / T, float(span_mask[n]), score] = None
    table = np.array(list(found), dtype=np.float64).reshape(-1, 4)
    table = table[np.lexsort((table[:, 0], table[:, 1]))]
    return Proposals(
        classes=np.full(len(table), label), segments=table[:, :2], mask_scores=table[:, 2], class_scores=table[:, 3]
    )


def _surest_snippets(surest: FloatArray) -> NDArray[np.intp]:
    """The snippets with the highest scores, best first.

    All snippets that representation masking dropped have equal scores. As in the original, numpy's partition decides
    which of them complete the list.
    """
    most = min(SNIPPETS, len(surest))
    chosen = np.argpartition(surest, -most)[-most:]
    return chosen[np.argsort(surest[chosen])][::-1]


def _cas_spans(surest: FloatArray) -> list[tuple[int, int, float]]:
    """For each threshold the first and the last snippet above it, and the best score between them."""
    spans = []
    for threshold in CAS_THRESHOLDS:
        on = np.flatnonzero(surest > threshold)
        if len(on) and on[-1] - on[0] > 1:
            start, end = int(on[0]), int(on[-1])
            spans.append((start, end, float(surest[start:end].max())))
    return spans


def upstream_soft_nms(segments: Segments, scores: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """The published soft-NMS: it ignores classes, its overlap is asymmetric, and it raises scores at small overlap.

    Args:
        segments: (N, 2) start and end.
        scores: (N,) positive; of equal scores the first is taken first.

    Returns:
        Indices of the segments in the order in which they are taken, (M,), and their scores at that moment, (M,). One
        segment is never taken, unless it is the only one.
    """
    if len(scores) < 2:
        return np.arange(len(scores)), scores
    factors = np.exp(-DECAY * upstream_overlap(segments) ** 2) / RAISE  # (N, N)
    factors[~_overlap_or_touch(segments)] = 1
    remaining = scores.astype(np.float64)
    taken: list[int] = []
    taken_scores: list[float] = []
    while len(taken) < min(len(scores) - 1, MOST_DETECTIONS):
        best = int(remaining.argmax())
        if remaining[best] <= 0:  # all remaining scores have underflowed to 0
            break
        taken.append(best)
        taken_scores.append(float(remaining[best]))
        remaining *= factors[best]
        remaining[best] = -1
    return np.array(taken, dtype=np.intp), np.array(taken_scores)


def upstream_overlap(segments: Segments) -> FloatArray:
    """The published formula in place of tIoU: (N, 2) -> (N, N), row n for the segment that is taken.

    It uses the earlier start as the start of the intersection, so the result can exceed tIoU and is not symmetric. It
    is meaningful only for segments that overlap or touch.
    """
    starts, ends = segments[:, 0], segments[:, 1]
    earliest = np.minimum(starts[:, None], starts)
    shared = np.minimum(ends[:, None], ends) - earliest
    spanned = np.maximum(ends[:, None], ends) - earliest
    return np.asarray(shared / (spanned - shared + (ends - starts)))


def _overlap_or_touch(segments: Segments) -> NDArray[np.bool_]:
    """Which pairs of segments overlap or touch: (N, 2) -> (N, N)."""
    starts, ends = segments[:, 0], segments[:, 1]
    return np.asarray((starts[:, None] <= ends) & (starts <= ends[:, None]))
