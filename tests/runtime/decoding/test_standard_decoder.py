from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_runtime.decoding import standard_decoder
from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.proposals import Ranked
from stale_runtime.decoding.soft_nms import soft_nms
from stale_runtime.decoding.standard_decoder import (
    LOWEST_SCORE,
    MOST_CANDIDATES,
    VIDEO_EVIDENCE,
    action_curve,
    decode_standard,
    find_candidates,
)
from stale_runtime.segments import FloatArray, Segments, temporal_iou

LENGTHS = (50, 100, 200, 400)


def outputs(actions: list[tuple[int, float, float]], T: int, K: int = 5) -> tuple[FloatArray, FloatArray]:
    """What a good network says of a video with these actions (class, start, end): cas_logits and action_masks."""
    middle = (np.arange(T) + 0.5) / T
    on = [(label, (middle > start) & (middle < end)) for label, start, end in actions]
    cas_logits = np.zeros((K + 1, T), dtype=np.float32)
    cas_logits[-1] = 20
    masks = np.full((T, T), 0.05, dtype=np.float32)
    for label, inside in on:
        cas_logits[label, inside], cas_logits[-1, inside] = 20, 0
        masks[inside] = np.where(inside, 0.9, 0.1)
    return cas_logits, masks


def decode(cas_logits: FloatArray, masks: FloatArray) -> Ranked:
    return decode_standard(cas_logits, FullMasks(masks))


def overlaps(segments: Segments, start: float, end: float) -> FloatArray:
    return temporal_iou(segments, np.array([[start, end]]))


def noise(seed: int, K: int, T: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    cas_logits = rng.normal(0, 5, (K + 1, T)).astype(np.float32)
    masks = 1 / (1 + np.exp(-rng.normal(0, 2, (T, T)))).astype(np.float32)
    return cas_logits, masks


def assert_sound(found: Ranked, K: int) -> None:
    starts, ends = found.segments.T
    assert len(found.classes) == len(found.segments) == len(found.scores) <= 100
    assert ((found.classes >= 0) & (found.classes < K)).all()
    assert ((starts >= 0) & (ends <= 1) & (ends > starts)).all()
    assert ((found.scores > LOWEST_SCORE) & (found.scores <= 1)).all()
    assert (np.diff(found.scores) <= 0).all()
    rows = {(label, *segment) for label, segment in zip(found.classes.tolist(), found.segments.tolist(), strict=True)}
    assert len(rows) == len(found.scores)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 70))
def test_any_output_gives_sound_detections(seed: int, K: int, T: int) -> None:
    cas_logits, masks = noise(seed, K, T)
    found = decode(cas_logits, masks)
    assert_sound(found, K)
    again = decode(cas_logits.copy(), masks.copy())
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("T", LENGTHS)
def test_one_action(T: int) -> None:
    found = decode(*outputs([(3, 0.2, 0.5)], T))
    assert found.classes[0] == 3
    assert overlaps(found.segments, 0.2, 0.5)[0] > 0.85
    assert found.scores[0] > 0.8


@pytest.mark.parametrize("T", LENGTHS)
def test_two_separate_actions_are_two_segments(T: int) -> None:
    found = decode(*outputs([(1, 0.1, 0.3), (1, 0.6, 0.9)], T))
    best = found.segments[:2][np.argsort(found.segments[:2, 0])]
    assert (temporal_iou(best, np.array([[0.1, 0.3], [0.6, 0.9]])) > 0.85).all()
    np.testing.assert_array_equal(found.classes[:2], [1, 1])
    merged = overlaps(found.segments, 0.1, 0.9) > 0.8
    assert (found.scores[merged] < found.scores[1] / 2).all()


@pytest.mark.parametrize("T", LENGTHS)
def test_two_classes_in_different_places_are_both_found(T: int) -> None:
    found = decode(*outputs([(0, 0.1, 0.3), (4, 0.6, 0.9)], T))
    first, second = np.argsort(found.segments[:2, 0])
    assert (found.classes[first], found.classes[second]) == (0, 4)
    assert overlaps(found.segments, 0.1, 0.3)[first] > 0.85
    assert overlaps(found.segments, 0.6, 0.9)[second] > 0.85


def test_classes_in_one_place_do_not_suppress_each_other() -> None:
    cas_logits, masks = outputs([(2, 0.2, 0.6)], 100)
    alone = decode(cas_logits, masks)
    cas_logits[1] = cas_logits[2]  # as likely as class 2 everywhere, and listed before it
    both = decode(cas_logits, masks)
    np.testing.assert_array_equal(np.sort(both.classes[:2]), [1, 2])
    np.testing.assert_array_equal(both.segments[0], both.segments[1])
    assert both.scores[0] == both.scores[1]
    assert alone.classes[0] == 2


def test_an_action_that_fills_the_video() -> None:
    found = decode(*outputs([(2, 0.0, 1.0)], 100))
    assert found.classes[0] == 2
    np.testing.assert_array_equal(found.segments[0], [0, 1])


def test_a_video_of_background_scores_low() -> None:
    cas_logits, masks = outputs([(2, 0.2, 0.6)], 100)
    sure = decode(cas_logits, masks)
    cas_logits[:-1] = 0
    cas_logits[-1] = 3
    unsure = decode(cas_logits, masks)
    assert unsure.scores[0] < 0.1 < sure.scores[0]


def test_dropped_snippets_vote_for_no_class() -> None:
    cas_logits, masks = outputs([(2, 0.4, 0.6)], 100)
    cas_logits /= 10  # the kept ones are not that sure
    expected = decode(cas_logits, masks)
    dropped = ~FullMasks(masks).kept
    assert dropped.sum() == 80
    cas_logits[:, dropped] = 0
    cas_logits[0, dropped] = 50  # the feature that they share is taken for class 0
    found = decode(cas_logits, masks)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_classes_of_a_segment_compare_as_their_scores_in_it_and_in_the_whole_video() -> None:
    """All by its definition: class scores of every snippet, of which the dropped ones count as zero."""
    cas_logits, masks = noise(7, 6, 120)
    exponentials = np.exp(cas_logits.astype(np.float64))
    scores = (exponentials / exponentials.sum(axis=0))[:-1] * FullMasks(masks).kept  # (K, T)
    found = find_candidates(cas_logits, FullMasks(masks), most=10**6)
    of_segment: dict[tuple[float, ...], dict[int, float]] = {}
    for label, segment, score in zip(found.classes.tolist(), found.segments.tolist(), found.scores, strict=True):
        of_segment.setdefault(tuple(segment), {})[label] = score
    best = set(np.argsort(-scores.mean(axis=1))[:3].tolist())
    for (start, end), got in of_segment.items():
        evidence = scores[:, int(start) : int(end)].mean(axis=1) + VIDEO_EVIDENCE * scores.mean(axis=1)  # (K,)
        assert got.keys() == best
        label = max(got, key=lambda k: evidence[k])
        for other, score in got.items():
            assert score == pytest.approx(got[label] * evidence[other] / evidence[label], rel=1e-5, abs=1e-12)


def test_a_segment_of_dropped_snippets_is_of_the_class_of_the_video() -> None:
    cas_logits, masks = outputs([(3, 0.2, 0.4)], 100)
    masks[20:40, 60:80] = 0.9  # the kept snippets see the action in a place where all are dropped
    assert not FullMasks(masks).kept[60:80].any()
    found = decode(cas_logits, masks)
    there = overlaps(found.segments, 0.6, 0.8) > 0.85
    assert found.classes[there][0] == 3
    assert found.scores[there][0] > 0.2


def test_an_action_is_not_cut_down_to_its_clearest_moment() -> None:
    cas_logits, masks = outputs([(3, 0.2, 0.8)], 100)
    masks[20:80, 45:55] = 1.0
    found = decode(cas_logits, masks)
    assert overlaps(found.segments, 0.2, 0.8)[0] > 0.85


def test_bounds_what_soft_nms_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(segments: Segments, scores: FloatArray, *rest: Any, **settings: Any) -> Any:
        seen.append(len(scores))
        return soft_nms(segments, scores, *rest, **settings)

    monkeypatch.setattr(standard_decoder, "soft_nms", spy)
    decode(*noise(0, 3, 1500))
    assert seen == [MOST_CANDIDATES]


def test_at_most_100_of_a_noisy_long_video() -> None:
    cas_logits, masks = noise(0, 3, 1500)
    found = decode(cas_logits, masks)
    assert_sound(found, 3)
    assert len(found.scores) == 100


def test_thousand_classes() -> None:
    found = decode(*outputs([(999, 0.2, 0.5)], 60, K=1000))
    assert found.classes[0] == 999


@pytest.mark.parametrize("mask", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("K", [1, 4, 1000])
@pytest.mark.parametrize("T", [1, 2, 3, 7, 100])
def test_a_video_without_contrast_is_one_unsure_segment(T: int, K: int, mask: float) -> None:
    found = decode(np.zeros((K + 1, T), dtype=np.float32), np.full((T, T), mask, dtype=np.float32))
    assert_sound(found, K)
    assert (found.segments == [0, 1]).all()
    np.testing.assert_allclose(found.scores, 1 / (K + 1), rtol=1e-5)


@pytest.mark.parametrize("T", [1, 2, 16])
def test_nothing_is_found_where_every_class_is_impossible(T: int) -> None:
    cas_logits = np.full((3, T), -100, dtype=np.float32)
    cas_logits[-1] = 100
    assert len(decode(cas_logits, np.full((T, T), 0.5, dtype=np.float32)).scores) == 0


def test_one_snippet() -> None:
    found = decode(np.array([[0], [9], [0]], dtype=np.float32), np.array([[0.7]], dtype=np.float32))
    assert found.classes[0] == 1
    np.testing.assert_array_equal(found.segments[0], [0, 1])
    assert found.scores[0] > 0.99


def test_curve_is_high_in_the_action_only() -> None:
    cas_logits, masks = outputs([(0, 0.3, 0.7)], 100)
    curve = action_curve((cas_logits[0] > 0).astype(np.float32), FullMasks(masks))
    assert curve[35:65].min() > 0.95
    assert curve[:25].max() < 0.1
    assert curve[75:].max() < 0.1


def test_inputs_stay_as_they_are() -> None:
    cas_logits, masks = outputs([(0, 0.3, 0.7)], 50)
    copies = cas_logits.copy(), masks.copy()
    decode(cas_logits, masks)
    np.testing.assert_array_equal(cas_logits, copies[0])
    np.testing.assert_array_equal(masks, copies[1])
