from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stale_runtime.inference.scene_cuts import SHORTEST_SHOT, CutFinder
from stale_runtime.inference.windows import (
    LARGEST,
    LONGEST,
    LOOKAHEAD,
    SHORTEST,
    SMALLEST,
    STEP,
    Window,
    WindowSchedule,
    shows_one_scene,
)
from tests.runtime.inference.synthetic_videos import draw_scenes

FAR_APART = 160
"""Snippets between cuts that part scenes, wherever they are."""
NO_ROWS = np.zeros((0, 1), np.float32)


class KnownCuts(CutFinder):
    """Stands for a finder that finds these cuts, as soon as a real one can."""

    def __init__(self, cuts: list[int]) -> None:
        super().__init__()
        self._known = np.array(cuts, np.intp)

    def add(self, rows: Any, rows_from: int, until: int) -> None:
        pass

    def cuts(self, until: int) -> NDArray[np.intp]:
        return self._known[self._known <= until]


class Due(NamedTuple):
    """Windows, and the position up to which snippets had been looked at before they were due."""

    before: int
    windows: list[Window]


def all_due(length: int, cuts: list[int], largest: int) -> tuple[WindowSchedule, list[Due]]:
    """The windows of a video with these cuts, step by step."""
    schedule = WindowSchedule(largest)
    schedule._finder = KnownCuts(cuts)
    due = [Due(until - STEP, schedule.advance(NO_ROWS, 0, until)) for until in range(STEP, length, STEP)]
    return schedule, [*due, Due((length - 1) // STEP * STEP, schedule.finish(NO_ROWS, 0, length))]


def windows_of(length: int, cuts: list[int], largest: int = LARGEST) -> list[Window]:
    return [window for due in all_due(length, cuts, largest)[1] for window in due.windows]


@st.composite
def videos(draw: st.DrawFn) -> tuple[int, list[int], int]:
    """Length, cuts that part scenes, and size of the largest windows."""
    largest = draw(st.sampled_from([SHORTEST, 65, 100, 200, LARGEST]) | st.integers(SHORTEST, LONGEST))
    lengths = st.sampled_from([2 * largest // 3, largest, STEP, 2 * STEP, largest + largest // 4, 3 * STEP])
    near = st.builds(lambda length, more: max(length + more, FAR_APART), lengths, st.integers(-1, 1))
    scenes = draw(st.lists(near | st.integers(FAR_APART, 2500), max_size=6))
    borders = np.cumsum(scenes).tolist()
    return (borders[-1] if scenes else 0) + draw(st.integers(SHORTEST_SHOT, 2500) | near), borders, largest


@given(videos())
@example((LARGEST, [], LARGEST))
@example((LARGEST + 192, [], LARGEST))
@example((4 * STEP, [2 * STEP], LARGEST))
@example((64, [], 64))
@example((5000, [3000], LONGEST))
def test_windows_cover_all_scenes_and_never_reach_from_one_into_another(video: tuple[int, list[int], int]) -> None:
    length, cuts, largest = video
    windows = windows_of(length, cuts, largest)
    borders = [0, *cuts, length]
    covered = np.zeros(length, bool)
    for start, end, opens, closes in windows:
        assert 0 <= start < end <= length
        assert end - start <= largest
        assert not any(start < border < end for border in borders)
        assert opens == (start in borders)
        assert closes == (end in borders)
        assert end - start >= SMALLEST or (opens and closes)
        covered[start:end] = True
    assert covered.all()
    assert len({window[:2] for window in windows}) == len(windows)


@given(videos())
def test_scenes_are_looked_at_as_a_whole_if_they_fit(video: tuple[int, list[int], int]) -> None:
    length, cuts, largest = video
    windows = windows_of(length, cuts, largest)
    for start, end in zip([0, *cuts], [*cuts, length], strict=True):
        of_scene = [window for window in windows if start <= window.start < end]
        assert (Window(start, end, True, True) in of_scene) == (end - start <= largest)
        assert (len(of_scene) == 1) == (end - start <= 2 * largest // 3)


@given(videos())
def test_an_action_of_up_to_half_the_largest_window_is_within_a_window(video: tuple[int, list[int], int]) -> None:
    length, cuts, largest = video
    windows = np.array([window[:2] for window in windows_of(length, cuts, largest)])
    for start, end in zip([0, *cuts], [*cuts, length], strict=True):
        action = min(largest // 2, end - start)
        for first in range(start, end - action + 1, 7):
            assert ((windows[:, 0] <= first) & (windows[:, 1] >= first + action)).any()


@given(videos())
def test_no_window_is_due_later_than_the_delay_says(video: tuple[int, list[int], int]) -> None:
    length, cuts, largest = video
    schedule, all_windows = all_due(length, cuts, largest)
    assert schedule.delay == largest + LOOKAHEAD
    for before, windows in all_windows:
        assert all(window.start + schedule.delay >= before for window in windows)


@given(videos(), st.integers(1, 3000))
def test_windows_that_are_due_do_not_depend_on_what_comes_later(video: tuple[int, list[int], int], more: int) -> None:
    length, cuts, largest = video
    _, short = all_due(length, cuts, largest)
    _, long = all_due(length + more, [*cuts, length], largest)
    assert long[: len(short) - 1] == short[:-1]


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 255, 256, 257, 511, 512])
def test_a_short_video_is_one_window(length: int) -> None:
    assert windows_of(length, []) == [Window(0, length, True, True)]


def test_windows_by_value() -> None:
    schedule = WindowSchedule(128)
    schedule._finder = KnownCuts([])
    windows = schedule.finish(NO_ROWS, 0, 150)
    expected = [(0, 32), (16, 48), (32, 64), (48, 80), (64, 96), (80, 112), (96, 128), (112, 144), (118, 150)]
    expected += [(0, 64), (32, 96), (64, 128), (86, 150), (0, 128), (22, 150)]
    assert sorted(windows) == sorted(Window(a, b, a == 0, b == 150) for a, b in expected)
    assert len(windows) == len(expected)


@pytest.mark.parametrize("spacing", [SHORTEST_SHOT, 20, 50, 70])
@pytest.mark.parametrize("length", [300, 512, 700, 3000])
def test_frequent_cuts_part_shots_not_scenes(spacing: int, length: int) -> None:
    cuts = [*range(spacing, length - SHORTEST_SHOT + 1, spacing)]
    schedule, _ = all_due(length, cuts, LARGEST)
    assert schedule.scenes == 1
    assert windows_of(length, cuts) == windows_of(length, [])


def test_two_cuts_that_are_near_part_scenes() -> None:
    """A short scene between two long ones."""
    assert Window(700, 720, True, True) in windows_of(2000, [700, 720])


@pytest.mark.parametrize("largest", [SHORTEST, LARGEST])
def test_three_scenes_are_found_in_features(largest: int) -> None:
    features, borders = draw_scenes((200, 256, 844))
    N = len(features)
    schedule, kept_schedule = WindowSchedule(largest), WindowSchedule(largest)
    windows: list[Window] = []
    for until in range(STEP, N, STEP):
        due = schedule.advance(features, 0, until)
        first = max(until - 2 * STEP, 0)
        assert kept_schedule.advance(features[first : until + 3], first, until) == due
        windows += due
    windows += schedule.finish(features, 0, N)
    assert schedule.scenes == 3
    assert windows == windows_of(N, borders, largest)


def test_a_window_around_a_segment_stays_in_its_scene() -> None:
    schedule, _ = all_due(3000, [1000, 1200], LARGEST)
    assert schedule.around(1100, 1110, 32) == Window(1089, 1121, False, False)
    assert schedule.around(1010, 1050, 120) == Window(1000, 1090, True, False)
    assert schedule.around(1150, 1200, 150) == Window(1100, 1200, False, True)
    assert schedule.around(1040, 1160, 360) == Window(1000, 1200, True, True)
    assert schedule.around(999, 1020, 32) == Window(1000, 1026, True, False)  # rounding and averaging move edges
    assert schedule.around(1190, 1201, 33) == Window(1179, 1200, False, True)
    assert schedule.around(2980, 3000, 60) == Window(2960, 3000, False, True)
    assert all_due(800, [], LARGEST)[0].around(5, 15, 32) == Window(0, 26, True, False)


@given(videos())
def test_borders_are_known_as_long_as_segments_near_them_are_looked_at_again(
    video: tuple[int, list[int], int],
) -> None:
    """The merging of windows lags behind; at the end of a video as well."""
    length, cuts, largest = video
    schedule = WindowSchedule(largest)
    schedule._finder = KnownCuts(cuts)
    tile = 0
    for until in [*range(STEP, length, STEP), length]:
        ended = until == length
        schedule.finish(NO_ROWS, 0, length) if ended else schedule.advance(NO_ROWS, 0, until)
        while (tile + 1) * largest <= (length + 2 * largest if ended else until - schedule.delay):
            first, last = (tile - 1) * largest, (tile + 1) * largest
            assert {cut for cut in cuts if first <= cut <= last} <= set(schedule._borders)
            tile += 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("lengths", "one"),
    [
        ((1,), True),
        ((150,), True),
        ((90, 90), False),
        ((20, 150), False),
        ((60, 60), True),
        ((5000,), True),
        ((100, 4900), False),
    ],
)
def test_scenes_are_told_from_one_scene(lengths: tuple[int, ...], one: bool, dtype: type[np.floating[Any]]) -> None:
    features, _ = draw_scenes(lengths)
    assert shows_one_scene((100 * features).astype(dtype)) == one  # squares are beyond float16


def test_an_edited_scene_is_one_scene() -> None:
    features, _ = draw_scenes((20,) * 10)
    assert shows_one_scene(features)
