"""Frames are those that are on the screen at the times of the recipe, resized as CLIP does it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stale_runtime.errors import MissingPackageError, RecipeError
from stale_runtime.inputs.recipe import FeatureRecipe, clip_recipe
from stale_runtime.video import video_reader
from stale_runtime.video.video_reader import probe_video, read_video
from tests.runtime.video import clips
from tests.runtime.video.clips import numbered, read_number, scene, shown_frames, turn, write_clip

CLIP = clip_recipe("test", snippet_s=0.04)
SQUASHED = FeatureRecipe(
    image_size=64, interpolation="bilinear", resize="squash", channel_order="rgb", snippet_s=0.04, frames=1
)
GOP = {"g": "12", "bf": "3", "x264-params": "scenecut=0"}


def all_frames(path: Path, recipe: FeatureRecipe = CLIP, **options: Any) -> NDArray[np.uint8]:
    with read_video(path, recipe, **options) as video:
        return np.concatenate(list(video))


def numbers(path: Path, recipe: FeatureRecipe = SQUASHED, **options: Any) -> list[int]:
    return [read_number(picture) for picture in all_frames(path, recipe, **options)]


def by_hugging_face(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What CLIP's own preprocessing makes of a picture, before normalisation."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
    done = processor(picture, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    return np.asarray(done).transpose(1, 2, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "pixel_format"),
    [
        (640, 360, "yuv420p"),
        (360, 640, "yuv420p"),
        (322, 242, "yuv420p"),
        (333, 251, "yuv444p"),
        (251, 333, "yuv444p"),
        (200, 150, "yuv420p"),
        (224, 224, "yuv420p"),
        (640, 360, "yuv420p10le"),
    ],
)
def test_pixels_are_those_of_clip_s_own_preprocessing(
    tmp_path: Path, width: int, height: int, pixel_format: str
) -> None:
    path = write_clip(tmp_path / "clip.mp4", [scene(width, height, n) for n in range(3)], pixel_format=pixel_format)
    read = all_frames(path)
    wanted = np.stack([by_hugging_face(picture) for picture in shown_frames(path)])
    assert np.array_equal(read, wanted)
    assert np.abs(read.astype(int) - np.roll(wanted, 1, axis=2).astype(int)).mean() > 1  # so one pixel is noticed


@pytest.mark.parametrize("rotation", clips.MATRICES)
@pytest.mark.parametrize(("width", "height"), [(320, 180), (181, 320)])
def test_frames_are_turned_as_a_player_turns_them(tmp_path: Path, rotation: int, width: int, height: int) -> None:
    stored = [scene(width, height)]
    path = turn(write_clip(tmp_path / "clip.mp4", stored, pixel_format="yuv444p"), clips.MATRICES[rotation])
    upright = np.rot90(shown_frames(path)[0], -rotation // 90)
    (read,) = all_frames(path)
    properties = probe_video(path)
    assert (properties.rotation, properties.height, properties.width) == (rotation, *upright.shape[:2])
    assert np.array_equal(read, by_hugging_face(np.ascontiguousarray(upright)))


def test_a_mirrored_frame_is_mirrored(tmp_path: Path) -> None:
    path = turn(write_clip(tmp_path / "clip.mp4", [numbered(0b11010000)]), (-1, 0, 0, 1))
    assert numbers(path) == [0b00001011]


def test_channels_are_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [scene(320, 180)])
    reversed_recipe = FeatureRecipe(**{**vars(CLIP), "channel_order": "bgr"})
    assert np.array_equal(all_frames(path, reversed_recipe)[..., ::-1], all_frames(path))


def test_a_squashed_frame_is_pillow_s(tmp_path: Path) -> None:
    from PIL import Image

    path = write_clip(tmp_path / "clip.mp4", [scene(320, 180)])
    wanted = Image.fromarray(shown_frames(path)[0]).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(all_frames(path, SQUASHED)[0], np.asarray(wanted))


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    """Of 160 by 120 pixels, each twice as wide as high, the centre half is left."""
    picture = scene(160, 120)
    path = write_clip(tmp_path / "wide.mkv", [picture], aspect=Fraction(2))
    from PIL import Image

    stored = shown_frames(path)[0]
    wanted = np.asarray(Image.fromarray(stored).resize((597, 224), Image.Resampling.BICUBIC))[:, 186:410]
    assert np.array_equal(all_frames(path)[0], wanted)


def test_frames_of_a_variable_rate_are_sampled_by_the_time_at_which_they_are_shown(tmp_path: Path) -> None:
    """Frames are 0.04 to 0.12 s apart, so their numbers say nothing about their times."""
    gaps = np.random.default_rng(1).choice([0.04, 0.07, 0.12], 120)
    times = np.round(np.concatenate([[0], np.cumsum(gaps)[:-1]]), 3)
    path = write_clip(tmp_path / "vfr.mp4", [numbered(n) for n in range(120)], times=[float(t) for t in times])
    recipe = FeatureRecipe(**{**vars(SQUASHED), "snippet_s": 0.1})
    middles = (np.arange(recipe.row_count(probe_video(path).duration_s)) + 0.5) * 0.1
    wanted = [int(place) - 1 for place in np.searchsorted(times, middles + 1e-6, "right")]
    assert numbers(path, recipe) == wanted
    by_rate = [min(int((row + 0.5) * 0.1 * len(times) / times[-1]), 119) for row in range(len(wanted))]
    assert by_rate != wanted


def test_a_long_still_before_the_last_frames_does_not_make_the_video_longer(tmp_path: Path) -> None:
    times = [*(0.1 * n for n in range(20)), *(10 + 0.1 * n for n in range(20))]
    path = write_clip(tmp_path / "still.mp4", [numbered(n) for n in range(40)], times=times, options=GOP)
    assert probe_video(path).duration_s == pytest.approx(12, abs=0.15)


def test_several_frames_a_row_are_spread_evenly_in_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [numbered(n) for n in range(50)])
    recipe = FeatureRecipe(**{**vars(SQUASHED), "snippet_s": 0.4, "frames": 5})
    assert numbers(path, recipe, rows=[1, 3]) == [11, 13, 15, 17, 19, 31, 33, 35, 37, 39]
    with read_video(path, recipe, rows=[0, 1, 3], batch_rows=2) as video:
        assert [batch.shape for batch in video] == [(10, 64, 64, 3), (5, 64, 64, 3)]
        assert video.rows == 3


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "libx264", GOP),
        ("open.mkv", "libx264", {**GOP, "x264-params": "open-gop=1:scenecut=0:b-pyramid=normal"}),
        ("clip.ts", "libx264", GOP),
        ("clip.mkv", "libx265", {"g": "12", "x265-params": "log-level=none:open-gop=1:bframes=4"}),
        ("clip.avi", "mpeg4", {"g": "12", "bf": "2"}),
        ("clip.webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
        ("mpeg2.ts", "mpeg2video", {"g": "12", "bf": "2"}),
        ("mpeg2.mkv", "mpeg2video", {"g": "12", "bf": "2"}),
        ("clip.flv", "flv", {"g": "12"}),
        ("clip.wmv", "wmv2", {"g": "12"}),
    ],
)
def test_few_rows_are_as_if_every_frame_was_decoded(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    """Whatever is skipped on the way, the frames that are read have the same pixels."""
    pictures = [np.roll(scene(96, 64), 3 * n, axis=1) for n in range(60)]
    path = write_clip(tmp_path / name, pictures, codec=codec, options=options)
    every = shown_frames(path)
    squashed = FeatureRecipe(**{**vars(SQUASHED), "image_size": 48})
    from PIL import Image

    resized = [np.asarray(Image.fromarray(f).resize((48, 48), Image.Resampling.BILINEAR)) for f in every]
    assert len(every) == 60
    rng = np.random.default_rng(len(name))
    for rows in ([0], [59], list(range(60)), [5, 23, 24, 25, 47], sorted(rng.choice(60, 9, replace=False).tolist())):
        read = all_frames(path, squashed, rows=rows)
        assert [row for row, picture in zip(rows, read, strict=True) if (picture != resized[row]).any()] == []


def test_where_the_file_states_no_time_for_each_frame_they_are_right_to_two_frames(tmp_path: Path) -> None:
    """A program stream has times for some frames only; FFmpeg's guesses of the others are not all different."""
    path = write_clip(
        tmp_path / "clip.mpg", [numbered(n) for n in range(60)], codec="mpeg2video", options={"g": "12", "bf": "2"}
    )
    assert max(abs(number - row) for row, number in enumerate(numbers(path))) <= 2


def test_interlaced_frames_are_read_whole(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "clip.mkv", [numbered(n) for n in range(20)], options={"x264-params": "tff=1:keyint=10"}
    )
    assert numbers(path) == list(range(20))


def test_a_single_frame_is_a_row(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [numbered(77)])
    assert numbers(path, FeatureRecipe(**{**vars(SQUASHED), "snippet_s": 5.0})) == [77]
    assert probe_video(path).frames == 1


def test_a_video_that_starts_late_is_counted_from_its_first_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", [numbered(n) for n in range(20)], times=[3 + 0.04 * n for n in range(20)])
    assert numbers(path) == list(range(20))
    assert probe_video(path).duration_s == pytest.approx(0.8, abs=0.002)


def test_of_a_truncated_video_the_frames_that_are_there_are_read(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "clip.mp4", [scene(320, 180, n) for n in range(100)], options={"movflags": "faststart", "g": "5"}
    )
    with (
        clips.av.open(str(path), "r") as container,
        clips.av.open(str(tmp_path / "front.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    whole = (tmp_path / "front.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    properties = probe_video(cut)
    assert properties.declared_s == pytest.approx(4.0)
    assert 1 < properties.duration_s < 3
    assert properties.missing_s == pytest.approx(4 - properties.duration_s)
    with read_video(cut, CLIP) as video:
        read = np.concatenate(list(video))
    assert len(read) == CLIP.row_count(properties.duration_s)
    assert np.array_equal(read[:20], all_frames(path)[:20])


def test_damaged_frames_are_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", [scene(160, 96, n) for n in range(40)])
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data) // 4, len(data) - 100, 40):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with read_video(path, CLIP) as video:
        for _ in video:
            pass
        assert video.damaged_frames > 0


@pytest.mark.parametrize("rows", [[], [3, 3], [4, 2], [-1, 2], [50], [[1, 2]]])
def test_rows_that_are_not_there_are_refused(tmp_path: Path, rows: list[int]) -> None:
    path = write_clip(tmp_path / "clip.mp4", [numbered(n) for n in range(20)])
    with pytest.raises(ValueError, match="ascending indices below 20"):
        read_video(path, SQUASHED, rows=rows)


def test_a_recipe_that_does_not_say_enough_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="says interpolation, snippet_s is unknown"):
        read_video(tmp_path / "x.mp4", FeatureRecipe(**{**vars(CLIP), "interpolation": None, "snippet_s": None}))


@pytest.mark.parametrize("use", [probe_video, lambda path: read_video(path, CLIP)])
def test_without_the_extra_one_line_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(video_reader, "find_spec", lambda name: None if name == "av" else object())
    with pytest.raises(MissingPackageError, match=r"need PyAV, .* pip install 'stale-edge\[video\]'$"):
        use(tmp_path / "x.mp4")


def test_a_video_that_is_not_read_to_its_end_leaves_no_process(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [scene(320, 180, n) for n in range(50)])
    video = read_video(path, CLIP, batch_rows=1)
    next(video)
    process = video._decoder._process
    del video
    assert process.returncode is not None


def test_more_threads_decode_the_same(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", [scene(320, 180, n) for n in range(30)], options=GOP)
    rows = [3, 11, 25]
    assert np.array_equal(all_frames(path, rows=rows, threads=2), all_frames(path, rows=rows))
