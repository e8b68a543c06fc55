from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.inference.scene_cuts import (
    CONTEXT,
    HISTORY,
    ROUNDING,
    SHORTEST_SHOT,
    CutFinder,
    cut_threshold,
    find_peaks,
    scene_changes,
)
from stale_runtime.inference.windows import STEP
from tests.runtime.inference.synthetic_videos import draw_scenes


def cuts_of(features: NDArray[Any], *, kept: int | None = None) -> list[int]:
    """The cuts of a whole video whose snippets arrive step by step, of which only the last ones are kept."""
    finder, N = CutFinder(), len(features)
    for until in [*range(STEP, N, STEP), N]:
        first = 0 if kept is None else max(until - STEP - kept, 0)
        finder.add(features[first:], first, until)
    return [int(cut) for cut in finder.cuts(N - SHORTEST_SHOT)]


@given(st.integers(0, 60), st.integers(3, 20), st.integers(0, 2**32 - 1))
def test_changes_are_cosine_distances_of_means(N: int, C: int, seed: int) -> None:
    features = np.random.default_rng(seed).standard_normal((N, C)).astype(np.float32)
    units = features.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    expected = []
    for t in range(CONTEXT, N - CONTEXT + 1):
        before, after = units[t - CONTEXT : t].mean(axis=0), units[t : t + CONTEXT].mean(axis=0)
        expected.append(1 - before @ after / (np.linalg.norm(before) * np.linalg.norm(after)))
    np.testing.assert_allclose(scene_changes(features), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e-10, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["noise", "constant", "zeros", "opposite", "some zeros"])
def test_changes_are_from_0_to_2_for_all_features_that_are_accepted(size: float, kind: str) -> None:
    features = np.random.default_rng(0).standard_normal((100, 512))
    if kind == "constant":
        features[:] = features[0]
    elif kind == "zeros":
        features[:] = 0
    elif kind == "opposite":
        features[:50], features[50:] = features[0], -features[0]
    elif kind == "some zeros":
        features[30:60] = 0
    changes = scene_changes((features / np.abs(features).max(initial=1e-9) * size).astype(np.float32))
    assert len(changes) == 100 - 2 * CONTEXT + 1
    assert (changes >= 0).all()
    assert (changes <= 2).all()


@given(st.lists(st.integers(0, 9), max_size=120), st.integers(0, 9))
def test_peaks_are_those_found_by_looking(heights: list[int], threshold: int) -> None:
    found = find_peaks(np.array(heights, np.float64), threshold).tolist()
    reach = SHORTEST_SHOT - 1
    expected = [
        t
        for t, height in enumerate(heights)
        if height > threshold
        and all(other < height for other in heights[max(t - reach, 0) : t])
        and all(other <= height for other in heights[t : t + reach + 1])
    ]
    assert found == expected
    assert all(np.diff(found) >= SHORTEST_SHOT)


def test_the_threshold_by_value() -> None:
    assert cut_threshold(np.array([1.0, 2, 3, 4, 100])) == pytest.approx(3 + 5.5 * 1.4826)
    assert cut_threshold(np.zeros(5)) == ROUNDING


@pytest.mark.parametrize("lengths", [(100, 150, 90), (40, 600, 40), (16, 200, 16), (256, 256, 256), (600, 17, 700)])
def test_cuts_are_where_scenes_meet(lengths: tuple[int, ...]) -> None:
    features, borders = draw_scenes(lengths)
    assert cuts_of(features) == borders


@given(st.integers(0, 200), st.sampled_from([1e-3, 1.0, 1e5]), st.integers(0, 9))
def test_cuts_do_not_depend_on_how_long_features_are_nor_on_which_are_kept(more: int, size: float, seed: int) -> None:
    features, borders = draw_scenes((300, 80, 500 + more), seed=seed)
    scaled = features * size * np.random.default_rng(seed).uniform(0.5, 2, (len(features), 1)).astype(np.float32)
    assert cuts_of(scaled) == cuts_of(features) == borders
    assert cuts_of(features, kept=2 * CONTEXT) == borders


@pytest.mark.parametrize("snippets", [1, 7, 8, 15, 16, 17, 23, 24, 31, 32, 33, 36, 39, 40])
def test_a_short_video_of_one_scene_has_no_cut(snippets: int) -> None:
    for seed in range(50):
        features, _ = draw_scenes((snippets,), seed=seed)
        assert cuts_of(features) == []


@pytest.mark.parametrize("channels", [1, 15, 16, 512])
@pytest.mark.parametrize("snippets", [40, 200, 1500])
def test_what_does_not_change_has_no_cut(channels: int, snippets: int) -> None:
    dice = np.random.default_rng(0)
    still = dice.standard_normal((1, channels)).astype(np.float32).repeat(snippets, axis=0)
    brighter = still * dice.uniform(0.5, 2, (snippets, 1)).astype(np.float32)
    for features in (still, brighter, np.zeros_like(still)):
        assert cuts_of(features) == []


def test_a_stretch_without_any_feature_is_a_scene_of_its_own_at_most() -> None:
    features, _ = draw_scenes((600,))
    features[200:300] = 0
    assert set(cuts_of(features)) <= {200, 300}


def test_no_cut_is_near_an_end() -> None:
    for near in range(1, SHORTEST_SHOT):
        for lengths in ((near, 300), (300, near)):
            found = cuts_of(draw_scenes(lengths)[0])
            assert all(SHORTEST_SHOT <= cut <= 300 + near - SHORTEST_SHOT for cut in found)
            assert len(found) <= 1


def test_a_long_video_is_forgotten_but_for_its_recent_past() -> None:
    features, borders = draw_scenes((300, 3000, 4000, 2000, 700))
    finder = CutFinder()
    found: set[int] = set()
    for until in range(STEP, len(features), STEP):
        first = max(until - 2 * STEP, 0)
        finder.add(features[first:until], first, until)
        assert len(finder._changes) <= HISTORY
        cuts = finder.cuts(until - CutFinder.DELAY)
        assert all(until - HISTORY - STEP <= cut <= until - CutFinder.DELAY for cut in cuts)
        found |= set(cuts.tolist())
    assert sorted(found) == borders
