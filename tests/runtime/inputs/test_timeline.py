import math

import pytest

from stale_runtime.errors import DatasetError
from stale_runtime.inputs.timeline import Timeline


def test_nothing_is_known_by_default() -> None:
    assert Timeline().duration_of("a", 100) is None


def test_one_duration_holds_for_every_video() -> None:
    assert Timeline(duration_s=48.9).duration_of("a", 100) == 48.9
    assert Timeline(duration_s=48.9).duration_of("b", 7) == 48.9


def test_snippets_add_up() -> None:
    assert Timeline(snippet_s=16 / 25).duration_of("a", 100) == 64


def test_durations_go_by_video() -> None:
    timeline = Timeline(durations_s={"a": 12.5})
    assert timeline.duration_of("a", 100) == 12.5
    with pytest.raises(DatasetError, match="video b: not in the file of durations"):
        timeline.duration_of("b", 100)
    with pytest.raises(DatasetError, match="video a"):
        Timeline(durations_s={}).duration_of("a", 100)


def test_ways_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="more than one"):
        Timeline(duration_s=1.0, snippet_s=1.0)
    with pytest.raises(ValueError, match="more than one"):
        Timeline(snippet_s=1.0, durations_s={})


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_refuses_what_is_no_positive_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Timeline(duration_s=seconds)
    with pytest.raises(ValueError, match="seconds"):
        Timeline(snippet_s=seconds)
