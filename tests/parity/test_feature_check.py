"""Drawn features of ActivityNet's timelines against the statistics of others."""

from pathlib import Path

import numpy as np
import pytest

from stale_runtime.inputs.feature_check import FeatureCheck
from stale_runtime.inputs.feature_statistics import FeatureStatistics, FeatureSummary, summarise_features
from stale_runtime.inputs.recipe import UNKNOWN_RECIPE
from tests.runtime.inputs.drawn import Array, rotate

pytestmark = pytest.mark.reference


def features_of(reference: Path, names: str) -> list[Array]:
    videos = (reference / f"videos_{names}.txt").read_text().split()
    return [
        np.load(reference / "features" / f"v_{video.removeprefix('v_')}.npy").astype(np.float32) for video in videos
    ]


def summary_of(features: Array) -> FeatureSummary:
    found = summarise_features(features)
    assert found is not None
    return found


def test_unseen_videos_are_not_warned_of_and_wrong_ones_are(reference: Path) -> None:
    statistics = FeatureStatistics.over([summary_of(video) for video in features_of(reference, "seen")])
    check = FeatureCheck(recipe=UNKNOWN_RECIPE, statistics=statistics)
    unseen = features_of(reference, "unseen")
    assert len(unseen) == 48
    assert [check.problem_with(summary_of(video)) for video in unseen] == 48 * [None]
    for number, video in enumerate(unseen):
        assert "another CLIP" in str(check.problem_with(summary_of(rotate(video, seed=number))))
        assert "length-normalised" in str(check.problem_with(summary_of(video / 10)))
