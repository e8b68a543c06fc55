"""Which videos ``make example`` draws."""

import json
from pathlib import Path

import av
import pytest

from stale_model.demo.demo_footage import draw_frames
from stale_model.demo.example_videos import EXAMPLES, FRAMES_PER_SECOND, HEIGHT, choose_example
from stale_model.demo.timelines import draw_timeline
from stale_runtime.evaluation.ground_truth import read_ground_truth

COMMITTED = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(("label", "seed"), [("Washing a car", 4), ("Painting a dog", 51)])
def test_the_first_video_that_suits_is_taken(label: str, seed: int) -> None:
    video, found = choose_example(label)
    assert found == seed
    assert 20 <= video.duration_s <= 40
    first, second = video.annotations
    assert first.label == second.label == label
    assert second.start_s - first.end_s >= 4
    assert min(row.end_s - row.start_s for row in video.annotations) >= 5
    name = label.lower().replace(" ", "_")
    for earlier in range(seed):
        other = draw_timeline(name, label, EXAMPLES[label], earlier)
        assert other.annotations != video.annotations


@pytest.mark.parametrize("label", EXAMPLES)
def test_the_committed_video_and_its_annotations_are_that_one(label: str) -> None:
    video, seed = choose_example(label)
    entry = json.loads((COMMITTED / "truth.json").read_text())["database"][video.name]
    assert entry == video.entry("validation")
    assert read_ground_truth(COMMITTED / "truth.json").videos[video.name].annotations == video.annotations
    drawn = next(draw_frames(video, seed, height=HEIGHT, frames_per_second=FRAMES_PER_SECOND)).astype(int)
    with av.open(str(COMMITTED / f"{video.name}.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.average_rate, stream.frames) == (FRAMES_PER_SECOND, video.duration_s * FRAMES_PER_SECOND)
        first = next(file.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert abs(first - drawn).mean() < 6, "compressed, but the same picture"
