"""Decoding with the thesis's 201 prompts, of which "Neutral" is never reported.

``recorded/closed_set.json`` has the proposals (start, end, score) that the loop of ``STALE_closed/stale_inference.py``
makes of the outputs below, without duplicates.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.decoders import NEUTRAL, decode_detections
from stale_runtime.decoding.upstream_decoder import upstream_proposals
from stale_runtime.evaluation.activitynet import CLASSES
from stale_runtime.segments import FloatArray

RECORDED = json.loads((Path(__file__).parent / "recorded/closed_set.json").read_text())
NAMES = (*CLASSES, NEUTRAL)


def outputs() -> tuple[FloatArray, FullMasks]:
    """What a network may say of a video with two actions, if "Neutral" is the most likely class of most snippets."""
    T, generator = 100, np.random.default_rng(18)
    cas_logits = generator.normal(0, 2, (202, T)).astype(np.float32)
    cas_logits[200] += 4.0
    cas_logits[7, 10:40] += 6
    cas_logits[9, 60:80] += 5
    masks = (1 / (1 + np.exp(-generator.normal(0, 2, (T, T))))).astype(np.float32)
    masks[10:40, 10:40] = np.maximum(masks[10:40, 10:40], 0.85)
    masks[60:80, 60:80] = np.maximum(masks[60:80, 60:80], 0.9)
    return cas_logits, FullMasks(masks)


def test_the_proposals_are_those_of_the_original() -> None:
    found = upstream_proposals(*outputs(), reported=200)
    rows = np.column_stack([found.segments, found.scores])
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    np.testing.assert_allclose(rows, RECORDED["proposals"], atol=1e-6)
    assert {CLASSES[n] for n in found.classes.tolist()} == {RECORDED["label"]}


@pytest.mark.parametrize("decoder", ["standard", "upstream"])
def test_neutral_is_not_reported_wherever_it_stands(decoder: str) -> None:
    cas_logits, masks = outputs()
    rows = decode_detections(decoder, cas_logits, masks, NAMES, 60.0)
    assert rows
    assert NEUTRAL not in {row.label for row in rows}
    order = np.random.default_rng(0).permutation(201)
    names = [NAMES[n] for n in order]
    others = decode_detections(decoder, cas_logits[[*order, 201]], masks, names, 60.0)
    assert [row.label for row in others] == [row.label for row in rows]
    np.testing.assert_allclose([row[1:] for row in others], [row[1:] for row in rows], rtol=1e-4)


@pytest.mark.parametrize("decoder", ["standard", "upstream"])
def test_in_another_list_neutral_is_a_class_like_others(decoder: str) -> None:
    cas_logits, masks = outputs()
    names = ("Happy", *NAMES[1:200], "Neutral face")  # 201 names, but none of them is "Neutral"
    assert "Neutral face" in {row.label for row in decode_detections(decoder, cas_logits, masks, names, 60.0)}
    few = np.r_[150:202]
    names = NAMES[150:]
    assert NEUTRAL in {row.label for row in decode_detections(decoder, cas_logits[few], masks, names, 60.0)}
