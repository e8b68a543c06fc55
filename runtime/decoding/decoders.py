"""The decoders by name, and from network outputs to detections."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from stale_runtime.decoding.action_masks import ActionMasks
from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.standard_decoder import CLASSES, MOST_DETECTIONS, decode_standard
from stale_runtime.decoding.upstream_decoder import decode_upstream
from stale_runtime.detections import Detection
from stale_runtime.segments import FloatArray


class Decoder(Protocol):
    """A way to turn the network's outputs for one video into ranked segments."""

    def __call__(self, cas_logits: FloatArray, masks: ActionMasks, *, reported: int | None = None) -> Ranked:
        """Decode.

        Args:
            cas_logits: (K+1, T) class activation sequence, background last.
            masks: that the T snippets propose.
            reported: how many of the first classes may be reported; the others only take part in the softmax. None
                for all K.

        Returns:
            Segments, best first.
        """


DECODERS: Mapping[str, Decoder] = {"standard": decode_standard, "upstream": decode_upstream}
DEFAULT_DECODER = "standard"
READING_ROWS = frozenset({"upstream"})
"""Decoders that read rows of the masks. The others only read which snippets are kept, and the mean of their masks."""
NEUTRAL = "Neutral"
"""The prompt of ActivityNet's closed set that stands for no action."""
CLOSED_SET_PROMPTS = 201
"""Prompts of ActivityNet's closed set: its 200 classes and ``NEUTRAL``."""


def unreported_class(names: Sequence[str]) -> int | None:
    """The index of the prompt that is never reported; None, as usual, if every prompt may be.

    The thesis's closed set prompts for ActivityNet's 200 classes and "Neutral", whose row its training uses as the
    background, and reports only the 200. In any other list, "Neutral" is a class like the others.

    Args:
        names: names of the K classes.

    Source: Wang's thesis, ``STALE_closed``: ``activity_dict`` in ``config/dataset_class.py`` (201 names),
    ``num_class = 200`` in ``stale_inference.py``, ``getVideoData`` in ``stale_lib/stale_dataloader.py``.
    """
    return names.index(NEUTRAL) if len(names) == CLOSED_SET_PROMPTS and NEUTRAL in names else None


def decode_detections(
    decoder: str,
    cas_logits: FloatArray,
    masks: ActionMasks,
    names: Sequence[str],
    duration_s: float | None,
    *,
    classes: int = CLASSES,
    most: int = MOST_DETECTIONS,
) -> tuple[Detection, ...]:
    """Turn the network's outputs for one video into detections, best first.

    Args:
        decoder: a key of ``DECODERS``.
        cas_logits: (K+1, T), background last.
        masks: that the T snippets propose.
        names: names of the K classes; see ``unreported_class``.
        duration_s: seconds that the video lasts; None for segments in fractions of the video.
        classes: classes that the standard decoder considers.
        most: most detections of the standard decoder.
    """
    decode: Decoder = DECODERS[decoder]
    if decoder == DEFAULT_DECODER:
        decode = partial(decode_standard, classes=classes, most=most)
    K, hidden = len(names), unreported_class(names)
    if hidden is None:
        return label_segments(decode(cas_logits, masks), names, duration_s)
    shown = [k for k in range(K) if k != hidden]
    ranked = decode(cas_logits[np.array([*shown, hidden, K])], masks, reported=len(shown))
    return label_segments(ranked, [names[k] for k in shown], duration_s)


def label_segments(
    ranked: Ranked, names: Sequence[str], duration_s: float | None, *, longest: float = 1.0
) -> tuple[Detection, ...]:
    """Turn a decoder's ranked segments into detections.

    Args:
        ranked: segments in fractions of the video, or in snippets.
        names: names of the K classes.
        duration_s: seconds that the video lasts, or a snippet; None to leave segments as they are.
        longest: end of the video in the unit of the segments; nothing lasts longer.
    """
    unit = 1.0 if duration_s is None else duration_s
    segments = ranked.segments.clip(0, longest) * unit
    rows = zip(ranked.classes.tolist(), segments.tolist(), ranked.scores.tolist(), strict=True)
    return tuple(Detection(names[label], start, end, score) for label, (start, end), score in rows)
