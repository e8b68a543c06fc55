from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings

from stale_runtime.detections import Detection
from stale_runtime.evaluation.ground_truth import AMBIGUOUS, AnnotatedVideo, Annotation, GroundTruth
from stale_runtime.evaluation.map_change import MapChange, _draw_videos, _resampled_maps, map_change
from stale_runtime.evaluation.matching import ACTIVITYNET_TIOUS, match_detections
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from tests.runtime.evaluation.test_mean_average_precision import Found, founds, truths

LABELS = ("jump", "run", "swim")


def draw_videos(generator: np.random.Generator, videos: int, *, ambiguous: float = 0.05) -> GroundTruth:
    """Videos of 100 s with one to three actions, some of them ambiguous."""
    drawn = {}
    for i in range(videos):
        rows = []
        for _ in range(generator.integers(1, 4)):
            start, length = generator.uniform(0, 70), generator.uniform(5, 30)
            label = AMBIGUOUS if generator.random() < ambiguous else str(generator.choice(LABELS))
            rows.append(Annotation(label, start, start + length))
        drawn[f"v{i}"] = AnnotatedVideo(duration_s=100.0, annotations=tuple(rows))
    return GroundTruth(videos=drawn)


def detect(generator: np.random.Generator, truth: GroundTruth, noise: float) -> dict[str, list[Detection]]:
    """A detector that finds each action somewhat off, and as much that is not there."""
    found = {}
    for video, known in truth.videos.items():
        rows = []
        for row in known.annotations:
            start, end = sorted(np.array([row.start_s, row.end_s]) + generator.normal(0, noise, 2))
            rows.append(Detection(row.label, start, end, generator.uniform(0.3, 1)))
            start = generator.uniform(0, 80)
            rows.append(Detection(str(generator.choice(LABELS)), start, start + 15, generator.uniform(0, 0.8)))
        found[video] = rows
    return found


def with_different_scores(found: Found) -> Found:
    """Scores that differ everywhere, because copies of a video may change the order of its equal scores."""
    order = {
        (video, i): n for n, (video, i) in enumerate((v, i) for v, rows in found.items() for i in range(len(rows)))
    }
    return {
        v: [row._replace(score=row.score + order[v, i] / 1e3) for i, row in enumerate(rows)]
        for v, rows in found.items()
    }


def copied(found: Mapping[str, Sequence[Detection]], counts: Mapping[str, int]) -> dict[str, Sequence[Detection]]:
    return {f"{video} {n}": rows for video, rows in found.items() for n in range(counts.get(video, 1))}


@settings(deadline=None, max_examples=50)
@given(founds, truths)
def test_each_draw_is_the_map_of_the_videos_drawn_as_often_as_they_were_drawn(found: Found, truth: GroundTruth) -> None:
    found = with_different_scores(found)
    matches = match_detections(found, truth, foreign_labels="ignored")
    draws = _draw_videos(len(truth.videos), 4, seed=3)
    maps = _resampled_maps(matches, draws)
    for counts, value in zip(draws.T.tolist(), maps.tolist(), strict=True):
        by_video = dict(zip(truth.videos, counts[:-1], strict=True))
        repeated = GroundTruth(
            videos={f"{v} {n}": known for v, known in truth.videos.items() for n in range(by_video[v])}
        )
        if not repeated.labels:
            assert np.isnan(value)
            continue
        expected = mean_average_precision(copied(found, by_video), repeated, foreign_labels="ignored")
        assert value == pytest.approx(expected.average, abs=1e-12)


def test_ambiguous_segments_excuse_in_every_draw() -> None:
    generator = np.random.default_rng(0)
    truth = draw_videos(generator, 20, ambiguous=0.4)
    assert truth.ambiguous_segments > 0
    found = detect(generator, truth, 3)
    draws = _draw_videos(20, 3, seed=0)
    for counts, value in zip(draws.T, _resampled_maps(match_detections(found, truth), draws), strict=True):
        by_video = dict(zip(truth.videos, counts[:-1].tolist(), strict=True))
        repeated = GroundTruth(
            videos={f"{v} {n}": known for v, known in truth.videos.items() for n in range(by_video[v])}
        )
        expected = mean_average_precision(copied(found, by_video), repeated, foreign_labels="ignored").average
        assert value == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(founds, founds, truths)
def test_the_difference_is_exactly_that_of_two_maps(new: Found, old: Found, truth: GroundTruth) -> None:
    change = map_change(new, old, truth, resamples=20)
    maps = [100 * mean_average_precision(found, truth).average for found in (new, old)]
    assert change.difference == maps[0] - maps[1]
    back = map_change(old, new, truth, resamples=20)
    assert (back.difference, back.low, back.high) == pytest.approx((-change.difference, -change.high, -change.low))


@settings(deadline=None, max_examples=20)
@given(founds, truths)
def test_the_same_detections_do_not_differ(found: Found, truth: GroundTruth) -> None:
    assert map_change(found, found, truth, resamples=20) == MapChange(difference=0, low=0, high=0)


def test_many_resamples_are_computed_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    truth = draw_videos(generator, 12)
    pair = (detect(generator, truth, 3), detect(generator, truth, 6))
    whole = map_change(*pair, truth, resamples=100)
    monkeypatch.setattr("stale_runtime.evaluation.map_change._CELLS", 200)
    assert map_change(*pair, truth, resamples=100) == whole


def test_where_nothing_differs_the_interval_contains_0_about_95_times_in_100() -> None:
    """Two detectors of the same kind, 120 times. If 95 % is true, fewer than 103 of 120 are 4.5 deviations away."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(120):
        truth = draw_videos(generator, 40)
        pair = (detect(generator, truth, 4), detect(generator, truth, 4))
        covered += map_change(*pair, truth, tious=(0.5, 0.75), resamples=150, seed=seed).may_be_chance
    assert 103 <= covered < 120


def test_a_clear_difference_is_no_chance() -> None:
    generator = np.random.default_rng(0)
    truth = draw_videos(generator, 60)
    change = map_change(detect(generator, truth, 1), detect(generator, truth, 8), truth)
    assert 0 < change.low < change.difference < change.high
    assert not change.may_be_chance


def test_one_video_tells_nothing() -> None:
    generator = np.random.default_rng(0)
    truth = draw_videos(generator, 1)
    change = map_change(detect(generator, truth, 1), {}, truth, resamples=20)
    assert change.low == change.high > 0
    assert change.may_be_chance


def test_fewer_videos_say_less() -> None:
    generator = np.random.default_rng(0)
    widths = []
    for videos in (20, 320):
        truth = draw_videos(generator, videos)
        change = map_change(detect(generator, truth, 4), detect(generator, truth, 4), truth, tious=(0.5,))
        widths.append(change.high - change.low)
    assert widths[0] > 2.5 * widths[1]  # in theory 4 times


def test_the_seed_decides_the_draws() -> None:
    generator = np.random.default_rng(0)
    truth = draw_videos(generator, 10)
    pair = (detect(generator, truth, 4), detect(generator, truth, 4))
    first, again, other = (map_change(*pair, truth, seed=seed, resamples=50) for seed in (1, 1, 2))
    assert first == again
    assert (other.difference, other.low) != (first.difference, first.low)
    assert other.difference == first.difference


def test_it_is_written_with_signs() -> None:
    change = MapChange(difference=-0.614, low=-1.302, high=0.118)
    assert change.describe() == "-0.61 (95 % interval -1.30 to +0.12)"


def test_no_resamples_are_refused() -> None:
    with pytest.raises(ValueError, match="resamples is 0, expected 1 or more"):
        map_change({}, {}, draw_videos(np.random.default_rng(0), 1), tious=ACTIVITYNET_TIOUS, resamples=0)
