import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime import Localizer
from stale_runtime.evidence import MOST_FRAMES_SHOWN, PosterFrame
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video import video_features
from stale_runtime.video.poster_frames import HIGHEST, MOST_JPEG_BYTES, WIDEST, PosterMaker
from stale_runtime.video.video_features import VideoFeatures
from stale_runtime.video.video_properties import VideoProperties
from stale_runtime.video.video_reader import VideoFrames, read_video
from tests.runtime.video.clips import numbered, read_number, write_clip
from tests.small_video import with_tower
from tests.tiny import CLASSES

from PIL import Image  # isort: skip  # the extra is there, or clips has skipped this module

RECIPE = FeatureRecipe(
    image_size=64,
    interpolation="bicubic",
    resize="squash",
    mean=(0.5, 0.5, 0.5),
    deviation=(0.5, 0.5, 0.5),
    channel_order="rgb",
    snippet_s=0.2,
    frames=1,
    normalised=False,
)
RATE = 25


class Eye:
    """A tower that gives zeros, and counts the images."""

    def __init__(self, recipe: FeatureRecipe = RECIPE) -> None:
        self.recipe, self.channels, self.images = recipe, 16, 0

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.images += len(images)
        return np.zeros((len(images), 16), np.float32)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds in which each frame says its number."""
    path = tmp_path_factory.mktemp("counting") / "counting.mp4"
    return write_clip(path, [numbered(n) for n in range(10 * RATE)], rate=RATE, options={"crf": "10"})


def picture(frame: PosterFrame) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(frame.jpeg)) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        return np.asarray(image)


def poster_of(path: Path, recipe: FeatureRecipe = RECIPE, *, length: int | None = None) -> tuple[PosterFrame, ...]:
    features = VideoFeatures(path, Eye(recipe), poster=True)
    if length is None:
        list(features.blocks())
    else:
        features.read_resampled(length)
    return features.poster


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("length", [None, 16, 20, 49])
def test_frames_are_those_of_their_times_and_evenly_spread(counting: Path, frames: int, length: int | None) -> None:
    poster = poster_of(counting, replace(RECIPE, frames=frames), length=length)
    assert len(poster) == MOST_FRAMES_SHOWN
    times = [frame.time_s for frame in poster]
    assert [read_number(picture(frame)) for frame in poster] == [int(time * RATE + 1e-6) for time in times]
    even = (np.arange(MOST_FRAMES_SHOWN) + 0.5) / MOST_FRAMES_SHOWN * 10
    np.testing.assert_allclose(times, even, rtol=0, atol=0.45)
    assert (np.diff(times) > 0).all()
    assert {picture(frame).shape for frame in poster} == {(32, 64, 3)}


def test_nothing_else_is_decoded_or_embedded_for_them(counting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Mapping[str, Any]] = []

    def counted(*arguments: Any, **options: Any) -> VideoFrames:
        calls.append(options)
        return read_video(*arguments, **options)

    monkeypatch.setattr(video_features, "read_video", counted)
    with_, without = Eye(), Eye()
    features = VideoFeatures(counting, with_, poster=True)
    assert features.poster == ()
    features.read_resampled(16)
    plain = VideoFeatures(counting, without)
    plain.read_resampled(16)
    assert with_.images == without.images == 32
    assert len(calls) == 2
    np.testing.assert_equal(calls[0], calls[1])
    assert (len(features.poster), plain.poster) == (MOST_FRAMES_SHOWN, ())


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_colours_are_right_in_either_order_of_channels(tmp_path: Path, order: str) -> None:
    orange = np.full((64, 64, 3), (250, 120, 10), np.uint8)
    clip = write_clip(tmp_path / "orange.mp4", [orange] * 25)
    for frame in poster_of(clip, replace(RECIPE, channel_order=order)):
        np.testing.assert_allclose(picture(frame).mean(axis=(0, 1)), orange[0, 0], rtol=0, atol=6)


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        ("squash", (640, 360), (160, 90)),
        ("squash", (360, 640), (72, 128)),
        ("squash", (3200, 32), (160, 2)),
        ("crop", (640, 360), (128, 128)),
    ],
)
def test_pictures_have_the_proportions_of_what_they_show(
    tmp_path: Path, resize: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    width, height = size
    clip = write_clip(tmp_path / "a.mp4", [np.zeros((height, width, 3), np.uint8)] * 5)
    (frame,) = poster_of(clip, replace(RECIPE, resize=resize, image_size=224))
    assert picture(frame).shape == (*expected[::-1], 3)
    assert 0 < frame.time_s <= 0.2


def make_poster(images: NDArray[np.uint8], recipe: FeatureRecipe, rows: range) -> tuple[PosterFrame, ...]:
    properties = VideoProperties(
        duration_s=3600, declared_s=None, width=4, height=3, rotation=0, frames=9, codec="h264", pixel_format="yuv420p"
    )
    maker = PosterMaker(recipe, properties, rows)
    for n in range(0, len(images), 7):
        maker.take(images[n : n + 7])
    return maker.frames


def test_even_noise_takes_no_more_than_150_kb() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 224, 224, 3), dtype=np.uint8)
    for resize in ("squash", "crop"):
        frames = make_poster(noise, replace(RECIPE, resize=resize, image_size=224), range(100))
        assert len(frames) == MOST_FRAMES_SHOWN
        assert max(len(frame.jpeg) for frame in frames) <= MOST_JPEG_BYTES
        assert sum(len(frame.jpeg) for frame in frames) <= 150_000


@pytest.mark.parametrize("rows", [1, 2, 23, 24, 25, 47, 100])
@pytest.mark.parametrize("frames", [1, 3])
def test_of_few_rows_each_is_shown_and_of_many_only_some(rows: int, frames: int) -> None:
    images = np.zeros((rows * frames, 8, 8, 3), np.uint8)
    recipe = replace(RECIPE, image_size=8, frames=frames)
    poster = make_poster(images, recipe, range(rows))
    assert len(poster) == min(rows, MOST_FRAMES_SHOWN)
    assert {picture(frame).shape for frame in poster} == {(6, 8, 3)}
    assert all(frame.time_s / 0.2 % 1 == pytest.approx(0.5) for frame in poster)


def test_pictures_are_small(counting: Path) -> None:
    for frame in poster_of(counting, replace(RECIPE, image_size=224)):
        height, width, _ = picture(frame).shape
        assert width <= WIDEST
        assert height <= HIGHEST
        assert len(frame.jpeg) <= MOST_JPEG_BYTES


@pytest.mark.parametrize("options", [{}, {"window": 64}, {"window": "off"}])
def test_a_video_that_is_detected_has_a_poster_if_it_is_asked_for(
    bundle: Path, counting: Path, tmp_path: Path, options: dict[str, int | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = Localizer.open(with_tower(bundle, tmp_path / "copy"), **options)  # type: ignore[arg-type]
    found = localizer.detect_video(counting, CLASSES, evidence=True)
    assert found.evidence is not None
    assert found.evidence.class_scores is not None
    assert found.evidence.class_scores.times[-1] < 10
    assert len(found.evidence.poster) == MOST_FRAMES_SHOWN
    (outcome,) = localizer.detect_many([counting], CLASSES, evidence=True)
    assert outcome.evidence is not None
    assert outcome.evidence.poster == found.evidence.poster
    monkeypatch.setattr(video_features, "PosterMaker", None)  # nothing may use it
    without = localizer.detect_video(counting, CLASSES)
    assert without.evidence is None
    assert (found, repr(found), found.to_json()) == (without, repr(without), without.to_json())
