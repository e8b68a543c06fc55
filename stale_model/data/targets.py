"""Training targets of a video, from its annotations."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stale_runtime.evaluation.ground_truth import Annotation

_ROUNDING = 1e-6
"""In snippets. An edge this close to a snippet's counts as equal: 0.29 · 100 is a little less than 29 as a float."""


class Targets(NamedTuple):
    """The outputs that the network should have for a batch of videos."""

    snippet_classes: Tensor
    """(B, T) of int64; K is background."""
    video_classes: Tensor
    """(B, K) of 0 and 1."""
    action_masks: Tensor
    """(B, T, T) of 0 and 1."""
    foreground: Tensor
    """(B, T) of 0 and 1."""


def video_targets(
    annotations: Sequence[Annotation], duration_s: float, class_index: Mapping[str, int], T: int
) -> Targets:
    """Targets of one video, without the batch axis.

    A segment spans from floor(T·start) to ceil(T·end), at least one snippet. All annotations count. Where segments
    overlap, the later annotation gives the snippet's class; the video has both classes, as THUMOS14's dives from cliffs
    are both ``CliffDiving`` and ``Diving``.

    The original's targets differ (``STALEDataset.getAnnotation`` and ``getVideoData`` in the authors'
    ``stale_lib/stale_dataloader.py``), and these do not follow them on purpose:

    * It keeps only a video's last annotation, and no video whose last one is at most 6 % of
      ``feature_frame / duration_frame · duration_second``, which differs from the duration: of the 1,930 training
      videos of ``anet_anno_action_20p1.json``, 463 have several annotations, and 168 are dropped.
    * It cuts a snippet off each end of a segment, so that short actions disappear.
    * It divides times by that same product, the time that features of 16 frames each cover. The features here cover
      the whole duration, and so do the times that its own evaluation gives to detections (``get_infer_dict`` in
      ``utils/postprocess_utils.py``). At T=100 this moves an edge in 476 of those 1,930 videos, in 45 of them by more
      than one snippet.

    Args:
        annotations: annotations of the video, in seconds; all of their labels are in ``class_index``.
        duration_s: duration of the video in seconds, > 0.
        class_index: row of each class name.
        T: snippets.

    Returns:
        Targets of shapes (T,), (K,), (T, T), (T,).
    """
    K = len(class_index)
    snippet_classes = torch.full((T,), K, dtype=torch.int64)
    video_classes = torch.zeros(K)
    action_masks = torch.zeros(T, T)
    foreground = torch.zeros(T)
    for label, start_s, end_s in annotations:
        start, end = snippet_span(start_s / duration_s, end_s / duration_s, T)
        snippet_classes[start:end] = class_index[label]
        video_classes[class_index[label]] = 1
        action_masks[start:end, start:end] = 1
        foreground[start:end] = 1
    return Targets(snippet_classes, video_classes, action_masks, foreground)


def snippet_span(start_frac: float, end_frac: float, T: int) -> tuple[int, int]:
    """The snippets [start, end) that a segment covers, at least one, all within [0, T).

    Args:
        start_frac: start as a fraction of the video, may lie outside [0, 1].
        end_frac: end as a fraction of the video, not before the start.
        T: snippets.
    """
    start = math.floor(min(max(T * start_frac + _ROUNDING, 0), T - 1))
    end = math.ceil(min(T * end_frac - _ROUNDING, T))
    return start, max(end, start + 1)
