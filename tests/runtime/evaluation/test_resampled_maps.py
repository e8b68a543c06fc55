"""mAP over draws of videos, which intervals of differences are made of."""

import numpy as np
import pytest

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.evaluation.map_change import RESAMPLES, map_change, resampled_maps
from stale_runtime.evaluation.mean_average_precision import mean_average_precision

VIDEOS = [f"v{n}" for n in range(20)]
TRUTH = GroundTruth(
    videos=dict.fromkeys(VIDEOS, AnnotatedVideo(duration_s=60.0, annotations=(Annotation("polo", 10.0, 20.0),)))
)
RIGHT = {video: [Detection("polo", 10.0, 20.0, 0.5)] for video in VIDEOS}
LATE = {video: [Detection("polo", 10.0 + n / 2, 20.0 + n / 2, 0.5 + n / 99)] for n, video in enumerate(VIDEOS)}


def test_the_differences_of_two_are_what_map_change_makes_its_interval_of() -> None:
    differences = 100 * (resampled_maps(LATE, TRUTH) - resampled_maps(RIGHT, TRUTH))
    change = map_change(LATE, RIGHT, TRUTH)
    assert (change.low, change.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    assert change.low < change.difference < change.high < 0


def test_they_scatter_around_the_map_of_all_videos() -> None:
    draws = resampled_maps(LATE, TRUTH)
    assert draws.shape == (RESAMPLES,)
    assert draws.mean() == pytest.approx(mean_average_precision(LATE, TRUTH).average, abs=0.03)
    assert draws.std() > 0.02


def test_the_same_seed_draws_the_same_videos() -> None:
    assert np.array_equal(resampled_maps(LATE, TRUTH, resamples=9), resampled_maps(LATE, TRUTH, resamples=9))
    assert not np.array_equal(
        resampled_maps(LATE, TRUTH, resamples=9), resampled_maps(LATE, TRUTH, resamples=9, seed=1)
    )


def test_a_draw_without_annotations_has_no_map() -> None:
    truth = GroundTruth(
        videos={**TRUTH.videos, **{f"empty{n}": AnnotatedVideo(duration_s=9.0, annotations=()) for n in range(40)}}
    )
    few = GroundTruth(videos={name: truth.videos[name] for name in ("v0", *(f"empty{n}" for n in range(3)))})
    draws = resampled_maps(RIGHT, few)
    assert np.isnan(draws).any()
    assert not np.isnan(draws).all()
