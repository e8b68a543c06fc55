import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.decoding.action_masks import FullMasks
from stale_runtime.decoding.proposals import Proposals, Ranked
from stale_runtime.decoding.upstream_decoder import (
    decode_upstream,
    upstream_overlap,
    upstream_proposals,
    upstream_soft_nms,
)
from stale_runtime.segments import FloatArray

Row = tuple[float, float, float, float]


def noise(seed: int, K: int, T: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Network outputs without equal scores, in which masks are smooth enough to have runs."""
    rng = np.random.default_rng(seed)
    cas_logits = rng.normal(0, 2, (K + 1, T)).astype(np.float32)
    masks = rng.normal(0, 3, (T, T)).cumsum(axis=1) / math.sqrt(T)
    return cas_logits, (1 / (1 + np.exp(-masks))).astype(np.float32)


def decode(cas_logits: FloatArray, masks: FloatArray) -> Ranked:
    return decode_upstream(cas_logits, FullMasks(masks))


def proposals_of(cas_logits: FloatArray, masks: FloatArray) -> Proposals:
    return upstream_proposals(cas_logits, FullMasks(masks))


def slow_proposals(cas_logits: FloatArray, masks: FloatArray) -> set[Row]:
    """Design section 8, a snippet and a threshold at a time."""
    T = len(masks)
    exponentials = np.exp(cas_logits - cas_logits.max(axis=0))
    S = (exponentials / exponentials.sum(axis=0))[:-1]
    s = S.max(axis=0)
    v = int(cas_logits[:-1].mean(axis=1).argmax())
    spans = []
    for step in range(10):
        above = [t for t in range(T) if s[t] > step / 10]
        if above and above[-1] - above[0] > 1:
            spans.append((above[0], above[-1], s[above[0] : above[-1]].max()))
    rows = set()
    for snippet in np.argsort(-s)[:10].tolist():
        mask = masks[snippet]
        for threshold in (0, 0.2, 0.4, 0.6, 0.8):
            on = [t for t in range(T) if mask[t] > np.float32(threshold)]
            if not on:
                continue
            runs = [(a, b) for a in on for b in on if a <= b and set(range(a, b + 1)) <= set(on)]
            a, b = max(runs, key=lambda run: (run[1] - run[0], -run[0]))
            if (b - a) / T <= 0.02 or b - a < 3:  # the original fails on shorter ones and goes on
                continue
            label_score = S[v, a:b].max()
            row = (on[0] / T, on[-1] / T, label_score * mask[a + 1 : b - 1].max(), label_score * s[snippet])
            rows.add(tuple(map(float, row)))
            rows |= {(p / T, q / T, float(mask[p:q].max()), float(c)) for p, q, c in spans}
    return {(a, b, c, d) for a, b, c, d in rows}


def slow_soft_nms(segments: FloatArray, scores: FloatArray) -> list[tuple[int, float]]:
    """Design section 8, on lists."""
    left = {n: float(score) for n, score in enumerate(scores)}
    taken: list[tuple[int, float]] = []
    while len(left) > 1 and len(taken) < 100 and max(left.values()) > 0:
        best = max(left, key=lambda n: left[n])
        taken.append((best, left.pop(best)))
        for n in left:
            u = slow_overlap(*segments[best].tolist(), *segments[n].tolist())
            if u > 0:
                left[n] *= math.exp(-10 * u**2) / 0.6
    return taken


def slow_overlap(s1: float, e1: float, s2: float, e2: float) -> float:
    if s2 > e1 or s1 > e2:
        return 0
    o = min(e1, e2) - min(s1, s2)
    return o / (max(e1, e2) - min(s1, s2) - o + (e2 - s2))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 40))
def test_proposals_are_those_of_the_published_rules(seed: int, K: int, T: int) -> None:
    cas_logits, masks = noise(seed, K, T)
    proposals = proposals_of(cas_logits, masks)
    expected = np.array(sorted(slow_proposals(cas_logits, masks)), dtype=np.float64).reshape(-1, 4)
    got = np.column_stack([proposals.segments, proposals.mask_scores, proposals.class_scores])
    assert got.shape == expected.shape
    np.testing.assert_allclose(got[np.lexsort(got.T[::-1])], expected, rtol=1e-5)
    assert (proposals.classes == cas_logits[:-1].mean(axis=1).argmax()).all()


@pytest.mark.parametrize(("steps", "found"), [(2, False), (4, False), (5, True)])
def test_a_run_counts_if_it_spans_more_than_two_hundredths(steps: int, found: bool) -> None:
    T = 200
    masks = np.zeros((T, T), dtype=np.float32)
    masks[:, 50 : 51 + steps] = 0.9
    proposals = proposals_of(noise(0, 2, T)[0], masks)
    assert ([50 / T, (50 + steps) / T] in proposals.segments.tolist()) == found
    assert len(proposals.segments) > 0 if found else len(proposals.segments) == 0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 130), st.sampled_from([8, 1000]))
def test_soft_nms_is_the_published_one(seed: int, N: int, grid: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, grid, N)
    segments = np.column_stack([starts, starts + rng.integers(1, grid, N)]) / grid
    scores = rng.uniform(0.01, 1, N)
    taken, taken_scores = upstream_soft_nms(segments, scores)
    expected = slow_soft_nms(segments, scores)
    assert taken.tolist() == [n for n, _ in expected]
    np.testing.assert_allclose(taken_scores, [score for _, score in expected], rtol=1e-9)


def test_soft_nms_stops_when_scores_have_underflowed() -> None:
    segments = np.tile([[0.0, 1.0]], (90, 1))
    segments[:, 1] += np.arange(90) * 1e-6
    scores = np.full(90, 1e-150)
    taken, taken_scores = upstream_soft_nms(segments, scores)
    assert len(taken) == len(slow_soft_nms(segments, scores)) < 89
    assert (taken_scores > 0).all()


def test_soft_nms_raises_scores_at_small_overlap() -> None:
    segments = np.array([[0.0, 0.1], [0.1, 1.0], [2.0, 3.0]])  # the first two only touch
    taken, scores = upstream_soft_nms(segments, np.array([0.9, 0.6, 0.1]))
    np.testing.assert_array_equal(taken, [0, 1])
    u = 0.1 / (1.0 - 0.1 + 0.9)
    np.testing.assert_allclose(scores, [0.9, 0.6 * math.exp(-10 * u**2) / 0.6])
    assert scores[1] > 0.6


def test_soft_nms_takes_100_at_most() -> None:
    segments = np.arange(150)[:, None] + np.array([0.0, 0.5])
    scores = np.linspace(0.1, 1, 150)
    np.testing.assert_array_equal(upstream_soft_nms(segments, scores)[0], np.arange(149, 49, -1))


def test_soft_nms_leaves_one_over_unless_it_is_the_only_one() -> None:
    apart = np.array([[0.0, 0.1], [0.5, 0.6], [0.8, 0.9]])
    scores = np.array([0.2, 0.9, 0.5])
    np.testing.assert_array_equal(upstream_soft_nms(apart, scores)[0], [1, 2])
    np.testing.assert_array_equal(upstream_soft_nms(apart[:2], scores[:2])[0], [1])
    np.testing.assert_array_equal(upstream_soft_nms(apart[:1], scores[:1])[0], [0])
    np.testing.assert_array_equal(upstream_soft_nms(apart[:1], scores[:1])[1], scores[:1])
    assert len(upstream_soft_nms(apart[:0], scores[:0])[0]) == 0


def test_of_equal_scores_the_earlier_is_taken_first() -> None:
    apart = np.array([[0.5, 0.6], [0.0, 0.1], [0.8, 0.9]])
    np.testing.assert_array_equal(upstream_soft_nms(apart, np.full(3, 0.5))[0], [0, 1])


def test_overlap_is_asymmetric_and_takes_the_earlier_start() -> None:
    overlap = upstream_overlap(np.array([[0.0, 4.0], [2.0, 3.0]]))
    assert overlap[0, 1] == 3 / (4 - 3 + 1)
    assert overlap[1, 0] == 3 / (4 - 3 + 4)
    np.testing.assert_array_equal(np.diag(overlap), [1, 1 / 1])


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 120))
def test_any_output_gives_at_most_100_segments_of_one_class_inside_the_video(seed: int, K: int, T: int) -> None:
    cas_logits, masks = noise(seed, K, T)
    ranked = decode(cas_logits, masks)
    assert len(ranked.classes) == len(ranked.segments) == len(ranked.scores) <= 100
    assert len(set(ranked.classes.tolist())) <= 1
    assert ((ranked.segments >= 0) & (ranked.segments <= 1)).all()
    assert (ranked.segments[:, 0] < ranked.segments[:, 1]).all()
    assert (np.diff(ranked.scores) <= 0).all()
    assert (ranked.scores > 0).all()


@pytest.mark.parametrize("T", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("mask", [0.0, 0.5, 1.0])
def test_a_video_without_contrast_is_decoded(T: int, mask: float) -> None:
    ranked = decode(np.zeros((4, T), dtype=np.float32), np.full((T, T), mask, dtype=np.float32))
    assert ((ranked.segments >= 0) & (ranked.segments <= 1)).all()
    if mask == 0 or T < 4:
        assert len(ranked.scores) == 0


def test_one_class_is_enough() -> None:
    cas_logits, masks = noise(0, 1, 50)
    ranked = decode(cas_logits, masks)
    assert len(ranked.classes) > 0
    assert (ranked.classes == 0).all()


def test_inputs_stay_as_they_are() -> None:
    cas_logits, masks = noise(1, 3, 50)
    copies = cas_logits.copy(), masks.copy()
    decode(cas_logits, masks)
    np.testing.assert_array_equal(cas_logits, copies[0])
    np.testing.assert_array_equal(masks, copies[1])
