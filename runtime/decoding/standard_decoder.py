"""Our post-processing: finds how likely each snippet is part of an action, and cuts this curve at several heights.

The action masks show where actions are, but their edges are soft. The class scores have sharp edges, but say nothing
about the snippets that representation masking dropped, because all of these have the same feature. So the curve is the
mean mask of the kept snippets, plus the class scores of the snippets that have any. Every run of the curve above a
threshold is a candidate, so separate actions stay separate. The score of a candidate is the product of two numbers: how
far the curve rises above its surroundings, and how the class compares with the best class there. So segments of one
video may have different labels.

The constants were chosen on development videos, which are not among the reference videos. Small changes of them change
mAP little.
"""

import numpy as np
from numpy.typing import NDArray

from stale_runtime.decoding.action_masks import ActionMasks
from stale_runtime.decoding.proposals import Ranked, class_scores, reported_classes
from stale_runtime.decoding.soft_nms import soft_nms
from stale_runtime.segments import FloatArray

THRESHOLDS = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
"""Heights at which the curve, stretched to [0, 1], is cut. More heights do not improve mAP."""
_THRESHOLDS = np.array(THRESHOLDS)[:, None]
CLASS_SHARE = 0.4
"""Weight of a kept snippet's class score in the curve; the masks have the rest, and all of it for a dropped snippet."""
SMOOTHING_FRAC = 0.03
"""Width of the moving mean, as a fraction of the video; without it, single snippets are noisy."""
SURROUNDINGS = 0.5
"""How far a segment's surroundings extend on each side, in lengths of the segment."""
CLASSES = 3
"""Classes that are considered for a video: few videos show more, and each class takes time."""
VIDEO_EVIDENCE = 0.1
"""Weight of the whole video's class scores, which help a segment whose own snippets were dropped."""
SIGMA = 0.8
"""Tolerance of soft-NMS, chosen large because nested candidates differ little."""
MOST_CANDIDATES = 200
"""How many of the best candidates soft-NMS gets, which limits the work on noisy and long videos."""
MOST_DETECTIONS = 100
"""The number of detections that ActivityNet's evaluation expects for a video."""
LOWEST_SCORE = 0.001
"""Detections with a lower score are noise."""
_TINY = np.finfo(np.float64).tiny
FLAT = 1e-4
"""A curve that rises less than this counts as flat: the rise may be float32 rounding."""


def decode_standard(
    cas_logits: FloatArray,
    masks: ActionMasks,
    *,
    reported: int | None = None,
    classes: int = CLASSES,
    most: int = MOST_DETECTIONS,
) -> Ranked:
    """Turn the network's outputs for one video into ranked segments.

    Args:
        cas_logits: (K+1, T), background last.
        masks: that the T snippets propose.
        reported: as for a ``Decoder``.
        classes: classes that are considered.
        most: most segments to return.

    Returns:
        Segments in fractions of the video, best first, scores in (0, 1]. A segment may occur with more
        than one class.

    Source: design section 7; the score follows the outer-inner contrast of AutoLoc (Shou et al., ECCV 2018).
    """
    candidates = max(MOST_CANDIDATES, most)
    found = find_candidates(cas_logits, masks, reported=reported, most=candidates, classes=classes)
    segments = found.segments / cas_logits.shape[1]
    taken, taken_scores = soft_nms(segments, found.scores, found.classes, sigma=SIGMA, most=most, lowest=LOWEST_SCORE)
    return Ranked(found.classes[taken], segments[taken], taken_scores)


def find_candidates(
    cas_logits: FloatArray,
    masks: ActionMasks,
    *,
    reported: int | None = None,
    most: int,
    classes: int = CLASSES,
) -> Ranked:
    """The best candidates, before the overlapping ones among them are suppressed.

    Args:
        cas_logits: (K+1, T), background last.
        masks: that the T snippets propose.
        reported: as for a ``Decoder``.
        most: most candidates to return.
        classes: classes that are considered.

    Returns:
        Segments in snippets, from 0 to T, best first.
    """
    T = cas_logits.shape[1]
    kept = np.flatnonzero(masks.kept)  # (n,)
    S = class_scores(cas_logits.take(kept, axis=1))[: reported_classes(cas_logits, reported)]  # (K, n)
    surest = np.zeros(T, S.dtype)
    surest[kept] = S.max(axis=0)
    curve = action_curve(surest, masks)
    starts, ends = _runs(curve)
    contrast = _contrast(curve, starts, ends) * surest.max()  # (N,)
    video = S.sum(axis=1) / T  # (K,)
    labels = np.argsort(-video, kind="stable")[:classes]  # (C,) the best of the video
    scores = np.zeros((len(labels), T), S.dtype)  # 0 for dropped snippets
    scores[:, kept] = S[labels]
    likeness = _class_likeness(scores, video[labels], starts, ends)  # (C, N)
    scores = (likeness * contrast).ravel()  # (C*N,)
    best_first = np.argsort(-scores, kind="stable")[:most]
    label, candidate = np.divmod(best_first, len(starts))
    segments = np.stack([starts[candidate], ends[candidate]], axis=1).astype(np.float64)
    return Ranked(labels[label], segments, scores[best_first])


def action_curve(surest: FloatArray, masks: ActionMasks) -> FloatArray:
    """How likely each snippet is part of an action, relative to the rest of the video.

    Args:
        surest: (T,) score of each kept snippet's best class, 0 for the others.
        masks: that the T snippets propose.

    Returns:
        (T,) from 0 to 1; all 1 if no part of the video stands out.
    """
    kept = masks.kept
    parts = np.ones((4, len(kept)))
    parts[:3] = masks.kept_mask, surest, kept
    mask_sums, class_sums, kept_sums, width = _moving_sums(parts)
    curve = _stretch(mask_sums / width, flat=0)
    return _stretch(curve + CLASS_SHARE * (class_sums - kept_sums * curve) / width, flat=1)


def _moving_sums(values: FloatArray) -> FloatArray:
    """Sums over ``SMOOTHING_FRAC`` of the video around each snippet, of fewer values at the ends: (N, T) -> (N, T)."""
    N, T = values.shape
    reach = round((SMOOTHING_FRAC * T - 1) / 2)
    sums = np.zeros((N, reach + 1 + T + reach))  # up to each position, from ``reach`` before the video to as far after
    inside = slice(reach + 1, reach + 1 + T)
    np.cumsum(values, axis=1, out=sums[:, inside])
    sums[:, inside.stop :] = sums[:, inside.stop - 1, None]
    return np.asarray(sums[:, 2 * reach + 1 :] - sums[:, :T])


def _stretch(curve: FloatArray, *, flat: float) -> FloatArray:
    """Scale a curve (T,) to the range from 0 to 1; a flat curve becomes the constant ``flat``."""
    low, high = curve.min(), curve.max()
    return np.asarray((curve - low) / (high - low)) if high - low > FLAT else np.full_like(curve, flat)


def _cumulative_sums(values: FloatArray) -> FloatArray:
    """Sums up to each position, so that a sum over [i, j) is the difference of two: (..., T) -> (..., T+1)."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1))
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    return sums


def _runs(curve: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Starts and ends of the distinct runs [start, end) of the curve above any of the thresholds: (N,) and (N,)."""
    places = len(curve) + 1  # where runs may start or end
    on = np.zeros((len(THRESHOLDS), places + 1), dtype=np.bool_)
    np.greater(curve, _THRESHOLDS, out=on[:, 1:-1])
    borders = np.flatnonzero(on[:, 1:] != on[:, :-1]) % places  # start and end of each run in turn
    runs = np.sort(borders[::2] * places + borders[1::2])
    distinct = np.ones(len(runs), dtype=np.bool_)
    np.not_equal(runs[1:], runs[:-1], out=distinct[1:])  # numpy's unique is slower, and loads a module of 8 ms
    return np.divmod(runs[distinct], places)


def _contrast(curve: FloatArray, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> FloatArray:
    """Mean of the curve inside each run minus its mean around it: (N,) in [0, 1]. Outside the video the curve is 0."""
    sums = _cumulative_sums(curve)
    length = ends - starts
    reach = np.ceil(SURROUNDINGS * length).astype(np.intp)
    inside = sums[ends] - sums[starts]
    around = sums[np.minimum(ends + reach, len(curve))] - sums[np.maximum(starts - reach, 0)] - inside
    return np.asarray(np.clip(inside / length - around / (2 * reach), 0, 1))


def _class_likeness(
    scores: FloatArray, video: FloatArray, starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> FloatArray:
    """The ratio of each class to the best of them in each run.

    Args:
        scores: (C, T) of the classes, 0 where a snippet was dropped.
        video: (C,) their means.
        starts: (N,) first snippet of each run.
        ends: (N,) snippet after the last of each run.

    Returns:
        (C, N) in [0, 1].
    """
    sums = _cumulative_sums(scores)  # (C, T+1)
    evidence = (sums[:, ends] - sums[:, starts]) / (ends - starts) + VIDEO_EVIDENCE * video[:, None]  # (C, N)
    return np.asarray(evidence / np.maximum(evidence.max(axis=0), _TINY))
