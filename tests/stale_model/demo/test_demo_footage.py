"""Timelines, their shots, and the frames of the videos."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_model.demo.demo_classes import IDLE, SEEN, UNSEEN, verb_and_thing
from stale_model.demo.demo_footage import FRAMES_PER_SECOND, draw_frames, write_video
from stale_model.demo.drawing.camera import Camera
from stale_model.demo.shots import plan_shots
from stale_model.demo.timelines import DemoVideo, draw_timelines
from stale_runtime import probe_video
from stale_runtime.evaluation.ground_truth import Annotation

SHORT = DemoVideo(name="short", duration_s=4.0, annotations=(Annotation("Painting a dog", 1.21, 2.9),))


def test_unseen_classes_are_new_pairs_of_seen_words_and_not_in_training_videos() -> None:
    assert not set(SEEN) & set(UNSEEN)
    assert {word for name in UNSEEN for word in name.lower().split()} <= set(" ".join(SEEN).lower().split())
    training = draw_timelines("training", 60, seed=0)
    assert {row.label for video in training for row in video.annotations} == set(SEEN)
    validation = draw_timelines("validation", 20, seed=0)
    kinds = [{row.label in UNSEEN for row in video.annotations} for video in validation]
    assert kinds == [{False}, {True}] * 10


def test_timelines_are_like_those_of_activitynet() -> None:
    videos = draw_timelines("training", 400, seed=0)
    counts = [len(video.annotations) for video in videos]
    longest = [max(row.end_s - row.start_s for row in video.annotations) / video.duration_s for video in videos]
    single = [len({row.label for row in video.annotations}) == 1 for video in videos]
    assert set(counts) == {1, 2, 3}
    assert 0.33 < np.mean(np.array(longest) > 0.6) < 0.6
    assert 0.85 < np.mean(single) < 1
    for video in videos:
        assert 20 <= video.duration_s <= 60
        assert video.duration_s * 2 == round(video.duration_s * 2)
        edges = [edge for row in video.annotations for edge in (row.start_s, row.end_s)]
        assert edges == sorted(edges)
        assert edges[0] >= 0
        assert edges[-1] <= video.duration_s


@pytest.mark.parametrize("subset", ["training", "validation"])
def test_shots_fill_the_video_and_show_each_action_when_the_annotations_say(subset: str) -> None:
    for video in draw_timelines(subset, 40, seed=1):
        shots = plan_shots(video, seed=1)
        assert shots[0].start_s == 0
        assert shots[-1].end_s == video.duration_s
        assert all(first.end_s == second.start_s for first, second in pairwise(shots))
        actions = [(shot.doing, shot.scene.thing, shot.start_s, shot.end_s) for shot in shots if shot.doing not in IDLE]
        assert actions == [(*verb_and_thing(row.label), row.start_s, row.end_s) for row in video.annotations]


def test_a_thing_has_one_scene_in_a_video_whatever_is_done_to_it() -> None:
    for video in draw_timelines("training", 20, seed=2):
        shots = plan_shots(video, seed=2)
        assert len({shot.scene for shot in shots}) == len({shot.scene.thing for shot in shots})


def test_frames_show_an_action_exactly_while_it_is_annotated(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    film = Camera.film

    def note(camera: Camera, doing: str, **others: Any) -> Any:
        shown.append(doing)
        return film(camera, doing, **others)

    monkeypatch.setattr(Camera, "film", note)
    frames = list(draw_frames(SHORT, seed=0, height=24))
    assert len(frames) == len(shown) == 4 * FRAMES_PER_SECOND
    times_s = (np.arange(len(shown)) + 0.5) / FRAMES_PER_SECOND
    assert [doing == "painting" for doing in shown] == [1.21 <= t < 2.9 for t in times_s]


def test_the_file_has_the_drawn_frames_and_the_annotated_duration(tmp_path: Path) -> None:
    import av

    path = tmp_path / "short.mp4"
    write_video(path, SHORT, seed=0)
    assert probe_video(path).duration_s == SHORT.duration_s
    with av.open(str(path)) as file:
        decoded = [frame.to_ndarray(format="rgb24").astype(np.int64) for frame in file.decode(video=0)]
    drawn = [frame.astype(np.int64) for frame in draw_frames(SHORT, seed=0)]
    assert len(decoded) == len(drawn)
    for got, expected in zip(decoded, drawn, strict=True):
        assert np.abs(got - expected).mean() < 8
    assert np.abs(decoded[0] - drawn[-1]).mean() > 16, "any frame would do"


def test_a_video_has_the_same_bytes_again_and_others_with_another_seed(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_video(tmp_path / name, SHORT, seed, height=48)
    one, same, other = ((tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same != other
