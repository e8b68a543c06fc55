import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_runtime.inputs.feature_statistics import (
    SAMPLE_SNIPPETS,
    FeatureStatistics,
    FeatureSummary,
    sample_spans,
    summarise_features,
)
from tests.runtime.inputs.drawn import draw_statistics, draw_video

STATISTICS = draw_statistics()


def summary_of(features: Any) -> FeatureSummary:
    found = summarise_features(np.asarray(features, np.float32))
    assert found is not None
    return found


def test_a_summary_says_direction_length_and_zeros() -> None:
    found = summary_of([[3, 4, 0], [0, 0, 0], [6, 8, 0], [0, 5, 0]])
    np.testing.assert_allclose(found.direction, np.array([1.2, 2.6, 0]) / np.hypot(1.2, 2.6), rtol=1e-6)
    assert (found.snippets, found.norm, found.zero_rows, found.zero_channels) == (4, 5.0, 0.25, 1)
    assert found.transposed is None


def test_a_summary_of_zeros_has_no_direction() -> None:
    found = summary_of(np.zeros((5, 3)))
    assert (found.norm, found.zero_rows, found.zero_channels, found.direction.any()) == (0.0, 1.0, 3, False)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_have_no_summary(value: float) -> None:
    features = np.ones((5, 3))
    features[2, 1] = value
    assert summarise_features(features) is None


@given(snippets=st.integers(1, 10_000))
def test_the_sample_is_spread_over_the_video_and_small(snippets: int) -> None:
    spans = list(sample_spans(snippets))
    taken = [n for span in spans for n in range(span.start, span.stop)]
    assert taken == sorted(set(taken)), "none twice, in order"
    assert len(taken) == min(snippets, SAMPLE_SNIPPETS)
    assert (taken[0], taken[-1]) == (0, snippets - 1)


def test_a_long_video_is_summarised_like_its_parts() -> None:
    short = draw_video(1, snippets=100)
    found, expected = summary_of(np.tile(short, (40, 1))), summary_of(short)
    assert found.snippets == 4000
    assert found.direction @ expected.direction > 0.999
    assert found.norm == pytest.approx(expected.norm, rel=0.02)


def test_statistics_describe_the_videos() -> None:
    assert STATISTICS.videos == 20
    assert np.linalg.norm(STATISTICS.direction) == pytest.approx(1, abs=1e-4)
    assert 0.7 < STATISTICS.cosine_low < 0.95
    assert 9 < STATISTICS.norm_low < STATISTICS.norm_high < 11
    assert (STATISTICS.zero_rows_high, STATISTICS.snippet_s_low, STATISTICS.snippet_s_high) == (0, 0.5, 0.5)


def test_a_broken_video_of_the_training_changes_little() -> None:
    summaries = [summary_of(draw_video(seed)) for seed in range(400)]
    clean = FeatureStatistics.over(summaries)
    noise = summary_of(np.random.default_rng(0).standard_normal((60, 512)))
    broken = FeatureStatistics.over([*summaries, noise, noise, summary_of(np.zeros((9, 512)))])
    assert clean is not None
    assert broken is not None
    assert (clean.videos, broken.videos) == (400, 402)
    assert np.dot(clean.direction, broken.direction) > 0.9999
    assert broken.cosine_low == pytest.approx(clean.cosine_low, abs=0.01)
    assert broken.norm_low > 9


def test_videos_of_zeros_have_no_statistics() -> None:
    assert FeatureStatistics.over([summary_of(np.zeros((9, 4)))]) is None
    assert FeatureStatistics.over([]) is None


def test_statistics_come_back_from_json() -> None:
    assert FeatureStatistics.from_json(json.loads(json.dumps(STATISTICS.to_json()))) == STATISTICS
    unknown = replace(STATISTICS, snippet_s_low=None, snippet_s_high=None)
    assert FeatureStatistics.from_json(json.loads(json.dumps(unknown.to_json()))) == unknown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": []}, "direction has 0 numbers"),
        ({"direction": [0.5, 0.5]}, "direction is not of length 1"),
        ({"direction": [1e200, 1.0]}, "direction is not of length 1"),
        ({"cosine_low": 2}, "cosine_low is 2, expected -1"),
        ({"norm_high": -1}, "norm_high is -1, expected 0"),
        ({"zero_rows_high": 1.5}, "zero_rows_high is 1.5, expected 0 to 1"),
        ({"videos": 0}, "videos is 0, expected 1"),
        ({"videos": "3"}, "videos is '3'"),
        ({"snippet_s_low": float("nan")}, "snippet_s_low is nan, expected 0"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_damaged_statistics_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureStatistics.from_json({**STATISTICS.to_json(), **changes})
