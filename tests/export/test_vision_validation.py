"""The int8 vision tower on annotated videos, whose annotations are what the float tower and localizer find."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stale_export.stages import Stages
from stale_export.vision_export import ExportedVision, export_vision
from stale_export.vision_validation import (
    AnnotatedFootage,
    EmbeddedFootage,
    embed_footage,
    find_footage,
    validate_vision,
)
from stale_runtime import Localizer
from stale_runtime.bundle import layout
from stale_runtime.bundle.bundle import Bundle
from stale_runtime.bundle.vision_spec import Precision
from stale_runtime.errors import DatasetError, FeatureError, MissingPackageError, QuantizationError, RecipeError
from stale_runtime.evaluation.mean_average_precision import mean_average_precision
from stale_runtime.inference.bundle_check import VISION_REPLAY
from stale_runtime.inference.settings import Settings
from stale_runtime.inputs.features import resample_for_graph
from stale_runtime.inputs.recipe import FeatureRecipe
from stale_runtime.video.video_features import VideoFeatures
from stale_runtime.video.vision_encoder import VisionEncoder
from tests import tiny
from tests.small_video import write_clip

pytest.importorskip("av")
RECIPE = FeatureRecipe(snippet_s=0.5, frames=1, normalised=False)


def unheard(_: str) -> None:
    """Say nothing."""


SILENT = Stages.said_by(unheard)


@pytest.fixture
def work(annotated_videos: Path, tmp_path: Path) -> Path:
    shutil.copytree(annotated_videos, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def tower(vision_folder: Path) -> ExportedVision:
    return tower_of(vision_folder)


def tower_of(folder: Path, recipe: FeatureRecipe = RECIPE) -> ExportedVision:
    return export_vision(
        str(folder),
        channels=tiny.CHANNELS,
        recipe=recipe,
        target="portable",
        say=unheard,
        stages=Stages.said_by(unheard),
    )


def find(work: Path, said: list[str] | None = None, folder: str = "videos") -> AnnotatedFootage:
    say = said.append if said is not None else lambda _: None
    return find_footage(
        work / "annotations.json",
        work / folder,
        subset="validation",
        video_info=None,
        classes=tiny.CLASSES,
        say=say,
    )


def embed(
    work: Path,
    tower: ExportedVision,
    said: list[str] | None = None,
    length: int = tiny.LENGTH,
    stages: Stages | None = None,
) -> EmbeddedFootage:
    say = said.append if said is not None else unheard
    stages = stages or SILENT
    return embed_footage(find(work), tower, channels=tiny.CHANNELS, length=length, say=say, stages=stages)


def validate(
    bundle: Path, tower: ExportedVision, footage: EmbeddedFootage, max_drop: float, said: list[str] | None = None
) -> ExportedVision:
    prompts = Localizer.open(bundle).encode_prompts(tiny.CLASSES)
    say = said.append if said is not None else lambda _: None
    localizer = (bundle / layout.LOCALIZER_FP32).read_bytes()
    return validate_vision(
        tower, footage, localizer, prompts=prompts, max_drop=max_drop, say=say, stages=Stages.said_by(unheard)
    )


@pytest.mark.parametrize(("frames", "length"), [(1, 5), (3, 100)])
def test_videos_are_embedded_as_stale_run_embeds_them(
    work: Path, vision_folder: Path, frames: int, length: int
) -> None:
    tower = tower_of(vision_folder, replace(RECIPE, frames=frames, normalised=frames > 1))
    footage = embed(work, tower, length=length)
    assert footage.in_int8 is not None
    both = {layout.VISION_ENCODER: footage.in_float, layout.VISION_ENCODER_INT8: footage.in_int8}
    for file, videos in both.items():
        encoder = VisionEncoder(tower.files[file], tower.spec, channels=tiny.CHANNELS, name=file)
        for video, features in videos.features.items():
            expected = VideoFeatures(find(work).paths[video], encoder).read_resampled(length)
            np.testing.assert_array_equal(features, resample_for_graph(expected, length))
    assert not np.array_equal(both[layout.VISION_ENCODER].features["1"], both[layout.VISION_ENCODER_INT8].features["1"])


def test_the_map_is_that_of_stale_run_and_stale_eval(work: Path, vision_bundle: Path, tower: ExportedVision) -> None:
    checked = validate(vision_bundle, tower, footage := embed(work, tower), max_drop=50)
    (record,) = checked.records
    measured: dict[Precision, float | None] = {"fp32": record.fp32_map_percent, "int8": record.map_percent}
    assert record.validation_videos == 3
    for precision, got in measured.items():
        settings = Settings(backend="ort-fp32", vision_precision=precision)
        localizer = Localizer(Bundle(vision_bundle), settings)
        found = {
            video: localizer.detect_video(path, tiny.CLASSES).detections for video, path in find(work).paths.items()
        }
        expected = 100 * mean_average_precision(found, footage.in_float.truth).average
        assert 20 < expected == pytest.approx(got)
    assert measured["fp32"] != measured["int8"]


def test_an_int8_tower_that_loses_too_much_is_left_out(work: Path, vision_bundle: Path, tower: ExportedVision) -> None:
    other = tower_of(tiny.write_vision_folder(work / "other", tiny.make_vision_tower(seed=1)))
    bad = replace(tower, files={**tower.files, layout.VISION_ENCODER_INT8: other.files[layout.VISION_ENCODER_INT8]})
    said: list[str] = []
    checked = validate(vision_bundle, bad, embed(work, bad), max_drop=5, said=said)
    assert checked.files == {layout.VISION_ENCODER: tower.files[layout.VISION_ENCODER]}
    assert checked.graphs.keys() == checked.files.keys()
    assert (checked.records, checked.spec.int8_cosine, checked.spec.cosine) == ((), None, tower.spec.cosine)
    assert checked.recording.keys() == tower.recording.keys() - {VISION_REPLAY}
    (line,) = said
    assert line.startswith("warning: no vision_encoder.int8.onnx: mAP ")
    assert "with its features of 3 videos against" in line
    assert "expected at most 5 (--max-map-drop); stale-run uses the float one" in line


def test_a_check_that_proves_nothing_is_an_error(work: Path, vision_bundle: Path, tower: ExportedVision) -> None:
    footage = embed(work, tower)
    zeros = {video: np.zeros_like(features) for video, features in footage.in_float.features.items()}
    footage = replace(footage, in_float=replace(footage.in_float, features=zeros))
    with pytest.raises(QuantizationError, match=r"vision_encoder\.int8\.onnx: mAP .* the check proves nothing"):
        validate(vision_bundle, tower, footage, max_drop=60)


def test_without_an_int8_tower_there_is_nothing_to_measure(
    work: Path, vision_bundle: Path, tower: ExportedVision
) -> None:
    alone = tower.without_int8()
    footage = embed(work, alone)
    assert footage.in_int8 is None
    assert footage.in_float.features.keys() == {"0", "1", "2"}
    assert validate(vision_bundle, alone, footage, max_drop=5) is alone


def test_a_video_without_a_file_is_left_out(work: Path, tower: ExportedVision) -> None:
    (work / "videos" / "v_1.avi").unlink()
    write_clip(work / "videos" / "stranger.avi", 1)
    said: list[str] = []
    assert find(work, said).paths.keys() == {"0", "2"}
    assert said == [f"--validate-videos {work / 'videos'}: 2 of the 3 annotated videos are there"]
    assert embed(work, tower).in_float.truth.videos.keys() == {"0", "2"}


def test_a_video_that_cannot_be_decoded_is_named_and_left_out(work: Path, tower: ExportedVision) -> None:
    (work / "videos" / "v_1.avi").write_bytes(b"no video")
    said: list[str] = []
    footage = embed(work, tower, said)
    assert footage.in_int8 is not None
    for videos in (footage.in_float, footage.in_int8):
        assert videos.features.keys() == videos.truth.videos.keys() == {"0", "2"}
    assert any(line.startswith(f"left out: {work / 'videos' / 'v_1.avi'}: ") for line in said)
    assert said[-1].startswith("embedded 2 of 3 validation videos, ")


def test_if_none_is_left_the_first_reason_is_said(work: Path, tower: ExportedVision) -> None:
    for path in (work / "videos").iterdir():
        path.write_bytes(b"no video")
    with pytest.raises(DatasetError, match=r"no annotated video can be used \(.*v_0\.avi: .*\); give videos that"):
        embed(work, tower)


def test_a_folder_without_annotated_videos_is_an_error(work: Path) -> None:
    (work / "empty").mkdir()
    (work / "empty" / "v_0.npy").write_bytes(b"")
    with pytest.raises(FeatureError, match=r"^--validate-videos .*empty: no videos in this folder, but 1 other file"):
        find(work, folder="empty")
    with pytest.raises(FeatureError, match=r"^--validate-videos .*nowhere: .*; give a folder of videos"):
        find(work, folder="nowhere")
    (work / "empty" / "v_stranger.mp4").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"--validate-videos .*: 1 videos, none .*; expected files such as v_0\.mp4"):
        find(work, folder="empty")


def test_videos_of_other_classes_are_an_error_before_they_are_embedded(work: Path) -> None:
    text = (work / "annotations.json").read_text()
    for name in tiny.CLASSES:
        text = text.replace(f'"{name}"', '"knitting"')
    (work / "annotations.json").write_text(text)
    with pytest.raises(
        DatasetError, match=r"its 3 annotated videos are of other classes, such as 'knitting', than the 3"
    ):
        find(work)


def test_without_the_extra_it_says_how_to_install_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_runtime.video.video_reader.find_spec", lambda _: None)
    with pytest.raises(MissingPackageError, match=r"install it with: .* pip install 'stale-edge\[video\]'"):
        find(work)


def test_a_recipe_that_does_not_suffice_is_an_error(work: Path, vision_folder: Path) -> None:
    tower = tower_of(vision_folder, FeatureRecipe(frames=1, normalised=False))
    with pytest.raises(
        RecipeError, match=r"--validate-videos: snippet_s of the recipe unknown, .*; give --recipe FILE"
    ):
        embed(work, tower)


def test_durations_come_from_the_videos_and_others_are_warned_of(work: Path, tower: ExportedVision) -> None:
    database = json.loads((work / "annotations.json").read_text())
    del database["database"]["0"]["duration"]
    database["database"]["2"]["duration"] = 60.0
    (work / "annotations.json").write_text(json.dumps(database))
    said: list[str] = []
    truth = embed(work, tower, said).in_float.truth
    assert {video: known.duration_s for video, known in truth.videos.items()} == pytest.approx(
        dict.fromkeys("012", 12.0), abs=0.1
    )
    path = work / "videos" / "v_2.avi"
    assert [line for line in said if "as annotated" in line] == [
        f"warning: 1 of 3 videos are not as long as annotated, the first is {path}: 12.0 s instead of 60.0; annotated "
        "actions are at other times if it was cut"
    ]


def test_long_work_says_how_far_it_is(work: Path, tower: ExportedVision) -> None:
    said: list[str] = []
    shown: list[str] = []
    embed(work, tower, said, stages=Stages(1, lambda text, **_: shown.append(text)))
    assert shown[0] == "embedding 3 validation videos with the float tower and the int8 one"
    assert [text.partition(": ")[2].partition(",")[0] for text in shown[1:]] == [f"video {n} of 3" for n in (1, 2, 3)]
    assert said[-1].startswith("embedded 3 of 3 validation videos, 36.0 s, in ")
